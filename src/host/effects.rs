//! Performs the effects of operations through providers, databases and deployments.
//!
//! Must not do: choose what to do next; the authority does.

use std::time::Duration;

use super::{Host, environment, storage};
use crate::api::ProgressFn;
use crate::authority::{AllocationConflict, Effect, EffectFailure, EffectResult, volume_disposal};
use crate::convex::deployment::{DeploymentError, TransportError};
use crate::convex::readiness::{Readiness, probe_readiness};
use crate::failpoint;
use crate::model::{
    BackendName, Diagnostic, NO_AUTHORITIES, ProviderState, ResolvedBackend, RunState, VolumeReclaim, error_chain, shell_word,
};
use crate::provider::fly::FlyError;
use crate::provider::kit::log_text;
use crate::provider::kit::redact::Redactor;
use crate::provider::{LogPosition, Provider, ProviderError, StateJournal};

/// How long a living process may take to answer. Large databases are known to need more than 30 s.
const READY_TIMEOUT: Duration = Duration::from_secs(300);
/// How often it is asked at first; a fresh backend is ready within 0.3 s.
const FIRST_POLL_INTERVAL: Duration = Duration::from_millis(20);
/// How often it is asked at most seldom.
const MAX_POLL_INTERVAL: Duration = Duration::from_millis(500);
/// How often what runs elsewhere is looked at while it does not answer.
const REMOTE_OBSERVE_INTERVAL: Duration = Duration::from_secs(10);
/// How often the provider is asked why a backend that runs here does not answer.
const DIAGNOSE_INTERVAL: Duration = Duration::from_secs(3);
/// How many lines of a log go into an error.
const LOG_LINES: usize = 8;

impl Host {
    /// Performs one effect.
    pub(super) async fn run_effect(&self, effect: Effect, notice: ProgressFn<'_>, journal: &dyn StateJournal) -> EffectResult {
        match effect {
            Effect::PrepareStorage(placement) => storage::prepare(self, &placement, notice).await,
            Effect::ReleaseStorage(placement, disposal) => storage::release(self, &placement, disposal, notice).await,
            Effect::Ensure(placement) => match self.ensure(&placement, notice, journal).await {
                Ok(references) => {
                    failpoint::hit("host.ensured");
                    EffectResult::Ensured(references)
                }
                Err(failure) => EffectResult::Failed(failure),
            },
            Effect::StartRelease(placement) => match self.start_release(&placement, notice, journal).await {
                Ok(references) => {
                    failpoint::hit("host.release_started");
                    EffectResult::ReleaseStarted(references)
                }
                Err(failure) => EffectResult::Failed(failure),
            },
            Effect::AwaitReady(placement) => match self.await_ready(&placement).await {
                Ok(()) => {
                    failpoint::hit("host.ready");
                    EffectResult::Ready
                }
                Err(failure) => EffectResult::Failed(failure),
            },
            Effect::SetEnvironment(placement, goal) => {
                let url = match self.internal_url(&placement).await {
                    Ok(url) => url,
                    Err(error) => return EffectResult::Failed(effect_failure(&placement, &error)),
                };
                match environment::apply(&self.connections, &url, &placement, &goal).await {
                    Ok(()) => {
                        failpoint::hit("host.environment_set");
                        EffectResult::EnvironmentSet
                    }
                    Err(error) => {
                        let message = format!(
                            "`{}` runs, but its environment variables could not be set: {}",
                            placement.name,
                            error_chain(&error)
                        );
                        EffectResult::failed(Diagnostic::new("convex.environment", message))
                    }
                }
            }
            Effect::Stop(placement) => match self.stop(&placement).await {
                Ok(()) => EffectResult::Stopped,
                Err(failure) => EffectResult::Failed(failure),
            },
            Effect::SetAside(placement) => match self.set_aside(&placement, notice).await {
                Ok(()) => EffectResult::SetAside,
                Err(failure) => EffectResult::Failed(failure),
            },
            Effect::CopyData(..)
            | Effect::WriteSnapshot(..)
            | Effect::StageData(..)
            | Effect::SwitchData(..)
            | Effect::ConfirmData(..)
            | Effect::RevertData(..)
            | Effect::DropPrevious(_) => self.run_data_effect(effect, notice).await,
            Effect::Move(part, data) => self.run_move(part, &data, notice).await,
            Effect::Remove(placement) => match self.provider(placement.spec.provider) {
                Err(finding) => EffectResult::failed(finding),
                Ok(provider) => match remove(provider, &placement, notice).await {
                    Ok(()) => {
                        failpoint::hit("host.removed");
                        self.forget_moves(&placement);
                        let keeps = volume_disposal(&placement.provider_state) == VolumeReclaim::Retain;
                        EffectResult::Removed(if keeps { provider.retained_place(&placement) } else { None })
                    }
                    Err(error) => EffectResult::Failed(effect_failure(&placement, &error)),
                },
            },
        }
    }

