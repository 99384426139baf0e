//! The hidden sub-command `detach`: daemonizes, takes the backend's lock, writes its record, and then becomes the backend.
//!
//! It runs no threads, because a record lock of a process with several may not survive `exec`. It makes no directories:
//! where there are none, the backend has been removed in the meantime.

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
use crate::model::{Generation, PortPair, Secret};
use crate::provider::ProviderError;

/// The exit code when a process of this backend is already running.
pub(super) const ALREADY_RUNNING: u8 = 75;
/// What is on stderr once the last step before the backend's own code is done.
pub(super) const STARTED: &str = "started\n";
/// The exit code of every other failure.
const FAILED: u8 = 74;

/// Variables of ours that every backend inherits: what programs need to find their way on this machine, and nothing that
/// changes what a backend does.
const INHERITED_VARIABLES: [&str; 11] =
    ["PATH", "HOME", "TMPDIR", "LANG", "LC_ALL", "TZ", "USER", "LOGNAME", "SSL_CERT_FILE", "SSL_CERT_DIR", "NVM_DIR"];

/// What the daemonizer reads from stdin: a process with its secrets in clear, and where it runs.
#[derive(Serialize, Deserialize)]
struct DaemonizeRequest<Text, Map> {
    program: PathBuf,
    program_digest: Option<String>,
    arguments: Vec<Text>,
    environment: Map,
    instance_name: String,
    generation: Generation,
    ports: PortPair,
    directory: PathBuf,
    log: PathBuf,
}

/// Serializes the request for a process. The text contains its secrets.
pub(super) fn request(spec: &ProcessSpec, directory: PathBuf, log: PathBuf) -> std::io::Result<Zeroizing<Vec<u8>>> {
    let request = DaemonizeRequest {
        program: spec.program.clone(),
        program_digest: spec.program_digest.clone(),
        arguments: spec.exposed_arguments(),
        environment: spec.exposed_environment(),
        instance_name: spec.instance_name.clone(),
        generation: spec.generation,
        ports: spec.ports,
        directory,
        log,
    };
    Ok(Zeroizing::new(serde_json::to_vec(&request)?))
}

/// Becomes the backend that the request on stdin describes. Returns only when that fails: the exit code.
pub fn daemonize_main(run: &Path) -> u8 {
    // Our stderr is the log as soon as `exec` is tried, so failures are reported through a copy that `exec` closes.
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
    // A shell may have left descriptors open in us, such as the lock of `flock 9`. The backend lives for months, and
    // would hold each of them for as long.
    close_fds::set_fds_cloexec(3, &[]);
    let (spec, directory, log_path) = read_request(run)?;
    rustix::process::setsid().map_err(std::io::Error::from).map_err(process_error(&spec.program, "detached"))?;
    rustix::process::umask(Mode::RWXG | Mode::RWXO);

    let lock = acquire_lock(run)?;
    let log = open_log(&log_path)?;
    failpoint::hit("provider.process.log_opened");
    ProcessRecord::for_this_process(&spec)?.write(run)?;
    failpoint::hit("provider.process.record_written");

    let mut command = Command::new(&spec.program);
    command
        .args(spec.exposed_arguments())
        .env_clear()
        .envs(inherited_environment())
        .envs(spec.exposed_environment())
        .current_dir(&directory)
        .stdin(Stdio::null())
        .stdout(log.try_clone().map_err(file_error(&log_path, "opened"))?)
        .stderr(log);
    // From here on the lock belongs to the program that this process becomes.
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
    Err(DaemonizeError::Provider(process_error(&spec.program, "started")(error)))
}

fn read_request(run: &Path) -> Result<(ProcessSpec, PathBuf, PathBuf), ProviderError> {
    let mut text = Zeroizing::new(Vec::new());
    let request: DaemonizeRequest<String, BTreeMap<String, String>> = std::io::stdin()
        .lock()
        .read_to_end(&mut text)
        .and_then(|_| serde_json::from_slice(&text).map_err(std::io::Error::from))
        .map_err(file_error(run, "read as a launch request"))?;
    let spec = ProcessSpec {
        program: request.program,
        program_digest: request.program_digest,
        arguments: request.arguments.into_iter().map(Secret::new).collect(),
        environment: request.environment.into_iter().map(|(name, value)| (name, Secret::new(value))).collect(),
        instance_name: request.instance_name,
        generation: request.generation,
        ports: request.ports,
        files: BTreeMap::new(),
    };
    Ok((spec, request.directory, request.log))
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
    // A removal first renames the backend's directory and then looks for a holder of the lock in it. So either we see the
    // rename here, or the removal sees us.
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
