//! What becomes of the data of a backend that goes, noted in its row: a removal that is cut off is finished as it was
//! begun, by whomever, unless somebody asks for another one.
//!
//! Must not do: decide what becomes of it.

use crate::model::{DatabaseDisposal, Phase, References, Removal, VolumeDisposal};
use crate::store::BackendRow;

/// The note about a volume that stays.
const VOLUME: &str = "volume.disposal";
const KEEP: &str = "keep";

/// The note about a database that is dropped.
const DATABASE: &str = "database.disposal";
const DROP: &str = "drop";

/// What was to become of the volume of a backend that goes.
pub fn volume_disposal(references: &References) -> VolumeDisposal {
    match references.get(VOLUME).map(String::as_str) {
        Some(KEEP) => VolumeDisposal::Keep,
        _ => VolumeDisposal::Destroy,
    }
}

/// What was to become of the database of a backend that goes.
pub(super) fn database_disposal(row: &BackendRow) -> DatabaseDisposal {
    match row.references.get(DATABASE).map(String::as_str) {
        Some(DROP) => DatabaseDisposal::Drop,
        _ => DatabaseDisposal::Leave,
    }
}

/// What the removal of a backend was begun with, where one was.
pub(super) fn begun(row: &BackendRow) -> Option<Removal> {
    (row.phase == Phase::Removing)
        .then(|| Removal { volume: volume_disposal(&row.references), database: database_disposal(row) })
}

/// Begins a removal, or says anew what one that was begun is to do.
pub(super) fn begin(row: &mut BackendRow, removal: Removal) {
    row.phase = Phase::Removing;
    match removal.volume {
        VolumeDisposal::Keep => keep_volume(row),
        VolumeDisposal::Destroy => drop(row.references.remove(VOLUME)),
    }
    match removal.database {
        DatabaseDisposal::Drop => drop(row.references.insert(DATABASE.to_owned(), DROP.to_owned())),
        DatabaseDisposal::Leave => drop(row.references.remove(DATABASE)),
    }
}

/// Notes that its volume stays.
pub(super) fn keep_volume(row: &mut BackendRow) {
    row.references.insert(VOLUME.to_owned(), KEEP.to_owned());
}
