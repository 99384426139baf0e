//! Running a plan: as many steps at once as the graph and the limit allow, until all have ended.

use std::collections::BTreeMap;
use std::pin::pin;
use std::time::{Duration, Instant};

use futures_util::future::BoxFuture;
use futures_util::stream::{FuturesUnordered, StreamExt};
use tokio::sync::watch;

use super::event::{Event, EventKind, StepOutcome, Tally};
use super::scheduler::{Scheduler, StepStatus};
use crate::api::{ControlError, ControlPlane, Credentials, LEASE_SECONDS, Lease, OperationOutcome, OperationRequest, Work};
use crate::model::{BackendName, Diagnostic, EnvFileTarget, FieldPath, Secret, StepKey};
use crate::plan::{Plan, Step, Task};

/// How often a lease is renewed: three tries before it runs out.
const RENEW_INTERVAL: Duration = Duration::from_secs(LEASE_SECONDS / 3);
/// How long a step may be silent before it says that it is still at work.
const HEARTBEAT: Duration = Duration::from_secs(10);

/// Writes env files; the executor knows when, not how.
pub trait EnvFiles: Send + Sync {
    /// Writes a backend's coordinates.
    ///
    /// # Errors
    /// What stood in the way.
    fn write(&self, backend: &BackendName, target: &EnvFileTarget, credentials: &Credentials) -> Result<(), Diagnostic>;

    /// Takes our lines out again.
    ///
    /// # Errors
    /// What stood in the way.
    fn clear(&self, backend: &BackendName, target: &EnvFileTarget) -> Result<(), Diagnostic>;
}

/// Whether the apply was asked to stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Interrupt {
    /// It was not.
    None,
    /// Finish what runs and begin nothing more.
    Finish,
    /// Leave everything as it is.
    Abort,
}

/// Everything that carrying out a plan needs.
pub struct Execution<'a> {
    /// The plan.
    pub plan: &'a Plan,
    /// The control plane.
    pub control: &'a dyn ControlPlane,
    /// The right to change the project.
    pub lease: &'a Lease,
    /// Where the manifest is applied from: the git remote, else the folder.
    pub origin: Option<&'a str>,
    /// The values of the manifest's secrets.
    pub secrets: &'a BTreeMap<BackendName, BTreeMap<FieldPath, Secret>>,
    /// Writes env files.
    pub env_files: &'a dyn EnvFiles,
    /// How many steps run at once at most.
    pub parallelism: usize,
    /// Whether the apply was asked to stop.
    pub interrupt: watch::Receiver<Interrupt>,
    /// Hears everything that happens.
    pub on_event: &'a (dyn Fn(Event) + Send + Sync),
}

/// How running a plan ended.
#[derive(Debug)]
pub struct Executed {
    /// How many steps ended how. Why a step failed is in its event.
    pub tally: Tally,
    /// Why everything was left as it was, when the lease was lost.
    pub lease_lost: Option<ControlError>,
}

/// Runs a plan to its end, or until the lease is lost.
pub async fn execute(execution: &Execution<'_>) -> Executed {
    let plan = execution.plan;
    let mut scheduler = Scheduler::new(plan);
    let mut tally = Tally::default();
    let mut begun = BTreeMap::new();
    let (because, lost) = tokio::select! {
        biased;
        () = run_steps(execution, &mut scheduler, &mut tally, &mut begun) => ("interrupted", None),
        error = renew_lease(execution) => ("the lease was lost", Some(error)),
    };
    // Only who was told to leave everything as it is, or lost the lease, left something running.
    for (index, _) in scheduler.statuses().iter().enumerate().filter(|(_, status)| **status == StepStatus::Started) {
        tally.interrupted += 1;
        let duration = begun.get(&index).map(Instant::elapsed).unwrap_or_default();
        emit_finished(execution, index, StepOutcome::Interrupted, duration);
    }
    for left in scheduler.stop() {
        tally.not_started += 1;
        emit_finished(execution, left, StepOutcome::NotStarted { because: because.to_owned() }, Duration::ZERO);
    }
    Executed { tally, lease_lost: lost }
}

/// Renews the lease for as long as it is polled; returns only when the lease is lost.
async fn renew_lease(execution: &Execution<'_>) -> ControlError {
    loop {
        tokio::time::sleep(RENEW_INTERVAL).await;
        // Any other error may pass; the fence keeps a late writer out.
        if let Err(error @ ControlError::LeaseLost { .. }) = execution.control.renew_lease(execution.lease).await {
            return error;
        }
    }
}

type InFlight<'a> = FuturesUnordered<BoxFuture<'a, (usize, Result<(), Diagnostic>, Duration)>>;