    /// Returns the provider of a backend that is about to start, after the check that its release may open its data.
    async fn provider_to_start(&self, placement: &ResolvedBackend) -> Result<&dyn Provider, EffectFailure> {
        let provider = self.provider(placement.spec.provider)?;
        self.check_data_version(placement).await?;
        Ok(provider)
    }

    async fn ensure(
        &self,
        placement: &ResolvedBackend,
        notice: ProgressFn<'_>,
        journal: &dyn StateJournal,
    ) -> Result<ProviderState, EffectFailure> {
        let provider = self.provider_to_start(placement).await?;
        provider.ensure_recorded(placement, notice, journal).await.map_err(|error| effect_failure(placement, &error))
    }

    async fn start_release(
        &self,
        placement: &ResolvedBackend,
        notice: ProgressFn<'_>,
        journal: &dyn StateJournal,
    ) -> Result<ProviderState, EffectFailure> {
        let provider = self.provider_to_start(placement).await?;
        provider.start_release(placement, notice, journal).await.map_err(|error| effect_failure(placement, &error))
    }

    async fn stop(&self, placement: &ResolvedBackend) -> Result<(), EffectFailure> {
        let provider = self.provider(placement.spec.provider)?;
        provider.stop(placement).await.map_err(|error| effect_failure(placement, &error))
    }

    async fn set_aside(&self, placement: &ResolvedBackend, notice: ProgressFn<'_>) -> Result<(), EffectFailure> {
        let provider = self.provider(placement.spec.provider)?;
        provider.set_aside(placement, notice).await.map_err(|error| effect_failure(placement, &error))?;
        failpoint::hit("host.set_aside");
        Ok(())
    }

    async fn await_ready(&self, placement: &ResolvedBackend) -> Result<(), EffectFailure> {
        let url = self.internal_url(placement).await.map_err(|error| effect_failure(placement, &error))?;
        let started = self.platform.uptime();
        let here = placement.spec.provider.descriptor().location.is_on_this_machine();
        let mut looked = started;
        let mut diagnosed = started;
        let mut pause = FIRST_POLL_INTERVAL;
        // Why it could not be looked at the last time.
        let mut unseen: Option<String> = None;
        loop {
            let answer = probe_readiness(&self.connections, &url, placement.instance_name.as_str(), &placement.admin_key).await;
            let reason = match answer {
                Readiness::Ready => return Ok(()),
                // Another process may have taken the port while ours started. While no client knows the port yet, another
                // one does as well.
                Readiness::OtherInstance { name } => return Err(other_instance(placement, &url, &name)),
                Readiness::KeyRefused => return Err(key_refused(placement)),
                Readiness::NotListening => format!("nothing listens at `{url}`"),
                Readiness::Failing(DeploymentError::NotAsked { source: TransportError::NoAuthorities, .. }) => {
                    let message = format!("`{}` is not known to answer: {NO_AUTHORITIES}", placement.name);
                    return Err(Diagnostic::new("local.no_authorities", message).into());
                }
                Readiness::Failing(error) => error_chain(&error),
            };
            // A look at what runs here costs nothing; others count every request.
            if (here || self.platform.uptime().saturating_sub(looked) > REMOTE_OBSERVE_INTERVAL)
                && let Ok(provider) = self.provider(placement.spec.provider)
            {
                match provider.observe(placement).await {
                    Ok(seen) if matches!(seen.state, RunState::Stopped | RunState::Absent) => {
                        let error = ProviderError::Exited {
                            status: "before it answered".to_owned(),
                            log: last_lines(provider, placement).await,
                        };
                        return Err(effect_failure(placement, &error));
                    }
                    Ok(_) => unseen = None,
                    Err(error) => unseen = Some(format!("it could not be looked at: {}", error_chain(&error))),
                }
            }
            if here
                && self.platform.uptime().saturating_sub(diagnosed) > DIAGNOSE_INTERVAL
                && let Ok(provider) = self.provider(placement.spec.provider)
            {
                diagnosed = self.platform.uptime();
                if let Some(error) = provider.diagnose(placement).await {
                    return Err(effect_failure(placement, &error));
                }
            }
            if self.platform.uptime().saturating_sub(started) > READY_TIMEOUT {
                return Err(not_ready(placement, &reason, unseen.as_deref()));
            }
            if !here && self.platform.uptime().saturating_sub(looked) > REMOTE_OBSERVE_INTERVAL {
                looked = self.platform.uptime();
            }
            self.platform.sleep(pause).await;
            pause = (pause * 3 / 2).min(MAX_POLL_INTERVAL);
        }
    }
}

