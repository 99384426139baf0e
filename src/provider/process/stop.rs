//! Stops a backend's process. Only the process that holds the lock at that moment is signalled.

use std::path::Path;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal};

use super::layout::BackendDir;
use super::probe::{LockHolder, lock_holder};
use super::process_record::ProcessRecord;
use super::{POLL_INTERVAL, process_error};
use crate::failpoint;
use crate::provider::ProviderError;

/// How long a process that was killed may take to be gone (a kernel busy with its memory or a slow disk).
const KILL_TIMEOUT: Duration = Duration::from_secs(10);

/// Stops the holder of the lock: SIGINT, the only signal on which Convex ends in order, and SIGKILL after `grace`.
pub(super) async fn stop(place: &BackendDir, grace: Duration) -> Result<(), ProviderError> {
    let Some(found) = lock_holder(place)? else { return Ok(()) };
    // A command that is killed below leaves a process that ends soon, which the next command must not take for a running one.
    ProcessRecord::delete(&place.run_dir())?;
    signal(place, found, Signal::INT)?;
    // A suspended process receives its SIGINT only when it continues.
    signal(place, found, Signal::CONT)?;
    failpoint::hit("provider.process.stop_signalled");
    if !wait_until_gone(place, found, grace).await? {
        signal(place, found, Signal::KILL)?;
        if !wait_until_gone(place, found, KILL_TIMEOUT).await? {
            return Err(ProviderError::WillNotStop { pid: found.0.as_raw_nonzero().get() });
        }
    }
    failpoint::hit("provider.process.stopped");
    Ok(())
}

async fn wait_until_gone(place: &BackendDir, found: LockHolder, within: Duration) -> Result<bool, ProviderError> {
    let deadline = Instant::now() + within;
    loop {
        if lock_holder(place)? != Some(found) {
            return Ok(true);
        }
        if Instant::now() >= deadline {
            return Ok(false);
        }
        tokio::time::sleep(POLL_INTERVAL).await;
    }
}

fn signal(place: &BackendDir, found: LockHolder, signal: Signal) -> Result<(), ProviderError> {
    match send(place, found.0, signal)? {
        Ok(()) | Err(rustix::io::Errno::SRCH) => Ok(()),
        Err(error) => Err(process_error(Path::new(&found.0.to_string()), "signalled")(error.into())),
    }
}

type SignalResult = Result<(), rustix::io::Errno>;

/// Signals a process through a descriptor, which pins it: between the check of the lock and the signal, its pid cannot pass on.
#[cfg(target_os = "linux")]
fn send(place: &BackendDir, pid: Pid, signal: Signal) -> Result<SignalResult, ProviderError> {
    use rustix::process::{PidfdFlags, pidfd_open, pidfd_send_signal};
    let process = match pidfd_open(pid, PidfdFlags::empty()) {
        Ok(process) => process,
        // Old kernels and strict sandboxes have no such descriptors.
        Err(rustix::io::Errno::NOSYS | rustix::io::Errno::PERM) => return send_by_pid(place, pid, signal),
        Err(error) => return Ok(Err(error)),
    };
    if lock_holder(place)? != Some(LockHolder(pid)) {
        return Ok(Err(rustix::io::Errno::SRCH));
    }
    Ok(pidfd_send_signal(process, signal))
}

#[cfg(not(target_os = "linux"))]
fn send(place: &BackendDir, pid: Pid, signal: Signal) -> Result<SignalResult, ProviderError> {
    send_by_pid(place, pid, signal)
}

fn send_by_pid(place: &BackendDir, pid: Pid, signal: Signal) -> Result<SignalResult, ProviderError> {
    if lock_holder(place)? != Some(LockHolder(pid)) {
        return Ok(Err(rustix::io::Errno::SRCH));
    }
    Ok(rustix::process::kill_process(pid, signal))
}
