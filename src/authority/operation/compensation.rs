//! Compensation: what an operation whose step has failed undoes before it ends.
//!
//! The table names the steps that can be undone. They are undone in reverse order, beginning with the furthest one that was ever
//! begun. The cursor is persisted with the first failure, so an interruption resumes at the step that was being undone. An undo
//! step that fails stops none of the others, and the operation ends with the first failure.

use super::super::effect::Transition;
use super::super::retained::NEVER_ENSURED;
use super::super::{Authority, AuthorityError};
use super::acceptance::{Acceptance, end_operation};
use super::steps::{self, Followup};
use super::types::{AllocationConflicts, Operation, OperationPhase};
use crate::api::{OperationOutcome, Work};
use crate::model::{Diagnostic, OperationKind, OperationStep, Timestamp};
use crate::store::{BackendRow, Compensation, OperationProgress, OperationRow, Rows, Store};

impl<S: Store> Authority<S> {
    /// Performs the undo step of the last step that is still to be undone, or ends the operation with its failure.
    pub(in crate::authority) fn undo(
        &self,
        rows: &dyn Rows,
        operation: &mut Operation,
        mut row: BackendRow,
        failure: Diagnostic,
        now: Timestamp,
        is_left: impl Fn(OperationStep) -> bool,
    ) -> Result<Transition, AuthorityError> {
        let next = |phase: &OperationPhase, row: &BackendRow| {
            steps::undo_steps((self.steps)(phase), phase, row).find(|(step, _)| is_left(*step))
        };
        let left = next(&operation.phase, &row);
        // Once its data is that of before, its record has to be as well.
        match (left, &operation.phase) {
            (Some((OperationStep::CopyData, _)), OperationPhase::Upgrade(upgrade)) => {
                upgrade.revert(&mut row);
                // It may have got other ports since.
                self.allocate(rows, &mut row, &AllocationConflicts::default())?;
            }
            (Some((OperationStep::StageData, _)), OperationPhase::Restore(_, _, Some(before))) => before.revert(&mut row),
            _ => {}
        }
        let left = next(&operation.phase, &row);
        let Some((undoing, undo)) = left else { return self.fail(rows, operation, row, failure, now) };
        let compensation = Some(Compensation { undoing, failure });
        if let Some(known) = rows.operation_by_id(&operation.id)?
            && known.progress.compensation != compensation
        {
            // Each step to undo has its whole budget of attempts.
            let furthest = operation.furthest.map_or(0, |step| step as u8);
            let progress = OperationProgress { furthest, compensation: compensation.clone(), ..OperationProgress::default() };
            rows.put_progress(&operation.id, &progress)?;
        }
        operation.compensation = compensation;
        self.begin_step(rows, &operation.phase, undo, &row)
    }

    /// Records how undoing one step ended, and goes on with the one before it.
    pub(super) fn undo_next(
        &self,
        rows: &dyn Rows,
        operation: &mut Operation,
        row: BackendRow,
        compensation: Compensation,
        followup: Followup,
        now: Timestamp,
    ) -> Result<Transition, AuthorityError> {
        let Compensation { undoing, failure } = compensation;
        let failure = match followup {
            Followup::GoTo(step) => {
                operation.compensation = Some(Compensation { undoing, failure });
                return self.begin_step(rows, &operation.phase, step, &row);
            }
            Followup::Completed(step) => {
                let table = (self.steps)(&operation.phase);
                if let Some(next) = steps::next_undo_step(table, &operation.phase, undoing, step, &row) {
                    operation.compensation = Some(Compensation { undoing, failure });
                    return self.begin_step(rows, &operation.phase, next, &row);
                }
                failure
            }
            Followup::Failed(second) => {
                let failure = undo_failed(failure, undoing, &second.finding.message);
                if changes_release(&operation.phase) && undoing != OperationStep::CopyData {
                    // No release starts on data that may not be its own.
                    return self.fail(rows, operation, row, failure, now);
                }
                failure
            }
        };
        self.undo(rows, operation, row, failure, now, |step| step < undoing)
    }

    /// Ends the operations that an earlier holder of the lease left open on the same backend: this request supersedes them. One
    /// that is being undone is returned instead, to be carried to its end first.
    pub(super) fn supersede(
        &self,
        rows: &dyn Rows,
        acceptance: &Acceptance<'_>,
    ) -> Result<Option<(Operation, Transition)>, AuthorityError> {
        let Acceptance { lease, request, now, .. } = *acceptance;
        for open in rows.open_operations_on(&lease.project, &request.backend)? {
            let (Some(id), is_this) = (open.id.clone(), open.step == request.step) else { continue };
            if open.progress.compensation.is_some() || self.goes_first(&open, &request.work)? {
                if let Some((mut undone, next)) = self.resume_one(rows, id, open, now)? {
                    undone.lease = acceptance.executing_lease();
                    return Ok(Some((undone, next)));
                }
            } else if let Some(taken_up) = self.take_up_move(rows, acceptance, id.clone(), open)? {
                return Ok(Some(taken_up));
            } else if !is_this {
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
        Ok(None)
    }
}

impl<S: Store> Authority<S> {
    /// Returns whether an operation goes on or back before other work: one that changes the release of data, as only it knows
    /// which data is that of which release.
    fn goes_first(&self, open: &OperationRow, work: &Work) -> Result<bool, AuthorityError> {
        let (Some(id), Some(sealed)) = (&open.id, &open.pending) else { return Ok(false) };
        // What is removed needs no way back.
        if matches!(work, Work::Remove { .. }) {
            return Ok(false);
        }
        Ok(match open.kind {
            OperationKind::Put => self.open_upgrade(id, sealed)?.is_some(),
            kind @ OperationKind::Restore => changes_release(&self.open_data_phase(id, kind, sealed, open.accepted_at)?),
            _ => false,
        })
    }
}

/// Returns whether an operation leaves a backend with another release than before.
fn changes_release(phase: &OperationPhase) -> bool {
    matches!(phase, OperationPhase::Upgrade(_) | OperationPhase::Restore(_, _, Some(_)))
}

/// Returns the first failure with what undoing a step failed with.
pub(super) fn undo_failed(failure: Diagnostic, undoing: OperationStep, seen: &str) -> Diagnostic {
    let message = format!("{}; undoing what was done ({}) failed, too: {seen}", failure.message, undoing.label());
    Diagnostic { message, ..failure }
}
