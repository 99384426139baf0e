//! Operations as persisted step machines: [`steps`] is the table of their steps, this module advances one by one step.
//!
//! The intent is in the rows before an effect is performed, and the result after it. Every step looks first and repeats
//! harmlessly, so an operation that was interrupted resumes at its first step, by the same request or by the control plane
//! itself. The furthest step and the attempts since are in its row: an operation that is resumed again and again without
//! advancing is failed with what was seen, so that the backend is free for the next one. Once a step has failed, the steps that
//! the table can undo are undone, the last one first, before the operation ends with that failure.

mod acceptance;
mod attempts;
mod compensation;
mod data;
mod relocation;
mod row_before;
mod steps;
mod stop;
mod types;
mod upgrade;

pub(super) use acceptance::{Acceptance, end_operation, pending_name};
use steps::Followup;
#[cfg(test)]
pub(super) use steps::StepRow;
pub(super) use steps::{StepTable, steps_of};
pub(super) use types::{AllocationConflicts, OperationPhase};
pub use types::{ExecutionMode, Operation};

use super::EXPIRY_PLAN;
use super::allocation::UNUSED_PORTS;
use super::effect::{AllocationConflict, EffectFailure, EffectResult, Transition};
use super::put_request::PutRequest;
use super::retained::{self, NEVER_ENSURED};
use super::token::Principal;
use super::{Authority, AuthorityError, lease, origins, quota, removal};
use crate::api::{ControlError, Lease, OperationOutcome, OperationRequest, Work};
use crate::failpoint;
use crate::model::{
    Diagnostic, Exit, MOVE_LOCK, NEWEST_BEFORE, NOT_REPLACED, OperationStep, Phase, ProjectName, ReclaimPolicy, Release, Scope,
    Timestamp, VolumeReclaim,
};
use crate::policy::removal_needs_destroy;
use crate::store::{BackendRow, Durability, OperationProgress, OperationRow, Rows, Store};

impl<S: Store> Authority<S> {
    /// Accepts a request: writes the intent, allocates what is missing, and returns the first step.
    ///
    /// # Errors
    /// [`ControlError`] when the lease is lost, the principal lacks the scope, or policy refuses the work; nothing is
    /// written then.
    pub fn accept(
        &self,
        lease: &Lease,
        driver: ExecutionMode,
        principal: Principal<'_>,
        request: &OperationRequest,
        now: Timestamp,
    ) -> Result<(Option<Operation>, Transition), AuthorityError> {
        let durability = if self.is_record_only(lease, request)? { Durability::NoFsync } else { Durability::Fsync };
        let actor = principal.actor();
        let accepted = self.store.write(durability, |rows| {
            self.accept_in(rows, Acceptance { lease, driver, actor: &actor, request, now }, principal)
        })?;
        failpoint::hit("authority.accepted");
        Ok(accepted)
    }

    /// Authorizes a request before anything is looked at for it. What it is about may change until it is accepted, so that
    /// authorizes it again.
    ///
    /// # Errors
    /// [`ControlError::NotAuthorised`] says what is missing.
    pub fn authorize_request(
        &self,
        principal: Principal<'_>,
        project: &ProjectName,
        request: &OperationRequest,
    ) -> Result<(), AuthorityError> {
        if self.store.read(|rows| requires_destroy_scope(rows, project, request))? {
            principal.authorize(Scope::Destroy, project)?;
        }
        Ok(())
    }

    /// Accepts a request within a transaction.
    pub(super) fn accept_in(
        &self,
        rows: &dyn Rows,
        acceptance: Acceptance<'_>,
        principal: Principal<'_>,
    ) -> Result<(Option<Operation>, Transition), AuthorityError> {
        let Acceptance { lease, request, .. } = acceptance;
        lease::check_fence(rows, lease)?;
        if let Some(known) = rows.operation(&lease.project, &request.step)? {
            self.check_same_request(&known, request)?;
            if let Some(outcome) = known.outcome.as_deref().and_then(|text| serde_json::from_str(text).ok()) {
                return Ok((None, Transition::Ended(outcome)));
            }
        }
        lease::check_origin(rows, &lease.project, request.origin.as_deref())?;
        // Here and not before: what the name means may have changed since the request came.
        if requires_destroy_scope(rows, &lease.project, request)? {
            principal.authorize(Scope::Destroy, &lease.project)?;
        }
        if let Some(undone) = self.supersede(rows, &acceptance)? {
            return Ok((Some(undone.0), undone.1));
        }
        let (mut operation, next) = match &request.work {
            Work::Put { spec, secrets, renamed_from, .. } => {
                let may_adopt = principal.authorize(Scope::Operator, &lease.project).is_ok();
                let put = PutRequest { spec: (**spec).clone(), secrets: secrets.clone(), may_adopt, role_password: None };
                self.accept_put(rows, acceptance, put, renamed_from.as_ref())
            }
            Work::Remove { volume, database, final_snapshot } => {
                let reclaim = ReclaimPolicy { volume: *volume, database: *database };
                self.accept_remove(rows, acceptance, reclaim, *final_snapshot)
            }
            Work::Stop {} | Work::Start {} => self.accept_stop_or_start(rows, acceptance),
            Work::Forget {} => self.accept_forget(rows, acceptance),
            Work::RotateKey {} => self.accept_key_rotation(rows, acceptance),
            Work::Snapshot { .. } | Work::Restore { .. } => self.accept_data(rows, acceptance),
            Work::DropPrevious {} => self.accept_drop_previous(rows, acceptance),
        }?;
        if let Some(operation) = &mut operation {
            self.note_progress(rows, operation, &next)?;
        }
        Ok((operation, next))
    }

