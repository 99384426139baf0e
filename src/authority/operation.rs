//! Operations: one accepted piece of work and what has to happen next to it.
//!
//! The intent is in the rows before any effect is handed out, and the outcome after it. An operation that was cut off
//! anywhere is taken up again by asking for the same state, or by the control plane itself when it starts anew: every
//! effect looks first and repeats harmlessly.
//!
//! Must not do: carry an effect out itself; the host does that and comes back with what happened.

use std::collections::{BTreeMap, BTreeSet};

use super::accept::Acceptance;
use super::audit::AuditContext;
use super::effect::{AllocationConflict, Effect, EffectFailure, EffectResult, EnvironmentTarget, Transition};
use super::token::Principal;
use super::{Authority, AuthorityError, lease, policy_check, removal};
use crate::api::{ControlError, Lease, OperationOutcome, Request, Work};
use crate::failpoint;
use crate::model::{
    Actor, BackendId, BackendName, BackendSpec, DatabaseReclaim, Diagnostic, FieldPath, OperationId, OperationKind, Phase,
    ProjectName, ReclaimPolicy, Scope, Secret, StepKey, Timestamp,
};
use crate::store::{BackendRow, Durability, OperationRow, Rows, Store, StoreError};

/// How often another pair of ports is tried when strangers hold the chosen ones.
const MAX_PORT_ATTEMPTS: usize = 64;
/// How often another name is tried when somebody else has an app of the chosen one.
const MAX_APP_NAME_ATTEMPTS: u32 = 4;

/// Who carries an operation out, and so what has to hold for it to go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExecutionMode {
    /// Whoever holds the lease: with the lease it loses the operation.
    LeaseHolder,
    /// The control plane itself: the operation goes on when the client that asked for it is gone.
    ControlPlane,
}

/// One accepted piece of work while it runs.
#[derive(Debug)]
pub struct Operation {
    pub(super) id: OperationId,
    pub(super) project: ProjectName,
    pub(super) backend: BackendId,
    pub(super) step: StepKey,
    pub(super) actor: Actor,
    /// The lease without which it may not go on; none when the control plane drives it.
    pub(super) lease: Option<Lease>,
    pub(super) phase: OperationPhase,
    /// What turned out to be somebody else's.
    pub(super) conflicts: AllocationConflicts,
}

/// What was allocated and turned out to be somebody else's.
#[derive(Debug, Clone, Default)]
pub(super) struct AllocationConflicts {
    /// Ports.
    pub(super) ports: BTreeSet<u16>,
    /// How many names of apps.
    pub(super) apps: u32,
}

impl AllocationConflicts {
    /// Takes note of one more. False once there were so many that another try makes no sense.
    fn record(&mut self, taken: AllocationConflict) -> bool {
        match taken {
            AllocationConflict::Port(port) => {
                self.ports.insert(port);
                self.ports.len() <= MAX_PORT_ATTEMPTS
            }
            AllocationConflict::App => {
                self.apps += 1;
                self.apps <= MAX_APP_NAME_ATTEMPTS
            }
        }
    }
}

impl Operation {
    /// Its id.
    pub fn id(&self) -> &OperationId {
        &self.id
    }

    pub(super) fn audit_context(&self, at: Timestamp) -> AuditContext<'_> {
        AuditContext { actor: &self.actor, plan: Some(&self.step.plan), at }
    }
}

#[derive(Debug)]
pub(super) enum OperationPhase {
    Put,
    Remove,
    /// What is there has to go first: a removal that was cut off, or a first attempt with another provider.
    Replace(BackendName, Box<PutRequest>),
}

#[derive(Debug, Clone)]
pub(super) struct PutRequest {
    pub(super) spec: BackendSpec,
    pub(super) secrets: BTreeMap<FieldPath, Secret>,
}

