//! Carrying out what the authority asks for.
//!
//! Must not do: choose what to do next; the authority does.

use std::time::Duration;

use super::{Host, database, environment};
use crate::authority::{Effect, EffectEnd, EffectFailure, Taken, volume_disposal};
use crate::control::Notice;
use crate::convex::deployment::{Readiness, ready};
use crate::fault;
use crate::model::{Finding, Placement, ProviderKind, RunState, VolumeDisposal, chain};
use crate::provider::fly::FlyError;
use crate::provider::{LogPosition, Provider, ProviderError};

/// How long a living process may take to answer. Large databases are known to need more than 30 s.
const READY_WITHIN: Duration = Duration::from_secs(300);
/// How often it is asked at first; a fresh backend is ready within 0.3 s.
const FIRST_PAUSE: Duration = Duration::from_millis(20);
/// How often it is asked at most seldom.
const LONGEST_PAUSE: Duration = Duration::from_millis(500);
/// How often what runs elsewhere is looked at while it does not answer.
const LOOK_ELSEWHERE_EVERY: Duration = Duration::from_secs(10);
/// How many lines of a log go into an error.
const LOG_LINES: usize = 8;

impl Host {
    /// Carries out one effect.
    pub(super) async fn perform(&self, effect: Effect, notice: Notice<'_>) -> EffectEnd {
        match effect {
            Effect::PrepareDatabase(placement) => database::prepare(&placement, notice).await,
            Effect::ReleaseDatabase(placement, disposal) => database::release(&placement, disposal, notice).await,
            Effect::Ensure(placement) => match self.provider(placement.spec.provider) {
                Err(finding) => refused(finding),
                Ok(provider) => match provider.ensure(&placement, notice).await {
                    Ok(references) => {
                        fault::point("host.ensured");
                        EffectEnd::Ensured(references)
                    }
                    Err(error) => EffectEnd::Failed(failure(&placement, &error)),
                },
            },
            Effect::AwaitReady(placement) => match self.await_ready(&placement).await {
                Ok(()) => {
                    fault::point("host.ready");
                    EffectEnd::Ready
                }
                Err(failure) => EffectEnd::Failed(failure),
            },
            Effect::SetEnvironment(placement, goal) => {
                match environment::set(&self.connections, &Self::reach(&placement), &placement, &goal).await {
                    Ok(()) => {
                        fault::point("host.environment_set");
                        EffectEnd::EnvironmentSet
                    }
                    Err(error) => {
                        let message = format!(
                            "`{}` runs, but its environment variables could not be set: {}",
                            placement.name,
                            chain(&error)
                        );
                        refused(Finding::new("convex.environment", message))
                    }
                }
            }
            Effect::Remove(placement) => match self.provider(placement.spec.provider) {
                Err(finding) => refused(finding),
                Ok(provider) => match remove(provider, &placement, notice).await {
                    Ok(()) => {
                        fault::point("host.removed");
                        EffectEnd::Removed
                    }
                    Err(error) => EffectEnd::Failed(failure(&placement, &error)),
                },
            },
        }
    }

    async fn await_ready(&self, placement: &Placement) -> Result<(), EffectFailure> {
        let url = Self::reach(placement);
        let started = self.platform.uptime();
        let here = !matches!(placement.spec.provider, ProviderKind::Fly | ProviderKind::Kubernetes);
        let mut looked = started;
        let mut pause = FIRST_PAUSE;
        // Why it could not be looked at the last time.
        let mut unseen: Option<String> = None;
        loop {
            let answer = ready(&self.connections, &url, placement.instance_name.as_str(), &placement.admin_key).await;
            let reason = match answer {
                Readiness::Ready => return Ok(()),
                // Somebody may have taken the port in the moment in which ours started, under whatever name. While
                // nobody knows the port yet, another one does as well.
                Readiness::OtherInstance { name } => {
                    let message = format!("`{url}` is answered by another backend, `{name}`");
                    let finding = Finding::new("convex.other_instance", message)
                        .with_help("stop that one, and run the same command again");
                    return Err(EffectFailure { finding, taken: port_of(placement) });
                }
                Readiness::KeyRefused => {
                    let message = format!("`{}` runs under another instance secret and refuses its key", placement.name);
                    let finding = Finding::new("convex.key_refused", message);
                    return Err(EffectFailure { finding, taken: port_of(placement) });
                }
                Readiness::NotListening => format!("nothing listens at `{url}`"),
                Readiness::Failing(error) => chain(&error),
            };
            // A look at what runs here costs nothing; others count every request.
            if (here || self.platform.uptime().saturating_sub(looked) > LOOK_ELSEWHERE_EVERY)
                && let Ok(provider) = self.provider(placement.spec.provider)
            {
                match provider.observe(placement).await {
                    Ok(seen) if matches!(seen.state, RunState::Stopped | RunState::Absent) => {
                        let error = ProviderError::Exited {
                            status: "before it answered".to_owned(),
                            log: last_lines(provider, placement).await,
                        };
                        return Err(failure(placement, &error));
                    }
                    Ok(_) => unseen = None,
                    Err(error) => unseen = Some(format!("it could not be looked at: {}", chain(&error))),
                }
            }
            if self.platform.uptime().saturating_sub(started) > READY_WITHIN {
                // That it runs is known only where somebody could look.
                let runs = if unseen.is_none() { "runs, but" } else { "was started, but" };
                let unseen = unseen.map(|unseen| format!("; {unseen}")).unwrap_or_default();
                let message =
                    format!("`{}` {runs} did not answer within {} s: {reason}{unseen}", placement.name, READY_WITHIN.as_secs());
                return Err(plain(
                    Finding::new("convex.not_ready", message)
                        .with_help(format!("look at its log with\n    convexinfra logs {}", placement.name)),
                ));
            }
            if !here && self.platform.uptime().saturating_sub(looked) > LOOK_ELSEWHERE_EVERY {
                looked = self.platform.uptime();
            }
            self.platform.sleep(pause).await;
            pause = (pause * 3 / 2).min(LONGEST_PAUSE);
        }
    }
}

