//! The executor of operations, embedded and served: step after step until the operation has ended, one operation at a time
//! for each backend.
//!
//! A step has a deadline, an operation that is begun again and again has a budget of attempts, and both a removal and the end
//! of the server end what a step waits for.
//!
//! Must not do: decide what an operation does, or forget one that has not ended: what is left open here is taken up
//! again later, or by the next server.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures_util::FutureExt;
use tokio::sync::watch;

use super::janitor::SWEEP_INTERVAL;
use super::journal::OperationJournal;
use super::registry::{
    Activity, BackendKey, BackendLock, Cancellation, OperationRegistry, RunningGuard, cancellation, error_code,
};
use super::{Host, HostAuthority, WriteMode, lock};
use crate::api::wire::OperationEvent;
use crate::api::{ControlError, Lease, OperationOutcome, OperationRequest, ProgressFn, Work};
use crate::authority::{
    AuthenticatedToken, EXPIRY_PLAN, EffectFailure, EffectResult, ExecutionMode, KEEP_RUNNING_PLAN, Operation, Principal,
    Transition,
};
use crate::model::{Diagnostic, OperationId, OperationRecord, OperationState, ProjectName, Scope};

/// How long a request waits for the lock of a backend before it is refused as busy.
const LOCK_TIMEOUT: Duration = Duration::from_secs(15);
/// How long a removal waits for an operation that it cancelled: what that one waits for ends at once, and only an effect
/// that cannot be interrupted takes longer.
const CANCEL_TIMEOUT: Duration = Duration::from_secs(180);

/// Says why running an operation ended without an outcome.
enum Interrupted {
    Cancelled(Cancellation),
    Failed(ControlError),
}

impl From<ControlError> for Interrupted {
    fn from(error: ControlError) -> Self {
        Self::Failed(error)
    }
}

/// An operation that was accepted, now or earlier.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AcceptedOperation {
    /// Its id.
    pub id: OperationId,
}

impl Host {
    /// Accepts a request under a token and begins its operation, or finds the operation that it became when it was sent
    /// before. Returns once it is accepted; the operation goes on by itself.
    ///
    /// # Errors
    /// [`ControlError::OperationRunning`] when something else is being done to the same backend for too long; asking
    /// again later is the same piece of work. Otherwise why it is not accepted.
    pub async fn start(
        self: &Arc<Self>,
        bearer: &AuthenticatedToken,
        lease: &Lease,
        request: OperationRequest,
    ) -> Result<AcceptedOperation, ControlError> {
        self.start_as(Principal::Token(bearer), lease, request).await
    }

    /// Accepts a request of any principal and begins its operation.
    pub(super) async fn start_as(
        self: &Arc<Self>,
        principal: Principal<'_>,
        lease: &Lease,
        request: OperationRequest,
    ) -> Result<AcceptedOperation, ControlError> {
        if let Some(plan) = [EXPIRY_PLAN, KEEP_RUNNING_PLAN].into_iter().find(|plan| request.step.plan == *plan) {
            let message = format!("a step of the plan `{plan}` is the control plane's own");
            return Err(ControlError::BadRequest(Diagnostic::new("control.reserved_step", message)));
        }
        let place = (lease.project.clone(), request.backend.clone());
        let known = |host: &Self| {
            let known = host.read_rows(|authority| authority.operation_for_request(&lease.project, &request))?.flatten();
            // What is open and does not run here has to be taken up again first.
            let running = host.registry.running();
            Ok::<_, ControlError>(
                known.filter(|record| record.state != OperationState::Running || running.contains(&record.id)),
            )
        };
        if let Some(record) = known(self)? {
            return Ok(AcceptedOperation { id: record.id });
        }
        // What was accepted once is found again, even where its provider is gone.
        self.read_rows(|authority| authority.authorize_request(principal, &lease.project, &request))?;
        self.check_allowed(&request)?;
        self.check_room(&request.work)?;
        self.check_supported(&lease.project, &request).await?;
        let mut cancelled = false;
        let turn = loop {
            let turn = self.registry.backend_lock(&place).lock_owned();
            tokio::select! {
                turn = turn => break turn,
                () = self.platform.sleep(if cancelled { CANCEL_TIMEOUT } else { LOCK_TIMEOUT }) => {}
            }
            if let Some(record) = known(self)? {
                return Ok(AcceptedOperation { id: record.id });
            }
            let (project, backend) = &place;
            let open = self.read_rows(|authority| authority.open_operations_on(project, backend))?.unwrap_or_default();
            // Where none is open, the last one has just ended, and the turn comes at once.
            if let Some(OperationRecord { id: operation, .. }) = open.into_iter().next() {
                if !cancelled
                    && matches!(request.work, Work::Remove { .. })
                    && principal.authorize(Scope::Destroy, project).is_ok()
                {
                    // What the other one brings about is not wanted any more.
                    cancelled = true;
                    self.registry.cancel(Some(&place), Cancellation::Removal);
                    continue;
                }
                return Err(ControlError::OperationRunning { backend: request.backend, operation });
            }
        };
        let accept =
            |authority: &HostAuthority| authority.accept(lease, ExecutionMode::ControlPlane, principal, &request, self.now());
        let (operation, next) = self.write_for_client(WriteMode::Exclusive, Some(&lease.project), accept)?;
        match (operation, next) {
            (_, Transition::Ended(outcome)) => {
                self.registry.count_outcome(&outcome);
                let (OperationOutcome::Done { operation } | OperationOutcome::Failed { operation, .. }) = outcome;
                Ok(AcceptedOperation { id: operation })
            }
            (Some(operation), next) => {
                let (id, is_earlier) = (operation.id().clone(), !operation.is_of(&request.step));
                self.execute(place, operation, next, turn);
                if is_earlier {
                    // It is still being undone, and ends first.
                    return Err(ControlError::OperationRunning { backend: request.backend, operation: id });
                }
                Ok(AcceptedOperation { id })
            }
            (None, Transition::Perform(_)) => Err(ControlError::Record(Diagnostic::new(
                "bug",
                "an effect without an operation; this is a bug in convexinfra",
            ))),
        }
    }