impl<S: Store> Authority<S> {
    /// Accepts a piece of work: writes the intent, allocates what is missing, and says what has to happen first.
    ///
    /// # Errors
    /// [`ControlError`] when the lease is lost, the asker may not have this done, or the work is refused; nothing is
    /// written then.
    pub fn accept(
        &self,
        lease: &Lease,
        driver: ExecutionMode,
        asker: Principal<'_>,
        request: &Request,
        now: Timestamp,
    ) -> Result<(Option<Operation>, Transition), AuthorityError> {
        let durability = if self.is_record_only(lease, request)? { Durability::NoFsync } else { Durability::Fsync };
        let actor = asker.actor();
        let accepted = self
            .store
            .write(durability, |rows| self.accept_in(rows, Acceptance { lease, driver, actor: &actor, request, now }, asker))?;
        failpoint::hit("authority.accepted");
        Ok(accepted)
    }

    /// The same within a transaction.
    pub(super) fn accept_in(
        &self,
        rows: &dyn Rows,
        acceptance: Acceptance<'_>,
        asker: Principal<'_>,
    ) -> Result<(Option<Operation>, Transition), AuthorityError> {
        let Acceptance { lease, request, now, .. } = acceptance;
        lease::check_fence(rows, lease)?;
        if let Some(known) = rows.operation(&lease.project, &request.step)? {
            check_same_request(&known.backend, known.kind, request)?;
            if let Some(outcome) = known.outcome.as_deref().and_then(|text| serde_json::from_str(text).ok()) {
                return Ok((None, Transition::Ended(outcome)));
            }
        }
        policy_check::check_origin(rows, &lease.project, request.origin.as_deref())?;
        // Here and not before: what the name means may have changed since the request came.
        if requires_destroy_scope(rows, &lease.project, request)? {
            asker.authorize(Scope::Destroy, &lease.project)?;
        }
        supersede(rows, lease, request, now)?;
        match &request.work {
            Work::Put { spec, secrets, renamed_from, .. } => {
                let put = PutRequest { spec: (**spec).clone(), secrets: secrets.clone() };
                self.accept_put(rows, acceptance, put, renamed_from.as_ref())
            }
            Work::Remove { volume, database } => {
                self.accept_remove(rows, acceptance, ReclaimPolicy { volume: *volume, database: *database })
            }
        }
    }

    /// Whether a piece of work has no effect outside the rows.
    fn is_record_only(&self, lease: &Lease, request: &Request) -> Result<bool, AuthorityError> {
        match &request.work {
            Work::Put { spec, .. } if !spec.is_record_only() => Ok(false),
            // Only who holds the lease could make it more than a record in between.
            Work::Put { .. } | Work::Remove { .. } => self.store.read(|rows| {
                let row = rows.backend(&lease.project, &request.backend)?;
                Ok::<_, AuthorityError>(row.is_none_or(|row| row.is_only_a_record()))
            }),
        }
    }

    /// Takes note of how an effect ended, and says what has to happen next.
    ///
    /// # Errors
    /// [`ControlError::LeaseLost`] when somebody else has taken the project over; nothing is written then.
    pub fn advance(&self, operation: &mut Operation, end: EffectResult, now: Timestamp) -> Result<Transition, AuthorityError> {
        let next = self.store.write(Durability::Fsync, |rows| {
            check_still_owned(rows, operation)?;
            let row = backend_row(rows, operation)?;
            match end {
                EffectResult::Failed(failure) => self.on_failed(rows, operation, row, failure, now),
                EffectResult::DatabasePrepared => Ok(Transition::Perform(Effect::Ensure(Box::new(self.resolve(&row)?)))),
                EffectResult::Ensured(references) => {
                    let mut row = row;
                    row.references = references;
                    if row.spec.is_record_only() {
                        // It was stopped: nothing will answer.
                        return self.complete(rows, operation, row, now);
                    }
                    rows.put_backend(&row)?;
                    Ok(Transition::Perform(Effect::AwaitReady(Box::new(self.resolve(&row)?))))
                }
                EffectResult::Ready => self.on_ready(rows, operation, row, now),
                EffectResult::EnvironmentSet => self.complete(rows, operation, row, now),
                EffectResult::Removed if row.spec.has_own_server() => {
                    let disposal = removal::database_disposal(&row);
                    Ok(Transition::Perform(Effect::ReleaseDatabase(Box::new(self.resolve(&row)?), disposal)))
                }
                EffectResult::Removed | EffectResult::DatabaseReleased => self.on_removed(rows, operation, row, now),
            }
        })?;
        failpoint::hit("authority.advanced");
        Ok(next)
    }

