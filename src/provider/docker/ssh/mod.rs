//! The connection to a server: the user's own `ssh`, started once and kept for the run, so that keys, agents, jump hosts and
//! aliases are the user's own.
//!
//! Its control socket and what it forwards are sockets in a private folder. It ends with this process, however that ends.
//! Must not do: weaken host keys, ask for anything, or log in again and again.

mod command;
mod error;
mod tunnel;

use std::collections::{BTreeMap, VecDeque};
use std::ffi::{OsStr, OsString};
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::UnixListener;
use tokio::process::{ChildStderr, ChildStdin};
use tokio::sync::{Semaphore, watch};

pub use self::error::{SshError, SshFailure};
pub(super) use self::tunnel::ContainerPort;
use crate::model::Server;
use crate::system::command as system_command;

/// How long a login may take altogether; `ssh` itself gives up connecting earlier.
const LOGIN_WITHIN: Duration = Duration::from_secs(40);
/// How long `ssh` may take to add a forwarding to a connection that is there.
const FORWARD_WITHIN: Duration = Duration::from_secs(10);
/// How long a line of shell may take, and how much of what it prints is kept.
const SHELL_WITHIN: Duration = Duration::from_secs(15);
const MAX_OUTPUT: usize = 1 << 20;
/// How long it is waited before the one other try, where a server dropped the connection before the login.
const RETRY_AFTER: Duration = Duration::from_secs(2);
/// How often it is looked whether the login is done.
const POLL: Duration = Duration::from_millis(10);
/// How many lines of `ssh` are kept, and how long each may be.
const KEPT_LINES: usize = 64;
const MAX_LINE: u64 = 1024;
/// Servers allow ten sessions for a connection, and each of Docker's own command takes one.
const SESSIONS: usize = 8;

/// A connection that is logged in.
#[derive(Debug)]
pub(super) struct SshConnection {
    server: Server,
    program: OsString,
    folder: tempfile::TempDir,
    lines: Lines,
    ended: watch::Receiver<bool>,
    /// The sockets that lead to addresses of the server.
    forwards: tokio::sync::Mutex<BTreeMap<String, PathBuf>>,
    /// `ssh` ends when this is closed.
    _alive: ChildStdin,
}

/// The last lines that `ssh` said.
#[derive(Debug, Clone, Default)]
struct Lines(Arc<Mutex<VecDeque<String>>>);

impl Lines {
    fn push(&self, line: String) {
        let mut lines = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // Of what it says about itself only the key of the server matters.
        if line.starts_with("debug1: ") && !line.contains("Server host key: ") {
            return;
        }
        lines.push_back(line);
        if lines.len() > KEPT_LINES {
            lines.pop_front();
        }
    }

    fn all(&self) -> Vec<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).iter().cloned().collect()
    }

    /// Reads lines, each up to a limit, until there are no more.
    async fn read(&self, stderr: ChildStderr) {
        let mut reader = BufReader::new(stderr);
        loop {
            let mut line = Vec::new();
            match (&mut reader).take(MAX_LINE).read_until(b'\n', &mut line).await {
                Ok(0) | Err(_) => return,
                Ok(_) => self.push(String::from_utf8_lossy(&line).trim().to_owned()),
            }
        }
    }
}

impl SshConnection {
    /// Logs in, with one more try where the server dropped the connection before it began.
    pub(super) async fn open(program: &OsStr, server: &Server) -> Result<Self, SshError> {
        match Self::log_in(program, server).await {
            Err(SshError { failure: SshFailure::Dropped, .. }) => {
                tokio::time::sleep(RETRY_AFTER).await;
                Self::log_in(program, server).await
            }
            done => done,
        }
    }

