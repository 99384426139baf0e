//! Operations that the control plane carries out itself, one at a time for each backend, whoever still listens.
//!
//! Must not do: decide what an operation does, or forget one that has not ended: what is left open here is taken up
//! again later, or by the next server.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;

use tokio::sync::{OwnedMutexGuard, watch};

use super::janitor::{SWEEP_INTERVAL, SweepErrors, error_code};
use super::{Host, LocalBinaries, lock};
use crate::api::wire::OperationEvent;
use crate::api::{ControlError, Lease, OperationOutcome, ProgressFn, Request, Work};
use crate::authority::{AuthenticatedToken, EXPIRY_PLAN, ExecutionMode, Operation, Principal, Transition, check_same_request};
use crate::model::{BackendName, Diagnostic, OperationId, OperationRecord, OperationState, ProjectName};
use crate::policy;
use crate::provider::{FoundBackend, ProviderError};

/// How long a request waits for its turn at a backend before it is told to come again.
const LOCK_TIMEOUT: Duration = Duration::from_secs(15);

pub(super) type BackendKey = (ProjectName, BackendName);
pub(super) type BackendLock = OwnedMutexGuard<()>;

/// What runs in this process, and who takes turns.
#[derive(Default)]
pub(super) struct OperationRegistry {
    /// One turn for each backend that somebody is at.
    locks: Mutex<BTreeMap<BackendKey, Weak<tokio::sync::Mutex<()>>>>,
    /// Every operation that runs here, and the number of the last thing it said.
    running: Mutex<BTreeMap<OperationId, watch::Sender<u64>>>,
    /// How many have ended well here, and how many have not.
    done: AtomicU64,
    failed: AtomicU64,
    /// How often this host has swept.
    pub(super) sweeps: AtomicU64,
    /// What the last sweep could not do.
    pub(super) sweep_errors: Mutex<SweepErrors>,
}

/// What a host has carried out by itself since it was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Activity {
    /// How many operations run now.
    pub running: u64,
    /// How many have ended well.
    pub done: u64,
    /// How many could not be done.
    pub failed: u64,
}

/// An operation that was accepted, now or earlier.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AcceptedOperation {
    /// Its id.
    pub id: OperationId,
}

/// Takes an operation off the list of what runs, however its task ends.
struct RunningGuard<'a> {
    registry: &'a OperationRegistry,
    id: OperationId,
}

impl Drop for RunningGuard<'_> {
    fn drop(&mut self) {
        // Whoever listens sees the channel close, and looks at the row.
        lock(&self.registry.running).remove(&self.id);
    }
}

impl OperationRegistry {
    pub(super) fn backend_lock(&self, place: &BackendKey) -> Arc<tokio::sync::Mutex<()>> {
        let mut turns = lock(&self.locks);
        turns.retain(|_, turn| turn.strong_count() > 0);
        if let Some(turn) = turns.get(place).and_then(Weak::upgrade) {
            return turn;
        }
        let turn = Arc::new(tokio::sync::Mutex::new(()));
        turns.insert(place.clone(), Arc::downgrade(&turn));
        turn
    }

    fn register(&self, id: &OperationId) {
        lock(&self.running).insert(id.clone(), watch::Sender::new(0));
    }

    /// Waits until something that runs here has ended.
    #[cfg(feature = "native")]
    pub(super) async fn wait_for_one(&self) {
        let listening = lock(&self.running).values().next().map(watch::Sender::subscribe);
        if let Some(mut news) = listening {
            // It ends by closing; what it says before that is not meant.
            while news.changed().await.is_ok() {}
        }
    }

    fn count_outcome(&self, outcome: &OperationOutcome) {
        let count = match outcome {
            OperationOutcome::Done { .. } => &self.done,
            OperationOutcome::Failed { .. } => &self.failed,
        };
        count.fetch_add(1, Ordering::Relaxed);
    }

    /// What runs here now.
    pub(super) fn running(&self) -> BTreeSet<OperationId> {
        lock(&self.running).keys().cloned().collect()
    }
}

