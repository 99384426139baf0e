//! A toy driver, written against the provider kit: a backend is a folder with a child process.
//!
//! `docs/providers/writing-a-driver.md` walks through it. It has the three parts of every driver: an inventory of what is
//! there, what is desired (pure), and the difference of the two (pure); the rest carries the difference out.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, ErrorKind, Read, Seek, SeekFrom, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use convexinfra::convex::deployment::DeploymentClient;
use convexinfra::convex::launch::{Argument, Launch, LaunchTarget, SecretDelivery, launch};
use convexinfra::model::{
    BackendId, DataState, FieldDrift, Observation, ProviderKind, ProviderState, ResolvedBackend, RunState,
};
use convexinfra::provider::kit::{
    backoff::Backoff, keyed_lock::KeyedLock, log_text::last_lines, log_text::strip_terminal_sequences, owner::Ownership,
    readiness, redact::Redactor,
};
use convexinfra::provider::{LogChunk, LogPosition, ProgressFn, Provider, ProviderError, async_trait};
use rustix::process::{Pid, Signal, kill_process};
use tokio::process::Command;

/// How long a process has to end by itself, and to show that it starts.
const GRACE: Duration = Duration::from_secs(60);

/// Keeps each backend in a folder of its instance name below `root`, and runs `program simulate-backend` in it.
pub(crate) struct Toy {
    root: PathBuf,
    program: PathBuf,
    connections: DeploymentClient,
    locks: KeyedLock<BackendId>,
}

/// What is there of a backend.
enum Inventory {
    Absent,
    /// A folder of its name that nothing proves to be its own.
    Foreign,
    Ours {
        pid: Option<Pid>,
        /// The digest of what the process was started with.
        launch: Option<String>,
        has_data: bool,
    },
}

impl Toy {
    /// Keeps backends below a folder.
    pub(crate) fn new(root: PathBuf, program: PathBuf) -> Self {
        Self { root, program, connections: DeploymentClient::default(), locks: KeyedLock::default() }
    }

    fn folder(&self, resolved: &ResolvedBackend) -> PathBuf {
        self.root.join(resolved.instance_name.as_str())
    }

    /// Looks at the disk and at the processes. Only "not found" is absent: every other failure is an error.
    async fn inventory(&self, resolved: &ResolvedBackend) -> Result<Inventory, ProviderError> {
        let folder = self.folder(resolved);
        if !folder.try_exists().map_err(failed(&folder, "read"))? {
            return Ok(Inventory::Absent);
        }
        if !Ownership::of(read_file(&folder.join("owner"))?.as_deref(), &resolved.id).is_ours() {
            return Ok(Inventory::Foreign);
        }
        Ok(Inventory::Ours {
            pid: running_process(&folder).await?,
            launch: read_file(&folder.join("launch"))?,
            has_data: folder.join("data/db.sqlite3").try_exists().map_err(failed(&folder, "read"))?,
        })
    }

    /// Renders what should run. Pure: the same backend gives the same launch.
    fn desired(&self, resolved: &ResolvedBackend) -> Result<Launch, ProviderError> {
        let target = LaunchTarget {
            data: self.folder(resolved).join("data"),
            interface: Ipv4Addr::LOCALHOST,
            ports: resolved.ports,
            // Everybody may list arguments.
            secret: SecretDelivery::Variable,
            release: None,
            certificate_file: None,
        };
        let refused = |error| ProviderError::Unsupported(format!("`{}` cannot be started: {error}", resolved.name));
        launch(resolved, &target).map_err(refused)
    }

    /// Creates the folder with its proof of ownership in one step, so that a crash leaves no folder without it.
    fn create_folder(&self, resolved: &ResolvedBackend) -> Result<(), ProviderError> {
        let (folder, draft) = (self.folder(resolved), self.root.join(format!(".{}", resolved.id)));
        let create = || {
            fs::create_dir_all(draft.join("data"))?;
            fs::set_permissions(&draft, Permissions::from_mode(0o700))?;
            write_file(&draft.join("owner"), resolved.id.as_str())?;
            fs::rename(&draft, &folder)
        };
        create().map_err(failed(&folder, "created"))
    }

