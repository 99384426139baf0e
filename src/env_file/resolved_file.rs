//! The file behind a path: what it holds, and whether replacing it would surprise somebody.
//!
//! Must not do: write.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::error::EnvFileError;
use super::git::{self, TrackedState};
use crate::system::{FileReadError, read_regular};

/// An env file is a page of text; whatever is larger than this is something else.
pub(super) const LIMIT: u64 = 1024 * 1024;

/// What stands at a path.
pub(super) struct ResolvedFile {
    /// The path as it was given.
    pub(super) path: PathBuf,
    /// The file to replace: at the end of a symbolic link, if the path is one.
    pub(super) real: PathBuf,
    /// Its content, if there is a file.
    pub(super) content: Option<Vec<u8>>,
}

impl ResolvedFile {
    /// Reads what stands at a path.
    pub(super) fn resolve(path: &Path) -> Result<Self, EnvFileError> {
        let own = || path.to_owned();
        let found = match fs::symlink_metadata(path) {
            Ok(found) => found,
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
                let folder = folder(path);
                if path.file_name().is_none() || !folder.is_dir() {
                    return Err(EnvFileError::FolderMissing { folder });
                }
                return Ok(Self { path: own(), real: own(), content: None });
            }
            Err(error) => return Err(EnvFileError::reading(path, error)),
        };
        let (real, found) = if found.is_symlink() {
            let real = resolve_link(path)?;
            let found = fs::metadata(&real).map_err(|error| EnvFileError::reading(path, error))?;
            (real, found)
        } else {
            (own(), found)
        };
        if found.is_dir() {
            return Err(EnvFileError::Folder { path: own() });
        }
        if !found.is_file() {
            return Err(EnvFileError::NotAFile { path: own() });
        }
        if found.len() > LIMIT {
            return Err(EnvFileError::TooLarge { path: own(), size: found.len(), limit: LIMIT });
        }
        let content = read_at_most(&real).map_err(|error| EnvFileError::reading(path, error))?;
        if content.contains(&0) || content.starts_with(&[0xff, 0xfe]) || content.starts_with(&[0xfe, 0xff]) {
            return Err(EnvFileError::NotText { path: own() });
        }
        Ok(Self { path: own(), real, content: Some(content) })
    }

    /// The folder in which the file is replaced.
    pub(super) fn folder(&self) -> PathBuf {
        folder(&self.real)
    }

    /// Whether the file may be replaced. A remark comes back where that could not be found out for certain.
    pub(super) fn ensure_replaceable(&self) -> Result<Option<String>, EnvFileError> {
        self.writable()?;
        match git::tracked(&self.real) {
            TrackedState::Yes => Err(EnvFileError::TrackedByGit { path: self.real.clone() }),
            TrackedState::No => Ok(None),
            TrackedState::Unknown(reason) => Ok(Some(format!(
                "cannot tell whether git tracks `{}` ({reason}); make sure that it is not committed",
                self.path.display()
            ))),
        }
    }

    #[cfg(unix)]
    fn writable(&self) -> Result<(), EnvFileError> {
        use rustix::fs::{Access, access};

        if self.content.is_some() && access(&self.real, Access::WRITE_OK).is_err() {
            return Err(EnvFileError::ReadOnly { path: self.path.clone() });
        }
        let folder = self.folder();
        access(&folder, Access::WRITE_OK | Access::EXEC_OK).map_err(|_| EnvFileError::FolderReadOnly { folder })
    }

    #[cfg(not(unix))]
    fn writable(&self) -> Result<(), EnvFileError> {
        if fs::metadata(&self.real).is_ok_and(|found| found.permissions().readonly()) {
            return Err(EnvFileError::ReadOnly { path: self.path.clone() });
        }
        Ok(())
    }
}

/// The folder of a path; `.` for a bare name.
pub(super) fn folder(path: &Path) -> PathBuf {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).map_or_else(|| PathBuf::from("."), Path::to_owned)
}

/// Reads a file, up to one byte more than an env file can have.
pub(super) fn read_at_most(path: &Path) -> io::Result<Vec<u8>> {
    match read_regular(path, LIMIT) {
        // Told apart by its length.
        Err(FileReadError::TooLarge { .. }) => Ok(vec![b'\n'; usize::try_from(LIMIT).unwrap_or(0) + 1]),
        result => Ok(result?),
    }
}

/// The end of a symbolic link, if it stays in the work tree (or, outside of git, below the link's own folder).
fn resolve_link(path: &Path) -> Result<PathBuf, EnvFileError> {
    let own = || path.to_owned();
    let real = match fs::canonicalize(path) {
        Ok(real) => real,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(EnvFileError::DanglingLink { path: own() }),
        Err(error) if is_loop(&error) => return Err(EnvFileError::LoopingLink { path: own() }),
        Err(error) => return Err(EnvFileError::reading(path, error)),
    };
    let folder = fs::canonicalize(folder(path)).map_err(|error| EnvFileError::reading(path, error))?;
    let root = git::work_tree(&folder).unwrap_or(folder);
    if real.starts_with(&root) && !real.starts_with(root.join(".git")) {
        return Ok(real);
    }
    Err(EnvFileError::LinkLeaves { path: own(), target: real })
}

#[cfg(unix)]
fn is_loop(error: &io::Error) -> bool {
    error.raw_os_error() == Some(rustix::io::Errno::LOOP.raw_os_error())
}

#[cfg(not(unix))]
fn is_loop(_error: &io::Error) -> bool {
    false
}
