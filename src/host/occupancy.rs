//! Who writes in a home: any number of commands, or one server.
//!
//! A server carries operations out by itself and takes them up again when it starts, so nobody else may do the same to
//! the same rows. Commands share a lock on one file, a server has it alone; the system gives it back when its process
//! ends, however it ends.
//!
//! Must not do: wait for anybody, or keep anybody from reading.

use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, Write};

use super::home::{Home, HomeError};
use crate::control::ControlError;
use crate::model::Finding;

/// The right to write in a home, for as long as this is kept.
pub(super) struct Occupancy {
    _file: File,
}

impl Home {
    fn occupancy_file(&self) -> Result<File, HomeError> {
        let path = self.occupancy_path();
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        options.open(&path).map_err(|source| HomeError::Directory { path: path.display().to_string(), verb: "opened", source })
    }

    /// Writes here beside other commands.
    pub(super) fn share(&self) -> Result<Occupancy, ControlError> {
        let mut file = self.occupancy_file()?;
        if file.try_lock_shared().is_err() {
            let mut who = String::new();
            let _ = file.read_to_string(&mut who);
            let message = format!("this home is served at {}, so only that server writes in it", one_line(&who));
            let help =
                "name the server with `--control-plane URL`, or in the manifest with\n    [control_plane]\n    url = \"…\"";
            return Err(ControlError::Refused(Finding::new("home.served", message).with_help(help)));
        }
        Ok(Occupancy { _file: file })
    }

    /// Writes here alone, and leaves word of who does.
    pub(super) fn occupy(&self, who: &str) -> Result<Occupancy, ControlError> {
        let mut file = self.occupancy_file()?;
        if file.try_lock().is_err() {
            let message = "another server or an apply is writing in this home";
            let help = "wait until it is done, or give this server a home of its own with `--home PATH`";
            return Err(ControlError::Refused(Finding::new("home.occupied", message).with_help(help)));
        }
        let written = file.set_len(0).and_then(|()| file.rewind()).and_then(|()| writeln!(file, "{who}"));
        written.map_err(|source| HomeError::Directory {
            path: self.occupancy_path().display().to_string(),
            verb: "written",
            source,
        })?;
        Ok(Occupancy { _file: file })
    }
}

fn one_line(text: &str) -> &str {
    text.lines().next().filter(|line| !line.is_empty()).unwrap_or("an address of its own")
}