impl Host {
    /// Accepts a piece of work of whoever has shown a token and begins it, or finds the operation that it became when it
    /// was sent before. Returns once it is accepted; it goes on by itself.
    ///
    /// # Errors
    /// [`ControlError::OperationRunning`] when something else is being done to the same backend for too long; asking
    /// again later is the same piece of work. Otherwise why it is not accepted.
    pub async fn start(
        self: &Arc<Self>,
        bearer: &AuthenticatedToken,
        lease: &Lease,
        request: Request,
    ) -> Result<AcceptedOperation, ControlError> {
        self.start_as(Principal::Token(bearer), lease, request).await
    }

    /// The same on behalf of anybody.
    pub(super) async fn start_as(
        self: &Arc<Self>,
        asker: Principal<'_>,
        lease: &Lease,
        request: Request,
    ) -> Result<AcceptedOperation, ControlError> {
        if request.step.plan == EXPIRY_PLAN {
            let message = format!("a step of the plan `{EXPIRY_PLAN}` is the control plane's own");
            return Err(ControlError::BadRequest(Diagnostic::new("control.reserved_step", message)));
        }
        let place = (lease.project.clone(), request.backend.clone());
        let known = |host: &Self| {
            let known = host.read_rows(|authority| authority.operation_for_step(&lease.project, &request.step))?.flatten();
            // What is open and does not run here has to be taken up again first.
            let running = host.registry.running();
            if let Some(known) = &known {
                check_same_request(&known.backend, known.kind, &request)?;
            }
            Ok::<_, ControlError>(
                known.filter(|record| record.state != OperationState::Running || running.contains(&record.id)),
            )
        };
        if let Some(record) = known(self)? {
            return Ok(AcceptedOperation { id: record.id });
        }
        // What was accepted once is found again, whatever became of its provider since.
        self.check_allowed(&request)?;
        self.check_supported(&lease.project, &request).await?;
        let turn = loop {
            let turn = self.registry.backend_lock(&place).lock_owned();
            tokio::select! {
                turn = turn => break turn,
                () = self.platform.sleep(LOCK_TIMEOUT) => {}
            }
            if let Some(record) = known(self)? {
                return Ok(AcceptedOperation { id: record.id });
            }
            let (project, backend) = &place;
            let open = self.read_rows(|authority| authority.open_operations_on(project, backend))?.unwrap_or_default();
            // Where none is open, the last one has just ended, and the turn comes at once.
            if let Some(OperationRecord { id: operation, .. }) = open.into_iter().next() {
                return Err(ControlError::OperationRunning { backend: request.backend, operation });
            }
        };
        let (operation, next) =
            self.write_rows(|authority| authority.accept(lease, ExecutionMode::ControlPlane, asker, &request, self.now()))?;
        match (operation, next) {
            (_, Transition::Ended(outcome)) => {
                self.registry.count_outcome(&outcome);
                let (OperationOutcome::Done { operation } | OperationOutcome::Failed { operation, .. }) = outcome;
                Ok(AcceptedOperation { id: operation })
            }
            (Some(operation), next) => {
                let id = operation.id().clone();
                self.execute(place, operation, next, turn);
                Ok(AcceptedOperation { id })
            }
            (None, Transition::Perform(_)) => Err(ControlError::Record(Diagnostic::new(
                "bug",
                "an effect without an operation; this is a bug in convexinfra",
            ))),
        }
    }

    /// Refuses what nothing here could bring about or take away again, and to run what a client brought along, unless
    /// whoever started the server allowed it.
    fn check_allowed(&self, request: &Request) -> Result<(), ControlError> {
        let Work::Put { spec, .. } = &request.work else { return Ok(()) };
        if let Some(refusal) = policy::provider_available(&request.backend, spec, &self.provider_kinds()) {
            return Err(ControlError::Refused(refusal));
        }
        match (&spec.settings.local.binary, self.local_binaries) {
            (Some(binary), LocalBinaries::ReleasesOnly) => {
                let message = format!("`{}` wants to run `{binary}` on the control plane's machine", request.backend);
                let help = "leave `binary` out to run a published release, or have the operator start the server with\n    convexinfra serve --allow-local-binaries";
                Err(ControlError::Refused(Diagnostic::new("control.local_binary", message).with_help(help)))
            }
            _ => Ok(()),
        }
    }