    async fn log_in(program: &OsStr, server: &Server) -> Result<Self, SshError> {
        let local = |error: std::io::Error| SshError::new(SshFailure::NoSsh, server, &error.to_string());
        let private = std::fs::Permissions::from_mode(0o700);
        let folder = tempfile::Builder::new().prefix("cvx-").permissions(private).tempdir().map_err(local)?;
        if let Some((file, text)) = command::known_hosts(server, folder.path()) {
            std::fs::write(file, text).map_err(local)?;
        }
        let mut shell = system_command("/bin/sh");
        shell.args(["-c", command::SUPERVISE, "convexinfra-ssh"]).arg(folder.path()).args(command::master(
            program,
            server,
            folder.path(),
        ));
        // Its words are read, so they have to be the ones that are known.
        shell.env("LC_ALL", "C").stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut shell = tokio::process::Command::from(shell);
        // An interrupt of the terminal is for this process, which ends its work first.
        let mut child = shell.process_group(0).spawn().map_err(local)?;
        let (alive, stderr) = (child.stdin.take(), child.stderr.take());
        let (Some(alive), Some(stderr)) = (alive, stderr) else {
            return Err(SshError::new(SshFailure::NoSsh, server, "it has no pipes"));
        };
        let (lines, (end, ended)) = (Lines::default(), watch::channel(false));
        let kept = lines.clone();
        tokio::spawn(async move {
            kept.read(stderr).await;
            let _ = child.wait().await;
            let _ = end.send(true);
        });
        let connection = Self {
            server: server.clone(),
            program: program.to_owned(),
            folder,
            lines,
            ended,
            forwards: tokio::sync::Mutex::default(),
            _alive: alive,
        };
        connection.await_login().await?;
        Ok(connection)
    }

    /// Waits for the control socket, which is there once the login is done.
    async fn await_login(&self) -> Result<(), SshError> {
        let control = self.folder.path().join(command::CONTROL);
        let deadline = Instant::now() + LOGIN_WITHIN;
        while !control.exists() {
            if self.has_ended() {
                let lines = self.lines.all();
                let is_missing = lines.iter().any(|line| line.contains("ssh: not found"));
                let missing = || SshError::new(SshFailure::NoSsh, &self.server, "there is none on the `PATH`");
                return Err(if is_missing { missing() } else { SshError::of_lines(&self.server, &lines) });
            }
            if Instant::now() >= deadline {
                let reason = format!("no login within {} s", LOGIN_WITHIN.as_secs());
                return Err(SshError::new(SshFailure::Timeout, &self.server, &reason));
            }
            tokio::time::sleep(POLL).await;
        }
        Ok(())
    }

    /// Whether the connection is over. What `ssh` says of it comes a moment before it ends.
    pub(super) fn has_ended(&self) -> bool {
        *self.ended.borrow() || error::says_lost(&self.lines.all())
    }

    /// Waits until the connection is over.
    pub(super) async fn ended(&self) {
        let mut ended = self.ended.clone();
        // Who would tell has gone as well.
        let _ = ended.wait_for(|ended| *ended).await;
    }

    /// Returns why connections through it fail, as far as `ssh` says so.
    pub(super) fn failure(&self) -> Option<SshError> {
        let lines: Vec<String> = self.lines.all();
        let refused = lines.iter().any(|line| line.contains("open failed"));
        if self.has_ended() {
            let error = SshError::of_lines(&self.server, &lines);
            return Some(SshError { failure: SshFailure::Lost, ..error });
        }
        refused.then(|| SshError::of_lines(&self.server, &lines))
    }

    /// Returns what it means that something through it failed without an answer.
    pub(super) fn lost(&self, reason: &str) -> SshError {
        self.failure().unwrap_or_else(|| SshError::new(SshFailure::Lost, &self.server, reason))
    }

    /// Forgets what failed before another way was found.
    pub(super) fn forget_failures(&self) {
        self.lines.0.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    /// Returns why a connection to an address of the server was refused, where forwarding as such is.
    pub(super) fn forwarding_failure(&self) -> Option<SshError> {
        self.failure().filter(|error| matches!(error.failure, SshFailure::ForwardingOff | SshFailure::Lost))
    }

    /// Returns a local socket that leads to the engine by forwarding.
    pub(super) async fn engine_socket(&self) -> Result<PathBuf, SshError> {
        self.forward(self.server.socket()).await
    }

    /// Returns a local socket that leads to the engine through Docker's own command on the server.
    pub(super) fn dial_stdio_socket(&self) -> Result<PathBuf, SshError> {
        let path = self.folder.path().join(command::RELAY);
        let listener = UnixListener::bind(&path);
        let listener = listener.map_err(|error| SshError::new(SshFailure::Other, &self.server, &error.to_string()))?;
        let words = command::dial_stdio(&self.program, self.folder.path(), self.server.socket());
        let (lines, mut ended) = (self.lines.clone(), self.ended.clone());
        tokio::spawn(async move {
            let sessions = Arc::new(Semaphore::new(SESSIONS));
            loop {
                let accepted = tokio::select! {
                    accepted = listener.accept() => accepted,
                    _ = ended.changed() => return,
                };
                let (Ok((connection, _)), Ok(permit)) = (accepted, Arc::clone(&sessions).acquire_owned().await) else { return };
                let (words, lines) = (words.clone(), lines.clone());
                tokio::spawn(async move {
                    if let Err(error) = relay_to_command(connection, &words, &lines).await {
                        tracing::debug!(%error, "a session on a server ended");
                    }
                    drop(permit);
                });
            }
        });
        Ok(path)
    }

    /// Returns the way to the engine: its socket, or Docker's own command.
    pub(super) fn way(&self) -> &'static str {
        if self.folder.path().join(command::RELAY).exists() { "dial-stdio" } else { "socket" }
    }

