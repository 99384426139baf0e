//! The copy of the database of a stopped backend: what makes its stop a short one.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::archive::unpack_file;
use super::database;
use super::error::{SnapshotError, file_error};
use super::files::{create_private, write_private};
pub use crate::convex::launch::{DATABASE_FILE, DATABASE_FILES};
use crate::failpoint;
use crate::model::{SnapshotId, Timestamp};

/// The name of the folder of the files below the folder of the data.
pub const STORAGE_FOLDER: &str = "storage";
/// The last that is written of a copy.
const RECORD: &str = "copy.json";

/// A copy of the database of one backend, until the snapshot is written from it.
#[derive(Debug, Clone)]
pub struct DatabaseCopy {
    folder: PathBuf,
    id: SnapshotId,
}

#[derive(Serialize, Deserialize)]
struct CopyRecord {
    stopped_at: Option<Timestamp>,
}

impl DatabaseCopy {
    pub(super) fn new(folder: PathBuf, id: SnapshotId) -> Self {
        Self { folder, id }
    }

    /// Returns whether the copy is whole.
    pub fn is_complete(&self) -> bool {
        self.folder.join(RECORD).exists()
    }

    /// Copies the database of a backend that does not run. `stopped_at` is since when it does not; none where it did not run
    /// anyway. The files of a file system that can share blocks are shared.
    ///
    /// # Errors
    /// A file cannot be read or written; nothing is left then.
    pub fn take(&self, data: &Path, stopped_at: Option<Timestamp>) -> Result<(), SnapshotError> {
        self.begin()?;
        let copied = self.copy_files(data).and_then(|()| self.complete(stopped_at));
        if copied.is_err() {
            let _ = self.discard();
        }
        copied
    }

    fn copy_files(&self, data: &Path) -> Result<(), SnapshotError> {
        for name in DATABASE_FILES {
            let source = data.join(name);
            match fs::copy(&source, self.folder.join(name)) {
                Err(error) if error.kind() == io::ErrorKind::NotFound && name != DATABASE_FILE => {}
                copied => drop(copied.map_err(file_error(&source, "copied"))?),
            }
        }
        Ok(())
    }

    /// Begins a copy that is put together file by file.
    ///
    /// # Errors
    /// A folder cannot be made or emptied.
    pub fn begin(&self) -> Result<(), SnapshotError> {
        self.discard()?;
        create_private(&self.folder)
    }

    /// Adds a file of [`DATABASE_FILES`], out of a tar archive that holds it alone.
    ///
    /// # Errors
    /// It is not in the archive, or the archive is cut off.
    pub fn add(&self, name: &str, archive: impl io::Read) -> Result<(), SnapshotError> {
        unpack_file(archive, name, &self.folder.join(name))
    }

    /// Marks the copy as whole.
    ///
    /// # Errors
    /// That cannot be written.
    pub fn complete(&self, stopped_at: Option<Timestamp>) -> Result<(), SnapshotError> {
        failpoint::hit("snapshot.database_copied");
        let record =
            serde_json::to_string(&CopyRecord { stopped_at }).map_err(|error| SnapshotError::Bug(error.to_string()))?;
        write_private(&self.folder.join(RECORD), record.as_bytes())
    }

    /// Returns the database.
    pub(super) fn database(&self) -> PathBuf {
        self.folder.join(DATABASE_FILE)
    }

    /// Recovers and checks the copy, and returns since when the backend does not run.
    pub(super) fn prepare(&self) -> Result<Option<Timestamp>, SnapshotError> {
        let record = self.folder.join(RECORD);
        let text = match crate::system::read_regular_text(&record, 4096).map_err(io::Error::from) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(SnapshotError::CopyGone(self.id.clone())),
            Err(error) => return Err(file_error(&record, "read")(error)),
        };
        let record: CopyRecord = serde_json::from_str(&text).map_err(|_| SnapshotError::CopyGone(self.id.clone()))?;
        database::recover(&self.database())?;
        database::check(&self.database())?;
        Ok(record.stopped_at)
    }

    /// Deletes the copy.
    ///
    /// # Errors
    /// It cannot be deleted.
    pub fn discard(&self) -> Result<(), SnapshotError> {
        match fs::remove_dir_all(&self.folder) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(file_error(&self.folder, "removed")(error)),
            _ => Ok(()),
        }
    }
}
