//! `convexinfra wait`: waits until a backend answers and nothing is being done to it.
//!
//! Must not do: start what it waits for.

use std::time::Duration;

use tokio::time::{Instant, timeout_at};

use super::select_backend;
use crate::api::ControlPlane;
use crate::apply::{Event, EventKind, Tally};
use crate::cli::args::Wait as Args;
use crate::cli::context::Context;
use crate::cli::error::CliError;
use crate::cli::progress::ProgressReporter;
use crate::model::{
    ActualBackend, Address, BackendName, Desired, Diagnostic, Exit, OperationRecord, Phase, ProviderKind, RunState, Snapshot,
};

/// How often to look.
const POLL_INTERVAL: Duration = Duration::from_millis(200);
/// How often to look where every look is counted.
const REMOTE_POLL_INTERVAL: Duration = Duration::from_secs(3);

/// Waits until a backend answers.
pub(super) async fn run(context: &Context, args: &Args) -> Result<Exit, CliError> {
    let (project, loaded) = context.project()?;
    let desired = loaded.as_ref().map(|loaded| &loaded.desired);
    let control = context.control(desired)?;
    let deadline = Instant::now() + Duration::from_secs(args.timeout.seconds());
    let bars = ProgressReporter::new(&context.printer);
    let mut meant_name = args.backend.name.clone();
    let mut last = None;
    let mut said = None;
    loop {
        // What hangs must not make the look longer than the wait.
        let Ok(snapshot) = timeout_at(deadline, control.snapshot(&project)).await else { break };
        let snapshot = snapshot?;
        let name = select_awaited(&snapshot, desired, meant_name.as_ref())?;
        meant_name = Some(name.clone());
        let backend = snapshot.backends.iter().find(|backend| backend.name == name);
        let Ok(operation) = timeout_at(deadline, running_operation(control, &snapshot, &name)).await else { break };
        let operation = operation?;
        let state = backend.map(|backend| (backend.phase, backend.observation.state));
        if let (Some((Phase::Ready, RunState::Running | RunState::Recorded)), None) = (state, operation) {
            bars.finish();
            let url = backend.and_then(|backend| backend.endpoints.as_ref());
            let url = url.map(|endpoints| format!(" at {}", endpoints.url)).unwrap_or_default();
            context.printer.output(&format!("`{name}` is ready{url}\n"));
            let (tally, backends) = (Tally::default(), super::apply::ready_backends(&snapshot));
            let backends = backends.into_iter().filter(|backend| backend.name == name).collect();
            let finished = EventKind::Finished { tally, exit: Exit::Done, converged: None, backends };
            context.printer.document(&Event::from(finished));
            return Ok(Exit::Done);
        }
        if state.is_none() && matches!(last, Some(Some(_))) {
            let finding = Diagnostic::new("control.no_such_backend", format!("`{name}` was removed meanwhile"));
            return Err(CliError::new(Exit::Failed, finding));
        }
        let words = backend.map_or("not applied yet", |backend| crate::render::StatusEntry::new(backend).state_label());
        let words = match operation {
            Some(record) => format!("{words}, {}", crate::render::describe_operation(record)),
            None => words.to_owned(),
        };
        let notes = backend.map(|backend| backend.observation.notes.clone()).unwrap_or_default();
        let unseen = backend.and_then(ActualBackend::observe_failure);
        let waiting = EventKind::Waiting { address: Address::backend(&name), state: words, notes, unseen };
        if said.as_ref() != Some(&waiting) {
            bars.on_event(&waiting.clone().into());
            said = Some(waiting);
        }
        let elsewhere = backend.is_some_and(|backend| backend.recorded.provider == ProviderKind::Fly);
        last = Some(backend.cloned());
        if Instant::now() >= deadline {
            break;
        }
        let pause = if elsewhere { REMOTE_POLL_INTERVAL } else { POLL_INTERVAL };
        tokio::time::sleep(pause.min(deadline.saturating_duration_since(Instant::now()))).await;
    }
    bars.finish();
    Err(timed_out(meant_name.as_ref(), last, args))
}

/// The operation that is being carried out on a backend now, whoever asked for it and whether they still wait. What was
/// cut off waits for somebody to apply again.
async fn running_operation<'a>(
    control: &dyn ControlPlane,
    snapshot: &'a Snapshot,
    name: &BackendName,
) -> Result<Option<&'a OperationRecord>, CliError> {
    let Some(record) = snapshot.operations.iter().find(|record| record.backend == *name) else { return Ok(None) };
    let carried_out = snapshot.control_plane.outlives_commands() || control.lease_holder(&snapshot.project).await?.is_some();
    Ok(carried_out.then_some(record))
}

/// The backend that is meant, which may be one that the manifest has and nobody has applied yet.
fn select_awaited(snapshot: &Snapshot, desired: Option<&Desired>, name: Option<&BackendName>) -> Result<BackendName, CliError> {
    let wanted = desired.map(|desired| &desired.backends);
    match (name, wanted) {
        (Some(name), Some(wanted)) if wanted.contains_key(name) => Ok(name.clone()),
        (None, Some(wanted)) if snapshot.backends.is_empty() && wanted.len() == 1 => {
            wanted.keys().next().cloned().map_or_else(|| select_backend(snapshot, None), Ok)
        }
        _ => select_backend(snapshot, name),
    }
}

fn timed_out(name: Option<&BackendName>, last: Option<Option<ActualBackend>>, args: &Args) -> CliError {
    let within = args.timeout;
    let finding = |message| Diagnostic::new("wait.timed_out", message);
    let finding = match (name, last) {
        (Some(name), Some(None)) => {
            finding(format!("`{name}` was not applied within {within}")).with_help("bring it about with\n    convexinfra apply")
        }
        (Some(name), Some(Some(seen))) => {
            let notes = &seen.observation.notes;
            match seen.observe_failure() {
                Some(why) => Diagnostic {
                    help: why.help,
                    ..finding(format!("nothing was known of `{name}` at the end of {within}: {}", why.message))
                },
                None if !notes.is_empty() => {
                    finding(format!("`{name}` was still waiting for its host after {within}")).with_help(notes.join("\n"))
                }
                None => finding(format!("`{name}` did not become ready within {within}"))
                    .with_help(format!("look at its log with\n    convexinfra logs {name}")),
            }
        }
        _ => finding(format!("the backends did not answer a look within {within}")),
    };
    CliError::new(Exit::TimedOut, finding)
}
