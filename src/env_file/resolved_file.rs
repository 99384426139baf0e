//! The file behind a path: what it holds, where it really lies, and whether it may be replaced.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::bounded::{self, LIMIT};
use super::error::EnvFileError;
use super::git::{self, TrackedState};
use super::repository::{Boundary, folder, is_inside_git_folder, is_metadata};

/// The file that a path leads to.
pub(super) struct ResolvedFile {
    /// The path as it was given.
    pub(super) path: PathBuf,
    /// The file to replace: at the end of a symbolic link, if the path is one.
    pub(super) real: PathBuf,
    /// Its content, if there is a file.
    pub(super) content: Option<Vec<u8>>,
    /// Why it must not be written, where it lies outside of what the manifest may write.
    outside: Option<EnvFileError>,
}

impl ResolvedFile {
    /// Resolves a path and reads the file. A path of a manifest has to stay inside a boundary; one that was typed may lead
    /// anywhere, but a link there has to stay in its repository.
    pub(super) fn resolve(path: &Path, boundary: Option<&Boundary>) -> Result<Self, EnvFileError> {
        let own = || path.to_owned();
        let link = match fs::symlink_metadata(path) {
            Ok(found) => found.is_symlink(),
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
                let folder = folder(path);
                if path.file_name().is_none() || !folder.is_dir() {
                    return Err(EnvFileError::FolderMissing { folder });
                }
                let outside = boundary.and_then(|boundary| leaves(path, path, boundary));
                return Ok(Self { path: own(), real: own(), content: None, outside });
            }
            Err(error) => return Err(EnvFileError::reading(path, error)),
        };
        let real = if link { resolve_link(path)? } else { own() };
        let found = fs::metadata(&real).map_err(|error| EnvFileError::reading(path, error))?;
        if found.is_dir() {
            return Err(EnvFileError::Folder { path: own() });
        }
        if !found.is_file() {
            return Err(EnvFileError::NotAFile { path: own() });
        }
        if found.len() > LIMIT {
            return Err(EnvFileError::TooLarge { path: own(), size: found.len(), limit: LIMIT });
        }
        let content = bounded::read(&real).map_err(|error| EnvFileError::reading(path, error))?;
        if content.contains(&0) || content.starts_with(&[0xff, 0xfe]) || content.starts_with(&[0xfe, 0xff]) {
            return Err(EnvFileError::NotText { path: own() });
        }
        let outside = match boundary {
            Some(boundary) => leaves(path, &real, boundary),
            None if link => leaves(path, &real, &Boundary::of(&folder(path))),
            None => None,
        };
        Ok(Self { path: own(), real, content: Some(content), outside })
    }

    /// The folder in which the file is replaced.
    pub(super) fn folder(&self) -> PathBuf {
        folder(&self.real)
    }

    /// Checks that the file may be replaced, and where it gets a key, that git would not commit it. A remark comes back where
    /// that could not be found out for certain.
    pub(super) fn ensure_replaceable(&mut self, gets_key: bool) -> Result<Option<String>, EnvFileError> {
        if let Some(outside) = self.outside.take() {
            return Err(outside);
        }
        self.ensure_writable()?;
        if !gets_key {
            return Ok(None);
        }
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
    fn ensure_writable(&self) -> Result<(), EnvFileError> {
        use rustix::fs::{Access, access};

        if self.content.is_some() && access(&self.real, Access::WRITE_OK).is_err() {
            return Err(EnvFileError::ReadOnly { path: self.path.clone() });
        }
        let folder = self.folder();
        access(&folder, Access::WRITE_OK | Access::EXEC_OK).map_err(|_| EnvFileError::FolderReadOnly { folder })
    }

    #[cfg(not(unix))]
    fn ensure_writable(&self) -> Result<(), EnvFileError> {
        if fs::metadata(&self.real).is_ok_and(|found| found.permissions().readonly()) {
            return Err(EnvFileError::ReadOnly { path: self.path.clone() });
        }
        Ok(())
    }
}

/// Returns why a file must not be written: it lies outside of the boundary or among the data of a version control system.
fn leaves(path: &Path, real: &Path, boundary: &Boundary) -> Option<EnvFileError> {
    let own = || path.to_owned();
    let parent = match fs::canonicalize(folder(real)) {
        Ok(parent) => parent,
        Err(error) => return Some(EnvFileError::reading(path, error)),
    };
    let whole = real.file_name().map_or_else(|| parent.clone(), |name| parent.join(name));
    if is_metadata(whole.strip_prefix(boundary.root()).unwrap_or(&whole)) || is_inside_git_folder(&parent, boundary.root()) {
        return Some(EnvFileError::RepositoryData { path: own() });
    }
    if boundary.contains(&whole) {
        return None;
    }
    Some(if path == real {
        EnvFileError::OutsideRepository { path: own(), root: boundary.root().to_owned() }
    } else {
        EnvFileError::LinkLeaves { path: own(), target: whole }
    })
}

/// The end of a symbolic link.
fn resolve_link(path: &Path) -> Result<PathBuf, EnvFileError> {
    let own = || path.to_owned();
    fs::canonicalize(path).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => EnvFileError::DanglingLink { path: own() },
        _ if is_loop(&error) => EnvFileError::LoopingLink { path: own() },
        _ => EnvFileError::reading(path, error),
    })
}

#[cfg(unix)]
fn is_loop(error: &io::Error) -> bool {
    error.raw_os_error() == Some(rustix::io::Errno::LOOP.raw_os_error())
}

#[cfg(not(unix))]
fn is_loop(_error: &io::Error) -> bool {
    false
}