    fn on_ready(
        &self,
        rows: &dyn Rows,
        operation: &Operation,
        mut row: BackendRow,
        now: Timestamp,
    ) -> Result<Transition, AuthorityError> {
        // From here on there is data to lose.
        row.has_been_ready = true;
        let unset: BTreeSet<String> =
            row.managed_env.iter().filter(|name| !row.spec.env.contains_key(*name)).cloned().collect();
        if row.spec.env.is_empty() && unset.is_empty() {
            return self.complete(rows, operation, row, now);
        }
        rows.put_backend(&row)?;
        let placement = self.resolve(&row)?;
        let set = placement
            .secrets
            .iter()
            .filter_map(|(path, value)| path.as_str().strip_prefix("env.").map(|name| (name.to_owned(), value.clone())))
            .collect();
        Ok(Transition::Perform(Effect::SetEnvironment(Box::new(placement), EnvironmentTarget { set, unset })))
    }

    fn complete(
        &self,
        rows: &dyn Rows,
        operation: &Operation,
        mut row: BackendRow,
        now: Timestamp,
    ) -> Result<Transition, AuthorityError> {
        row.phase = Phase::Ready;
        row.managed_env = row.spec.env.keys().cloned().collect();
        rows.put_backend(&row)?;
        let outcome = end_operation(rows, &operation.id, OperationOutcome::Done { operation: operation.id.clone() }, now)?;
        let detail = format!("operation {}", operation.id);
        self.record(rows, Some(&row.project), operation.audit_context(now), "backend_ready", Some(&row.name), detail)?;
        Ok(Transition::Ended(outcome))
    }

    fn on_failed(
        &self,
        rows: &dyn Rows,
        operation: &mut Operation,
        mut row: BackendRow,
        failure: EffectFailure,
        now: Timestamp,
    ) -> Result<Transition, AuthorityError> {
        if let Some(taken) = failure.conflict
            && !row.has_been_ready
            && matches!(operation.phase, OperationPhase::Put)
            && operation.conflicts.record(taken)
        {
            // Nobody knows these ports or this name yet, so others do as well.
            self.allocate(rows, &mut row, &operation.conflicts)?;
            rows.put_backend(&row)?;
            return Ok(Transition::Perform(Effect::Ensure(Box::new(self.resolve(&row)?))));
        }
        if matches!(operation.phase, OperationPhase::Put) && row.has_been_ready {
            row.phase = Phase::Failed;
            rows.put_backend(&row)?;
        }
        let detail = format!("operation {}: {}", operation.id, failure.finding.code);
        self.record(rows, Some(&row.project), operation.audit_context(now), "operation_failed", Some(&row.name), detail)?;
        let outcome = OperationOutcome::Failed { operation: operation.id.clone(), finding: failure.finding };
        Ok(Transition::Ended(end_operation(rows, &operation.id, outcome, now)?))
    }

    fn on_removed(
        &self,
        rows: &dyn Rows,
        operation: &mut Operation,
        row: BackendRow,
        now: Timestamp,
    ) -> Result<Transition, AuthorityError> {
        rows.delete_backend(&row.id)?;
        let detail = format!("operation {}", operation.id);
        self.record(rows, Some(&row.project), operation.audit_context(now), "backend_removed", Some(&row.name), detail)?;
        if let OperationPhase::Replace(name, put) = std::mem::replace(&mut operation.phase, OperationPhase::Put) {
            rows.put_pending(&operation.id, None)?;
            return self.write_put(rows, operation, &name, None, *put, now);
        }
        let outcome = OperationOutcome::Done { operation: operation.id.clone() };
        Ok(Transition::Ended(end_operation(rows, &operation.id, outcome, now)?))
    }
}