    async fn start(&self, resolved: &ResolvedBackend, launch: &Launch) -> Result<(), ProviderError> {
        let folder = self.folder(resolved);
        for port in [resolved.ports.api, resolved.ports.site] {
            drop(TcpListener::bind((Ipv4Addr::LOCALHOST, port)).map_err(|_| ProviderError::PortTaken { port, holder: None })?);
        }
        // The intent first: a process with another launch is restarted, one without a record is not known to be right.
        write_file(&folder.join("launch"), launch.digest().as_str()).map_err(failed(&folder, "written"))?;
        let log_path = folder.join("log");
        let log = OpenOptions::new().create(true).append(true).mode(0o600).open(&log_path);
        let log = log.map_err(failed(&log_path, "written"))?;
        let errors = log.try_clone().map_err(failed(&log_path, "written"))?;
        // The process writes its own id before it turns into the backend, so there is no backend without it.
        let mut command = Command::new("/bin/sh");
        command
            .args(["-c", r#"echo $$ >"$0" && exec "$@""#])
            .arg(folder.join("pid"))
            .arg(&self.program)
            .arg("simulate-backend");
        command.args(launch.arguments.iter().map(Argument::expose)).env_clear();
        command.envs(launch.environment.iter().map(|(name, value)| (name, value.expose())));
        command.stdin(Stdio::null()).stdout(log).stderr(errors).process_group(0);
        let started = |source| ProviderError::Process { program: self.program.display().to_string(), verb: "started", source };
        let mut child = command.spawn().map_err(started)?;
        let mut backoff = backoff();
        let deadline = Instant::now() + GRACE;
        while Instant::now() < deadline {
            if let Some(status) = child.try_wait().map_err(started)? {
                let text = read_file(&log_path)?.unwrap_or_default();
                return Err(ProviderError::Exited { status: status.to_string(), log: last_lines(&text, 20) });
            }
            if TcpStream::connect((Ipv4Addr::LOCALHOST, resolved.ports.api)).is_ok() {
                break;
            }
            tokio::time::sleep(backoff.next_pause()).await;
        }
        Ok(())
    }

    async fn stop_process(&self, resolved: &ResolvedBackend, pid: Pid) -> Result<(), ProviderError> {
        let folder = self.folder(resolved);
        let mut backoff = backoff();
        for signal in [Signal::INT, Signal::KILL] {
            // It may have ended in between.
            let _ = kill_process(pid, signal);
            let deadline = Instant::now() + GRACE;
            while Instant::now() < deadline {
                if running_process(&folder).await?.is_none() {
                    return Ok(());
                }
                tokio::time::sleep(backoff.next_pause()).await;
            }
        }
        Err(ProviderError::WillNotStop { pid: pid.as_raw_nonzero().get() })
    }

    async fn reconcile(&self, resolved: &ResolvedBackend) -> Result<(), ProviderError> {
        let _lock = self.locks.lock(&resolved.id).await;
        let (folder, desired) = (self.folder(resolved), self.desired(resolved)?);
        let inventory = self.inventory(resolved).await?;
        let has_data = matches!(inventory, Inventory::Ours { has_data: true, .. });
        if resolved.has_been_ready && !has_data {
            let (instance, place) = (resolved.instance_name.to_string(), folder.display().to_string());
            return Err(ProviderError::DataMissing { instance, place });
        }
        match inventory {
            Inventory::Foreign => {
                let message = format!("`{}` was not made for `{}`: move it away", folder.display(), resolved.name);
                return Err(ProviderError::Unsupported(message));
            }
            Inventory::Absent => self.create_folder(resolved)?,
            Inventory::Ours { pid: Some(_), launch, .. } if diff(launch.as_deref(), &desired).is_empty() => return Ok(()),
            Inventory::Ours { pid: Some(pid), .. } => self.stop_process(resolved, pid).await?,
            Inventory::Ours { pid: None, .. } => {}
        }
        self.start(resolved, &desired).await
    }
}

/// Compares what runs with what is desired. Pure.
fn diff(running: Option<&str>, desired: &Launch) -> Vec<FieldDrift> {
    let desired = desired.digest();
    let differs = running != Some(desired.as_str());
    differs.then(|| FieldDrift::new("launch", desired.as_str(), running.unwrap_or("not recorded"))).into_iter().collect()
}

#[async_trait]
impl Provider for Toy {
    fn kind(&self) -> ProviderKind {
        // A driver of its own has a kind of its own. This one poses as the kind that it is most like.
        ProviderKind::Local
    }

    async fn observe(&self, resolved: &ResolvedBackend) -> Result<Observation, ProviderError> {
        let seen = |state, has_data, drift| {
            let absent = if resolved.has_been_ready { DataState::Missing } else { DataState::None };
            let data = if has_data { DataState::Present } else { absent };
            Ok(Observation { state, data, drift, notes: Vec::new() })
        };
        match self.inventory(resolved).await? {
            Inventory::Absent | Inventory::Foreign => seen(RunState::Absent, false, Vec::new()),
            Inventory::Ours { pid: None, has_data, .. } => {
                seen(RunState::Stopped, has_data, vec![FieldDrift::new("process", "running", "stopped")])
            }
            Inventory::Ours { pid: Some(_), launch, has_data } => {
                // Without its secrets a backend can be looked at, and not be compared.
                let mut drift = self.desired(resolved).map(|desired| diff(launch.as_deref(), &desired)).unwrap_or_default();
                let url = format!("http://127.0.0.1:{}", resolved.ports.api);
                let state = readiness::observe(&self.connections, &url, resolved, &mut drift).await;
                seen(state, has_data, drift)
            }
        }
    }

    async fn ensure(&self, resolved: &ResolvedBackend, _: ProgressFn<'_>) -> Result<ProviderState, ProviderError> {
        self.reconcile(resolved).await.map_err(|error| Redactor::of(resolved).redact_error(error))?;
        Ok(ProviderState::new())
    }

    async fn stop(&self, resolved: &ResolvedBackend) -> Result<(), ProviderError> {
        let _lock = self.locks.lock(&resolved.id).await;
        match self.inventory(resolved).await? {
            Inventory::Ours { pid: Some(pid), .. } => self.stop_process(resolved, pid).await,
            _ => Ok(()),
        }
    }

    async fn remove(&self, resolved: &ResolvedBackend, _: ProgressFn<'_>) -> Result<(), ProviderError> {
        let _lock = self.locks.lock(&resolved.id).await;
        let Inventory::Ours { pid, .. } = self.inventory(resolved).await? else { return Ok(()) };
        if let Some(pid) = pid {
            self.stop_process(resolved, pid).await?;
        }
        let folder = self.folder(resolved);
        fs::remove_dir_all(&folder).map_err(failed(&folder, "removed"))
    }

    async fn remove_keeping_data(&self, resolved: &ResolvedBackend, _: ProgressFn<'_>) -> Result<(), ProviderError> {
        // The folder keeps its proof of ownership, by which the next backend with this identity finds it.
        self.stop(resolved).await
    }

    async fn logs(&self, resolved: &ResolvedBackend, from: LogPosition) -> Result<LogChunk, ProviderError> {
        let path = self.folder(resolved).join("log");
        let (text, next) = read_chunk(&path, from).map_err(failed(&path, "read"))?;
        let text = Redactor::of(resolved).redact(&strip_terminal_sequences(&text));
        let lines = |count| last_lines(&text, count).iter().map(|line| format!("{line}\n")).collect();
        Ok(LogChunk { text: if let LogPosition::Tail(count) = from { lines(count) } else { text }, next })
    }
}

/// Returns the process of a folder that runs. Its id may belong to another one by now, so its command line has to name the
/// folder.
async fn running_process(folder: &Path) -> Result<Option<Pid>, ProviderError> {
    let recorded = read_file(&folder.join("pid"))?.and_then(|text| Pid::from_raw(text.trim().parse().ok()?));
    let Some(pid) = recorded else { return Ok(None) };
    let listed = Command::new("ps").args(["-ww", "-o", "args=", "-p", &pid.as_raw_nonzero().to_string()]).output().await;
    let listed = listed.map_err(|source| ProviderError::Process { program: "ps".to_owned(), verb: "started", source })?;
    Ok(String::from_utf8_lossy(&listed.stdout).contains(&folder.display().to_string()).then_some(pid))
}

/// Reads a small file; none where there is none.
fn read_file(path: &Path) -> Result<Option<String>, ProviderError> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(failed(path, "read")(error)),
    }
}

fn write_file(path: &Path, text: &str) -> io::Result<()> {
    OpenOptions::new().create(true).write(true).truncate(true).mode(0o600).open(path)?.write_all(text.as_bytes())
}

/// Reads a bounded piece of a log and where the next one begins; nothing where there is no log.
fn read_chunk(path: &Path, from: LogPosition) -> io::Result<(String, u64)> {
    let mut log = match File::open(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok((String::new(), 0)),
        opened => opened?,
    };
    let (size, most) = (log.metadata()?.len(), 1 << 20);
    let start = if let LogPosition::Byte(position) = from { position.min(size) } else { size.saturating_sub(most) };
    log.seek(SeekFrom::Start(start))?;
    let mut bytes = Vec::new();
    log.take(most).read_to_end(&mut bytes)?;
    Ok((String::from_utf8_lossy(&bytes).into_owned(), start + bytes.len() as u64))
}

fn backoff() -> Backoff {
    Backoff::new(Duration::from_millis(10), Duration::from_millis(200), 0)
}

fn failed(path: &Path, verb: &'static str) -> impl FnOnce(io::Error) -> ProviderError {
    let path = path.display().to_string();
    move |source| ProviderError::File { path, verb, source }
}
