//! Operations as persisted step machines: one accepted piece of work, the step that it is at, and what comes next.
//!
//! The intent is in the rows before any effect is handed out, and the outcome after it. An operation that was cut off
//! anywhere is taken up again by asking for the same state, or by the control plane itself when it starts anew: every
//! effect looks first and repeats harmlessly.
//!
//! Every step looks first and repeats harmlessly, so an operation that was cut off begins again at its first step. How far it
//! ever came is in its row with how often it was begun since: one that is begun again and again without getting further is
//! failed with what was seen, so that the backend is free for the next operation.

mod attempts;
mod stop;
mod types;

use std::collections::BTreeSet;

pub(super) use types::{AllocationConflicts, OperationPhase, PutRequest};
pub use types::{ExecutionMode, Operation};

use super::EXPIRY_PLAN;
use super::accept::Acceptance;
use super::effect::{DatabaseState, Effect, EffectFailure, EffectResult, EnvironmentTarget, Step, Transition};
use super::token::Principal;
use super::{Authority, AuthorityError, lease, policy_check, quota, removal, retained};
use crate::api::{ControlError, Lease, OperationOutcome, OperationRequest, Work};
use crate::failpoint;
use crate::model::{
    DatabaseReclaim, Diagnostic, Exit, OperationId, Phase, ProjectName, ReclaimPolicy, Scope, Timestamp, VolumeReclaim,
};
use crate::store::{BackendRow, Durability, OperationProgress, OperationRow, Rows, Store, StoreError};