    /// Runs a line of shell on the server, and returns the beginning of what it prints.
    pub(super) async fn run(&self, line: &str) -> Result<String, SshError> {
        let words = command::shell(&self.program, self.folder.path(), line);
        let failed = |failure, reason: &str| SshError::new(failure, &self.server, reason);
        match tokio::time::timeout(SHELL_WITHIN, session_command(&words).output()).await {
            Ok(Ok(output)) if output.status.success() => {
                let kept = output.stdout.get(..MAX_OUTPUT).unwrap_or(&output.stdout);
                Ok(String::from_utf8_lossy(kept).into_owned())
            }
            Ok(Ok(output)) => Err(failed(SshFailure::Other, String::from_utf8_lossy(&output.stderr).trim())),
            Ok(Err(error)) => Err(failed(SshFailure::NoSsh, &error.to_string())),
            Err(_) => Err(failed(SshFailure::Timeout, "its shell did not answer")),
        }
    }

    /// Returns a local socket that leads to a socket or an address of the server.
    pub(super) async fn forward(&self, remote: &str) -> Result<PathBuf, SshError> {
        let mut forwards = self.forwards.lock().await;
        if let Some(path) = forwards.get(remote) {
            return Ok(path.clone());
        }
        let path = self.folder.path().join(format!("f{}", forwards.len()));
        let words = command::forward(&self.program, self.folder.path(), &path, remote);
        let mut asked = session_command(&words);
        let failed = |failure, reason: &str| SshError::new(failure, &self.server, reason);
        match tokio::time::timeout(FORWARD_WITHIN, asked.output()).await {
            Ok(Ok(output)) if output.status.success() => {}
            Ok(Ok(output)) => {
                let said = String::from_utf8_lossy(&output.stderr).into_owned();
                let lost = self.has_ended().then(|| self.failure()).flatten();
                return Err(lost.unwrap_or_else(|| failed(SshFailure::Other, &said)));
            }
            Ok(Err(error)) => return Err(failed(SshFailure::NoSsh, &error.to_string())),
            Err(_) => return Err(failed(SshFailure::Timeout, "`ssh` did not add a forwarding")),
        }
        forwards.insert(remote.to_owned(), path.clone());
        Ok(path)
    }
}

fn session_command(words: &[OsString]) -> tokio::process::Command {
    let mut command = system_command(words.first().cloned().unwrap_or_default());
    command.args(words.iter().skip(1)).env("LC_ALL", "C").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    let mut command = tokio::process::Command::from(command);
    command.process_group(0).kill_on_drop(true);
    command
}

/// Copies one connection to and from the standard streams of a command, whose errors are kept.
async fn relay_to_command(mut connection: tokio::net::UnixStream, words: &[OsString], lines: &Lines) -> std::io::Result<()> {
    let mut command = session_command(words);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
    let (stdin, stdout, stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
    if let (Some(mut stdin), Some(mut stdout), Some(stderr)) = (stdin, stdout, stderr) {
        let (mut from, mut to) = connection.split();
        let requests = async move {
            let copied = tokio::io::copy(&mut from, &mut stdin).await;
            // The command ends with its input, and its session with it.
            drop(stdin);
            copied
        };
        let responses = async {
            let copied = tokio::io::copy(&mut stdout, &mut to).await;
            to.shutdown().await?;
            copied
        };
        let (sent, received, ()) = tokio::join!(requests, responses, lines.read(stderr));
        sent.and(received)?;
    }
    child.wait().await.map(drop)
}
