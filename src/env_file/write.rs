//! Replacing and deleting env files that still hold what the caller read.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::Path;

use super::bounded;
use super::error::EnvFileError;
use super::repository::folder;
use super::resolved_file::ResolvedFile;
use super::staging::{StagedFile, sweep};
use crate::failpoint;

/// Who may read the new file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum FileMode {
    /// Only the user: of an old file's mode, what others may do is taken away.
    Private,
    /// As the old file; everyone, if there was none.
    Preserved,
}

/// Replaces an env file that was resolved, if it still holds what was read then. A symbolic link stays and its target is
/// replaced.
///
/// # Errors
/// [`EnvFileError`]; the file is then as it was.
pub(super) fn write(target: &ResolvedFile, bytes: &[u8], mode: FileMode) -> Result<(), EnvFileError> {
    sweep(&target.folder());
    if target.content.as_deref() == Some(bytes) {
        let tightened = if mode == FileMode::Private { make_private(&target.real) } else { Ok(()) };
        return tightened.map_err(|source| EnvFileError::NotWritten { path: target.path.clone(), source });
    }
    replace(&target.path, &target.real, target.content.as_deref(), bytes, mode)
}

/// Replaces a file by way of a staged one. `path` is what errors speak of.
pub(super) fn replace(
    path: &Path,
    real: &Path,
    before: Option<&[u8]>,
    bytes: &[u8],
    mode: FileMode,
) -> Result<(), EnvFileError> {
    let failed = |error: io::Error| EnvFileError::writing(path, error);
    let folder = folder(real);
    let mut staged = StagedFile::create(&folder).map_err(failed)?;
    failpoint::hit("env_file.temporary_created");
    staged.as_file_mut().write_all(bytes).map_err(failed)?;
    carry_over(real, staged.as_file_mut(), mode).map_err(failed)?;
    staged.as_file_mut().sync_all().map_err(failed)?;
    failpoint::hit("env_file.temporary_written");

    let changed = || EnvFileError::ChangedMeanwhile { path: path.to_owned() };
    let renamed = match before {
        Some(before) => {
            if bounded::read(real).map_or(true, |now| now != before) {
                return Err(changed());
            }
            staged.persist(real)
        }
        None => staged.persist_new(real),
    };
    renamed.map_err(|error| match error.kind() {
        io::ErrorKind::AlreadyExists => changed(),
        _ => failed(error),
    })?;
    failpoint::hit("env_file.renamed");
    // The rename is done; that it survives a power cut is as much as a folder's sync can add.
    let _ = File::open(&folder).and_then(|folder| folder.sync_all());
    Ok(())
}

/// Deletes an env file in which nothing is left but what was read and is taken out.
pub(super) fn delete(target: &ResolvedFile) -> Result<(), EnvFileError> {
    sweep(&target.folder());
    if bounded::read(&target.real).map_or(true, |now| Some(now.as_slice()) != target.content.as_deref()) {
        return Err(EnvFileError::ChangedMeanwhile { path: target.path.clone() });
    }
    fs::remove_file(&target.real).map_err(|error| EnvFileError::writing(&target.path, error))?;
    failpoint::hit("env_file.deleted");
    Ok(())
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
        FileMode::Private => old.map_or(0o600, |old| old.mode() & 0o700),
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

    let mode = fs::metadata(real)?.mode();
    if mode & 0o077 == 0 {
        return Ok(());
    }
    fs::set_permissions(real, fs::Permissions::from_mode(mode & 0o700))
}

#[cfg(not(unix))]
fn make_private(_real: &Path) -> io::Result<()> {
    Ok(())
}