    /// Refuses what its provider could never do, and what its place shows to be about something else than the record: a backend
    /// of this name that is not recorded, or a recorded one that is elsewhere.
    pub(super) async fn check_supported(&self, project: &ProjectName, request: &Request) -> Result<(), ControlError> {
        let name = &request.backend;
        let spec = if let Work::Put { spec, .. } = &request.work { Some(spec) } else { None };
        let recorded = self.read_rows(|authority| authority.place_of(project, name))?.flatten();
        // A record may be given up wherever the backend is.
        if let Some(place) = recorded.as_ref().filter(|_| matches!(request.work, Work::Put { .. } | Work::Remove { .. }))
            && let Ok(provider) = self.provider(place.provider)
            && let Err(error @ ProviderError::OtherEngine { .. }) = provider.check_place(&place.id, name, &place.state).await
        {
            let help = "nothing was changed; name the other engine, and run the same command again";
            return Err(ControlError::Refused(Diagnostic::new(error.code(), error.to_string()).with_help(help)));
        }
        let Some((spec, provider)) = spec.and_then(|spec| Some((spec, self.provider(spec.provider).ok()?))) else {
            return Ok(());
        };
        if let Err(ProviderError::Unsupported(words)) = provider.validate(spec).await {
            let message = format!("`{name}` cannot be brought about: {words}");
            return Err(ControlError::Unsupported(Diagnostic::new(ProviderError::UNSUPPORTED, message)));
        }
        // Whatever else is wrong, the attempt says it, and it is taken up again from there.
        for found in provider.find(project, name).await.unwrap_or_default() {
            if self.read_rows(|authority| authority.is_recorded(&found.id))? != Some(true) {
                return Err(ControlError::Refused(orphaned(project, name, &found)));
            }
        }
        Ok(())
    }

    /// Carries an operation out to its end, in a task of its own.
    pub(super) fn execute(
        self: &Arc<Self>,
        place: BackendKey,
        mut operation: Operation,
        mut next: Transition,
        turn: BackendLock,
    ) {
        let host = Arc::clone(self);
        let id = operation.id().clone();
        self.registry.register(&id);
        self.platform.spawn(Box::pin(async move {
            let _turn = turn;
            let listed = RunningGuard { registry: &host.registry, id };
            let outcome = loop {
                let effect = match next {
                    Transition::Perform(effect) => effect,
                    Transition::Ended(outcome) => break outcome,
                };
                let notice = |message: String| host.append_notice(&listed.id, &message);
                let end = host.run_effect(effect, &notice).await;
                match host.write_rows(|authority| authority.advance(&mut operation, end, host.now())) {
                    Ok(following) => next = following,
                    // It was ended by somebody else, who took its place.
                    Err(ControlError::LeaseLost { .. }) => return,
                    // The rows cannot be written now. What is still open is taken up again by the next sweep.
                    Err(error) => {
                        let ((project, backend), id) = (&place, &listed.id);
                        let code = error_code(&error);
                        tracing::warn!(%project, %backend, operation = %id, code, "an operation could not go on");
                        return;
                    }
                }
            };
            host.record_outcome(&place, &outcome);
        }));
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

    /// What this host has carried out by itself since it was made.
    pub fn activity(&self) -> Activity {
        let OperationRegistry { running, done, failed, .. } = &self.registry;
        let running = u64::try_from(lock(running).len()).unwrap_or(u64::MAX);
        Activity { running, done: done.load(Ordering::Relaxed), failed: failed.load(Ordering::Relaxed) }
    }

    fn append_notice(&self, id: &OperationId, message: &str) {
        // What cannot be written down is only not heard by those who come later.
        let Ok(number) = self.write_rows(|authority| authority.append_notice(id, message)) else { return };
        if let Some(news) = lock(&self.registry.running).get(id) {
            news.send_replace(number);
        }
    }

    /// What an operation says after a number, and then its end; waits for what is still to come. Each event has its
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
            let mut news = lock(&self.registry.running).get(id).map(watch::Sender::subscribe);
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

/// Says that a backend is there without a record, and how it is taken up.
fn orphaned(project: &ProjectName, name: &BackendName, found: &FoundBackend) -> Diagnostic {
    let message = format!(
        "`{name}` of the project `{project}` is there already, and this control plane has no record of it: {} (identity {})",
        found.thing, found.id
    );
    Diagnostic::new("provider.orphaned", message).with_help(format!(
        "take it up again with\n    convexinfra recover {name}\nor give this backend or its project another name"
    ))
}
