//! Probes which process is a backend: by the lock it holds, its record and its start time, never by a pid alone.

use std::fs::File;
use std::io::ErrorKind;
use std::time::{Duration, Instant};

use rustix::process::{Flock, FlockType, Pid};

use super::layout::BackendDir;
use super::process_record::{self, ProcessRecord};
use super::{POLL_INTERVAL, file_error};
use crate::provider::ProviderError;

/// The process that holds a backend's lock at this moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LockHolder(pub Pid);

/// The state of a backend's process.
#[derive(Debug, Clone)]
pub enum ProcessState {
    /// There is none.
    NotRunning,
    /// It runs, and this is its record.
    Running(LockHolder, ProcessRecord),
    /// It runs, for it holds the lock, but its record is missing, unreadable or of another process.
    Unrecorded(LockHolder),
}

/// How long a process may hold the lock before its record has to be there.
const RECORD_DEADLINE: Duration = Duration::from_secs(1);

/// Returns the holder of the backend's lock, as the kernel names it.
pub(super) fn lock_holder(place: &BackendDir) -> Result<Option<LockHolder>, ProviderError> {
    let path = place.run_dir().join("lock");
    let file = match File::open(&path) {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(file_error(&path, "read")(error)),
    };
    let lock = rustix::process::fcntl_getlk(&file, &Flock::from(FlockType::WriteLock))
        .map_err(std::io::Error::from)
        .map_err(file_error(&path, "looked up"))?;
    match lock {
        None => Ok(None),
        Some(Flock { pid: Some(pid), .. }) => Ok(Some(LockHolder(pid))),
        Some(Flock { pid: None, .. }) => Err(ProviderError::Unreachable(format!(
            "`{}` is held by a process of another container or machine, so convexinfra cannot tell which",
            path.display()
        ))),
    }
}

/// Probes a backend's process. Waits a moment for the record of a process that is just starting.
///
/// # Errors
/// [`ProviderError`] when the probe itself fails.
pub async fn probe(place: &BackendDir) -> Result<ProcessState, ProviderError> {
    let deadline = Instant::now() + RECORD_DEADLINE;
    loop {
        let Some(holder) = lock_holder(place)? else { return Ok(ProcessState::NotRunning) };
        let pid = holder.0.as_raw_nonzero().get();
        if let Some(record) = ProcessRecord::read(&place.run_dir())?
            && record.pid == pid
            && process_record::start_time(pid)?.is_some_and(|started| started == record.started)
        {
            return Ok(ProcessState::Running(holder, record));
        }
        if Instant::now() >= deadline {
            return Ok(ProcessState::Unrecorded(holder));
        }
        tokio::time::sleep(POLL_INTERVAL).await;
    }
}
