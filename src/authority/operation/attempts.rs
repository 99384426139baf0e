//! The budget of attempts of an operation, and the digest that makes two requests the same.

use std::collections::BTreeMap;

use super::super::retained::NEVER_ENSURED;
use super::super::{Authority, AuthorityError};
use super::acceptance::end_operation;
use super::compensation::undo_failed;
use super::types::{Operation, OperationPhase};
use crate::api::{ControlError, OperationOutcome, OperationRequest, StartMode, Work};
use crate::model::{Diagnostic, DowngradeConsent, FieldPath, MoveConsent, OperationId, OperationStep, Phase, Timestamp};
use crate::store::{Compensation, Durability, OperationProgress, OperationRow, Store, StoreError};

/// Limits how often an operation is resumed without advancing: enough for a host that is killed again and again, and an end
/// for an operation that kills its host.
const MAX_ATTEMPTS: u32 = 20;

impl<S: Store> Authority<S> {
    /// Counts one more attempt of an operation that was interrupted. One that was resumed too often without advancing is
    /// failed with what was seen, and frees its backend for the next operation.
    ///
    /// # Errors
    /// The rows cannot be written.
    pub fn begin_attempt(&self, operation: &Operation, now: Timestamp) -> Result<Option<OperationOutcome>, AuthorityError> {
        self.store.write(Durability::Fsync, |rows| {
            let Some(mut row) = rows.operation_by_id(&operation.id)?.filter(|row| row.ended_at.is_none()) else {
                return Err(ControlError::LeaseLost { project: operation.project.clone() }.into());
            };
            row.progress.attempts = row.progress.attempts.saturating_add(1);
            if row.progress.attempts <= MAX_ATTEMPTS {
                rows.put_progress(&operation.id, &row.progress)?;
                return Ok(None);
            }
            let step = OperationStep::from_number(row.progress.furthest).map_or("its first step", OperationStep::label);
            let seen = row.progress.seen.map(|seen| format!("; the last time {seen}")).unwrap_or_default();
            let message = format!(
                "the operation was begun {MAX_ATTEMPTS} times and never came further than {step}, so it is not begun again{seen}"
            );
            let finding = match row.progress.compensation {
                Some(Compensation { undoing, failure }) => undo_failed(failure, undoing, &message),
                None => Diagnostic::new("control.attempts_exhausted", message)
                    .with_help("look at the server's log for what ended it, and apply again"),
            };
            if let Some(mut backend) = rows.backend_by_id(&operation.backend)? {
                // How far it came is not known.
                let mut changed = backend.references.remove(NEVER_ENSURED).is_some();
                let changes = matches!(operation.phase, OperationPhase::Put | OperationPhase::Upgrade(_) | OperationPhase::Move(_));
                if changes && backend.has_been_ready {
                    backend.phase = Phase::Failed;
                    changed = true;
                }
                if changed {
                    rows.put_backend(&backend)?;
                }
                let detail = format!("operation {}: {}", operation.id, finding.code);
                let context = operation.audit_context(now);
                self.record(rows, Some(&backend.project), context, "operation_failed", Some(&backend.name), detail)?;
            }
            let outcome = OperationOutcome::Failed { operation: operation.id.clone(), finding };
            end_operation(rows, &operation.id, outcome, now).map(Some)
        })
    }

    /// Records what was seen when an operation ended without an outcome.
    pub fn note_interruption(&self, id: &OperationId, seen: &str) -> Result<(), AuthorityError> {
        self.store.write(Durability::NoFsync, |rows| {
            let Some(row) = rows.operation_by_id(id)?.filter(|row| row.ended_at.is_none()) else { return Ok(()) };
            Ok(rows.put_progress(id, &OperationProgress { seen: Some(seen.to_owned()), ..row.progress })?)
        })
    }

    /// Refunds an attempt: a server that shuts down interrupts its operations, which says nothing about them.
    pub fn refund_attempt(&self, id: &OperationId) -> Result<(), AuthorityError> {
        self.store.write(Durability::NoFsync, |rows| {
            let Some(row) = rows.operation_by_id(id)?.filter(|row| row.ended_at.is_none()) else { return Ok(()) };
            let attempts = row.progress.attempts.saturating_sub(1);
            Ok(rows.put_progress(id, &OperationProgress { attempts, ..row.progress })?)
        })
    }

    /// Returns what a request asks for as 64 hex digits that say nothing about it without the master key.
    pub(in crate::authority) fn digest_of(&self, request: &OperationRequest) -> Result<String, AuthorityError> {
        let OperationRequest { backend, work, .. } = request;
        let content = match work {
            Work::Put { spec, secrets, renamed_from, downgrade, moves } => {
                let secrets: BTreeMap<&FieldPath, &str> = secrets.iter().map(|(path, value)| (path, value.expose())).collect();
                let allowed = *downgrade == DowngradeConsent::Given;
                // What was sent to an earlier release has the digest that it had there.
                let kind = if *moves == MoveConsent::Given { "put, may move" } else { "put" };
                serde_json::to_vec(&(kind, backend, spec, secrets, renamed_from, allowed))
            }
            Work::Remove { volume, database, final_snapshot } => {
                let kind = if *final_snapshot { "remove, snapshot first" } else { "remove" };
                serde_json::to_vec(&(kind, backend, volume, database))
            }
            Work::Stop {} | Work::Start {} | Work::Forget {} | Work::RotateKey {} | Work::DropPrevious {} => {
                serde_json::to_vec(&(work.kind(), backend))
            }
            Work::Snapshot { id, note } => serde_json::to_vec(&("snapshot", backend, id, note)),
            Work::Restore { snapshot, release: None, start: StartMode::AsItWas } => {
                serde_json::to_vec(&("restore", backend, snapshot))
            }
            Work::Restore { snapshot, release, start } => serde_json::to_vec(&("restore", backend, snapshot, release, start)),
        };
        let content = zeroize::Zeroizing::new(content.map_err(StoreError::Unwritable)?);
        Ok(self.vault.compute_mac(&content))
    }

    /// Refuses a step that was sent before as another request: its end would be taken for the end of this one.
    pub(in crate::authority) fn check_same_request(
        &self,
        known: &OperationRow,
        request: &OperationRequest,
    ) -> Result<(), AuthorityError> {
        let is_same = known.backend == request.backend
            && known.kind == request.work.kind()
            && match &known.digest {
                Some(digest) => *digest == self.digest_of(request)?,
                None => true,
            };
        if is_same {
            return Ok(());
        }
        let message = format!("the step `{}` was sent before as another piece of work", request.step);
        Err(ControlError::Refused(Diagnostic::new("control.step_reused", message)).into())
    }
}
