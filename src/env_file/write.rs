//! Replacing a file in one step: whoever reads it sees the old content or the new one, whenever we are killed.
//!
//! Must not do: decide what is written, or leave anything behind when it fails.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::Path;

use tempfile::NamedTempFile;

use super::error::EnvFileError;
use super::resolved_file::{ResolvedFile, folder, read_at_most};
use crate::failpoint;

/// What temporary files are called: common ignore patterns for env files match them too.
const PREFIX: &str = ".env.convexinfra-";
const SUFFIX: &str = ".local";

/// Who may read the new file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum FileMode {
    /// Only the user.
    Private,
    /// Whoever could read the old one; everybody, if there was none.
    Preserved,
}

/// Replaces an env file, if it still holds what the caller read (none: it did not exist). A symbolic link stays and
/// its target is replaced.
///
/// # Errors
/// [`EnvFileError`]; the file is then as it was.
pub fn write(path: &Path, expected_before: Option<&[u8]>, bytes: &[u8]) -> Result<(), EnvFileError> {
    let target = ResolvedFile::resolve(path)?;
    target.ensure_replaceable()?;
    if target.content.as_deref() != expected_before {
        return Err(EnvFileError::ChangedMeanwhile { path: path.to_owned() });
    }
    sweep(&target.folder());
    if expected_before == Some(bytes) {
        return make_private(&target.real).map_err(|source| EnvFileError::NotWritten { path: path.to_owned(), source });
    }
    replace(path, &target.real, expected_before, bytes, FileMode::Private)
}

/// Replaces a file by way of a temporary one beside it. `path` is what errors speak of.
pub(super) fn replace(
    path: &Path,
    real: &Path,
    before: Option<&[u8]>,
    bytes: &[u8],
    mode: FileMode,
) -> Result<(), EnvFileError> {
    let failed = |error: io::Error| EnvFileError::writing(path, error);
    let folder = folder(real);
    let mut temporary = temporary(&folder).map_err(failed)?;
    failpoint::hit("env_file.temporary_created");
    temporary.write_all(bytes).map_err(failed)?;
    carry_over(real, temporary.as_file(), mode).map_err(failed)?;
    temporary.as_file().sync_all().map_err(failed)?;
    failpoint::hit("env_file.temporary_written");

    let changed = || EnvFileError::ChangedMeanwhile { path: path.to_owned() };
    let renamed = match before {
        Some(before) => {
            if read_at_most(real).map_or(true, |now| now != before) {
                return Err(changed());
            }
            temporary.persist(real)
        }
        None => temporary.persist_noclobber(real),
    };
    renamed.map_err(|error| match error.error.kind() {
        io::ErrorKind::AlreadyExists => changed(),
        _ => failed(error.error),
    })?;
    failpoint::hit("env_file.renamed");
    // The rename is done; that it survives a power cut is as much as a folder's sync can add.
    let _ = File::open(&folder).and_then(|folder| folder.sync_all());
    Ok(())
}

/// Deletes an env file in which nothing is left but what the caller read and is taking out.
pub(super) fn delete(target: &ResolvedFile, expected_before: &[u8]) -> Result<(), EnvFileError> {
    target.ensure_replaceable()?;
    sweep(&target.folder());
    if read_at_most(&target.real).map_or(true, |now| now != expected_before) {
        return Err(EnvFileError::ChangedMeanwhile { path: target.path.clone() });
    }
    fs::remove_file(&target.real).map_err(|error| EnvFileError::writing(&target.path, error))?;
    failpoint::hit("env_file.deleted");
    Ok(())
}

/// A new temporary file, readable by this user only and locked for as long as it is open.
fn temporary(folder: &Path) -> io::Result<NamedTempFile> {
    let mut attempts = 0;
    loop {
        let file = tempfile::Builder::new().prefix(PREFIX).suffix(SUFFIX).rand_bytes(10).tempfile_in(folder)?;
        attempts += 1;
        // Between creation and lock, another run may have taken it for an abandoned one.
        if lock(file.as_file(), true) && file.path().exists() || attempts == 8 {
            return Ok(file);
        }
    }
}

/// Removes the temporary files of runs that were killed: those that nobody holds a lock on.
fn sweep(folder: &Path) {
    let Ok(entries) = fs::read_dir(folder) else { return };
    for entry in entries.flatten() {
        let name = entry.file_name();
        let ours = name.to_str().is_some_and(|name| name.starts_with(PREFIX) && name.ends_with(SUFFIX));
        if ours
            && entry.file_type().is_ok_and(|kind| kind.is_file())
            && let Ok(file) = File::open(entry.path())
            && lock(&file, false)
        {
            let _ = fs::remove_file(entry.path());
        }
    }
}

#[cfg(unix)]
fn lock(file: &File, wait: bool) -> bool {
    use rustix::fs::{FlockOperation, flock};

    let how = if wait { FlockOperation::LockExclusive } else { FlockOperation::NonBlockingLockExclusive };
    // A file system without locks has no second run either that could tell, so waiting counts as having.
    flock(file, how).is_ok() || wait
}

#[cfg(not(unix))]
fn lock(_file: &File, wait: bool) -> bool {
    wait
}

/// Gives the new file the owner of the old one (as far as we may) and its mode.
#[cfg(unix)]
fn carry_over(real: &Path, file: &File, mode: FileMode) -> io::Result<()> {
    use std::os::unix::fs::{MetadataExt, PermissionsExt, fchown};

    let old = fs::metadata(real).ok();
    if let Some(old) = &old {
        let new = file.metadata()?;
        if (new.uid(), new.gid()) != (old.uid(), old.gid()) {
            let _ = fchown(file, Some(old.uid()), Some(old.gid()));
        }
    }
    let bits = match mode {
        FileMode::Private => 0o600,
        FileMode::Preserved => old.map_or(0o644, |old| old.mode() & 0o777),
    };
    file.set_permissions(fs::Permissions::from_mode(bits))
}

#[cfg(not(unix))]
fn carry_over(_real: &Path, _file: &File, _mode: FileMode) -> io::Result<()> {
    Ok(())
}

#[cfg(unix)]
fn make_private(real: &Path) -> io::Result<()> {
    use std::os::unix::fs::{MetadataExt, PermissionsExt};

    if fs::metadata(real)?.mode() & 0o077 == 0 {
        return Ok(());
    }
    fs::set_permissions(real, fs::Permissions::from_mode(0o600))
}

#[cfg(not(unix))]
fn make_private(_real: &Path) -> io::Result<()> {
    Ok(())
}
