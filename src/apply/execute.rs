//! Running a plan: as many steps at once as the graph and the limit allow, until all have ended.
//!
//! Must not do: choose anything that the plan left open; the plan left nothing open.

use std::collections::BTreeMap;
use std::pin::pin;
use std::time::{Duration, Instant};

use futures_util::future::BoxFuture;
use futures_util::stream::{FuturesUnordered, StreamExt};
use tokio::sync::watch;

use super::event::{Event, EventKind, StepEnd, Tally};
use super::scheduler::{Scheduler, Status};
use crate::control::{ControlError, ControlPlane, Credentials, LEASE_SECONDS, Lease, Outcome, Request, Work};
use crate::model::{BackendName, EnvFileTarget, FieldPath, Finding, Secret, StepKey};
use crate::plan::{Plan, Step, Task};

/// How often a lease is renewed: three tries before it runs out.
const RENEW_EVERY: Duration = Duration::from_secs(LEASE_SECONDS / 3);
/// How long a step may be silent before it says that it is still at work.
const HEARTBEAT: Duration = Duration::from_secs(10);

/// Writes env files; the executor knows when, not how.
pub trait EnvFiles: Send + Sync {
    /// Writes a backend's coordinates.
    ///
    /// # Errors
    /// What stood in the way.
    fn write(&self, backend: &BackendName, target: &EnvFileTarget, credentials: &Credentials) -> Result<(), Finding>;

    /// Takes our lines out again.
    ///
    /// # Errors
    /// What stood in the way.
    fn clear(&self, backend: &BackendName, target: &EnvFileTarget) -> Result<(), Finding>;
}

/// Whether somebody asked to stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Interrupt {
    /// Nobody did.
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
    /// The values of the manifest's secrets.
    pub secrets: &'a BTreeMap<BackendName, BTreeMap<FieldPath, Secret>>,
    /// Writes env files.
    pub env_files: &'a dyn EnvFiles,
    /// How many steps run at once at most.
    pub parallelism: usize,
    /// Whether somebody asked to stop.
    pub interrupt: watch::Receiver<Interrupt>,
    /// Hears everything that happens.
    pub listener: &'a (dyn Fn(Event) + Send + Sync),
}

/// How running a plan ended.
#[derive(Debug)]
pub struct Executed {
    /// How many steps ended how. Why a step failed is in its event.
    pub tally: Tally,
    /// Why everything was left as it was, when the lease was lost.
    pub lost: Option<ControlError>,
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
        error = keep_lease(execution) => ("the lease was lost", Some(error)),
    };
    // Only who was told to leave everything as it is, or lost the lease, left something running.
    for (index, _) in scheduler.statuses().iter().enumerate().filter(|(_, status)| **status == Status::Started) {
        tally.interrupted += 1;
        let duration = begun.get(&index).map(Instant::elapsed).unwrap_or_default();
        finished(execution, index, StepEnd::Interrupted, duration);
    }
    for left in scheduler.stop() {
        tally.not_started += 1;
        finished(execution, left, StepEnd::NotStarted { because: because.to_owned() }, Duration::ZERO);
    }
    Executed { tally, lost }
}

/// Renews the lease for as long as it is polled; returns only when the lease is lost.
async fn keep_lease(execution: &Execution<'_>) -> ControlError {
    loop {
        tokio::time::sleep(RENEW_EVERY).await;
        // Any other error may pass; the fence keeps a late writer out.
        if let Err(error @ ControlError::LeaseLost { .. }) = execution.control.renew(execution.lease).await {
            return error;
        }
    }
}

type Running<'a> = FuturesUnordered<BoxFuture<'a, (usize, Result<(), Finding>, Duration)>>;

async fn run_steps(
    execution: &Execution<'_>,
    scheduler: &mut Scheduler,
    tally: &mut Tally,
    begun: &mut BTreeMap<usize, Instant>,
) {
    let plan = execution.plan;
    let mut running: Running<'_> = FuturesUnordered::new();
    let mut interrupt = execution.interrupt.clone();
    let mut stopping = false;
    loop {
        while !stopping
            && running.len() < execution.parallelism
            && let Some(index) = scheduler.next_ready()
        {
            let step = &plan.steps[index];
            begun.insert(index, Instant::now());
            tell(
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
                    // Nobody can ask any more.
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
                finished(execution, index, StepEnd::Done, duration);
            }
            Err(error) => {
                tally.failed += 1;
                finished(execution, index, StepEnd::Failed { error }, duration);
                let because = format!("{} failed", plan.steps[index].address);
                for blocked in scheduler.failed(index) {
                    tally.not_started += 1;
                    finished(execution, blocked, StepEnd::NotStarted { because: because.clone() }, Duration::ZERO);
                }
            }
        }
    }
}

fn tell(execution: &Execution<'_>, kind: EventKind) {
    (execution.listener)(kind.into());
}

fn finished(execution: &Execution<'_>, index: usize, end: StepEnd, duration: Duration) {
    let step = &execution.plan.steps[index];
    tell(
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

fn progress(execution: &Execution<'_>, step: &Step, message: String) {
    tell(execution, EventKind::StepProgress { id: step.id.clone(), address: step.address.clone(), message });
}

async fn with_heartbeat(
    execution: &Execution<'_>,
    step: &Step,
    work: impl Future<Output = Result<(), Finding>>,
) -> Result<(), Finding> {
    let mut work = pin!(work);
    let mut silent = Duration::ZERO;
    loop {
        match tokio::time::timeout(HEARTBEAT, &mut work).await {
            Ok(result) => return result,
            Err(_) => {
                silent += HEARTBEAT;
                progress(execution, step, format!("still at work after {} s", silent.as_secs()));
            }
        }
    }
}

async fn run_step(execution: &Execution<'_>, step: &Step) -> Result<(), Finding> {
    match &step.task {
        None => Ok(()),
        Some(Task::Put { backend, spec, renamed_from }) => {
            let secrets = execution.secrets.get(backend).cloned().unwrap_or_default();
            let work = Work::Put { spec: spec.clone(), secrets, renamed_from: renamed_from.clone() };
            operate(execution, step, backend, work).await
        }
        Some(Task::Remove { backend, volume, database }) => {
            operate(execution, step, backend, Work::Remove { volume: *volume, database: *database }).await
        }
        Some(Task::WriteEnvFile { backend, target }) => {
            let credentials =
                execution.control.credentials(&execution.plan.project, backend).await.map_err(|error| finding_of(&error))?;
            execution.env_files.write(backend, target, &credentials)
        }
        Some(Task::ClearEnvFile { backend, target }) => execution.env_files.clear(backend, target),
    }
}

async fn operate(execution: &Execution<'_>, step: &Step, backend: &BackendName, work: Work) -> Result<(), Finding> {
    let step_key = StepKey { plan: execution.plan.digest.to_string(), step: step.id.as_str().to_owned() };
    let request = Request { step: step_key, backend: backend.clone(), work };
    let notice = |message: String| progress(execution, step, message);
    match execution.control.run(execution.lease, request, &notice).await {
        Ok(Outcome::Done { .. }) => Ok(()),
        Ok(Outcome::Failed { finding, .. }) => Err(finding),
        Err(error) => Err(finding_of(&error)),
    }
}

fn finding_of(error: &ControlError) -> Finding {
    let mut errors = error.report().errors;
    if errors.is_empty() { Finding::new("bug", error.to_string()) } else { errors.swap_remove(0) }
}
