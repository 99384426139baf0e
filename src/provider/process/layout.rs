//! The directory layout of one backend, and how it is created, set aside and removed as a whole.

use std::io::{ErrorKind, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use super::file_error;
use crate::failpoint;
use crate::model::BackendId;
use crate::provider::ProviderError;

/// The directory of a home for what no record knows any more.
pub(super) const ASIDE: &str = "forgotten";
/// The directory of a home for the directories of its backends.
pub(super) const BACKENDS: &str = "backends";

/// The directory of one backend: `<home>/backends/<id>/` with `data/`, `run/` and `log/`.
#[derive(Debug, Clone)]
pub struct BackendDir {
    backends: PathBuf,
    name: String,
    root: PathBuf,
    aside: PathBuf,
}

impl BackendDir {
    /// Returns the directory of a backend. Nothing is touched.
    ///
    /// # Errors
    /// [`ProviderError::Unsupported`] when the id cannot be the name of a directory.
    pub fn new(home: &Path, id: &BackendId) -> Result<Self, ProviderError> {
        let name = id.as_str();
        let plain = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
        if name.is_empty() || name.len() > 128 || !name.chars().all(plain) {
            return Err(ProviderError::Unsupported(format!("`{name}` cannot be the name of a backend's directory")));
        }
        let backends = home.join(BACKENDS);
        let aside = home.join(ASIDE).join(name);
        Ok(Self { root: backends.join(name), backends, name: name.to_owned(), aside })
    }

    /// The directory itself.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Its data.
    pub fn data(&self) -> PathBuf {
        self.root.join("data")
    }

    /// Its SQLite file.
    pub fn database(&self) -> PathBuf {
        self.data().join("db.sqlite3")
    }

    /// Its files.
    pub fn storage(&self) -> PathBuf {
        self.data().join("storage")
    }

    /// The directory with lock and record of its process.
    pub fn run_dir(&self) -> PathBuf {
        self.root.join("run")
    }

    /// Its log.
    pub fn log_path(&self) -> PathBuf {
        self.root.join("log").join("backend.log")
    }

    /// The file whose lock makes a command the only one that changes this backend.
    pub(super) fn lock_path(&self) -> PathBuf {
        self.backends.join(format!("{}.turn", self.name))
    }

    /// Creates the directory that holds the directories of all backends.
    ///
    /// # Errors
    /// [`ProviderError::File`] when that is not possible.
    pub fn create_parent(&self) -> Result<(), ProviderError> {
        create_directory(&self.backends)
    }

    /// Creates every directory that is missing.
    ///
    /// # Errors
    /// [`ProviderError::File`] when that is not possible.
    pub fn create(&self) -> Result<(), ProviderError> {
        for directory in [self.data(), self.run_dir(), self.root.join("log")] {
            create_directory(&directory)?;
        }
        failpoint::hit("provider.process.directories_made");
        Ok(())
    }

    /// Returns whether there is a directory for this backend.
    ///
    /// # Errors
    /// [`ProviderError::File`] when that cannot be told.
    pub fn exists(&self) -> Result<bool, ProviderError> {
        exists(&self.root)
    }

    /// Renames the directory so that it is no backend any more; none when there is no directory.
    pub(super) fn move_to_trash(&self) -> Result<Option<BackendDir>, ProviderError> {
        if !self.exists()? {
            return Ok(None);
        }
        for number in 0_u32.. {
            let name = format!("{}{number}", self.trash_prefix());
            let tombstone = self.backends.join(&name);
            if exists(&tombstone)? {
                continue;
            }
            match std::fs::rename(&self.root, &tombstone) {
                Ok(()) => {
                    failpoint::hit("provider.process.directory_renamed");
                    return Ok(Some(self.renamed(tombstone, name)));
                }
                Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
                Err(error) => return Err(file_error(&self.root, "removed")(error)),
            }
        }
        Ok(None)
    }

    /// Returns what earlier removals of this backend have left.
    pub(super) fn trashed(&self) -> Result<Vec<BackendDir>, ProviderError> {
        let entries = match std::fs::read_dir(&self.backends) {
            Ok(entries) => entries,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(file_error(&self.backends, "read")(error)),
        };
        let prefix = self.trash_prefix();
        let mut found = Vec::new();
        for entry in entries {
            let entry = entry.map_err(file_error(&self.backends, "read"))?;
            if let Some(name) = entry.file_name().to_str().filter(|name| name.starts_with(&prefix)) {
                found.push(self.renamed(entry.path(), name.to_owned()));
            }
        }
        Ok(found)
    }

    /// Deletes the directory with everything in it: data first, so that what is left last is not data.
    pub(super) fn delete(&self) -> Result<(), ProviderError> {
        delete_directory(&self.data())?;
        failpoint::hit("provider.process.data_removed");
        delete_directory(&self.root)?;
        failpoint::hit("provider.process.directory_removed");
        Ok(())
    }

    /// Deletes what belongs to the process and not to the data.
    pub(super) fn delete_all_but_data(&self) -> Result<(), ProviderError> {
        delete_directory(&self.run_dir())?;
        delete_directory(&self.root.join("log"))?;
        failpoint::hit("provider.process.data_retained");
        Ok(())
    }

    fn renamed(&self, root: PathBuf, name: String) -> Self {
        Self { root, name, backends: self.backends.clone(), aside: self.aside.clone() }
    }

    /// Where it lies while no record knows it.
    pub(super) fn aside(&self) -> &Path {
        &self.aside
    }

    /// Returns whether it lies where no record looks for it, though one may know it.
    pub(super) fn is_set_aside(&self) -> Result<bool, ProviderError> {
        Ok(!self.exists()? && exists(&self.aside)?)
    }

    /// Moves the directory to where no record of this home looks for a backend.
    pub(super) fn move_aside(&self) -> Result<(), ProviderError> {
        if let Some(parent) = self.aside.parent() {
            create_directory(parent)?;
        }
        std::fs::rename(&self.root, &self.aside).map_err(file_error(&self.root, "set aside"))?;
        failpoint::hit("provider.process.set_aside");
        Ok(())
    }

    /// Moves the directory back, where it was set aside.
    pub(super) fn take_back(&self) -> Result<(), ProviderError> {
        if !self.is_set_aside()? {
            return Ok(());
        }
        self.create_parent()?;
        std::fs::rename(&self.aside, &self.root).map_err(file_error(&self.aside, "taken back"))?;
        failpoint::hit("provider.process.taken_back");
        Ok(())
    }

    // No id starts with a dot, so no tombstone is ever mistaken for a backend.
    fn trash_prefix(&self) -> String {
        format!(".removed-{}.", self.name)
    }
}

/// Creates a directory of mode 0700 with its parents, and takes an existing one away from group and others: what is
/// executed or kept there must not be replaced by other users.
pub(in crate::provider) fn create_private_directory(directory: &Path) -> Result<(), ProviderError> {
    create_directory(directory)?;
    let mode = std::fs::metadata(directory).map_err(file_error(directory, "read"))?.permissions().mode();
    if mode & 0o077 != 0 {
        std::fs::set_permissions(directory, std::fs::Permissions::from_mode(0o700))
            .map_err(file_error(directory, "made private"))?;
    }
    Ok(())
}

fn create_directory(directory: &Path) -> Result<(), ProviderError> {
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(directory).map_err(file_error(directory, "created"))
}

/// Writes a file of mode 0600 as a whole, over what was there.
pub(super) fn write_private_file(path: &Path, content: &[u8]) -> Result<(), ProviderError> {
    // One name for all attempts: what a killed one left is written over. The backend's lock keeps others away.
    let mut fresh = path.as_os_str().to_owned();
    fresh.push(".new");
    std::fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&fresh)
        .and_then(|mut file| file.write_all(content))
        .and_then(|()| std::fs::rename(&fresh, path))
        .map_err(file_error(path, "written"))
}

fn delete_directory(directory: &Path) -> Result<(), ProviderError> {
    match std::fs::remove_dir_all(directory) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(file_error(directory, "removed")(error)),
        _ => Ok(()),
    }
}

/// Returns whether a path exists. A failed lookup is an error, never "absent".
pub(super) fn exists(path: &Path) -> Result<bool, ProviderError> {
    path.try_exists().map_err(file_error(path, "looked up"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_never_leaves_the_home() {
        for id in ["", "..", "a/b", ".removed-x.0", "a.turn"] {
            assert!(BackendDir::new(Path::new("/home"), &BackendId::new(id)).is_err(), "{id}");
        }
        let place = BackendDir::new(Path::new("/home"), &BackendId::new("b-1")).unwrap();
        assert_eq!(place.database(), Path::new("/home/backends/b-1/data/db.sqlite3"));
    }
}