    /// Returns whether a request has no effect outside the rows.
    fn is_record_only(&self, lease: &Lease, request: &OperationRequest) -> Result<bool, AuthorityError> {
        match &request.work {
            Work::Put { spec, .. } if !spec.is_record_only() => Ok(false),
            // Only who holds the lease could make it more than a record in between.
            Work::Snapshot { .. } | Work::Restore { .. } | Work::DropPrevious {} => Ok(false),
            Work::Put { .. } | Work::Remove { .. } | Work::Stop {} | Work::Start {} | Work::Forget {} | Work::RotateKey {} => {
                self.store.read(|rows| {
                    let row = rows.backend(&lease.project, &request.backend)?;
                    Ok::<_, AuthorityError>(row.is_none_or(|row| row.is_only_a_record()))
                })
            }
        }
    }

    /// Advances an operation: records the result of its step, and returns the next one.
    ///
    /// # Errors
    /// [`ControlError::LeaseLost`] when another holder has taken the lease over; nothing is written then.
    pub fn advance(&self, operation: &mut Operation, end: EffectResult, now: Timestamp) -> Result<Transition, AuthorityError> {
        let next = self.store.write(Durability::Fsync, |rows| {
            check_still_owned(rows, operation)?;
            let mut row = backend_row(rows, operation)?;
            let followup = steps::record_result(&operation.phase, &mut row, end);
            if let Some(compensation) = operation.compensation.take() {
                return self.undo_next(rows, operation, row, compensation, followup, now);
            }
            let next = match followup {
                Followup::Completed(step) => {
                    if step == OperationStep::AwaitReady {
                        retained::forget_app(rows, &row)?;
                    }
                    let step = if step == OperationStep::FinishMove {
                        // What is left is the end of a change in place.
                        self.complete_move(rows, operation, &mut row, now)?;
                        OperationStep::AwaitReady
                    } else {
                        step
                    };
                    match self.next_step(&operation.phase, Some(step), &row) {
                        Some(step) => self.begin_step(rows, &operation.phase, step, &row),
                        None => self.finish(rows, operation, row, now),
                    }
                }
                Followup::GoTo(step) => self.begin_step(rows, &operation.phase, step, &row),
                Followup::Failed(failure) => match self.reallocate(rows, operation, &mut row, &failure)? {
                    Some(step) => self.begin_step(rows, &operation.phase, step, &row),
                    None => {
                        let furthest = operation.furthest;
                        // A move may have come further before it was begun anew.
                        let all = matches!(operation.phase, OperationPhase::Move(_));
                        self.undo(rows, operation, row, failure.finding, now, |step| all || Some(step) <= furthest)
                    }
                },
            }?;
            self.note_progress(rows, operation, &next)?;
            Ok::<_, AuthorityError>(next)
        })?;
        failpoint::hit("authority.advanced");
        Ok(next)
    }

    /// Records a part of the provider state of an operation's backend, or forgets it. A power cut may lose it.
    ///
    /// # Errors
    /// [`ControlError::LeaseLost`] when another holder has taken the lease over; nothing is written then.
    pub fn record_state(&self, operation: &Operation, key: &str, value: Option<&str>) -> Result<(), AuthorityError> {
        self.store.write(Durability::NoFsync, |rows| {
            check_still_owned(rows, operation)?;
            let mut row = backend_row(rows, operation)?;
            match value {
                Some(value) => row.references.insert(key.to_owned(), value.to_owned()),
                None => row.references.remove(key),
            };
            Ok(rows.put_backend(&row)?)
        })
    }