fn other_instance(placement: &ResolvedBackend, url: &str, name: &str) -> EffectFailure {
    let message = format!("`{url}` is answered by another backend, `{name}`");
    let finding = Diagnostic::new("convex.other_instance", message).with_help("stop that one, and run the same command again");
    EffectFailure { finding, conflict: port_of(placement) }
}

fn key_refused(placement: &ResolvedBackend) -> EffectFailure {
    let message = format!("`{}` runs under another instance secret and refuses its key", placement.name);
    EffectFailure { finding: Diagnostic::new("convex.key_refused", message), conflict: port_of(placement) }
}

/// Returns the failure of a backend that did not become ready in time; `unseen` is why it could not be observed.
fn not_ready(placement: &ResolvedBackend, reason: &str, unseen: Option<&str>) -> EffectFailure {
    let name = &placement.name;
    // That it runs is known only where it could be observed.
    let runs = if unseen.is_none() { "runs, but" } else { "was started, but" };
    let unseen = unseen.map(|unseen| format!("; {unseen}")).unwrap_or_default();
    let message = format!("`{name}` {runs} did not answer within {} s: {reason}{unseen}", READY_TIMEOUT.as_secs());
    Diagnostic::new("convex.not_ready", message).with_help(format!("look at its log with\n    convexinfra logs {name}")).into()
}

async fn remove(provider: &dyn Provider, placement: &ResolvedBackend, notice: ProgressFn<'_>) -> Result<(), ProviderError> {
    match volume_disposal(&placement.provider_state) {
        VolumeReclaim::Delete => provider.remove(placement, notice).await,
        VolumeReclaim::Retain => provider.remove_keeping_data(placement, notice).await,
    }
}

async fn last_lines(provider: &dyn Provider, placement: &ResolvedBackend) -> Vec<String> {
    match provider.logs(placement, LogPosition::Tail(LOG_LINES)).await {
        Ok(chunk) => log_text::last_lines(&chunk.text, LOG_LINES),
        Err(_) => Vec::new(),
    }
}

/// Returns the port that a backend was allocated, where it has any.
fn port_of(placement: &ResolvedBackend) -> Option<AllocationConflict> {
    (placement.ports.api != 0).then_some(AllocationConflict::Port(placement.ports.api))
}

