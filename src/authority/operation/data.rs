//! Snapshot and restore: their acceptance, and what is kept of the request for a resumption.

use std::collections::BTreeMap;

use super::super::effect::{SnapshotPurpose, SnapshotRequest};
use super::super::{Authority, AuthorityError, VaultError};
use super::acceptance::{Acceptance, pending_name};
use super::row_before::RowBefore;
use super::stop::{Accepted, existing, refuse_while_removing};
use super::types::OperationPhase;
use crate::api::{ControlError, MAX_NOTE_BYTES, StartMode, Work, is_single_line};
use crate::model::{Diagnostic, OperationId, OperationKind, Phase, Secret, SnapshotId, Timestamp};
use crate::store::{BackendRow, Rows, Store, StoreError};

const ID: &str = "snapshot";
const NOTE: &str = "note";
/// Whether a restored backend starts paused.
const PAUSED: &str = "paused";
/// What a restore with another release goes back to.
const BEFORE: &str = "before";

impl<S: Store> Authority<S> {
    /// Accepts a snapshot or a restore, and returns the operation with its first step.
    pub(in crate::authority) fn accept_data(
        &self,
        rows: &dyn Rows,
        acceptance: Acceptance<'_>,
    ) -> Result<Accepted, AuthorityError> {
        let mut row = existing(rows, &acceptance)?;
        refuse_while_removing(&row)?;
        let name = &row.name.clone();
        refuse_without_data(&row)?;
        let (id, note, release, start) = match &acceptance.request.work {
            Work::Snapshot { id, note } => (id, note.as_ref(), None, StartMode::AsItWas),
            Work::Restore { snapshot, release, start } => (snapshot, None, release.as_ref(), *start),
            _ => return Err(ControlError::NoSuchBackend { project: row.project, backend: row.name }.into()),
        };
        if note.is_some_and(|note| !is_single_line(note, MAX_NOTE_BYTES)) {
            let message = format!("a note is one line of at most {MAX_NOTE_BYTES} bytes");
            return Err(ControlError::BadRequest(Diagnostic::new("snapshot.note", message)).into());
        }
        let kind = acceptance.request.work.kind();
        let digest = Some(self.digest_of(acceptance.request)?);
        let operation = acceptance.find_or_insert_operation(rows, kind, digest)?;
        let mut pending = BTreeMap::from([(ID.to_owned(), Secret::new(id.as_str()))]);
        pending.extend(note.map(|note| (NOTE.to_owned(), Secret::new(note.clone()))));
        let before = release.map(|_| RowBefore::of(&row));
        if let Some(before) = &before {
            let text = serde_json::to_string(before).map_err(StoreError::Unwritable)?;
            pending.insert(BEFORE.to_owned(), Secret::new(text));
        }
        if start == StartMode::Paused {
            pending.insert(PAUSED.to_owned(), Secret::new("true"));
        }
        if let Some(release) = release {
            row.spec.release = Some(release.clone());
            // What a newer one has written goes with its data.
            row.newest_release = Some(release.clone());
            row.generation = row.generation.next();
            row.phase = Phase::Updating;
            rows.put_backend(&row)?;
        }
        let mut nonce = [0; 24];
        (self.entropy)(&mut nonce)?;
        let sealed = self.vault.seal(&pending_name(&operation), &pending, nonce)?;
        rows.put_pending(&operation, Some(&sealed))?;
        let event = if kind == OperationKind::Snapshot { "snapshot_accepted" } else { "restore_accepted" };
        let detail = format!("operation {operation}, snapshot {id}");
        self.record(rows, Some(&row.project), acceptance.audit_context(), event, Some(name), detail)?;
        let phase = match kind {
            OperationKind::Restore => OperationPhase::Restore(id.clone(), start, before.map(Box::new)),
            _ => snapshot(id.clone(), note.cloned(), acceptance.now),
        };
        let next = self.first_step(&phase, &row)?;
        Ok((Some(acceptance.new_operation(operation, row.id.clone(), phase)), next))
    }

    /// Accepts that the data goes that the last restore has kept, and returns the operation with its step.
    pub(in crate::authority) fn accept_drop_previous(
        &self,
        rows: &dyn Rows,
        acceptance: Acceptance<'_>,
    ) -> Result<Accepted, AuthorityError> {
        let row = existing(rows, &acceptance)?;
        refuse_while_removing(&row)?;
        refuse_without_data(&row)?;
        let operation = acceptance.find_or_insert_operation(rows, OperationKind::DropPrevious, None)?;
        let detail = format!("operation {operation}");
        self.record(rows, Some(&row.project), acceptance.audit_context(), "drop_previous_accepted", Some(&row.name), detail)?;
        let next = self.first_step(&OperationPhase::DropPrevious, &row)?;
        Ok((Some(acceptance.new_operation(operation, row.id.clone(), OperationPhase::DropPrevious)), next))
    }

    /// Returns the phase of a snapshot or a restore that was interrupted.
    pub(in crate::authority) fn open_data_phase(
        &self,
        operation: &OperationId,
        kind: OperationKind,
        sealed: &[u8],
        accepted_at: Timestamp,
    ) -> Result<OperationPhase, AuthorityError> {
        let mut pending = self.vault.open(&pending_name(operation), sealed)?;
        let id = pending.remove(ID).and_then(|id| SnapshotId::parse(id.expose()).ok());
        let id = id.ok_or_else(|| VaultError::Content(pending_name(operation)))?;
        if kind != OperationKind::Restore {
            let note = pending.remove(NOTE).map(|note| note.expose().to_owned());
            return Ok(snapshot(id, note, accepted_at));
        }
        let before = pending.remove(BEFORE).map(|before| serde_json::from_str(before.expose())).transpose();
        let before = before.map_err(|_| VaultError::Content(pending_name(operation)))?;
        let start = if pending.contains_key(PAUSED) { StartMode::Paused } else { StartMode::AsItWas };
        Ok(OperationPhase::Restore(id, start, before))
    }
}

/// Refuses work on the data of what was never ready.
fn refuse_without_data(row: &BackendRow) -> Result<(), AuthorityError> {
    if !row.is_only_a_record() && row.has_been_ready {
        return Ok(());
    }
    let message = format!("`{}` was never ready, so it has no data", row.name);
    let finding = Diagnostic::new("snapshot.no_data", message).with_help("bring it up with\n    convexinfra apply");
    Err(ControlError::Refused(finding).into())
}

fn snapshot(id: SnapshotId, note: Option<String>, created_at: Timestamp) -> OperationPhase {
    OperationPhase::Snapshot(SnapshotRequest { id, note, created_at, purpose: SnapshotPurpose::Asked })
}
