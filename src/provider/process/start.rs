//! Starts a backend's process through the daemonizer. Its secrets travel over a pipe, never as arguments or variables of ours.

use std::path::Path;
use std::process::{ExitStatus, Stdio};
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::process::{Child, Command};

use super::daemonize::{self, ALREADY_RUNNING, STARTED};
use super::layout::BackendDir;
use super::process_spec::ProcessSpec;
use super::{POLL_INTERVAL, log, port, process_error};
use crate::failpoint;
use crate::provider::kit::log_text;
use crate::provider::{LogPosition, ProviderError};

/// The outcome of a start.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum StartOutcome {
    /// The process runs.
    Running,
    /// Another process of this backend was there first.
    AlreadyRunning,
}

/// How long the daemonizer may take until it becomes the backend. macOS checks a new executable for seconds.
const DAEMONIZE_TIMEOUT: Duration = Duration::from_secs(60);
/// How long a process that does not listen yet is watched for an early end.
const STARTUP_WATCH: Duration = Duration::from_millis(1500);
const LAST_LINES: usize = 20;

/// Starts the process of a backend. Returns when it listens, or when it has run for a moment without ending.
pub(super) async fn start(place: &BackendDir, executable: &Path, launch: &ProcessSpec) -> Result<StartOutcome, ProviderError> {
    log::rotate(&place.log_path(), log::LogWriter::None)?;
    let log_start = log::size(&place.log_path())?;
    let mut child = Command::from(crate::system::command(executable))
        .arg(super::DAEMONIZE_COMMAND)
        .arg(place.run_dir())
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(process_error(executable, "started"))?;
    failpoint::hit("provider.process.detacher_spawned");

    let said = tokio::time::timeout(DAEMONIZE_TIMEOUT, send_request(&mut child, place, executable, launch)).await;
    let said = match said {
        Ok(said) => said?,
        Err(_) => {
            let _ = child.start_kill();
            return Err(process_error(executable, "detached")(std::io::ErrorKind::TimedOut.into()));
        }
    };
    if said != STARTED {
        let status = child.wait().await.map_err(process_error(executable, "started"))?;
        return startup_failure(status, said.strip_prefix(STARTED).unwrap_or(&said), launch);
    }
    failpoint::hit("provider.process.started");
    watch_startup(&mut child, place, launch, log_start).await
}

/// Sends the daemonizer what to run, and returns what it reports until it has become the backend or ended.
async fn send_request(
    child: &mut Child,
    place: &BackendDir,
    executable: &Path,
    launch: &ProcessSpec,
) -> Result<String, ProviderError> {
    let text = daemonize::request(launch, place.data(), place.log_path()).map_err(process_error(executable, "described"))?;
    if let Some(mut stdin) = child.stdin.take() {
        // A daemonizer that ended early says why on stderr, which matters more than the broken pipe.
        let _ = stdin.write_all(&text).await;
    }
    failpoint::hit("provider.process.description_sent");
    let mut said = Vec::new();
    if let Some(stderr) = child.stderr.take() {
        stderr.take(64 * 1024).read_to_end(&mut said).await.map_err(process_error(executable, "read"))?;
    }
    Ok(String::from_utf8_lossy(&said).into_owned())
}

fn startup_failure(status: ExitStatus, said: &str, launch: &ProcessSpec) -> Result<StartOutcome, ProviderError> {
    if status.code() == Some(i32::from(ALREADY_RUNNING)) {
        return Ok(StartOutcome::AlreadyRunning);
    }
    let reason = if said.is_empty() { describe_status(status) } else { said.to_owned() };
    Err(process_error(&launch.program, "started")(std::io::Error::other(reason)))
}

async fn watch_startup(
    child: &mut Child,
    place: &BackendDir,
    launch: &ProcessSpec,
    log_start: u64,
) -> Result<StartOutcome, ProviderError> {
    let deadline = Instant::now() + STARTUP_WATCH;
    loop {
        if let Some(status) = child.try_wait().map_err(process_error(&launch.program, "watched"))? {
            // A port may have been taken after we found it free. Our process is gone, so a listener is not ours.
            port::require_free(launch.ports).await?;
            return Err(ProviderError::Exited { status: describe_status(status), log: last_lines(place, log_start)? });
        }
        // The ports were free before, so the listener is our process. Tokio reaps it if it ends before we do.
        if port::is_listening(launch.ports.api).await || Instant::now() >= deadline {
            return Ok(StartOutcome::Running);
        }
        tokio::time::sleep(POLL_INTERVAL).await;
    }
}

fn last_lines(place: &BackendDir, log_start: u64) -> Result<Vec<String>, ProviderError> {
    let from_start = log::read(&place.log_path(), LogPosition::Byte(log_start))?;
    let tail = log::read(&place.log_path(), LogPosition::Tail(LAST_LINES))?;
    // Of what earlier processes wrote nothing is told.
    let text = if from_start.text.len() < tail.text.len() { from_start.text } else { tail.text };
    Ok(log_text::last_lines(&text, LAST_LINES))
}

fn describe_status(status: ExitStatus) -> String {
    use std::os::unix::process::ExitStatusExt;
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("exit code {code}"),
        (None, Some(signal)) => format!("signal {signal}"),
        (None, None) => "no status".to_owned(),
    }
}