    /// Records that an operation began a later step than ever before, which gives it its whole budget of attempts again.
    fn note_progress(&self, rows: &dyn Rows, operation: &mut Operation, next: &Transition) -> Result<(), AuthorityError> {
        let Transition::Perform(effect) = next else { return Ok(()) };
        if operation.compensation.is_some() {
            return Ok(());
        }
        let step = effect.step();
        if operation.furthest.is_none_or(|furthest| furthest < step) {
            operation.furthest = Some(step);
            rows.put_progress(&operation.id, &OperationProgress { furthest: step as u8, ..OperationProgress::default() })?;
        }
        Ok(())
    }

    /// Returns the first step that an operation takes on a backend.
    pub(super) fn first_step(&self, phase: &OperationPhase, row: &BackendRow) -> Result<Transition, AuthorityError> {
        // In each phase there is a step that applies to every backend.
        let step = self.next_step(phase, None, row).unwrap_or(OperationStep::Ensure);
        Ok(Transition::Perform(self.effect(phase, step, row)?))
    }

    fn begin_step(
        &self,
        rows: &dyn Rows,
        phase: &OperationPhase,
        step: OperationStep,
        row: &BackendRow,
    ) -> Result<Transition, AuthorityError> {
        rows.put_backend(row)?;
        Ok(Transition::Perform(self.effect(phase, step, row)?))
    }

    /// Ends an operation whose last step has succeeded.
    fn finish(
        &self,
        rows: &dyn Rows,
        operation: &mut Operation,
        mut row: BackendRow,
        now: Timestamp,
    ) -> Result<Transition, AuthorityError> {
        let event = match &operation.phase {
            OperationPhase::Remove | OperationPhase::Replace(..) => return self.finish_removal(rows, operation, row, now),
            OperationPhase::Put | OperationPhase::Move(_) => {
                row.phase = Phase::Ready;
                row.managed_env = row.spec.env.keys().cloned().collect();
                rows.put_backend(&row)?;
                "backend_ready"
            }
            OperationPhase::Upgrade(_) => {
                row.phase = Phase::Ready;
                row.managed_env = row.spec.env.keys().cloned().collect();
                rows.put_backend(&row)?;
                "backend_upgraded"
            }
            OperationPhase::Stop => "backend_stopped",
            OperationPhase::DropPrevious => "previous_data_dropped",
            OperationPhase::Forget => {
                let (id, who) = (operation.id.clone(), operation.audit_context(now));
                return Ok(Transition::Ended(self.drop_record(rows, &row, &id, who)?));
            }
            OperationPhase::Snapshot(_) => "snapshot_taken",
            OperationPhase::Restore(_, _, rollback) => {
                if rollback.is_some() {
                    row.phase = Phase::Ready;
                }
                row.managed_env = row.spec.env.keys().cloned().collect();
                rows.put_backend(&row)?;
                "snapshot_restored"
            }
        };
        let outcome = end_operation(rows, &operation.id, OperationOutcome::Done { operation: operation.id.clone() }, now)?;
        let detail = format!("operation {}", operation.id);
        self.record(rows, Some(&row.project), operation.audit_context(now), event, Some(&row.name), detail)?;
        Ok(Transition::Ended(outcome))
    }

    /// Allocates other ports or another name where those made a step fail, and returns the step that is tried again with them;
    /// none where another allocation changes nothing.
    fn reallocate(
        &self,
        rows: &dyn Rows,
        operation: &mut Operation,
        row: &mut BackendRow,
        failure: &EffectFailure,
    ) -> Result<Option<OperationStep>, AuthorityError> {
        let Some(conflict) = failure.conflict else { return Ok(None) };
        // What was imported, recovered or taken up again has data, and may have ports that nothing has listened on.
        let is_unknown = !row.has_been_ready
            || (matches!(conflict, AllocationConflict::Port(_)) && row.references.contains_key(UNUSED_PORTS));
        let step = match operation.phase {
            OperationPhase::Put => OperationStep::Ensure,
            OperationPhase::Upgrade(_) => OperationStep::StartRelease,
            _ => return Ok(None),
        };
        // No client knows these ports or this name yet, so others do as well.
        if !is_unknown || !operation.conflicts.record(conflict) {
            return Ok(None);
        }
        self.allocate(rows, row, &operation.conflicts)?;
        row.references.remove(NEVER_ENSURED);
        Ok(Some(step))
    }