/// Whether whoever carries an operation out may still do so.
fn check_still_owned(rows: &dyn Rows, operation: &Operation) -> Result<(), AuthorityError> {
    match &operation.lease {
        Some(lease) => lease::check_fence(rows, lease).map(drop),
        // Once it has ended, by whomever, nothing more is done in its name.
        None => match rows.operation_by_id(&operation.id)? {
            Some(OperationRow { ended_at: None, .. }) => Ok(()),
            _ => Err(ControlError::LeaseLost { project: operation.project.clone() }.into()),
        },
    }
}

fn backend_row(rows: &dyn Rows, operation: &Operation) -> Result<BackendRow, AuthorityError> {
    rows.backend_by_id(&operation.backend)?.ok_or_else(|| ControlError::LeaseLost { project: operation.project.clone() }.into())
}

/// Ends what an earlier holder of the lease left open on the same backend: this request takes its place.
fn supersede(rows: &dyn Rows, lease: &Lease, request: &Request, now: Timestamp) -> Result<(), AuthorityError> {
    for open in rows.open_operations_on(&lease.project, &request.backend)? {
        if let Some(id) = open.id.filter(|_| open.step != request.step) {
            let finding = Diagnostic::new("control.superseded", "a later operation on the same backend took its place");
            end_operation(rows, &id, OperationOutcome::Failed { operation: id.clone(), finding }, now)?;
        }
    }
    Ok(())
}

pub(super) fn end_operation(
    rows: &dyn Rows,
    id: &OperationId,
    outcome: OperationOutcome,
    now: Timestamp,
) -> Result<OperationOutcome, AuthorityError> {
    let text = serde_json::to_string(&outcome).map_err(StoreError::Unwritable)?;
    rows.end_operation(id, now, &text)?;
    Ok(outcome)
}

/// Refuses a step that was sent before as other work, or for another backend: whoever sent it would take the end of that
/// for the end of this.
///
/// # Errors
/// [`ControlError::Refused`].
pub fn check_same_request(backend: &BackendName, kind: OperationKind, request: &Request) -> Result<(), ControlError> {
    let asked = match request.work {
        Work::Put { .. } => OperationKind::Put,
        Work::Remove { .. } => OperationKind::Remove,
    };
    if *backend == request.backend && kind == asked {
        return Ok(());
    }
    let message = format!("the step `{}` was sent before as another piece of work", request.step);
    Err(ControlError::Refused(Diagnostic::new("control.step_reused", message)))
}

/// Returns whether this work needs the scope `destroy`: it takes a backend away, takes its protection off, or has one with
/// data removed by itself sooner than it would be now.
fn requires_destroy_scope(rows: &dyn Rows, project: &ProjectName, request: &Request) -> Result<bool, AuthorityError> {
    let Work::Put { spec, renamed_from, .. } = &request.work else {
        // What has a `ttl` goes by itself; to have it go earlier is nothing that was not allowed when the `ttl` was set.
        let row = rows.backend(project, &request.backend)?;
        let drops_database = matches!(request.work, Work::Remove { database: DatabaseReclaim::Delete, .. });
        return Ok(drops_database || row.is_none_or(|row| row.expires_at.is_none()));
    };
    let row = match (rows.backend(project, &request.backend)?, renamed_from) {
        (None, Some(old)) => rows.backend(project, old)?,
        (row, _) => row,
    };
    let Some(row) = row else { return Ok(false) };
    if row.spec.protected && !spec.protected {
        return Ok(true);
    }
    if !row.has_been_ready {
        return Ok(false);
    }
    let end = |protected: bool, end: Option<Timestamp>| end.filter(|_| !protected).map_or(i64::MAX, |end| end.0);
    let before = end(row.spec.protected, row.expires_at);
    Ok(end(spec.protected, spec.ttl.map(|ttl| row.created_at.plus(ttl))) < before)
}
