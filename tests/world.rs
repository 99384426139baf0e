//! A project and a home of its own in a temporary folder, the real program run in it, and the means to look behind it.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, unreachable_pub)]

use std::collections::BTreeMap;
use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::ops::Range;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use convexinfra::convex::deployment::{DeploymentClient, Readiness, probe_readiness};
use convexinfra::model::Secret;
use convexinfra::provider::process::start_time;
use rustix::process::{Pid, Signal};
use serde_json::Value;

use crate::served::server::Server;

pub const EXECUTABLE: &str = env!("CARGO_BIN_EXE_convexinfra");
/// Longer than anything here takes, even on a machine that has much else to do.
pub const DEADLINE: Duration = Duration::from_secs(180);

/// A project folder and a home.
pub struct ProjectFixture {
    pub folder: PathBuf,
    pub home: PathBuf,
    pub variables: BTreeMap<String, String>,
    /// The server whose home this is, where the control plane is served.
    pub server: Option<Server>,
    /// The first operator token of that server.
    pub operator: Option<String>,
    directory: tempfile::TempDir,
    ports: Ports,
}

/// How many backends may listen in a world.
#[derive(Clone, Copy)]
pub enum PortBudget {
    /// As many as a story has.
    Small,
    /// As many as a crowd of projects has.
    Large,
}

/// The ports of one world.
struct Ports {
    range: Range<u16>,
    /// The last of them is listened on: it says to other worlds that they are taken.
    _kept: TcpListener,
}

/// How one command ended.
#[derive(Debug)]
pub struct CommandResult {
    pub words: String,
    pub status: ExitStatus,
    pub out: String,
    pub err: String,
    pub took: Duration,
}

impl ProjectFixture {
    pub fn new(manifest: &str) -> Self {
        Self::with(manifest, PortBudget::Small)
    }

    /// The same with ports enough for a crowd.
    pub fn with(manifest: &str, room: PortBudget) -> Self {
        let directory = tempfile::tempdir().unwrap();
        // macOS has its temporary folders behind a link, and processes are found by their paths.
        let root = directory.path().canonicalize().unwrap();
        let (folder, home) = (root.join("project"), root.join("home"));
        fs::create_dir(&folder).unwrap();
        fs::create_dir(root.join("user")).unwrap();
        fs::write(folder.join("convex.toml"), manifest).unwrap();
        let ports = Ports::take(room);
        let variables = [
            ("CONVEXINFRA_HOME", home.display().to_string()),
            ("HOME", root.join("user").display().to_string()),
            ("PATH", std::env::var("PATH").unwrap_or_default()),
            ("GIT_CONFIG_GLOBAL", "/dev/null".to_owned()),
            ("GIT_CONFIG_NOSYSTEM", "1".to_owned()),
            ("CONVEXINFRA_FIRST_PORT", ports.range.start.to_string()),
        ];
        let variables = variables.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
        Self { folder, home, variables, server: None, operator: None, directory, ports }
    }

    /// The same with a server in the home, and commands that know nothing but its address and an operator's token.
    pub fn served(manifest: &str, room: PortBudget) -> Self {
        let mut world = Self::with(manifest, room);
        let operator = Server::init(&world.variables);
        let server = Server::start(&world.variables);
        world.set("CONVEXINFRA_CONTROL_PLANE", &server.url);
        world.set("CONVEXINFRA_TOKEN", &operator);
        // Nothing may ever be made there.
        world.set("CONVEXINFRA_HOME", "/nonexistent/home");
        (world.server, world.operator) = (Some(server), Some(operator));
        world
    }

    /// The server of a world that has one.
    pub fn server(&mut self) -> &mut Server {
        self.server.as_mut().expect("this world has no server")
    }

    /// The folder around the project and the home.
    pub fn root(&self) -> PathBuf {
        self.directory.path().canonicalize().unwrap()
    }

    pub fn set(&mut self, name: &str, value: &str) {
        self.variables.insert(name.to_owned(), value.to_owned());
    }

    pub fn unset(&mut self, name: &str) {
        self.variables.remove(name);
    }

    pub fn write(&self, name: &str, text: &str) {
        fs::write(self.folder.join(name), text).unwrap();
    }

