//! The reclaim policy of a backend that is being removed, noted in its row: a removal that was interrupted is resumed with
//! the policy that it began with, unless a later request names another one.
//!
//! Must not do: decide what becomes of it.

use crate::model::{DatabaseReclaim, Phase, ProviderState, ReclaimPolicy, VolumeReclaim};
use crate::store::BackendRow;

/// The note about a volume that stays.
const VOLUME: &str = "volume.disposal";
const KEEP: &str = "keep";

/// The note about a database that is dropped.
const DATABASE: &str = "database.disposal";
const DROP: &str = "drop";
const DROP_WITH_FILES: &str = "drop_with_files";

/// The note about where what stays of a backend is.
const PLACE: &str = "volume.place";

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
    for note in [VOLUME, DATABASE, PLACE] {
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
