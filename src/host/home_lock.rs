//! Who writes in a home: any number of commands, or one server.
//!
//! A server carries operations out by itself and takes them up again when it starts, so no other process may do the same to
//! the same rows. The first server makes a file here; from then on commands share a lock on it and a server has it
//! alone. The system gives the lock back when its process ends, however it ends.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{ErrorKind, Read, Seek, Write};

use super::home::{Home, HomeError};
use crate::api::ControlError;
use crate::model::Diagnostic;

/// How the occupant of a home is named while its master key is rotated.
pub(super) const ROTATION: &str = "the rotation of its master key";

/// The right to write in a home, for as long as this is kept.
pub(super) struct HomeLock {
    _file: Option<File>,
}

/// Says whether a server was here before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum LockFile {
    /// This is the first one: commands that write here now have taken no lock.
    Created,
    /// Every writer of this home has taken a lock.
    Existing,
}

impl Home {
    fn lock_failed(&self, verb: &'static str, source: std::io::Error) -> HomeError {
        HomeError::Directory { path: self.lock_path().display().to_string(), verb, source }
    }

    /// Writes here beside other commands.
    pub(super) fn lock_shared(&self) -> Result<HomeLock, ControlError> {
        let mut file = match File::open(self.lock_path()) {
            Ok(file) => file,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(HomeLock { _file: None }),
            Err(error) => return Err(self.lock_failed("read", error).into()),
        };
        if !is_acquired(file.try_lock_shared()).map_err(|error| self.lock_failed("locked", error))? {
            let mut who = String::new();
            let _ = file.read_to_string(&mut who);
            if one_line(&who) == ROTATION {
                return Err(home_in_use("the master key of this home is being rotated"));
            }
            let message = format!("this home is served at {}, so only that server writes in it", one_line(&who));
            let help =
                "name the server with `--control-plane URL`, or in the manifest with\n    [control_plane]\n    url = \"…\"";
            return Err(ControlError::Refused(Diagnostic::new("home.served", message).with_help(help)));
        }
        Ok(HomeLock { _file: Some(file) })
    }

    /// Writes here alone, and leaves word of who does.
    pub(super) fn lock_exclusive(&self, who: &str) -> Result<(HomeLock, LockFile), ControlError> {
        let mut options = OpenOptions::new();
        options.read(true).write(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        let (mut file, precedence) = match options.clone().create_new(true).open(self.lock_path()) {
            Ok(file) => (file, LockFile::Created),
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {
                let file = options.open(self.lock_path()).map_err(|error| self.lock_failed("opened", error))?;
                (file, LockFile::Existing)
            }
            Err(error) => return Err(self.lock_failed("created", error).into()),
        };
        if !is_acquired(file.try_lock()).map_err(|error| self.lock_failed("locked", error))? {
            return Err(home_in_use("another server or a command is writing in this home"));
        }
        let written = file.set_len(0).and_then(|()| file.rewind()).and_then(|()| writeln!(file, "{who}"));
        written.map_err(|error| self.lock_failed("written", error))?;
        Ok((HomeLock { _file: Some(file) }, precedence))
    }
}

/// Another process writes here now.
pub(super) fn home_in_use(message: &str) -> ControlError {
    let help = "wait until it is done, or name another home with `--home PATH`";
    ControlError::Refused(Diagnostic::new("home.occupied", message).with_help(help))
}

/// Returns whether a lock was acquired. Only a lock held by another process is a no.
fn is_acquired(result: Result<(), TryLockError>) -> std::io::Result<bool> {
    match result {
        Ok(()) => Ok(true),
        Err(TryLockError::WouldBlock) => Ok(false),
        Err(TryLockError::Error(error)) => Err(error),
    }
}

fn one_line(text: &str) -> &str {
    text.lines().next().filter(|line| !line.is_empty()).unwrap_or("an address of its own")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_that_cannot_be_acquired_is_not_held_by_another() {
        assert!(is_acquired(Ok(())).unwrap());
        assert!(!is_acquired(Err(TryLockError::WouldBlock)).unwrap());
        let error = is_acquired(Err(TryLockError::Error(ErrorKind::Unsupported.into()))).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsupported);
    }
}
