//! Taking the one executable out of a release's zip file.

use std::fs::File;
use std::io::{ErrorKind, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// The largest executable that is taken; the real one is a tenth of this.
const EXECUTABLE_MAX: u64 = 2 << 30;

/// Why an archive gives no executable.
#[derive(Debug, thiserror::Error)]
pub(super) enum ArchiveError {
    /// It is damaged or no zip file.
    #[error("the archive is damaged")]
    Damaged(#[from] zip::result::ZipError),
    /// It holds no such file.
    #[error("the archive holds no file `{name}`")]
    EntryMissing {
        /// The file.
        name: String,
    },
    /// The file is too large.
    #[error("the archive holds more than {EXECUTABLE_MAX} bytes")]
    TooLarge,
    /// The disk would not take it.
    #[error("the archive could not be unpacked")]
    Disk(#[from] std::io::Error),
}

/// Unpacks the executable `name` to `target`, synced to the disk and ready to run. Its checksum inside the archive
/// is compared while it is read.
pub(super) fn unpack(archive: &Path, name: &str, target: &Path) -> Result<(), ArchiveError> {
    let mut archive = zip::ZipArchive::new(File::open(archive)?)?;
    for index in 0..archive.len() {
        let entry = archive.by_index(index)?;
        let is_it = entry.is_file() && entry.name()?.rsplit('/').next() == Some(name);
        if !is_it {
            continue;
        }
        let mut to = std::fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o755).open(target)?;
        let written = std::io::copy(&mut entry.take(EXECUTABLE_MAX + 1), &mut to).map_err(|error| match error.kind() {
            ErrorKind::InvalidData | ErrorKind::InvalidInput | ErrorKind::UnexpectedEof => {
                ArchiveError::Damaged(zip::result::ZipError::Io(error))
            }
            _ => ArchiveError::Disk(error),
        })?;
        if written > EXECUTABLE_MAX {
            return Err(ArchiveError::TooLarge);
        }
        to.set_permissions(std::os::unix::fs::PermissionsExt::from_mode(0o755))?;
        to.sync_all()?;
        return Ok(());
    }
    Err(ArchiveError::EntryMissing { name: name.to_owned() })
}
