//! Waits until a backend is ready and no operation runs on it.
//!
//! Must not do: start what is waited for.

use std::time::Duration;

use tokio::time::{Instant, timeout_at};

use super::{AppError, Reporter, check_ownership, select_backend};
use crate::api::ControlPlane;
use crate::apply::EventKind;
use crate::model::{
    ActualBackend, Address, BackendName, Desired, Diagnostic, Exit, OperationRecord, Phase, ProjectName, RunState, Snapshot,
    TimeSpan,
};

/// How often to observe.
const POLL_INTERVAL: Duration = Duration::from_millis(200);
/// How often to observe where a provider counts requests.
const REMOTE_POLL_INTERVAL: Duration = Duration::from_secs(3);

/// Waits until a backend is ready, and returns its name and the snapshot that shows it.
///
/// # Errors
/// The backend is not ready in time, or was removed meanwhile.
pub(crate) async fn wait(
    control: &dyn ControlPlane,
    project: &ProjectName,
    desired: Option<&Desired>,
    name: Option<&BackendName>,
    limit: TimeSpan,
    reporter: &dyn Reporter,
) -> Result<(BackendName, Snapshot), AppError> {
    let deadline = Instant::now() + Duration::from_secs(limit.seconds());
    let mut awaited = name.cloned();
    let mut last = None;
    let mut reported = None;
    loop {
        // A provider that hangs must not make the observation longer than the wait.
        let Ok(snapshot) = timeout_at(deadline, control.snapshot(project)).await else { break };
        let snapshot = snapshot?;
        let name = select_awaited(&snapshot, desired, awaited.as_ref())?;
        awaited = Some(name.clone());
        let backend = snapshot.backend(&name);
        let Ok(operation) = timeout_at(deadline, running_operation(control, &snapshot, &name)).await else { break };
        let operation = operation?;
        let state = backend.map(|backend| (backend.phase, backend.observation.state));
        if let (Some((Phase::Ready, RunState::Running | RunState::Recorded)), None) = (state, operation) {
            return Ok((name, snapshot));
        }
        if state.is_none() && matches!(last, Some(Some(_))) {
            let diagnostic = Diagnostic::new("control.no_such_backend", format!("`{name}` was removed meanwhile"));
            return Err(AppError::new(Exit::Failed, diagnostic));
        }
        let label = backend.map_or("not applied yet", |backend| crate::render::StatusEntry::new(backend).state_label());
        let label = match operation {
            Some(record) => format!("{label}, {}", crate::render::describe_operation(record)),
            None => label.to_owned(),
        };
        let notes = backend.map(|backend| backend.observation.notes.clone()).unwrap_or_default();
        let unseen = backend.and_then(ActualBackend::observe_failure);
        let refused = unseen.clone().filter(|unseen| unseen.exit() == Exit::NotAuthorised);
        let waiting = EventKind::Waiting { address: Address::backend(&name), state: label, notes, unseen };
        if reported.as_ref() != Some(&waiting) {
            reporter.event(&waiting.clone().into());
            reported = Some(waiting);
        }
        if let Some(refused) = refused {
            // Waiting makes no token good.
            return Err(AppError::new(Exit::NotAuthorised, refused));
        }
        let remote = backend.is_some_and(|backend| !backend.recorded.provider.descriptor().location.is_on_this_machine());
        last = Some(backend.cloned());
        if Instant::now() >= deadline {
            break;
        }
        let pause = if remote { REMOTE_POLL_INTERVAL } else { POLL_INTERVAL };
        tokio::time::sleep(pause.min(deadline.saturating_duration_since(Instant::now()))).await;
    }
    Err(timed_out(awaited.as_ref(), last, limit))
}

/// Returns the operation that runs on a backend now. One that was interrupted waits for the next apply.
async fn running_operation<'a>(
    control: &dyn ControlPlane,
    snapshot: &'a Snapshot,
    name: &BackendName,
) -> Result<Option<&'a OperationRecord>, AppError> {
    let Some(record) = snapshot.operations.iter().find(|record| record.backend == *name) else { return Ok(None) };
    let carried_out = snapshot.control_plane.outlives_commands() || control.lease_holder(&snapshot.project).await?.is_some();
    Ok(carried_out.then_some(record))
}

/// Selects the backend, which may be one that the manifest declares and that was not applied yet.
fn select_awaited(snapshot: &Snapshot, desired: Option<&Desired>, name: Option<&BackendName>) -> Result<BackendName, AppError> {
    check_ownership(snapshot, desired)?;
    let wanted = desired.map(|desired| &desired.backends);
    match (name, wanted) {
        (Some(name), Some(wanted)) if wanted.contains_key(name) => Ok(name.clone()),
        (None, Some(wanted)) if snapshot.backends.is_empty() && wanted.len() == 1 => {
            wanted.keys().next().cloned().map_or_else(|| select_backend(snapshot, desired, None), Ok)
        }
        _ => select_backend(snapshot, desired, name),
    }
}

fn timed_out(name: Option<&BackendName>, last: Option<Option<ActualBackend>>, limit: TimeSpan) -> AppError {
    let within = limit;
    let finding = |message| Diagnostic::new("wait.timed_out", message);
    let finding = match (name, last) {
        (Some(name), Some(None)) => {
            finding(format!("`{name}` was not applied within {within}")).with_help("create it with\n    convexinfra apply")
        }
        (Some(name), Some(Some(seen))) => {
            let notes = &seen.observation.notes;
            match seen.observe_failure() {
                Some(why) => Diagnostic {
                    help: why.help,
                    ..finding(format!("`{name}` could not be observed within {within}: {}", why.message))
                },
                None if !notes.is_empty() => {
                    finding(format!("`{name}` was still waiting for its host after {within}")).with_help(notes.join("\n"))
                }
                None => finding(format!("`{name}` did not become ready within {within}"))
                    .with_help(format!("look at its log with\n    convexinfra logs {name}")),
            }
        }
        _ => finding(format!("the backends could not be observed within {within}")),
    };
    AppError::new(Exit::TimedOut, finding)
}