    /// Runs an operation to its end in a task of its own.
    pub(super) fn execute(self: &Arc<Self>, place: BackendKey, mut operation: Operation, next: Transition, turn: BackendLock) {
        let host = Arc::clone(self);
        let id = operation.id().clone();
        let cancelled = self.registry.register(&operation, &place);
        self.platform.spawn(Box::pin(async move {
            let _turn = turn;
            let listed = RunningGuard { registry: &host.registry, id };
            let (project, backend) = &place;
            let notice = |message: String| host.append_notice(&listed.id, &message);
            let run = host.run_to_end(&mut operation, next, &notice, Some(cancelled));
            let ended = AssertUnwindSafe(run).catch_unwind().await;
            match ended {
                Ok(Ok(outcome)) => host.record_outcome(&place, &outcome),
                Ok(Err(Interrupted::Cancelled(Cancellation::Shutdown))) => {
                    let _ = host.write_rows(|authority| authority.refund_attempt(&listed.id));
                }
                // Another operation takes its place.
                Ok(Err(
                    Interrupted::Cancelled(Cancellation::Removal) | Interrupted::Failed(ControlError::LeaseLost { .. }),
                )) => {}
                // The rows cannot be written now. What is still open is taken up again by the next sweep.
                Ok(Err(Interrupted::Failed(error))) => {
                    let code = error_code(&error);
                    tracing::warn!(%project, %backend, operation = %listed.id, code, "an operation could not go on");
                }
                // What a panic says may hold a secret.
                Err(_) => {
                    tracing::error!(%project, %backend, operation = %listed.id, "an operation panicked");
                    let seen = "it ended in a bug of convexinfra (a panic)";
                    let _ = host.write_rows(|authority| authority.note_interruption(&listed.id, seen));
                }
            }
        }));
    }

    /// Runs an operation to its end for a caller that waits for it.
    pub(super) async fn run_here(
        &self,
        operation: Option<Operation>,
        next: Transition,
        notice: ProgressFn<'_>,
    ) -> Result<OperationOutcome, ControlError> {
        match (operation, next) {
            (_, Transition::Ended(outcome)) => Ok(outcome),
            (Some(mut operation), next) => match self.run_to_end(&mut operation, next, notice, None).await {
                Ok(outcome) => Ok(outcome),
                Err(Interrupted::Failed(error)) => Err(error),
                Err(Interrupted::Cancelled(_)) => Err(ControlError::LeaseLost { project: operation.project().clone() }),
            },
            (None, Transition::Perform(_)) => {
                let finding = Diagnostic::new("bug", "an effect without an operation; this is a bug in convexinfra");
                Err(ControlError::Record(finding))
            }
        }
    }