    pub fn read(&self, name: &str) -> String {
        fs::read_to_string(self.folder.join(name)).unwrap()
    }

    pub fn manifest(&self, text: &str) {
        self.write("convex.toml", text);
    }

    /// Makes the project folder a git repository.
    pub fn git(&self) {
        let status = Command::new("git").args(["init", "-q"]).current_dir(&self.folder).envs(&self.variables).status().unwrap();
        assert!(status.success());
    }

    pub fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(EXECUTABLE);
        command.args(words).env_clear().envs(&self.variables).current_dir(&self.folder).stdin(Stdio::null());
        command
    }

    pub fn run(&self, words: &[&str]) -> CommandResult {
        RunningCommand::new(self.command(words), words).end()
    }

    pub fn spawn(&self, words: &[&str]) -> RunningCommand {
        RunningCommand::new(self.command(words), words)
    }

    /// Runs a command that must end with this exit code.
    pub fn run_expecting(&self, code: i32, words: &[&str]) -> CommandResult {
        let run = self.run(words);
        assert_eq!(run.status.code(), Some(code), "{run}");
        run
    }

    pub fn apply(&self) -> CommandResult {
        self.run_expecting(0, &["apply", "--yes"])
    }

    /// The plan as a document, whatever its exit code.
    pub fn plan(&self) -> Value {
        self.run(&["plan", "--json"]).document()
    }

    /// What every story ends with: planning again finds nothing, and nothing has drifted.
    pub fn assert_converged(&self) {
        let plan = self.run_expecting(0, &["plan", "--json", "--detailed-exitcode"]).document();
        assert_eq!(plan["steps"], Value::Array(Vec::new()), "{plan:#}");
        self.run_expecting(0, &["drift"]);
    }

    pub fn status(&self) -> Value {
        self.run_expecting(0, &["status", "--json"]).document()
    }

    /// The URL of a backend, as `status` has it.
    pub fn url(&self, name: &str) -> String {
        let status = self.status();
        let backend = status["backends"].as_array().unwrap().iter().find(|backend| backend["name"] == name);
        backend.unwrap_or_else(|| panic!("no {name} in {status:#}"))["url"].as_str().unwrap().to_owned()
    }

    pub fn names(&self) -> Vec<String> {
        let status = self.status();
        status["backends"].as_array().unwrap().iter().map(|backend| backend["name"].as_str().unwrap().to_owned()).collect()
    }

    /// The records of all processes that this home has started, by instance name.
    pub fn records(&self) -> BTreeMap<String, Value> {
        let mut records = BTreeMap::new();
        for entry in fs::read_dir(self.home.join("backends")).into_iter().flatten().flatten() {
            let Ok(text) = fs::read(entry.path().join("run/process.json")) else { continue };
            let Ok(record) = serde_json::from_slice::<Value>(&text) else { continue };
            let name = record["instance_name"].as_str().unwrap_or_default().to_owned();
            records.insert(format!("{name} {}", entry.file_name().display()), record);
        }
        records
    }

    /// The process of an instance, if its record still speaks of the process that has this number.
    pub fn pid(&self, instance: &str) -> Option<Pid> {
        let records = self.records();
        let record = records.values().find(|record| record["instance_name"] == instance)?;
        verified(record)
    }

    pub fn kill(&self, instance: &str) {
        let pid = self.pid(instance).unwrap_or_else(|| panic!("{instance} does not run"));
        rustix::process::kill_process(pid, Signal::KILL).unwrap();
        wait_until("the process is gone", || !alive(pid));
    }

    /// The processes whose command line names this home.
    pub fn processes(&self) -> Vec<(i32, String)> {
        let home = self.home.display().to_string();
        let listed = Command::new("ps").args(["-A", "-ww", "-o", "pid=", "-o", "stat=", "-o", "args="]).output().unwrap();
        String::from_utf8_lossy(&listed.stdout)
            .lines()
            .filter(|line| line.contains(&home))
            .filter_map(|line| {
                let (pid, rest) = line.trim_start().split_once(' ')?;
                let (state, words) = rest.trim_start().split_once(' ')?;
                (!state.starts_with('Z')).then(|| (pid.parse().unwrap(), words.trim().to_owned()))
            })
            .collect()
    }

    /// What stands in an env file, checked to be whole: the URL and the key.
    pub fn coordinates(&self, env_file: &str) -> (String, String) {
        coordinates(&self.read(env_file)).unwrap_or_else(|| panic!("{env_file} is not whole: {}", self.read(env_file)))
    }

    /// Asserts that the coordinates in an env file open a backend of this name.
    pub fn assert_reachable(&self, env_file: &str, instance: &str) -> (String, String) {
        let (url, key) = self.coordinates(env_file);
        let (status, name) = get(&format!("{url}/instance_name"));
        assert_eq!((status, name.trim()), (200, instance));
        assert_eq!(get(&format!("{url}/version")).0, 200);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let readiness =
            runtime.block_on(probe_readiness(&DeploymentClient::default(), &url, instance, &Secret::new(key.clone())));
        assert!(matches!(readiness, Readiness::Ready), "{readiness:?}");
        (url, key)
    }

    /// Every file below the project and the home with its mode and its content. What backends write by
    /// themselves is left out.
    pub fn file_contents(&self) -> BTreeMap<String, (u32, Vec<u8>)> {
        let mut found = BTreeMap::new();
        walk(&self.root(), &mut |path| {
            let name = path.strip_prefix(self.root()).unwrap().display().to_string();
            // So is the index that readers of an open store note themselves in.
            let own = name.starts_with("home/backends/") && (name.contains("/data/") || name.contains(".log"))
                || name.ends_with(".sqlite3-shm");
            if !own {
                let metadata = fs::symlink_metadata(path).unwrap();
                let content = if metadata.is_file() { fs::read(path).unwrap() } else { Vec::new() };
                found.insert(name, (metadata.permissions().mode(), content));
            }
        });
        found
    }

    /// The names of everything below the project and the home. What backends keep for themselves is left out, and
    /// their directories go by the name of their instance.
    pub fn file_names(&self) -> Vec<String> {
        let mut ids = BTreeMap::new();
        for key in self.records().keys() {
            let (instance, id) = key.split_once(' ').unwrap();
            ids.insert(id.to_owned(), instance.to_owned());
        }
        let mut names = Vec::new();
        walk(&self.root(), &mut |path| {
            let mut name = path.strip_prefix(self.root()).unwrap().display().to_string();
            // What the home remembers of env files is a memory of this machine, which nothing depends on.
            if name.contains("/data/") || name.contains("/.git/") || name.contains("log") || name.contains("env-files") {
                return;
            }
            for (id, instance) in &ids {
                name = name.replace(id, instance);
            }
            names.push(name);
        });
        names.sort();
        names
    }
}

