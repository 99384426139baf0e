//! What runs inside machines: a simulated backend over the volume's directory, or a page in place of the dashboard.

use std::collections::BTreeMap;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};

use super::machines::Machine;
use super::settings::Machinery;
use super::world::World;

/// The ports that the images listen on.
const API: u16 = 3210;
const SITE: u16 = 3211;
const DASHBOARD: u16 = 6791;

/// What runs inside one machine.
pub struct Process {
    kind: Kind,
    /// Ports inside, and where they are on this machine.
    ports: BTreeMap<u16, u16>,
    /// Where a machine without a volume keeps its data, as long as it runs.
    _scratch: Option<tempfile::TempDir>,
}

enum Kind {
    Backend(Child),
    Page(tokio::task::AbortHandle),
}

impl Process {
    /// Where a port inside is reached from here.
    pub fn port(&self, inside: u16) -> Option<u16> {
        self.ports.get(&inside).copied()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        match &mut self.kind {
            Kind::Backend(child) => {
                let _ = child.kill();
                let _ = child.wait();
            }
            Kind::Page(task) => task.abort(),
        }
    }
}

/// Starts what the machine's image is, if machines run anything here.
pub fn start(world: &World, machine: &mut Machine, data: Option<PathBuf>) {
    let Machinery::Processes(program) = &world.settings.machinery else { return };
    machine.process = None;
    machine.process = Some(match machine.config.image().contains("dashboard") {
        true => page(),
        false => backend(program, machine, data),
    });
}

/// The image's own script in short: names and secrets from the environment, or else from the volume, or else a fixed one.
fn backend(program: &Path, machine: &Machine, data: Option<PathBuf>) -> Process {
    let scratch = data.is_none().then(|| tempfile::tempdir().unwrap());
    let data = data.unwrap_or_else(|| scratch.as_ref().map(|folder| folder.path().to_owned()).unwrap_or_default());
    let mut variables: BTreeMap<String, String> =
        machine.config.env().map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
    variables.extend(machine.secrets.clone());
    let credentials = data.join("credentials");
    std::fs::create_dir_all(&credentials).unwrap();
    for (name, file, otherwise) in
        [("INSTANCE_NAME", "instance_name", "convex-self-hosted"), ("INSTANCE_SECRET", "instance_secret", &"00".repeat(32))]
    {
        let kept = std::fs::read_to_string(credentials.join(file)).ok();
        let value = variables.get(name).cloned().or(kept).unwrap_or_else(|| otherwise.to_owned());
        std::fs::write(credentials.join(file), &value).unwrap();
        variables.insert(name.to_owned(), value);
    }
    // The simulator keeps SQLite only. A machine that uses a database server keeps its rows beside its files instead.
    let (api, site) = fixture::free_ports();
    let mut command = Command::new(program);
    command.arg("simulate-backend").args(["--interface", "127.0.0.1"]);
    command.args(["--port", &api.to_string(), "--site-proxy-port", &site.to_string()]);
    command.args(["--instance-name", &variables["INSTANCE_NAME"]]);
    if let (Some(cloud), Some(site)) = (variables.get("CONVEX_CLOUD_ORIGIN"), variables.get("CONVEX_SITE_ORIGIN")) {
        command.args(["--convex-origin", cloud, "--convex-site", site]);
    }
    command.arg("--local-storage").arg(data.join("storage")).arg(data.join("db.sqlite3"));
    command.env_clear().envs(&variables).current_dir(&data).stdin(Stdio::null());
    let log = std::fs::OpenOptions::new().create(true).append(true).open(data.join("log")).unwrap();
    let child = command.stdout(log.try_clone().unwrap()).stderr(log).spawn().unwrap();
    Process { kind: Kind::Backend(child), ports: [(API, api), (SITE, site)].into(), _scratch: scratch }
}

/// A page that answers everything, where the real one is too large to run.
fn page() -> Process {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let port = listener.local_addr().unwrap().port();
    let task = tokio::spawn(async move {
        let listener = tokio::net::TcpListener::from_std(listener).unwrap();
        let router = axum::Router::new().fallback(|| async { "the dashboard" });
        let _ = axum::serve(listener, router).await;
    });
    Process { kind: Kind::Page(task.abort_handle()), ports: [(DASHBOARD, port)].into(), _scratch: None }
}

/// Whether its program runs. A machine without one stops as soon as it is told to.
pub fn is_running(machine: &mut Machine) -> bool {
    match machine.process.as_mut().map(|process| &mut process.kind) {
        Some(Kind::Backend(child)) => matches!(child.try_wait(), Ok(None)),
        Some(Kind::Page(task)) => !task.is_finished(),
        None => false,
    }
}

pub fn exit_code(machine: &mut Machine) -> Option<i32> {
    match machine.process.as_mut().map(|process| &mut process.kind) {
        Some(Kind::Backend(child)) => child.try_wait().ok().flatten().and_then(|status| status.code()),
        _ => None,
    }
}

pub fn signal(machine: &Machine, name: &str) {
    let signal = match name {
        "SIGTERM" => Signal::TERM,
        "SIGKILL" => Signal::KILL,
        "SIGQUIT" => Signal::QUIT,
        "SIGHUP" => Signal::HUP,
        "SIGUSR1" => Signal::USR1,
        "SIGUSR2" => Signal::USR2,
        _ => Signal::INT,
    };
    match machine.process.as_ref().map(|process| &process.kind) {
        Some(Kind::Backend(child)) => {
            let _ = kill_process(Pid::from_child(child), signal);
        }
        Some(Kind::Page(task)) => task.abort(),
        None => {}
    }
}

/// Ends it without asking.
pub fn kill(machine: &mut Machine) {
    machine.process = None;
}