async fn remove(provider: &dyn Provider, placement: &Placement, notice: Notice<'_>) -> Result<(), ProviderError> {
    match volume_disposal(&placement.references) {
        VolumeDisposal::Destroy => provider.remove(placement, notice).await,
        VolumeDisposal::Keep => provider.remove_keeping_data(placement, notice).await,
    }
}

async fn last_lines(provider: &dyn Provider, placement: &Placement) -> Vec<String> {
    match provider.logs(placement, LogPosition::Tail(LOG_LINES)).await {
        Ok(chunk) => chunk.text.lines().map(str::to_owned).collect(),
        Err(_) => Vec::new(),
    }
}

/// The port that a backend was allocated, where it has any.
fn port_of(placement: &Placement) -> Option<Taken> {
    (placement.ports.api != 0).then_some(Taken::Port(placement.ports.api))
}

fn plain(finding: Finding) -> EffectFailure {
    EffectFailure { finding, taken: None }
}

pub(super) fn refused(finding: Finding) -> EffectEnd {
    EffectEnd::Failed(plain(finding))
}

/// What a provider's error means to a user.
pub(super) fn failure(placement: &Placement, error: &ProviderError) -> EffectFailure {
    let name = &placement.name;
    let finding = Finding::new(error.code(), chain(error));
    let finding = match error {
        ProviderError::DataMissing { .. } => finding.with_help(format!(
            "put the data back, or give it up with\n    convexinfra destroy {name} --allow-destroy {name}\nand apply again"
        )),
        ProviderError::PortTaken { port } => finding.with_help(format!(
            "find out who listens on it, stop that, and apply again: {name} keeps port {port} because its URL is known"
        )),
        ProviderError::Exited { log, .. } | ProviderError::NotReplaced { log, .. } if !log.is_empty() => {
            finding.with_help(format!("its log ends with\n    {}", log.join("\n    ")))
        }
        ProviderError::Engine { reason, .. } if reason.contains("no space left on device") => finding.with_help(
            "the engine's disk is full: see what is on it with `docker system df`, make room, and run the same command again",
        ),
        ProviderError::EngineUnreachable { .. } => finding.with_help(
            "start it, or name another one with `DOCKER_HOST` or `docker context use`; what is done is done, and running the same \
             command again goes on from there",
        ),
        ProviderError::NoBinary { .. } => finding
            .with_help(format!("name an executable with `binary = \"…\"` in `[backends.{name}.local]`, or allow the download")),
        ProviderError::BinaryChanged { path, .. } => {
            finding.with_help(format!("if the change is meant, remove `{path}` so that it is fetched again"))
        }
        ProviderError::Fly(error) => match error.help() {
            Some(help) => finding.with_help(help),
            None => finding,
        },
        ProviderError::File { source, .. } if source.kind() == std::io::ErrorKind::StorageFull => {
            finding.with_help("make room and run the same command again")
        }
        _ => finding,
    };
    let taken = match error {
        ProviderError::PortTaken { port } => Some(Taken::Port(*port)),
        // A name that the user chose is not replaced by another one.
        ProviderError::Fly(FlyError::AppTaken { .. } | FlyError::AppForeign { .. })
            if placement.spec.settings.fly.app.is_none() =>
        {
            Some(Taken::App)
        }
        _ => None,
    };
    EffectFailure { finding, taken }
}