/// Whether nobody listens on a port. Taken without listening: children that other tests start meanwhile have copies of
/// every socket for a moment, and those must not keep a backend from it.
pub fn is_free(port: u16) -> bool {
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.set_reuseaddr(true).unwrap();
    socket.bind(std::net::SocketAddr::from(([127, 0, 0, 1], port))).is_ok()
}

impl Ports {
    /// Ports that no other world has, of this test run or another: a backend that starts anew would else find its port
    /// with another world. They lie below those that other tests take (from 15,000 on) and systems hand out.
    fn take(room: PortBudget) -> Self {
        static NEXT: AtomicU16 = AtomicU16::new(0);
        let (zone, each, worlds) = match room {
            PortBudget::Small => (7_000, 24, 200),
            PortBudget::Large => (11_800, 128, 25),
        };
        let start = u16::try_from(std::process::id() % u32::from(worlds)).unwrap();
        for _ in 0..5 * worlds {
            let first = zone + each * (start.wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed)) % worlds);
            let last = first + each - 1;
            let Ok(kept) = TcpListener::bind(("127.0.0.1", last)) else { continue };
            if (first..last).all(is_free) {
                return Self { range: first..last, _kept: kept };
            }
        }
        panic!("no ports are left for another world")
    }
}

impl Drop for ProjectFixture {
    fn drop(&mut self) {
        drop(self.server.take());
        let records = self.records();
        // What is still on its way to become a backend has no record yet, so look twice.
        let mut pids: Vec<Pid> = Vec::new();
        for round in 0..2 {
            for record in self.records().values() {
                if let Some(pid) = verified(record) {
                    let _ = rustix::process::kill_process(pid, Signal::KILL);
                    pids.push(pid);
                }
            }
            if round == 0 && self.processes().iter().any(|(pid, _)| !pids.contains(&Pid::from_raw(*pid).unwrap())) {
                std::thread::sleep(Duration::from_millis(300));
            }
        }
        let deadline = Instant::now() + Duration::from_secs(5);
        while pids.iter().any(|pid| alive(*pid)) && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(5));
        }
        let first_port = self.ports.range.start.to_string();
        if !std::thread::panicking() && self.variables.get("CONVEXINFRA_FIRST_PORT") == Some(&first_port) {
            for (instance, record) in records {
                let port = record["ports"]["site"].as_u64().and_then(|port| u16::try_from(port).ok()).unwrap();
                assert!(self.ports.range.contains(&port), "{instance} has a port of another world, {port}: ask for more room");
            }
        }
    }
}