async fn run_steps(
    execution: &Execution<'_>,
    scheduler: &mut Scheduler,
    tally: &mut Tally,
    begun: &mut BTreeMap<usize, Instant>,
) {
    let plan = execution.plan;
    let mut running: InFlight<'_> = FuturesUnordered::new();
    let mut interrupt = execution.interrupt.clone();
    let mut stopping = false;
    loop {
        while !stopping
            && running.len() < execution.parallelism
            && let Some(index) = scheduler.next_ready()
        {
            let step = &plan.steps[index];
            begun.insert(index, Instant::now());
            emit(
                execution,
                EventKind::StepStarted {
                    id: step.id.clone(),
                    address: step.address.clone(),
                    action: step.action,
                    reason: step.reason,
                },
            );
            running.push(Box::pin(async move {
                let started = Instant::now();
                let result = with_heartbeat(execution, step, run_step(execution, step)).await;
                (index, result, started.elapsed())
            }));
        }
        let ended = tokio::select! {
            ended = running.next() => ended,
            changed = interrupt.changed(), if !stopping || *interrupt.borrow() < Interrupt::Abort => {
                let asked = *interrupt.borrow();
                if changed.is_err() || asked == Interrupt::None {
                    // The sender is gone, so no request comes any more.
                    interrupt = execution.interrupt.clone();
                    running.next().await
                } else if asked == Interrupt::Abort {
                    break;
                } else {
                    stopping = true;
                    continue;
                }
            }
        };
        let Some((index, result, duration)) = ended else { break };
        match result {
            Ok(()) => {
                tally.done += 1;
                scheduler.done(index);
                emit_finished(execution, index, StepOutcome::Done, duration);
            }
            Err(error) => {
                tally.failed += 1;
                emit_finished(execution, index, StepOutcome::Failed { error }, duration);
                let because = format!("{} failed", plan.steps[index].address);
                for blocked in scheduler.failed(index) {
                    tally.not_started += 1;
                    emit_finished(execution, blocked, StepOutcome::NotStarted { because: because.clone() }, Duration::ZERO);
                }
            }
        }
    }
}

fn emit(execution: &Execution<'_>, kind: EventKind) {
    (execution.on_event)(kind.into());
}

fn emit_finished(execution: &Execution<'_>, index: usize, end: StepOutcome, duration: Duration) {
    let step = &execution.plan.steps[index];
    emit(
        execution,
        EventKind::StepFinished {
            id: step.id.clone(),
            address: step.address.clone(),
            action: step.action,
            end,
            milliseconds: u64::try_from(duration.as_millis()).unwrap_or(u64::MAX),
        },
    );
}

fn emit_progress(execution: &Execution<'_>, step: &Step, message: String) {
    emit(execution, EventKind::StepProgress { id: step.id.clone(), address: step.address.clone(), message });
}

async fn with_heartbeat(
    execution: &Execution<'_>,
    step: &Step,
    work: impl Future<Output = Result<(), Diagnostic>>,
) -> Result<(), Diagnostic> {
    let mut work = pin!(work);
    let mut silent = Duration::ZERO;
    loop {
        match tokio::time::timeout(HEARTBEAT, &mut work).await {
            Ok(result) => return result,
            Err(_) => {
                silent += HEARTBEAT;
                emit_progress(execution, step, format!("still at work after {} s", silent.as_secs()));
            }
        }
    }
}

async fn run_step(execution: &Execution<'_>, step: &Step) -> Result<(), Diagnostic> {
    match &step.task {
        None => Ok(()),
        Some(Task::Put { backend, spec, renamed_from, downgrade, moves }) => {
            let secrets = execution.secrets.get(backend).cloned().unwrap_or_default();
            let (spec, renamed_from) = (spec.clone(), renamed_from.clone());
            let work = Work::Put { spec, secrets, renamed_from, downgrade: *downgrade, moves: *moves };
            operate(execution, step, backend, work).await
        }
        Some(Task::Remove { backend, volume, database, final_snapshot }) => {
            let work = Work::Remove { volume: *volume, database: *database, final_snapshot: *final_snapshot };
            operate(execution, step, backend, work).await
        }
        Some(Task::WriteEnvFile { backend, target }) => {
            let credentials = execution
                .control
                .credentials(&execution.plan.project, backend, execution.origin)
                .await
                .map_err(|error| finding_of(&error))?;
            execution.env_files.write(backend, target, &credentials)
        }
        Some(Task::ClearEnvFile { backend, target }) => execution.env_files.clear(backend, target),
    }
}

async fn operate(execution: &Execution<'_>, step: &Step, backend: &BackendName, work: Work) -> Result<(), Diagnostic> {
    let step_key = StepKey { plan: execution.plan.digest.to_string(), step: step.id.as_str().to_owned() };
    let origin = execution.origin.map(str::to_owned);
    let request = OperationRequest { step: step_key, backend: backend.clone(), work, origin };
    let notice = |message: String| emit_progress(execution, step, message);
    match execution.control.run(execution.lease, request, &notice).await {
        Ok(OperationOutcome::Done { .. }) => Ok(()),
        Ok(OperationOutcome::Failed { finding, .. }) => Err(finding),
        Err(error) => Err(finding_of(&error)),
    }
}

fn finding_of(error: &ControlError) -> Diagnostic {
    let mut errors = error.report().errors;
    if errors.is_empty() { Diagnostic::new("bug", error.to_string()) } else { errors.swap_remove(0) }
}
