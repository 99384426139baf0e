//! Looking at a backend on an engine, and naming everything that is not as it was made.
//!
//! Must not do: change anything, or fetch an image.

use super::backend::{BackendContext, data_path};
use super::diff::{diff_container, field_drift, run_state};
use super::engine::Engine;
use super::image::{Image, ImagePin, ImageStore};
use super::inventory::{Inventory, has_file, id_of, inspect_container, name_of, take_inventory};
use super::labels::ResourceRole;
use super::readiness::ANSWER_TIMEOUT;
use super::redact::Redactor;
use super::{Docker, dashboard, database, image, logs, sidecar};
use crate::convex::deployment::{Readiness, probe_readiness};
use crate::model::{DataState, FieldDrift, Observation, ResolvedBackend, RunState};
use crate::provider::ProviderError;

/// How many lines of a stopped container's log are told.
const LOG_LINES: usize = 3;

impl Docker {
    /// Looks at a backend, and tells none of its secrets, wherever somebody has put them.
    pub(super) async fn observe_redacted(&self, placement: &ResolvedBackend) -> Result<Observation, ProviderError> {
        let secrets = Redactor::of(placement);
        let mut seen = self.observe_backend(placement).await.map_err(|error| secrets.redact_error(error))?;
        seen.drift = seen.drift.iter().map(|deviation| secrets.redact_drift(deviation)).collect();
        Ok(seen)
    }

    async fn observe_backend(&self, placement: &ResolvedBackend) -> Result<Observation, ProviderError> {
        let engine = self.engine().await?;
        let seen = take_inventory(engine, placement).await?;
        let setting = self.setting(placement, engine)?;
        let mut deviations = Vec::new();
        self.diff_sidecars(engine, placement, &seen, &setting, &mut deviations).await?;
        let data = self.probe_data(engine, placement, &seen, &setting).await?;
        if let Some(adopted) = &seen.adopted {
            deviations.push(field_drift("container", "made by convexinfra", format!("{}, taken over", name_of(adopted))));
        }
        let Some(current) = seen.current(&setting.names) else {
            if seen.adopted.is_some() {
                let state = self.probe_readiness(placement, &setting, &mut deviations).await;
                return Ok(Observation { state, data, drift: deviations, notes: Vec::new() });
            }
            if placement.has_been_ready || seen.previous(&setting.names).is_some() {
                deviations.push(field_drift("container", "running", "absent"));
            }
            let state = if seen.previous(&setting.names).is_some() { RunState::Stopped } else { RunState::Absent };
            return Ok(Observation { state, data, drift: deviations, notes: Vec::new() });
        };
        if seen.previous(&setting.names).is_some() {
            deviations.push(field_drift("container", "one", "two: a replacement was not brought to its end"));
        }
        for stray in seen.duplicates(&setting.names) {
            deviations.push(field_drift("container", "one", format!("two: also {}", name_of(stray))));
        }
        let image = self.image(engine, placement, current.image.as_deref()).await?;
        let wanted = image.as_ref().and_then(|image| self.wanted(placement, &setting, image));
        deviations.extend(diff_container("", wanted.as_ref(), current).into_iter().map(|difference| difference.drift));
        let mut state = run_state(current.state.as_ref());
        if state == RunState::Stopped {
            let tail = logs::last_lines(engine, id_of(current)).await;
            let tail = &tail[tail.len().saturating_sub(LOG_LINES)..];
            if let Some(stopped) = deviations.iter_mut().find(|deviation| deviation.path.as_str() == "container")
                && !tail.is_empty()
            {
                stopped.observed = format!("{}; its log ends with: {}", stopped.observed, tail.join(" / "));
            }
        }
        if state == RunState::Running {
            state = self.probe_readiness(placement, &setting, &mut deviations).await;
        }
        Ok(Observation { state, data, drift: deviations, notes: Vec::new() })
    }

    /// The image that was noted; else the one that the container has, when it is the one that is asked for.
    async fn image(
        &self,
        engine: &Engine,
        placement: &ResolvedBackend,
        running: Option<&str>,
    ) -> Result<Option<Image>, ProviderError> {
        let Ok(reference) = image::backend_reference(placement) else { return Ok(None) };
        self.known_image(engine, placement, &reference, &ImagePin::BACKEND, running).await
    }

    async fn known_image(
        &self,
        engine: &Engine,
        placement: &ResolvedBackend,
        reference: &str,
        noted: &ImagePin,
        running: Option<&str>,
    ) -> Result<Option<Image>, ProviderError> {
        let images = ImageStore { engine, source: &self.source, policy: crate::model::PullPolicy::Never };
        let id = noted.id(&placement.provider_state, reference);
        if let Some(image) = images.inspect(id.unwrap_or(reference), reference).await? {
            return Ok(Some(image));
        }
        // An image can go while its container runs on; then only its identity is compared.
        Ok(id.or(running).map(|id| Image {
            reference: reference.to_owned(),
            id: id.to_owned(),
            digest: None,
            environment: Vec::new(),
            user: String::new(),
            revision: None,
        }))
    }

