//! The reclaim policy of a backend that is being removed, noted in its row: a removal that was interrupted is resumed with
//! the policy that it began with, unless a later request names another one.
//!
//! Must not do: decide what becomes of it.

use serde::{Deserialize, Serialize};

use super::effect::{SnapshotPurpose, SnapshotRequest};
use crate::model::{
    DatabaseReclaim, Diagnostic, Exit, Phase, ProviderState, ReclaimPolicy, SnapshotId, Timestamp, VolumeReclaim,
};
use crate::store::{BackendRow, StoreError};

/// The note about a volume that stays.
const VOLUME: &str = "volume.disposal";
const KEEP: &str = "keep";

/// The note about a database that is dropped.
const DATABASE: &str = "database.disposal";
const DROP: &str = "drop";
const DROP_WITH_FILES: &str = "drop_with_files";

/// The note about where what stays of a backend is.
const PLACE: &str = "volume.place";

/// All notes about a removal, which its provider does not know.
pub(super) const NOTES: [&str; 4] = [VOLUME, DATABASE, PLACE, SNAPSHOT];

/// The note about a last snapshot that is still to be taken.
const SNAPSHOT: &str = "snapshot.last";
/// The note of the snapshot that goes with the data, in the history of a backend.
const NOTE: &str = "before it was destroyed";

/// The last snapshot of a backend, until it is taken.
#[derive(Debug, Serialize, Deserialize)]
struct PendingSnapshot {
    id: SnapshotId,
    created_at: Timestamp,
    /// The phase that the backend is in again where it cannot be taken.
    phase: Phase,
}

impl PendingSnapshot {
    fn of(references: &ProviderState) -> Option<Self> {
        references.get(SNAPSHOT).and_then(|note| serde_json::from_str(note).ok())
    }
}

/// Returns whether a removal begins with a last snapshot that is not taken yet.
pub fn awaits_snapshot(references: &ProviderState) -> bool {
    PendingSnapshot::of(references).is_some()
}

/// Returns the last snapshot that is still to be taken of a backend that goes.
pub(super) fn snapshot_request(row: &BackendRow) -> Option<SnapshotRequest> {
    let PendingSnapshot { id, created_at, .. } = PendingSnapshot::of(&row.references)?;
    Some(SnapshotRequest { id, note: Some(NOTE.to_owned()), created_at, purpose: SnapshotPurpose::Removal })
}

/// Notes that a removal begins with this snapshot. One that has begun without it may have removed something already.
pub(super) fn await_snapshot(row: &mut BackendRow, id: SnapshotId, created_at: Timestamp) -> Result<(), StoreError> {
    if row.phase != Phase::Removing {
        let pending = PendingSnapshot { id, created_at, phase: row.phase };
        row.references.insert(SNAPSHOT.to_owned(), serde_json::to_string(&pending).map_err(StoreError::Unwritable)?);
    }
    Ok(())
}

/// Notes that no last snapshot is to be taken any more: it is there, or was declined.
pub(super) fn snapshot_done(row: &mut BackendRow) {
    row.references.remove(SNAPSHOT);
}

/// Takes a removal back whose last snapshot could not be taken: nothing was removed. Returns the failure with the way out.
pub(super) fn withdraw(row: &mut BackendRow, failure: Diagnostic) -> Diagnostic {
    let Some(PendingSnapshot { phase, .. }) = PendingSnapshot::of(&row.references) else { return failure };
    row.phase = phase;
    forget(&mut row.references);
    let name = &row.name;
    let message = format!("`{name}` was not destroyed, as its last snapshot could not be taken: {}", failure.message);
    if failure.exit() == Exit::Unreachable {
        return Diagnostic { message, ..failure };
    }
    let without = format!(
        "destroy it without one, and its data is lost for good\n    convexinfra destroy {name} --no-last-snapshot \
         --allow-destroy {name}\nor keep it, and have its env files written again, with\n    convexinfra apply"
    );
    let help = failure.help.as_ref().map_or_else(|| without.clone(), |help| format!("{help}\nor {without}"));
    Diagnostic { message, ..failure }.with_help(help)
}

/// Returns what was to become of the volume of a backend that goes.
pub fn volume_disposal(references: &ProviderState) -> VolumeReclaim {
    match references.get(VOLUME).map(String::as_str) {
        Some(KEEP) => VolumeReclaim::Retain,
        _ => VolumeReclaim::Delete,
    }
}

/// Returns what was to become of the database of a backend that goes.
pub(super) fn database_disposal(row: &BackendRow) -> DatabaseReclaim {
    match row.references.get(DATABASE).map(String::as_str) {
        Some(DROP) => DatabaseReclaim::Delete,
        Some(DROP_WITH_FILES) => DatabaseReclaim::DeleteWithFiles,
        _ => DatabaseReclaim::Retain,
    }
}

/// Returns what the removal of a backend was begun with, where one was.
pub(super) fn requested(row: &BackendRow) -> Option<ReclaimPolicy> {
    (row.phase == Phase::Removing)
        .then(|| ReclaimPolicy { volume: volume_disposal(&row.references), database: database_disposal(row) })
}

/// Begins a removal, or says anew what one that was begun is to do.
pub(super) fn start(row: &mut BackendRow, removal: ReclaimPolicy) {
    row.phase = Phase::Removing;
    match removal.volume {
        VolumeReclaim::Retain => keep_volume(row),
        VolumeReclaim::Delete => drop(row.references.remove(VOLUME)),
    }
    let note = match removal.database {
        DatabaseReclaim::Delete => Some(DROP),
        DatabaseReclaim::DeleteWithFiles => Some(DROP_WITH_FILES),
        DatabaseReclaim::Retain => None,
    };
    match note {
        Some(note) => drop(row.references.insert(DATABASE.to_owned(), note.to_owned())),
        None => drop(row.references.remove(DATABASE)),
    }
}

/// Takes the notes about a removal away: it has ended.
pub(super) fn forget(references: &mut ProviderState) {
    for note in NOTES {
        references.remove(note);
    }
}

/// Notes that its volume goes as well: the database that it belongs to is gone.
pub(super) fn delete_volume(row: &mut BackendRow) {
    row.references.remove(VOLUME);
}

/// Notes where what stays of it is.
pub(super) fn note_place(row: &mut BackendRow, place: Option<String>) {
    row.references.extend(place.map(|place| (PLACE.to_owned(), place)));
}

/// Returns where what stays of it is.
pub(super) fn place(row: &BackendRow) -> Option<String> {
    row.references.get(PLACE).cloned()
}

/// Notes that its volume stays.
pub(super) fn keep_volume(row: &mut BackendRow) {
    row.references.insert(VOLUME.to_owned(), KEEP.to_owned());
}