/// Returns what the error of a provider means to a user, without secrets.
pub(super) fn effect_failure(placement: &ResolvedBackend, error: &ProviderError) -> EffectFailure {
    let name = &placement.name;
    let finding = Diagnostic::new(error.code(), error_chain(error));
    let finding = match error {
        ProviderError::DataMissing { .. } => finding.with_help(format!(
            "put the data back, or give it up with\n    convexinfra destroy {name} --allow-destroy {name}\nand apply again"
        )),
        ProviderError::PortPublished { port, container } => finding.with_help(format!(
            "stop that one, and apply again: {name} keeps port {port} because its URL is known\n    docker stop {container}"
        )),
        ProviderError::VolumeShared { container, is_composed, .. } => {
            let compose = if *is_composed { ", take its service out of the compose file" } else { "" };
            finding.with_help(format!("end that container{compose}, and apply again\n    docker rm -f {container}"))
        }
        ProviderError::VolumeInUse { container, .. } => finding.with_help(format!(
            "remove that container, which keeps the volume, and run the same command again\n    docker rm -f {container}"
        )),
        ProviderError::NotReachable { .. } => finding.with_help(format!(
            "this command and the engine are probably not on one machine, as in a container that has the engine's socket: run it \
             where the engine runs, or set `docker.publish` of `{name}` to an address of that machine that is reached from here, \
             and `origins` to the URLs that clients use"
        )),
        ProviderError::OtherEngine { .. } => finding.with_help(other_engine_help(name, error).unwrap_or_default()),
        ProviderError::PortTaken { port, .. } => finding.with_help(format!(
            "stop that process and apply again: `{name}` keeps port {port}, because its URL is in env files"
        )),
        ProviderError::Exited { log, .. } | ProviderError::NotReplaced { log, .. } if !log.is_empty() => {
            finding.with_help(format!("its log ends with\n    {}", log.join("\n    ")))
        }
        ProviderError::NotRolledBack { log, .. } => {
            let log = if log.is_empty() { String::new() } else { format!("\nits log ends with\n    {}", log.join("\n    ")) };
            finding.with_help(format!(
                "name a release that runs, and apply again; if nothing of the data was migrated, the release from before runs on it \
                 again once it is the `release`, with\n    convexinfra apply --allow-downgrade {name}{log}"
            ))
        }
        ProviderError::Engine { reason, .. } if reason.contains("no space left on device") => finding.with_help(
            "the engine's disk is full: see what is on it with `docker system df`, make room, and run the same command again",
        ),
        ProviderError::EngineUnreachable { .. } => finding.with_help(
            "start it, or name another one with `DOCKER_HOST` or `docker context use`; what is done is done, and running the same \
             command again goes on from there",
        ),
        ProviderError::NoBinary { .. } | ProviderError::Download { .. } => finding.with_help(format!(
            "name an executable with `binary = \"…\"` in `[backends.{name}.local]`, set `CONVEXINFRA_RELEASES_URL` to a mirror, or use \
             the provider `simulated`, which needs no network"
        )),
        ProviderError::BinaryChanged { path, .. } => {
            finding.with_help(format!("if the change is meant, remove `{path}`, and it is downloaded again"))
        }
        ProviderError::Fly(error) => match error.help() {
            Some(help) => finding.with_help(help),
            None => finding,
        },
        #[cfg(feature = "native")]
        ProviderError::Kubernetes(error) => match error.help() {
            Some(help) => finding.with_help(help),
            None => finding,
        },
        #[cfg(feature = "native")]
        ProviderError::Ssh(error) => finding.with_help(error.help()),
        #[cfg(feature = "native")]
        ProviderError::Proxy(error) => finding.with_help(error.help()),
        ProviderError::OtherCluster { .. } => finding.with_help(format!(
            "go back to that one with `context` in `[backends.{name}.kubernetes]`, or with `KUBECONFIG`; if it is gone for good, give \
             up the record of `{name}` with\n    convexinfra forget {name}"
        )),
        ProviderError::File { source, .. } if source.kind() == std::io::ErrorKind::StorageFull => {
            finding.with_help("make room and run the same command again")
        }
        _ => finding,
    };
    EffectFailure { finding: redacted(finding, placement), conflict: conflict_of(placement, error) }
}

/// Returns what was allocated to a backend and is taken by something else, so that another one may be allocated.
fn conflict_of(placement: &ResolvedBackend, error: &ProviderError) -> Option<AllocationConflict> {
    match error {
        ProviderError::PortTaken { port, .. } | ProviderError::PortPublished { port, .. } => {
            Some(AllocationConflict::Port(*port))
        }
        // A name that the user chose is not replaced by another one.
        ProviderError::Fly(FlyError::AppTaken { .. } | FlyError::AppForeign { .. })
            if placement.spec.named_place().is_none() =>
        {
            Some(AllocationConflict::App)
        }
        _ => None,
    }
}

/// Returns what to do about a backend whose engine is not the one that is reached.
pub(super) fn other_engine_help(name: &BackendName, error: &ProviderError) -> Option<String> {
    let ProviderError::OtherEngine { recorded, .. } = error else { return None };
    let back = match recorded.starts_with("ssh://") {
        true => format!("let the server of `{name}` in `[servers]` lead to that one again; "),
        false => format!("go back to that one with\n    export DOCKER_HOST={}\n", shell_word(recorded)),
    };
    Some(format!("{back}if it is gone for good, give up the record of `{name}` with\n    convexinfra forget {name}"))
}

/// Returns a diagnostic without the secrets of a backend: engines and logs repeat what they were given.
fn redacted(finding: Diagnostic, placement: &ResolvedBackend) -> Diagnostic {
    let redactor = Redactor::of(placement);
    Diagnostic {
        message: redactor.redact(&finding.message),
        help: finding.help.as_deref().map(|help| redactor.redact(help)),
        ..finding
    }
}