    /// Network, dashboard and database server.
    async fn diff_sidecars(
        &self,
        engine: &Engine,
        placement: &ResolvedBackend,
        seen: &Inventory,
        setting: &BackendContext,
        deviations: &mut Vec<FieldDrift>,
    ) -> Result<(), ProviderError> {
        if seen.with_role(ResourceRole::Backend).next().is_some() {
            match sidecar::inspect_network(engine, setting).await? {
                None => deviations.push(field_drift("network", &setting.network, "missing")),
                Some(network) if setting.owns_network && !sidecar::is_owned(&network, placement, setting) => {
                    deviations.push(field_drift("network", "made by convexinfra", "made by something else"));
                }
                Some(_) => {}
            }
        }
        for (role, prefix, noted, is_wanted) in [
            (ResourceRole::Dashboard, "dashboard.", ImagePin::DASHBOARD, placement.spec.dashboard),
            (ResourceRole::Database, "database.", ImagePin::DATABASE, database::is_managed(placement)),
        ] {
            let there: Vec<_> = seen.with_role(role).collect();
            let Some(container) = there.first().copied().filter(|_| is_wanted) else {
                if is_wanted && placement.has_been_ready {
                    deviations.push(field_drift(&format!("{prefix}container"), "running", "absent"));
                } else if !there.is_empty() {
                    deviations.push(field_drift(&format!("{prefix}container"), "none", "running"));
                }
                continue;
            };
            // What was noted is the only thing that is known of its image without asking a registry.
            let noted_reference = noted.reference(&placement.provider_state);
            let wanted = match noted_reference {
                Some(reference) => {
                    let running = container.image.as_deref();
                    let image = self.known_image(engine, placement, reference, &noted, running).await?;
                    image.map(|image| match role {
                        ResourceRole::Database => database::container_spec(placement, &image, setting),
                        _ => {
                            let port = dashboard::known_port(placement, seen).unwrap_or_default();
                            dashboard::container_spec(placement, &image, setting, port)
                        }
                    })
                }
                None => None,
            };
            deviations.extend(diff_container(prefix, wanted.as_ref(), container).into_iter().map(|found| found.drift));
        }
        Ok(())
    }

    async fn probe_data(
        &self,
        engine: &Engine,
        placement: &ResolvedBackend,
        seen: &Inventory,
        setting: &BackendContext,
    ) -> Result<DataState, ProviderError> {
        let absent = if placement.has_been_ready { DataState::Missing } else { DataState::None };
        if database::is_managed(placement) && seen.volume(ResourceRole::DatabaseData, placement).is_none() {
            return Ok(absent);
        }
        let Some(path) = data_path(placement) else {
            return Ok(if placement.has_been_ready { DataState::Present } else { DataState::None });
        };
        if seen.volume(ResourceRole::Data, placement).is_none() {
            return Ok(absent);
        }
        let container = seen.current(&setting.names).or(seen.previous(&setting.names)).or(seen.adopted.as_ref());
        if let Some(container) = container.filter(|_| placement.has_been_ready)
            && !has_file(engine, id_of(container), &path).await?
            // It may have gone between two questions.
            && inspect_container(engine, id_of(container)).await?.is_some()
        {
            return Ok(DataState::Missing);
        }
        Ok(DataState::Present)
    }

    async fn probe_readiness(
        &self,
        placement: &ResolvedBackend,
        setting: &BackendContext,
        deviations: &mut Vec<FieldDrift>,
    ) -> RunState {
        let port = placement.ports.api;
        let expected = placement.instance_name.as_str();
        let url = setting.internal_url(port);
        let asked = probe_readiness(&self.connections, &url, expected, &placement.admin_key);
        deviations.push(match tokio::time::timeout(ANSWER_TIMEOUT, asked).await {
            Ok(Readiness::Ready) => return RunState::Running,
            Ok(Readiness::OtherInstance { name }) => field_drift("instance_name", expected, name),
            Ok(Readiness::KeyRefused) => field_drift("admin_key", "accepted", "refused"),
            Ok(Readiness::NotListening) => {
                field_drift("port", format!("listening on {port}"), format!("not listening on {port}"))
            }
            Ok(Readiness::Failing(error)) => field_drift("port", format!("answering on {port}"), error.to_string()),
            Err(_) => field_drift("port", format!("answering on {port}"), format!("no answer on {port}")),
        });
        RunState::Unready
    }
}
