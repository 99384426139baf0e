//! `run/process.json`: which process runs and with what it was started.
//!
//! A record counts only together with the lock and the start time of its process.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::layout::write_private_file;
use super::process_spec::ProcessSpec;
use super::{file_error, process_error};
use crate::model::{Digest, Generation, PortPair};
use crate::provider::ProviderError;

/// The record of a started process. No secrets: they are in the digest only.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProcessRecord {
    /// The shape of this file.
    pub format: String,
    /// The process.
    pub pid: i32,
    /// When the process started, in this system's own format.
    pub started: String,
    /// The executable.
    pub program: PathBuf,
    /// Its SHA-256 where it matters.
    pub program_digest: Option<String>,
    /// The digest of its arguments and variables.
    pub launch: Digest,
    /// The generation that it was started for.
    pub generation: Generation,
    /// Where it listens.
    pub ports: PortPair,
    /// The instance name that it answers with.
    pub instance_name: String,
}

/// How large a record may be in bytes.
const MAX_RECORD_BYTES: u64 = 1 << 20;
const FORMAT: &str = "convexinfra.process/1";

impl ProcessRecord {
    /// Returns the record of this process, which is about to become the backend.
    pub(super) fn for_this_process(launch: &ProcessSpec) -> Result<Self, ProviderError> {
        let pid = i32::try_from(std::process::id()).unwrap_or(-1);
        let started = start_time(pid)?
            .ok_or_else(|| process_error(&launch.program, "identified")(std::io::Error::from(ErrorKind::NotFound)))?;
        Ok(Self {
            format: FORMAT.to_owned(),
            pid,
            started,
            program: launch.program.clone(),
            program_digest: launch.program_digest.clone(),
            launch: launch.digest(),
            generation: launch.generation,
            ports: launch.ports,
            instance_name: launch.instance_name.clone(),
        })
    }

    /// Returns whether a process that runs with this record is what the specification asks for.
    pub fn matches(&self, launch: &ProcessSpec) -> bool {
        self.launch == launch.digest() && self.program_digest == launch.program_digest
    }

    /// Reads the record; none when there is none or when it is not one.
    pub(super) fn read(run: &Path) -> Result<Option<Self>, ProviderError> {
        let path = run.join("process.json");
        match crate::system::read_regular(&path, MAX_RECORD_BYTES).map_err(std::io::Error::from) {
            Ok(text) => Ok(serde_json::from_slice(&text).ok().filter(|record: &Self| record.format == FORMAT)),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(file_error(&path, "read")(error)),
        }
    }

    /// Deletes the record of a process that is about to be stopped: a process that ends is none to be adopted.
    pub(super) fn delete(run: &Path) -> Result<(), ProviderError> {
        let path = run.join("process.json");
        match std::fs::remove_file(&path) {
            Err(error) if error.kind() != ErrorKind::NotFound => Err(file_error(&path, "deleted")(error)),
            _ => Ok(()),
        }
    }

    /// Writes the record, whole or not at all.
    pub(super) fn write(&self, run: &Path) -> Result<(), ProviderError> {
        let path = run.join("process.json");
        let text = serde_json::to_vec_pretty(self).map_err(std::io::Error::from).map_err(file_error(&path, "written"))?;
        write_private_file(&path, &text)
    }
}

/// Returns when a process started; none when there is no such process. Two processes with one pid differ in this.
#[cfg(target_os = "linux")]
pub fn start_time(pid: i32) -> Result<Option<String>, ProviderError> {
    let path = PathBuf::from(format!("/proc/{pid}/stat"));
    let text = match crate::system::read_regular_text(&path, MAX_RECORD_BYTES).map_err(std::io::Error::from) {
        Ok(text) => text,
        // ESRCH: the process ended between open and read.
        Err(error) if error.kind() == ErrorKind::NotFound || error.raw_os_error() == Some(3) => return Ok(None),
        Err(error) => return Err(file_error(&path, "read")(error)),
    };
    // The second field is the program's name in parentheses, which may contain anything; the state is the third and
    // the start the 22nd.
    let fields = || text.rsplit_once(')').map(|(_, rest)| rest.split_ascii_whitespace());
    // A zombie does not run any more. In a container without an init it would otherwise count as alive for ever.
    if fields().and_then(|mut fields| fields.next()).is_some_and(|state| matches!(state, "Z" | "X")) {
        return Ok(None);
    }
    let start = fields().and_then(|mut fields| fields.nth(19));
    start
        .map(|ticks| Some(format!("ticks {ticks}")))
        .ok_or_else(|| file_error(&path, "understood")(std::io::Error::from(ErrorKind::InvalidData)))
}

/// Returns when a process started; none when there is no such process. Two processes with one pid differ in this.
#[cfg(not(target_os = "linux"))]
pub fn start_time(pid: i32) -> Result<Option<String>, ProviderError> {
    let output = crate::system::command("/bin/ps")
        .args(["-o", "stat=", "-o", "lstart=", "-p", &pid.to_string()])
        .env("TZ", "UTC")
        .env("LC_ALL", "C")
        .output()
        .map_err(process_error(Path::new("/bin/ps"), "started"))?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    // A zombie does not run any more.
    let start =
        text.trim().split_once(' ').filter(|(state, _)| !state.starts_with('Z')).map(|(_, start)| start.trim().to_owned());
    Ok(start.filter(|start| !start.is_empty()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_has_a_start_and_no_process_has_none() {
        let own = i32::try_from(std::process::id()).unwrap();
        assert_eq!(start_time(own).unwrap(), start_time(own).unwrap());
        assert!(start_time(own).unwrap().is_some());
        assert_eq!(start_time(i32::MAX).unwrap(), None);
    }
}