/// The process that a record speaks of, if it is still that one.
pub fn verified(record: &Value) -> Option<Pid> {
    let pid = i32::try_from(record["pid"].as_i64()?).ok()?;
    let started = start_time(pid).ok()??;
    (record["started"].as_str() == Some(started.as_str()) && alive(Pid::from_raw(pid)?)).then(|| Pid::from_raw(pid))?
}

/// Whether a process is there and has not ended.
pub fn alive(pid: Pid) -> bool {
    let pid = pid.as_raw_nonzero().to_string();
    let listed = Command::new("ps").args(["-o", "stat=", "-p", &pid]).output().unwrap();
    let state = String::from_utf8_lossy(&listed.stdout).trim().to_owned();
    !state.is_empty() && !state.starts_with('Z')
}

pub fn walk(folder: &Path, found: &mut dyn FnMut(&Path)) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        found(&entry.path());
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            walk(&entry.path(), found);
        }
    }
}

/// The URL and the key of an env file; none when there is no block. A torn block panics.
pub fn coordinates(text: &str) -> Option<(String, String)> {
    let value = |name: &str| {
        let lines: Vec<&str> = text.lines().filter_map(|line| line.strip_prefix(name)?.strip_prefix('=')).collect();
        assert!(lines.len() <= 1, "{name} stands there {} times:\n{text}", lines.len());
        lines.first().map(|value| value.trim_matches('\'').to_owned())
    };
    match (value("CONVEX_SELF_HOSTED_URL"), value("CONVEX_SELF_HOSTED_ADMIN_KEY")) {
        (Some(url), Some(key)) => {
            assert!(url.starts_with("http://") && key.contains('|') && text.ends_with('\n'), "torn:\n{text}");
            Some((url, key))
        }
        (None, None) => None,
        _ => panic!("torn:\n{text}"),
    }
}

/// A command that runs.
pub struct RunningCommand {
    pub child: Child,
    words: String,
    started: Instant,
    out: CapturedStream,
    err: CapturedStream,
}

/// What a command says while it runs.
struct CapturedStream {
    so_far: Arc<Mutex<Vec<u8>>>,
    reader: std::thread::JoinHandle<()>,
}

impl CapturedStream {
    fn of(mut stream: impl Read + Send + 'static) -> Self {
        let so_far = Arc::new(Mutex::new(Vec::new()));
        let heard = Arc::clone(&so_far);
        let reader = std::thread::spawn(move || {
            let mut piece = [0; 4096];
            while let Ok(count @ 1..) = stream.read(&mut piece) {
                heard.lock().unwrap().extend_from_slice(&piece[..count]);
            }
        });
        Self { so_far, reader }
    }

    fn so_far(&self) -> String {
        String::from_utf8_lossy(&self.so_far.lock().unwrap()).into_owned()
    }

    fn all(self) -> String {
        self.reader.join().unwrap();
        String::from_utf8_lossy(&self.so_far.lock().unwrap()).into_owned()
    }
}

impl RunningCommand {
    pub fn new(mut command: Command, words: &[&str]) -> Self {
        let started = Instant::now();
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let (out, err) = (CapturedStream::of(child.stdout.take().unwrap()), CapturedStream::of(child.stderr.take().unwrap()));
        Self { child, words: words.join(" "), started, out, err }
    }

