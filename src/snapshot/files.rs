//! Files for this user only, and their way to the disk.

use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;

use super::error::{SnapshotError, file_error};

/// Creates a folder for this user only, with its parents.
pub(super) fn create_private(folder: &Path) -> Result<(), SnapshotError> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(file_error(folder, "created"))
}

/// Writes a file for this user only, as a whole or not at all.
pub(super) fn write_private(path: &Path, content: &[u8]) -> Result<(), SnapshotError> {
    let folder = path.parent().unwrap_or_else(|| Path::new("."));
    let mut file = tempfile::NamedTempFile::new_in(folder).map_err(file_error(path, "written"))?;
    file.write_all(content).map_err(file_error(path, "written"))?;
    file.persist(path).map(drop).map_err(|error| file_error(path, "written")(error.error))
}

/// Returns once everything that was written below a folder is on the disk: one call for many files.
pub(super) fn flush(folder: &Path) -> Result<(), SnapshotError> {
    let file = File::open(folder).map_err(file_error(folder, "opened"))?;
    #[cfg(target_os = "linux")]
    {
        rustix::fs::syncfs(&file).map_err(|error| file_error(folder, "written")(error.into()))
    }
    #[cfg(not(target_os = "linux"))]
    {
        rustix::fs::sync();
        file.sync_all().map_err(file_error(folder, "written"))
    }
}
