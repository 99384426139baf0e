//! Why a snapshot could not be taken, read or kept.

use std::io;
use std::path::Path;

use crate::model::{Diagnostic, Exit, SnapshotId};

/// Says why a snapshot could not be taken, read or kept.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotError {
    /// There is no such snapshot.
    #[error("there is no snapshot `{0}`")]
    NotFound(SnapshotId),
    /// There is one of this name already.
    #[error("there is a snapshot `{0}` already")]
    Exists(SnapshotId),
    /// What was read is not what was written.
    #[error("the snapshot `{id}` is damaged: {what}")]
    Damaged {
        /// The snapshot.
        id: SnapshotId,
        /// What is wrong.
        what: String,
    },
    /// It was written by a newer convexinfra.
    #[error("the snapshot `{id}` has format {format}, and this version reads formats up to {}", super::FORMAT)]
    NewerFormat {
        /// The snapshot.
        id: SnapshotId,
        /// Its format.
        format: u32,
    },
    /// The database of the backend is damaged already.
    #[error("the database of the backend is damaged: {0}")]
    SourceDamaged(String),
    /// The project has as many as one may have.
    #[error("the project has {0} snapshots, which is as many as one may have")]
    TooMany(usize),
    /// The copy of the database is gone.
    #[error("the copy of the database of `{0}` is gone")]
    CopyGone(SnapshotId),
    /// A folder that is written to has something in it.
    #[error("`{0}` is there already, and nothing in it is replaced")]
    NotEmpty(String),
    /// A folder holds no exported snapshot.
    #[error("`{0}` holds no exported snapshot, or more than one")]
    NoExport(String),
    /// A file could not be read or written.
    #[error("`{path}` could not be {verb}: {source}")]
    File {
        /// The file or folder.
        path: String,
        /// `read`, `written`, …
        verb: &'static str,
        /// Why.
        source: io::Error,
    },
    /// A bug.
    #[error("{0}; this is a bug in convexinfra")]
    Bug(String),
}

impl SnapshotError {
    /// Returns the diagnostic of it.
    pub fn diagnostic(&self) -> Diagnostic {
        let finding = |code: &str| Diagnostic::new(code, self.to_string());
        match self {
            Self::NotFound(_) => finding("snapshot.not_found").with_help("list them with\n    convexinfra snapshot list"),
            Self::Exists(_) => finding("snapshot.exists"),
            Self::Damaged { id, .. } => finding("snapshot.damaged").with_help(format!(
                "it is never restored; use another one, and delete this one with\n    convexinfra snapshot delete {id}"
            )),
            Self::NewerFormat { .. } => finding("snapshot.newer_format").with_help("use a newer version of convexinfra"),
            Self::SourceDamaged(_) => finding("snapshot.source_damaged")
                .with_help("no snapshot was taken; look at the last good one with\n    convexinfra snapshot list"),
            Self::TooMany(_) => finding("snapshot.too_many").with_help(
                "delete those that are not needed\n    convexinfra snapshot list\n    convexinfra snapshot delete ID",
            ),
            Self::CopyGone(_) => finding("snapshot.copy_gone").with_help("take another snapshot"),
            Self::NotEmpty(_) => finding("snapshot.not_empty").with_help("name another folder"),
            Self::NoExport(_) => {
                finding("snapshot.no_export").with_help("name the folder that `convexinfra snapshot export` wrote")
            }
            Self::File { source, .. } if source.kind() == io::ErrorKind::StorageFull => {
                finding("snapshot.full").with_help("make room, and run the same command again")
            }
            Self::File { .. } => finding("snapshot.file"),
            Self::Bug(_) => finding("bug"),
        }
    }

    /// Returns the exit code of a command that ends with it.
    pub fn exit(&self) -> Exit {
        match self {
            Self::Exists(_) | Self::TooMany(_) | Self::NotEmpty(_) | Self::NewerFormat { .. } => Exit::Refused,
            Self::Bug(_) => Exit::Bug,
            _ => Exit::Failed,
        }
    }
}

/// Returns the conversion of an error of a file.
pub(super) fn file_error(path: &Path, verb: &'static str) -> impl FnOnce(io::Error) -> SnapshotError {
    let path = path.display().to_string();
    move |source| SnapshotError::File { path, verb, source }
}
