//! An advisory file lock: one command at a time changes a backend of this machine.
//!
//! The backend's own lock already rules out a second process; this lock keeps two commands from stopping and
//! starting it in turns. It is a `flock`, which also tells two tasks of one process apart, is not inherited by children,
//! and ends with its command.

use std::fs::File;
use std::io::ErrorKind;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, flock};

use super::{POLL_INTERVAL, file_error};
use crate::provider::ProviderError;

/// A file lock, held until dropped.
#[derive(Debug)]
pub(in crate::provider) struct FileLock {
    path: PathBuf,
    _file: File,
}

impl FileLock {
    /// Acquires the lock; none when it is not free in time.
    pub(in crate::provider) async fn acquire(path: &Path, within: Duration) -> Result<Option<Self>, ProviderError> {
        let deadline = Instant::now() + within;
        loop {
            if let Some(lock) = Self::try_acquire(path)? {
                return Ok(Some(lock));
            }
            if Instant::now() >= deadline {
                return Ok(None);
            }
            tokio::time::sleep(POLL_INTERVAL).await;
        }
    }

    fn try_acquire(path: &Path) -> Result<Option<Self>, ProviderError> {
        let file = std::fs::OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(path)
            .map_err(file_error(path, "opened"))?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) if is_at_path(&file, path)? => Ok(Some(Self { path: path.to_owned(), _file: file })),
            // The previous holder removed the file when it was done, so this lock is of a file that no path names.
            Ok(()) | Err(rustix::io::Errno::WOULDBLOCK | rustix::io::Errno::INTR) => Ok(None),
            Err(error) => Err(file_error(path, "locked")(error.into())),
        }
    }

    /// Releases the lock and removes its file, for a backend that is gone.
    pub(in crate::provider) fn release_and_remove(self) -> Result<(), ProviderError> {
        match std::fs::remove_file(&self.path) {
            Err(error) if error.kind() != ErrorKind::NotFound => Err(file_error(&self.path, "removed")(error)),
            _ => Ok(()),
        }
    }
}

/// Returns whether an open file is still the one that its path names.
pub(super) fn is_at_path(file: &File, path: &Path) -> Result<bool, ProviderError> {
    let own = file.metadata().map_err(file_error(path, "read"))?;
    match std::fs::metadata(path) {
        Ok(named) => Ok((own.dev(), own.ino()) == (named.dev(), named.ino())),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
        Err(error) => Err(file_error(path, "read")(error)),
    }
}