    /// Waits until it has said this to whoever watches.
    pub fn until_said(&self, words: &str) {
        wait_until(&format!("`{}` says: {words}", self.words), || self.err.so_far().contains(words));
    }

    /// Interrupts it as Ctrl-C does.
    pub fn interrupt(&self) {
        rustix::process::kill_process(Pid::from_raw(self.child.id().cast_signed()).unwrap(), Signal::INT).unwrap();
    }

    pub fn is_running(&self) -> bool {
        alive(Pid::from_raw(self.child.id().cast_signed()).unwrap())
    }

    /// Waits for its end. What hangs is killed and is an error.
    pub fn end(mut self) -> CommandResult {
        let status = loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                break status;
            }
            if self.started.elapsed() > DEADLINE {
                self.child.kill().unwrap();
                self.child.wait().unwrap();
                panic!("`{}` hangs", self.words);
            }
            std::thread::sleep(Duration::from_millis(3));
        };
        let took = self.started.elapsed();
        let (out, err) = (self.out.all(), self.err.all());
        let run = CommandResult { words: self.words, status, out, err, took };
        assert!(!run.err.contains("panicked at"), "{run}");
        run
    }
}

impl CommandResult {
    pub fn code(&self) -> i32 {
        self.status.code().unwrap_or_else(|| panic!("{self}"))
    }

    pub fn signal(&self) -> Option<i32> {
        self.status.signal()
    }

    /// The one document on standard output.
    pub fn document(&self) -> Value {
        let document: Value = serde_json::from_str(&self.out).unwrap_or_else(|error| panic!("{error}: {self}"));
        assert!(document["format"].as_str().is_some_and(|format| format.starts_with("convexinfra.")), "{self}");
        document
    }

    /// The documents on standard output, one in each line.
    pub fn events(&self) -> Vec<Value> {
        self.out.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {self}"))).collect()
    }

    /// The codes of the errors in the last document.
    pub fn errors(&self) -> Vec<String> {
        let last = self
            .out
            .lines()
            .last()
            .and_then(|line| serde_json::from_str::<Value>(line).ok())
            .unwrap_or_else(|| panic!("{self}"));
        let errors = last["errors"].as_array().unwrap_or_else(|| panic!("{self}")).clone();
        assert_eq!(last["exit"], self.code(), "{self}");
        errors.iter().map(|error| error["code"].as_str().unwrap().to_owned()).collect()
    }
}

impl std::fmt::Display for CommandResult {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { words, status, out, err, took } = self;
        write!(f, "`convexinfra {words}` ended with {status} after {took:?}\n--- stdout\n{out}\n--- stderr\n{err}")
    }
}

/// The ids of a plan's steps.
pub fn steps(plan: &Value) -> Vec<String> {
    plan["steps"].as_array().unwrap().iter().map(|step| step["id"].as_str().unwrap().to_owned()).collect()
}

/// The codes of a plan's refusals.
pub fn refusals(plan: &Value) -> Vec<String> {
    plan["refusals"].as_array().unwrap().iter().map(|refusal| refusal["code"].as_str().unwrap().to_owned()).collect()
}

pub fn wait_until(what: &str, mut done: impl FnMut() -> bool) {
    let deadline = Instant::now() + DEADLINE;
    while !done() {
        assert!(Instant::now() < deadline, "waited too long until {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// One request and its answer, without any library of ours in between.
pub fn get(url: &str) -> (u16, String) {
    let (address, path) = url.strip_prefix("http://").unwrap().split_once('/').unwrap();
    let mut stream = TcpStream::connect(address).unwrap_or_else(|error| panic!("{url}: {error}"));
    write!(stream, "GET /{path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let status = answer.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or_else(|| panic!("{url}: {answer}"));
    (status, answer.split_once("\r\n\r\n").map(|(_, body)| body.to_owned()).unwrap_or_default())
}

pub fn script(folder: &Path, name: &str, lines: &str) -> PathBuf {
    let path = folder.join(name);
    fs::write(&path, format!("#!/bin/sh\n{lines}\n")).unwrap();
    fs::set_permissions(&path, PermissionsExt::from_mode(0o755)).unwrap();
    path
}