    /// Performs step after step until the operation has ended.
    async fn run_to_end(
        &self,
        operation: &mut Operation,
        mut next: Transition,
        notice: ProgressFn<'_>,
        mut cancelled: Option<watch::Receiver<Option<Cancellation>>>,
    ) -> Result<OperationOutcome, Interrupted> {
        loop {
            let effect = match next {
                Transition::Ended(outcome) => return Ok(outcome),
                Transition::Perform(effect) => effect,
            };
            let step = effect.step();
            let deadline = Duration::from_secs(step.deadline_seconds());
            let journal = OperationJournal::new(self, operation);
            let end = tokio::select! {
                end = self.run_effect(effect, notice, &journal) => end,
                () = self.platform.sleep(deadline) => {
                    let message = format!("{} did not end within {} min", step.label(), deadline.as_secs() / 60);
                    let finding = Diagnostic::new("control.step_timeout", message)
                        .with_help("look at what it waits for, and apply again: it goes on from there");
                    EffectResult::Failed(EffectFailure { finding, conflict: None })
                }
                why = cancellation(&mut cancelled, operation.is_being_undone()) => return Err(Interrupted::Cancelled(why)),
            };
            next = self.write_rows(|authority| authority.advance(operation, end, self.now()))?;
        }
    }

    /// Counts the end of an operation, and says in the log that it failed, but not in which words: those may hold
    /// something that a program has said.
    pub(super) fn record_outcome(&self, place: &BackendKey, outcome: &OperationOutcome) {
        self.registry.count_outcome(outcome);
        if let OperationOutcome::Failed { operation, finding } = outcome {
            let (project, backend) = place;
            tracing::warn!(%project, %backend, %operation, code = finding.code, "an operation failed");
        }
    }

    /// Returns the counts of operations of this host.
    pub fn activity(&self) -> Activity {
        let OperationRegistry { running, done, failed, .. } = &self.registry;
        let running = u64::try_from(lock(running).len()).unwrap_or(u64::MAX);
        Activity { running, done: done.load(Ordering::Relaxed), failed: failed.load(Ordering::Relaxed) }
    }

    fn append_notice(&self, id: &OperationId, message: &str) {
        // What cannot be written down is only not heard by those who come later.
        let Ok(number) = self.write_rows(|authority| authority.append_notice(id, message)) else { return };
        if let Some(running) = lock(&self.registry.running).get(id) {
            running.notices.send_replace(number);
        }
    }

    /// Returns what an operation says after a number, and then its end; waits for what is still to come. Each event has its
    /// number, to go on after it later. None once the end was handed out.
    ///
    /// # Errors
    /// There is no such operation in the project, or the rows cannot be read.
    pub async fn next_events(
        &self,
        project: &ProjectName,
        id: &OperationId,
        after: u64,
    ) -> Result<Vec<(u64, OperationEvent)>, ControlError> {
        loop {
            let mut news = lock(&self.registry.running).get(id).map(|running| running.notices.subscribe());
            let record = self
                .operation(project, id)?
                .ok_or_else(|| ControlError::NoSuchOperation { project: project.clone(), operation: id.clone() })?;
            let notices = self.read_rows(|authority| authority.notices(id, after))?.unwrap_or_default();
            let mut events: Vec<_> =
                notices.into_iter().map(|(number, message)| (number, OperationEvent::Notice { message })).collect();
            if record.state != OperationState::Running {
                let number = events.last().map_or(after, |(number, _)| *number).saturating_add(1);
                events.push((number, OperationEvent::Ended { operation: Box::new(record) }));
            }
            if !events.is_empty() {
                return Ok(events);
            }
            match &mut news {
                Some(news) => {
                    let _ = news.changed().await;
                }
                // It is open and runs nowhere: a sweep takes it up.
                None => self.platform.sleep(SWEEP_INTERVAL).await,
            }
        }
    }

    /// Waits for the end of an operation, and passes on what it says meanwhile.
    pub(super) async fn wait_until_ended(
        &self,
        project: &ProjectName,
        id: &OperationId,
        notice: ProgressFn<'_>,
    ) -> Result<OperationRecord, ControlError> {
        let mut after = 0;
        loop {
            for (number, event) in self.next_events(project, id, after).await? {
                after = number;
                match event {
                    OperationEvent::Notice { message } => notice(message),
                    OperationEvent::Ended { operation } => return Ok(*operation),
                }
            }
        }
    }
}
