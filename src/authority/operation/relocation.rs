//! Moves of a backend's rows to another database: their acceptance, their effects, and the change of the record at their end.
//!
//! Until the end the record says where the rows were, and what was asked for is sealed with the operation. So what is undone
//! needs no record of its own, and a move that was cut off goes on by the same request.

use super::super::effect::{DataMove, Effect, MoveStep, Transition};
use super::super::put_request::PutRequest;
use super::super::{Authority, AuthorityError};
use super::acceptance::Acceptance;
use super::stop::Accepted;
use super::types::{Operation, OperationPhase};
use crate::model::{Diagnostic, MOVE_LOCK, OperationId, OperationStep, Phase, Timestamp};
use crate::store::{BackendRow, OperationRow, Rows, Store};

impl<S: Store> Authority<S> {
    /// Records a move, and returns the operation with its first step.
    pub(in crate::authority) fn accept_move(
        &self,
        rows: &dyn Rows,
        acceptance: Acceptance<'_>,
        id: OperationId,
        mut row: BackendRow,
        mut put: PutRequest,
    ) -> Result<Accepted, AuthorityError> {
        // One password for the whole move, however often it is begun.
        put.role_password = self.role_password(&put.spec.storage, &self.open_secrets(&row)?)?;
        rows.put_pending(&id, Some(&self.seal_move(&id, &put)?))?;
        row.phase = Phase::Updating;
        row.references.insert(MOVE_LOCK.to_owned(), "true".to_owned());
        rows.put_backend(&row)?;
        let detail = format!("operation {id}, from {} to {}", row.spec.storage.product(), put.spec.storage.product());
        self.record(rows, Some(&row.project), acceptance.audit_context(), "move_accepted", Some(&row.name), detail)?;
        let phase = OperationPhase::Move(Box::new(put));
        let next = self.first_step(&phase, &row)?;
        Ok((Some(acceptance.new_operation(id, row.id.clone(), phase)), next))
    }

    /// Returns what has to be performed for a step of a move.
    pub(super) fn move_effect(
        &self,
        put: &PutRequest,
        step: OperationStep,
        row: &BackendRow,
    ) -> Result<Effect, AuthorityError> {
        let source = self.resolve(row)?;
        if step == OperationStep::RestartSource {
            return Ok(Effect::Ensure(Box::new(source)));
        }
        let mut target_row = BackendRow { generation: row.generation.next(), ..row.clone() };
        self.write_spec(&mut target_row, put.clone(), Timestamp(0))?;
        let target = self.resolve(&target_row)?;
        Ok(match MoveStep::of(step) {
            Some(part) => Effect::Move(part, Box::new(DataMove { source, target })),
            None => Self::plain_effect(step, Box::new(target), &target_row),
        })
    }

    /// Returns the step at which an interrupted move goes on: what was published is whole, and backends may have run on it.
    pub(in crate::authority) fn resumed_step(
        &self,
        operation: &Operation,
        row: &BackendRow,
    ) -> Result<Transition, AuthorityError> {
        match &operation.phase {
            OperationPhase::Move(put) if operation.furthest >= Some(OperationStep::PublishTarget) => {
                Ok(Transition::Perform(self.move_effect(put, OperationStep::PublishTarget, row)?))
            }
            phase => self.first_step(phase, row),
        }
    }

    /// Writes the end of a move into the record of its backend: from here on its rows are at the target.
    pub(super) fn complete_move(
        &self,
        rows: &dyn Rows,
        operation: &mut Operation,
        row: &mut BackendRow,
        now: Timestamp,
    ) -> Result<(), AuthorityError> {
        let phase = std::mem::replace(&mut operation.phase, OperationPhase::Put);
        let OperationPhase::Move(put) = phase else {
            operation.phase = phase;
            return Ok(());
        };
        rows.put_pending(&operation.id, None)?;
        row.generation = row.generation.next();
        self.write_spec(row, *put, now)?;
        row.references.remove(MOVE_LOCK);
        rows.put_backend(row)?;
        let detail = format!("operation {}", operation.id);
        self.record(rows, Some(&row.project), operation.audit_context(now), "data_moved", Some(&row.name), detail)
    }

    /// Takes up an interrupted move for another request: the same one goes on, and any other one has it undone first.
    pub(super) fn take_up_move(
        &self,
        rows: &dyn Rows,
        acceptance: &Acceptance<'_>,
        id: OperationId,
        open: OperationRow,
    ) -> Result<Option<(Operation, Transition)>, AuthorityError> {
        if open.pending.is_none() {
            return Ok(None);
        }
        let is_same = open.digest.is_some() && open.digest == Some(self.digest_of(acceptance.request)?);
        let Some((mut operation, mut next)) = self.resume_one(rows, id, open, acceptance.now)? else { return Ok(None) };
        if !matches!(operation.phase, OperationPhase::Move(_)) {
            return Ok(None);
        }
        operation.lease = acceptance.executing_lease();
        if !is_same && let Some(row) = rows.backend_by_id(&operation.backend)? {
            let finding = Diagnostic::new("control.superseded", "a later operation on the same backend took its place");
            next = self.undo(rows, &mut operation, row, finding, acceptance.now, |_| true)?;
        }
        Ok(match next {
            Transition::Perform(_) => Some((operation, next)),
            Transition::Ended(_) => None,
        })
    }
}