    /// Ends an operation with its first failure.
    fn fail(
        &self,
        rows: &dyn Rows,
        operation: &Operation,
        mut row: BackendRow,
        mut failure: Diagnostic,
        now: Timestamp,
    ) -> Result<Transition, AuthorityError> {
        let mut changed = false;
        match &operation.phase {
            OperationPhase::Upgrade(upgrade) => {
                if !upgrade.is_reverted(&row) {
                    row.phase = Phase::Failed;
                }
                failure = upgrade.explain(failure, &row);
                changed = true;
            }
            OperationPhase::Restore(_, _, Some(_)) => changed = true,
            OperationPhase::Remove | OperationPhase::Replace(..) => {
                changed = removal::awaits_snapshot(&row.references);
                failure = removal::withdraw(&mut row, failure);
            }
            OperationPhase::Move(_) => {
                row.phase = if row.references.contains_key(MOVE_LOCK) { Phase::Failed } else { Phase::Ready };
                changed = true;
            }
            _ => {}
        }
        if matches!(operation.phase, OperationPhase::Put) && row.has_been_ready {
            row.phase = Phase::Failed;
            changed = true;
            // What ran before runs again, so to ask for it is no downgrade.
            let before = row.references.get(NEWEST_BEFORE).filter(|_| failure.code == NOT_REPLACED);
            if let Some(before) = before.and_then(|before| Release::parse(before).ok()) {
                row.references.remove(NEWEST_BEFORE);
                row.newest_release = Some(before);
            }
        }
        if operation.furthest == Some(OperationStep::Ensure) && failure.exit() != Exit::Unreachable {
            // Its provider was reached, so something may have been created.
            changed |= row.references.remove(NEVER_ENSURED).is_some();
        }
        if changed {
            rows.put_backend(&row)?;
        }
        let detail = format!("operation {}: {}", operation.id, failure.code);
        self.record(rows, Some(&row.project), operation.audit_context(now), "operation_failed", Some(&row.name), detail)?;
        let outcome = OperationOutcome::Failed { operation: operation.id.clone(), finding: failure };
        Ok(Transition::Ended(end_operation(rows, &operation.id, outcome, now)?))
    }

    /// Drops the record of a backend that was removed, and goes on with what replaces it.
    fn finish_removal(
        &self,
        rows: &dyn Rows,
        operation: &mut Operation,
        mut row: BackendRow,
        now: Timestamp,
    ) -> Result<Transition, AuthorityError> {
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
            let fits = quota::enforce(rows, &operation.project, None, &put.spec);
            let fits = fits.and_then(|()| origins::check(rows, &operation.project, None, &put.spec));
            if let Err(AuthorityError::Control(ControlError::Refused(finding))) = fits {
                let outcome = OperationOutcome::Failed { operation: operation.id.clone(), finding };
                return Ok(Transition::Ended(end_operation(rows, &operation.id, outcome, now)?));
            }
            return self.write_put(rows, operation, &name, None, *put, now);
        }
        let outcome = OperationOutcome::Done { operation: operation.id.clone() };
        Ok(Transition::Ended(end_operation(rows, &operation.id, outcome, now)?))
    }
}

/// Checks that the executor of an operation still owns it.
fn check_still_owned(rows: &dyn Rows, operation: &Operation) -> Result<(), AuthorityError> {
    match &operation.lease {
        Some(lease) => lease::check_fence(rows, lease).map(drop),
        // Once it has ended, nothing more is done in its name.
        None => match rows.operation_by_id(&operation.id)? {
            Some(OperationRow { ended_at: None, .. }) => Ok(()),
            _ => Err(ControlError::LeaseLost { project: operation.project.clone() }.into()),
        },
    }
}

fn backend_row(rows: &dyn Rows, operation: &Operation) -> Result<BackendRow, AuthorityError> {
    rows.backend_by_id(&operation.backend)?.ok_or_else(|| ControlError::LeaseLost { project: operation.project.clone() }.into())
}

/// Returns whether this work needs the scope `destroy`: it takes a backend away, takes its protection off, or has one with
/// data removed by itself sooner than it would be now.
fn requires_destroy_scope(rows: &dyn Rows, project: &ProjectName, request: &OperationRequest) -> Result<bool, AuthorityError> {
    let Work::Put { spec, renamed_from, .. } = &request.work else {
        if matches!(request.work, Work::Stop {} | Work::Start {} | Work::RotateKey {} | Work::Snapshot { .. }) {
            return Ok(false);
        }
        let Work::Remove { database, .. } = &request.work else { return Ok(true) };
        let row = rows.backend(project, &request.backend)?;
        return Ok(removal_needs_destroy(row.and_then(|row| row.expires_at), *database));
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
