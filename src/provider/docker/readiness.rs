//! Readiness of a container: it answers as the backend that it should be, or it has ended. That it runs is not enough.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use bollard::models::{ContainerInspectResponse, ContainerStateStatusEnum, HealthStatusEnum};
use bollard::query_parameters::EventsOptionsBuilder;
use futures_util::TryStreamExt;

use super::engine::Engine;
use super::inventory::inspect_container;
use super::logs::{LAST_LINES, last_lines};
use crate::convex::deployment::DeploymentClient;
use crate::convex::readiness::Readiness;
use crate::model::ResolvedBackend;
use crate::provider::ProviderError;
use crate::provider::kit::readiness;

/// How long the engine may take to tell what has been.
const EVENTS_TIMEOUT: Duration = Duration::from_secs(3);
const POLL: Duration = Duration::from_millis(50);

/// Probes one backend at one URL.
#[derive(Clone, Copy)]
pub(super) struct ReadinessProbe<'a> {
    pub(super) engine: &'a Engine,
    pub(super) resolved: &'a ResolvedBackend,
    pub(super) connections: &'a DeploymentClient,
    /// The URL under which this machine reaches it.
    pub(super) url: &'a str,
    /// How long a replacement may take until it answers.
    pub(super) ready_within: Duration,
    /// How long a container that nothing depends on yet is watched for an early exit.
    pub(super) watched_for: Duration,
}

impl ReadinessProbe<'_> {
    /// Asks once; none when there is no answer in time.
    pub(super) async fn readiness(&self) -> Option<Readiness> {
        readiness::ask(self.connections, self.url, self.resolved).await
    }

    /// Whether a backend that was ready before takes connections and does not answer. One that was started a moment ago
    /// is starting; ports of a container take connections before anything listens in it.
    pub(super) async fn is_unresponsive(&self, container: &ContainerInspectResponse) -> bool {
        if !self.resolved.has_been_ready {
            return false;
        }
        match self.readiness().await {
            None => true,
            Some(Readiness::NotListening | Readiness::Failing(_)) => !in_start_period(container),
            Some(_) => false,
        }
    }

    /// Watches a container that was just started for an early end.
    pub(super) async fn watch_for_early_exit(&self, id: &str, restarts: i64) -> Result<(), ProviderError> {
        let deadline = Instant::now() + self.watched_for;
        loop {
            if let Some(status) = self.exit_status(id, restarts).await? {
                let log = last_lines(self.engine, id, LAST_LINES).await;
                // Otherwise the engine would start it again and again.
                if let Some(container) = inspect_container(self.engine, id).await? {
                    self.engine.stop_container(&container).await?;
                }
                return Err(ProviderError::Exited { status, log });
            }
            let unfinished = matches!(self.readiness().await, None | Some(Readiness::NotListening | Readiness::Failing(_)));
            if !unfinished || Instant::now() >= deadline {
                return Ok(());
            }
            tokio::time::sleep(POLL).await;
        }
    }

    /// Waits until a backend answers as itself; else says why it does not.
    pub(super) async fn wait_until_ready(&self, id: &str, restarts: i64) -> Result<Result<(), String>, ProviderError> {
        let deadline = Instant::now() + self.ready_within;
        loop {
            if let Some(status) = self.exit_status(id, restarts).await? {
                return Ok(Err(format!("it ended with {status}")));
            }
            match self.readiness().await {
                Some(Readiness::Ready) => return Ok(Ok(())),
                Some(Readiness::KeyRefused) => return Ok(Err("it refuses the admin key".to_owned())),
                Some(Readiness::OtherInstance { name }) => return Ok(Err(format!("it answers as `{name}`"))),
                None | Some(Readiness::NotListening | Readiness::Failing(_)) => {}
            }
            match self.diagnose(id).await {
                Some(ProviderError::NotReachable { url, .. }) => {
                    return Ok(Err(format!("the engine calls it healthy, and `{url}` does not answer from here")));
                }
                Some(error @ ProviderError::Ssh(_)) => return Ok(Err(error.to_string())),
                _ => {}
            }
            if Instant::now() >= deadline {
                return Ok(Err(format!("it did not answer within {} s", self.ready_within.as_secs())));
            }
            tokio::time::sleep(POLL).await;
        }
    }

    /// Returns why a container that the engine calls healthy is not reached from here: the two are not on one machine.
    pub(super) async fn diagnose(&self, id: &str) -> Option<ProviderError> {
        if let Some(link) = &self.engine.link {
            return link.connection.forwarding_failure().map(ProviderError::from);
        }
        let is_healthy = |seen: ContainerInspectResponse| {
            let health = seen.state.and_then(|state| state.health).and_then(|health| health.status);
            health == Some(HealthStatusEnum::HEALTHY)
        };
        if !inspect_container(self.engine, id).await.ok().flatten().is_some_and(is_healthy) {
            return None;
        }
        // It may have become healthy only after the last probe.
        matches!(self.readiness().await, Some(Readiness::NotListening))
            .then(|| ProviderError::NotReachable { name: self.resolved.name.to_string(), url: self.url.to_owned() })
    }

    /// How a container ended, if it did since it had been restarted so often: the engine may have started it again already.
    async fn exit_status(&self, id: &str, restarts: i64) -> Result<Option<String>, ProviderError> {
        let Some(seen) = inspect_container(self.engine, id).await? else { return Ok(Some("its removal".to_owned())) };
        let again = self::restart_count(&seen) > restarts;
        let state = seen.state.unwrap_or_default();
        let code = match (state.status == Some(ContainerStateStatusEnum::RUNNING), again) {
            (true, false) => return Ok(None),
            // The exit code that is shown is forgotten with the next start.
            (true, true) => self.last_exit_code(id, state.started_at.as_deref().unwrap_or_default()).await,
            (false, _) => Some(state.exit_code.unwrap_or_default()),
        };
        let code = code.map_or("an exit code that the engine has forgotten".to_owned(), |code| format!("exit code {code}"));
        let how = if state.oom_killed == Some(true) { " because its memory was used up" } else { "" };
        Ok(Some(format!("{code}{how}")))
    }

    /// With what a container ended that was started again at this time, as far as the engine remembers. That it ended is
    /// known; so a failure of this question must not prevent the rollback.
    async fn last_exit_code(&self, id: &str, started: &str) -> Option<i64> {
        let started: jiff::Timestamp = started.parse().ok()?;
        let filters = HashMap::from([("container", vec![id]), ("event", vec!["die"])]);
        // An end in the past makes the engine tell what has been instead of what is going to be.
        let until = format!("{}.{:09}", started.as_second(), started.subsec_nanosecond());
        let options = EventsOptionsBuilder::default().filters(&filters).until(&until).build();
        let told = self.engine.client.events(Some(options)).try_collect::<Vec<_>>();
        let told = tokio::time::timeout(EVENTS_TIMEOUT, told).await.ok()?.ok()?;
        told.into_iter().next_back()?.actor?.attributes?.get("exitCode")?.parse().ok()
    }
}

/// Returns how often the engine has started a container again by itself.
pub(super) fn restart_count(container: &ContainerInspectResponse) -> i64 {
    container.restart_count.unwrap_or_default()
}

/// Whether a container was started within the last half minute.
pub(super) fn in_start_period(container: &ContainerInspectResponse) -> bool {
    let started = container.state.as_ref().and_then(|state| state.started_at.as_deref());
    let Some(started) = started.and_then(|text| text.parse::<jiff::Timestamp>().ok()) else { return false };
    jiff::Timestamp::now().duration_since(started).as_secs() < 30
}
