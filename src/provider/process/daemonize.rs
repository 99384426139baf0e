//! The hidden sub-command `detach`: a process of its own session that takes the backend's lock, writes its record
//! and then becomes the backend.
//!
//! Must not do: run threads (a record lock of a process with several may not survive `exec`), take secrets from
//! its arguments, or make directories: where there are none, the backend has been removed meanwhile.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::File;
use std::io::{Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use rustix::fs::{FlockOperation, Mode};
use rustix::io::FdFlags;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::process_record::ProcessRecord;
use super::process_spec::ProcessSpec;
use super::{file_error, lock, process_error};
use crate::failpoint;
use crate::provider::ProviderError;

/// The exit code that says: a process of this backend is already there.
pub(super) const ALREADY_RUNNING: u8 = 75;
/// What stands on stderr when the last thing before the backend's own code has been done.
pub(super) const STARTED: &str = "started\n";
/// The exit code of everything else that goes wrong.
const FAILED: u8 = 74;

/// What the detacher reads from stdin.
#[derive(Serialize, Deserialize)]
pub(super) struct DaemonizeRequest {
    pub(super) launch: ProcessSpec,
    pub(super) directory: PathBuf,
    pub(super) log: PathBuf,
}

/// Variables of ours that every backend gets: what programs need to find their way on this machine, and nothing
/// that changes what a backend does.
const INHERITED_VARIABLES: [&str; 11] =
    ["PATH", "HOME", "TMPDIR", "LANG", "LC_ALL", "TZ", "USER", "LOGNAME", "SSL_CERT_FILE", "SSL_CERT_DIR", "NVM_DIR"];

/// Becomes the backend whose description stands on stdin. Returns only when that fails: the exit code.
pub fn daemonize_main(run: &Path) -> u8 {
    // Our stderr is the log as soon as `exec` is tried, so what goes wrong is told through a copy that `exec` closes.
    let Ok(report) = rustix::io::fcntl_dupfd_cloexec(std::io::stderr(), 3) else { return FAILED };
    let mut report = File::from(report);
    match exec_backend(run, &mut report) {
        Ok(never) => match never {},
        Err(DaemonizeError::AlreadyRunning) => ALREADY_RUNNING,
        Err(DaemonizeError::Provider(error)) => {
            let mut text = error.to_string();
            if let Some(source) = std::error::Error::source(&error) {
                text.push_str(&format!(": {source}"));
            }
            let _ = report.write_all(text.as_bytes());
            FAILED
        }
    }
}

enum DaemonizeError {
    AlreadyRunning,
    Provider(ProviderError),
}

impl From<ProviderError> for DaemonizeError {
    fn from(error: ProviderError) -> Self {
        Self::Provider(error)
    }
}

fn exec_backend(run: &Path, report: &mut File) -> Result<std::convert::Infallible, DaemonizeError> {
    let description = read_request(run)?;
    let launch = &description.launch;
    rustix::process::setsid().map_err(std::io::Error::from).map_err(process_error(&launch.program, "detached"))?;
    rustix::process::umask(Mode::RWXG | Mode::RWXO);

    let lock = acquire_lock(run)?;
    let log = open_log(&description.log)?;
    failpoint::hit("provider.process.log_opened");
    ProcessRecord::for_this_process(launch)?.write(run)?;
    failpoint::hit("provider.process.record_written");

    let mut command = Command::new(&launch.program);
    command
        .args(&launch.arguments)
        .env_clear()
        .envs(inherited_environment())
        .envs(&launch.environment)
        .current_dir(&description.directory)
        .stdin(Stdio::null())
        .stdout(log.try_clone().map_err(file_error(&description.log, "opened"))?)
        .stderr(log);
    // From here on the lock is for whatever this process becomes.
    rustix::io::fcntl_setfd(&lock, FdFlags::empty())
        .map_err(std::io::Error::from)
        .map_err(file_error(&run.join("lock"), "inherited"))?;
    let _ = report.write_all(STARTED.as_bytes());
    let mut error = command.exec();
    // A file that was written a moment ago may still be open in a child that another thread just forked.
    for _ in 0..40 {
        if error.kind() != std::io::ErrorKind::ExecutableFileBusy {
            break;
        }
        std::thread::sleep(Duration::from_millis(25));
        error = command.exec();
    }
    Err(DaemonizeError::Provider(process_error(&launch.program, "started")(error)))
}

fn read_request(run: &Path) -> Result<DaemonizeRequest, ProviderError> {
    let mut text = Zeroizing::new(Vec::new());
    std::io::stdin()
        .lock()
        .read_to_end(&mut text)
        .and_then(|_| serde_json::from_slice(&text).map_err(std::io::Error::from))
        .map_err(file_error(run, "read as a launch description"))
}

fn acquire_lock(run: &Path) -> Result<File, DaemonizeError> {
    let path = run.join("lock");
    let lock = std::fs::OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(&path)
        .map_err(file_error(&path, "opened"))?;
    match rustix::fs::fcntl_lock(&lock, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => {}
        Err(rustix::io::Errno::AGAIN | rustix::io::Errno::ACCESS) => return Err(DaemonizeError::AlreadyRunning),
        Err(error) => return Err(DaemonizeError::Provider(file_error(&path, "locked")(error.into()))),
    }
    // Whoever removes a backend first renames its directory and then looks for a holder of the lock in it. So
    // either we see the rename here, or we are seen there.
    if lock::is_at_path(&lock, &path)? {
        Ok(lock)
    } else {
        Err(DaemonizeError::Provider(file_error(&path, "locked")(std::io::ErrorKind::NotFound.into())))
    }
}

fn open_log(path: &Path) -> Result<File, ProviderError> {
    std::fs::OpenOptions::new().create(true).append(true).mode(0o600).open(path).map_err(file_error(path, "opened"))
}

fn inherited_environment() -> BTreeMap<&'static str, OsString> {
    INHERITED_VARIABLES.into_iter().filter_map(|name| Some((name, std::env::var_os(name)?))).collect()
}
