//! Starting a backend's process through the detacher.
//!
//! Must not do: put a secret into an argument or a variable of ours, or wait until the backend answers.

use std::path::Path;
use std::process::{ExitStatus, Stdio};
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::process::{Child, Command};
use zeroize::Zeroizing;

use super::detach::{Description, HELD, STARTED};
use super::launch::Launch;
use super::place::Place;
use super::{POLL, log, port, process_error};
use crate::fault;
use crate::provider::{LogPosition, ProviderError};

/// What came of a start.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Start {
    /// The process runs.
    Running,
    /// Another process of this backend was there first.
    Held,
}

/// How long the detacher may take until it becomes the backend. macOS checks a new executable for seconds.
const DETACH_DEADLINE: Duration = Duration::from_secs(60);
/// How long a process that does not listen yet is watched for an early end.
const WATCH: Duration = Duration::from_millis(1500);
const LAST_LINES: usize = 20;

/// Starts the process of a place. Returns when it listens, or when it has run for a moment without ending.
pub(super) async fn start(place: &Place, executable: &Path, launch: &Launch) -> Result<Start, ProviderError> {
    log::rotate(&place.log(), log::Writer::None)?;
    let log_start = log::size(&place.log())?;
    let mut child = Command::new(executable)
        .arg(super::DETACH)
        .arg(place.run())
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(process_error(executable, "started"))?;
    fault::point("provider.process.detacher_spawned");

    let said = tokio::time::timeout(DETACH_DEADLINE, converse(&mut child, place, executable, launch)).await;
    let said = match said {
        Ok(said) => said?,
        Err(_) => {
            let _ = child.start_kill();
            return Err(process_error(executable, "detached")(std::io::ErrorKind::TimedOut.into()));
        }
    };
    if said != STARTED {
        let status = child.wait().await.map_err(process_error(executable, "started"))?;
        return refused(status, said.strip_prefix(STARTED).unwrap_or(&said), launch);
    }
    fault::point("provider.process.started");
    watch(&mut child, place, launch, log_start).await
}

/// Tells the detacher what to run and takes what it says until it has become the backend or ended.
async fn converse(child: &mut Child, place: &Place, executable: &Path, launch: &Launch) -> Result<String, ProviderError> {
    let description = Description { launch: launch.clone(), directory: place.data(), log: place.log() };
    let text =
        serde_json::to_vec(&description).map_err(std::io::Error::from).map_err(process_error(executable, "described"))?;
    let text = Zeroizing::new(text);
    if let Some(mut stdin) = child.stdin.take() {
        // A detacher that ended early says why on stderr, which matters more than the broken pipe.
        let _ = stdin.write_all(&text).await;
    }
    fault::point("provider.process.description_sent");
    let mut said = Vec::new();
    if let Some(stderr) = child.stderr.take() {
        stderr.take(64 * 1024).read_to_end(&mut said).await.map_err(process_error(executable, "read"))?;
    }
    Ok(String::from_utf8_lossy(&said).into_owned())
}

fn refused(status: ExitStatus, said: &str, launch: &Launch) -> Result<Start, ProviderError> {
    if status.code() == Some(i32::from(HELD)) {
        return Ok(Start::Held);
    }
    let reason = if said.is_empty() { describe(status) } else { said.to_owned() };
    Err(process_error(&launch.program, "started")(std::io::Error::other(reason)))
}

async fn watch(child: &mut Child, place: &Place, launch: &Launch, log_start: u64) -> Result<Start, ProviderError> {
    let deadline = Instant::now() + WATCH;
    loop {
        if let Some(status) = child.try_wait().map_err(process_error(&launch.program, "watched"))? {
            // Somebody may have taken a port after we found it free; ours is gone, so whoever listens is not ours.
            port::require_free(launch.ports).await?;
            return Err(ProviderError::Exited { status: describe(status), log: last_lines(place, log_start)? });
        }
        // The ports were free before, so whoever listens is our process. It is left to tokio to reap it if it
        // ends before we do.
        if port::listens(launch.ports.api).await || Instant::now() >= deadline {
            return Ok(Start::Running);
        }
        tokio::time::sleep(POLL).await;
    }
}

fn last_lines(place: &Place, log_start: u64) -> Result<Vec<String>, ProviderError> {
    let from_start = log::read(&place.log(), LogPosition::Byte(log_start))?;
    let tail = log::read(&place.log(), LogPosition::Tail(LAST_LINES))?;
    let text = if from_start.text.len() < tail.text.len() { from_start.text } else { tail.text };
    Ok(text.lines().map(str::to_owned).collect())
}

fn describe(status: ExitStatus) -> String {
    use std::os::unix::process::ExitStatusExt;
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("exit code {code}"),
        (None, Some(signal)) => format!("signal {signal}"),
        (None, None) => "no status".to_owned(),
    }
}