/// The note of a backend that its provider was never reached for: nothing of it can be anywhere.
pub(super) const NEVER_ENSURED: &str = "never_ensured";

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
        request: &OperationRequest,
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
            self.check_same_request(&known, request)?;
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
        let (mut operation, next) = match &request.work {
            Work::Put { spec, secrets, renamed_from, .. } => {
                let may_adopt = asker.authorize(Scope::Operator, &lease.project).is_ok();
                let put = PutRequest { spec: (**spec).clone(), secrets: secrets.clone(), may_adopt };
                self.accept_put(rows, acceptance, put, renamed_from.as_ref())
            }
            Work::Remove { volume, database } => {
                self.accept_remove(rows, acceptance, ReclaimPolicy { volume: *volume, database: *database })
            }
            Work::Stop {} | Work::Start {} => self.accept_stop_or_start(rows, acceptance),
            Work::Forget {} => self.accept_forget(rows, acceptance),
        }?;
        if let Some(operation) = &mut operation {
            self.note_progress(rows, operation, &next)?;
        }
        Ok((operation, next))
    }

    /// Whether a piece of work has no effect outside the rows.
    fn is_record_only(&self, lease: &Lease, request: &OperationRequest) -> Result<bool, AuthorityError> {
        match &request.work {
            Work::Put { spec, .. } if !spec.is_record_only() => Ok(false),
            // Only who holds the lease could make it more than a record in between.
            Work::Put { .. } | Work::Remove { .. } | Work::Stop {} | Work::Start {} | Work::Forget {} => {
                self.store.read(|rows| {
                    let row = rows.backend(&lease.project, &request.backend)?;
                    Ok::<_, AuthorityError>(row.is_none_or(|row| row.is_only_a_record()))
                })
            }
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
            let next = match end {
                EffectResult::Failed(failure) => self.on_failed(rows, operation, row, failure, now),
                EffectResult::StoragePrepared => Ok(Transition::Perform(Effect::Ensure(Box::new(self.resolve(&row)?)))),
                EffectResult::Ensured(references) => {
                    let mut row = row;
                    row.references = references;
                    row.references.remove(NEVER_ENSURED);
                    if row.spec.is_record_only() {
                        // It was stopped: nothing will answer.
                        return self.complete(rows, operation, row, now);
                    }
                    rows.put_backend(&row)?;
                    Ok(Transition::Perform(Effect::AwaitReady(Box::new(self.resolve(&row)?))))
                }
                EffectResult::Ready => self.on_ready(rows, operation, row, now),
                EffectResult::EnvironmentSet => self.complete(rows, operation, row, now),
                EffectResult::Stopped => self.on_stopped(rows, operation, &row, now),
                EffectResult::Removed(place) => {
                    let mut row = row;
                    removal::note_place(&mut row, place);
                    if !row.spec.has_own_server() && !row.spec.has_buckets() {
                        return self.on_removed(rows, operation, row, now);
                    }
                    rows.put_backend(&row)?;
                    let disposal = removal::database_disposal(&row);
                    Ok(Transition::Perform(Effect::ReleaseStorage(Box::new(self.resolve(&row)?), disposal)))
                }
                // Files without the database that names them are nothing that could be taken up again.
                EffectResult::StorageReleased(DatabaseState::Gone)
                    if row.spec.has_split_data() && removal::volume_disposal(&row.references) == VolumeReclaim::Retain =>
                {
                    let mut row = row;
                    removal::delete_volume(&mut row);
                    rows.put_backend(&row)?;
                    Ok(Transition::Perform(Effect::Remove(Box::new(self.resolve(&row)?))))
                }
                EffectResult::StorageReleased(_) => self.on_removed(rows, operation, row, now),
            }?;
            self.note_progress(rows, operation, &next)?;
            Ok::<_, AuthorityError>(next)
        })?;
        failpoint::hit("authority.advanced");
        Ok(next)
    }

    /// Notes that an operation came further than ever before: from there on it may be begun as often again.
    fn note_progress(&self, rows: &dyn Rows, operation: &mut Operation, next: &Transition) -> Result<(), AuthorityError> {
        let Transition::Perform(effect) = next else { return Ok(()) };
        let step = effect.step();
        if operation.furthest.is_none_or(|furthest| furthest < step) {
            operation.furthest = Some(step);
            rows.put_progress(&operation.id, &OperationProgress { furthest: step as u8, attempts: 0, seen: None })?;
        }
        Ok(())
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
        retained::forget_app(rows, &row)?;
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
            row.references.remove(NEVER_ENSURED);
            rows.put_backend(&row)?;
            return Ok(Transition::Perform(Effect::Ensure(Box::new(self.resolve(&row)?))));
        }
        let mut changed = false;
        if matches!(operation.phase, OperationPhase::Put) && row.has_been_ready {
            row.phase = Phase::Failed;
            changed = true;
        }
        if operation.furthest == Some(Step::Ensure) && failure.finding.exit() != Exit::Unreachable {
            // Its provider was reached, so something may have been created.
            changed |= row.references.remove(NEVER_ENSURED).is_some();
        }
        if changed {
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
        let mut row = row;
        self.with_server_fingerprint(&mut row)?;
        rows.delete_backend(&row.id)?;
        if removal::volume_disposal(&row.references) == VolumeReclaim::Delete {
            retained::forget_app(rows, &row)?;
        }
        retained::retain(rows, &row, removal::place(&row), now)?;
        if operation.step.plan == EXPIRY_PLAN {
            rows.put_expired(&row.project, &row.name, row.expires_at.or(Some(now)))?;
        }
        let detail = format!("operation {}", operation.id);
        self.record(rows, Some(&row.project), operation.audit_context(now), "backend_removed", Some(&row.name), detail)?;
        if let OperationPhase::Replace(name, put) = std::mem::replace(&mut operation.phase, OperationPhase::Put) {
            rows.put_pending(&operation.id, None)?;
            // Others may have been accepted while this one waited for its predecessor to go.
            if let Err(AuthorityError::Control(ControlError::Refused(finding))) =
                quota::enforce(rows, &operation.project, None, &put.spec)
            {
                let outcome = OperationOutcome::Failed { operation: operation.id.clone(), finding };
                return Ok(Transition::Ended(end_operation(rows, &operation.id, outcome, now)?));
            }
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
fn supersede(rows: &dyn Rows, lease: &Lease, request: &OperationRequest, now: Timestamp) -> Result<(), AuthorityError> {
    for open in rows.open_operations_on(&lease.project, &request.backend)? {
        if let Some(id) = open.id.filter(|_| open.step != request.step) {
            let finding = Diagnostic::new("control.superseded", "a later operation on the same backend took its place");
            end_operation(rows, &id, OperationOutcome::Failed { operation: id.clone(), finding }, now)?;
            // How far it came is not known.
            if let Some(mut row) = rows.backend(&lease.project, &request.backend)?
                && row.references.remove(NEVER_ENSURED).is_some()
            {
                rows.put_backend(&row)?;
            }
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

/// Returns whether this work needs the scope `destroy`: it takes a backend away, takes its protection off, or has one with
/// data removed by itself sooner than it would be now.
fn requires_destroy_scope(rows: &dyn Rows, project: &ProjectName, request: &OperationRequest) -> Result<bool, AuthorityError> {
    let Work::Put { spec, renamed_from, .. } = &request.work else {
        if matches!(request.work, Work::Stop {} | Work::Start {}) {
            return Ok(false);
        }
        // What has a `ttl` goes by itself; to have it go earlier is nothing that was not allowed when the `ttl` was set.
        let row = rows.backend(project, &request.backend)?;
        let drops_database = matches!(request.work, Work::Remove { database: DatabaseReclaim::Delete, .. });
        let forgets = matches!(request.work, Work::Forget {});
        return Ok(forgets || drops_database || row.is_none_or(|row| row.expires_at.is_none()));
    };
    let row = match (rows.backend(project, &request.backend)?, renamed_from) {
        (None, Some(old)) => rows.backend(project, old)?,
        (row, _) => row,
    };
    let Some(row) = row else {
        // It would have data removed that its project wanted to keep.
        return Ok(spec.ttl.is_some() && retained::takes_up_app(rows, project, spec)?);
    };
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
