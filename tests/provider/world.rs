//! One provider with a home of its own, and the means to look behind it.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, unreachable_pub)]

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use convexinfra::convex::admin_key::{InstanceSecret, KeyKind, issue};
use convexinfra::model::{
    BackendId, BackendName, BackendSpec, Endpoints, Generation, InstanceName, Observation, PortPair, ProjectName, ProviderKind,
    ProviderState, ResolvedBackend,
};
use convexinfra::provider::local::{DownloadSources, Local};
use convexinfra::provider::simulated::Simulated;
use convexinfra::provider::{Provider, ProviderError};
use rustix::process::{Pid, Signal};

pub const EXECUTABLE: &str = env!("CARGO_BIN_EXE_convexinfra");

/// How a world gets its provider and a specification for it.
pub type Setup = fn(&Path) -> (Box<dyn Provider>, BackendSpec);

pub fn simulated(home: &Path) -> (Box<dyn Provider>, BackendSpec) {
    let provider = Simulated::new(home.to_owned(), EXECUTABLE.into()).with_grace(Duration::from_secs(30));
    (Box::new(provider), BackendSpec::new(ProviderKind::Simulated))
}

/// The real command line, given to a script that hands it to the stand-in.
pub fn local(home: &Path) -> (Box<dyn Provider>, BackendSpec) {
    let binary = script(home, "backend", &format!("exec '{EXECUTABLE}' simulate-backend \"$@\""));
    let provider = Local::new(home.to_owned(), EXECUTABLE.into(), no_sources()).with_grace(Duration::from_secs(30));
    let mut spec = BackendSpec::new(ProviderKind::Local);
    spec.settings.local.binary = Some(binary.display().to_string());
    (Box::new(provider), spec)
}

/// Sources from which nothing can come.
pub fn no_sources() -> DownloadSources {
    let nowhere = "http://127.0.0.1:1".to_owned();
    DownloadSources {
        downloads: nowhere.clone(),
        latest: nowhere,
        digests: None,
        convex_cache: None,
        stall: Duration::from_secs(10),
    }
}

pub fn script(directory: &Path, name: &str, line: &str) -> PathBuf {
    std::fs::create_dir_all(directory).unwrap();
    let path = directory.join(name);
    std::fs::write(&path, format!("#!/bin/sh\n{line}\n")).unwrap();
    std::fs::set_permissions(&path, PermissionsExt::from_mode(0o755)).unwrap();
    path
}

/// Two ports that nobody else in this test run gets.
pub fn ports() -> PortPair {
    let (api, site) = fixture::free_ports();
    PortPair { api, site }
}

pub struct ProviderFixture {
    pub home: PathBuf,
    pub provider: Box<dyn Provider>,
    pub placement: ResolvedBackend,
    _directory: tempfile::TempDir,
}

impl ProviderFixture {
    pub fn new(setup: Setup) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let home = directory.path().join("home");
        let (provider, spec) = setup(&home);
        Self { placement: placement(spec, ports()), home, provider, _directory: directory }
    }

    pub fn root(&self) -> PathBuf {
        self.home.join("backends").join(self.placement.id.as_str())
    }

    pub async fn observe(&self) -> Observation {
        self.provider.observe(&self.placement).await.unwrap()
    }

    pub async fn try_ensure(&self) -> Result<ProviderState, ProviderError> {
        self.provider.ensure(&self.placement, &|_| {}).await
    }

    pub async fn ensure(&mut self) {
        self.placement.provider_state = self.try_ensure().await.unwrap();
        self.placement.has_been_ready = true;
    }

    pub async fn remove(&self) {
        self.provider.remove(&self.placement, &|_| {}).await.unwrap();
    }

    pub fn record(&self) -> serde_json::Value {
        serde_json::from_slice(&std::fs::read(self.root().join("run/process.json")).unwrap()).unwrap()
    }

    pub fn pid(&self) -> Pid {
        Pid::from_raw(i32::try_from(self.record()["pid"].as_i64().unwrap()).unwrap()).unwrap()
    }

    /// The processes whose command line names this world's home.
    pub fn processes(&self) -> Vec<i32> {
        processes_with(&self.home.display().to_string())
    }

    pub async fn kill(&self) {
        let pid = self.pid();
        rustix::process::kill_process(pid, Signal::KILL).unwrap();
        until("the process is gone", || self.processes().is_empty()).await;
    }
}

impl Drop for ProviderFixture {
    fn drop(&mut self) {
        for pid in self.processes() {
            let _ = rustix::process::kill_process(Pid::from_raw(pid).unwrap(), Signal::KILL);
        }
    }
}

/// Ours all name a temporary directory of their own, so nobody else's process is among them.
fn processes_with(text: &str) -> Vec<i32> {
    let listed = std::process::Command::new("ps").args(["-A", "-ww", "-o", "pid=,stat=,args="]).output().unwrap();
    String::from_utf8_lossy(&listed.stdout)
        .lines()
        .filter(|line| line.contains(text))
        .filter_map(|line| {
            let mut words = line.split_ascii_whitespace();
            let pid = words.next()?.parse().ok()?;
            (!words.next()?.starts_with('Z')).then_some(pid)
        })
        .collect()
}

pub async fn until(what: &str, mut done: impl FnMut() -> bool) {
    let deadline = Instant::now() + fixture::DEADLINE;
    while !done() {
        assert!(Instant::now() < deadline, "waited too long until {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

pub async fn until_running(world: &ProviderFixture) -> Observation {
    let deadline = Instant::now() + fixture::DEADLINE;
    loop {
        let seen = world.observe().await;
        if seen.state == convexinfra::model::RunState::Running {
            return seen;
        }
        assert!(Instant::now() < deadline, "not running: {seen:?}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

pub fn placement(spec: BackendSpec, ports: PortPair) -> ResolvedBackend {
    let project = ProjectName::parse("gremlin").unwrap();
    let name = BackendName::parse("dev").unwrap();
    let instance_name = InstanceName::preferred(&project, &name).unwrap();
    // Secrets of a test that differ from run to run would protect nothing.
    let mut bytes = [0x5a; 32];
    bytes[..2].copy_from_slice(&ports.api.to_be_bytes());
    let secret = InstanceSecret::new(bytes);
    let nonce = [7; 12];
    ResolvedBackend {
        id: BackendId::new("b-0001"),
        admin_key: issue(instance_name.as_str(), &secret, KeyKind::Admin { member_id: 0 }, 1_780_000_000, nonce).unwrap(),
        instance_secret: secret.to_hex(),
        project,
        name,
        instance_name,
        spec,
        generation: Generation(1),
        secrets: BTreeMap::new(),
        endpoints: Endpoints {
            url: format!("http://127.0.0.1:{}", ports.api),
            site_url: format!("http://127.0.0.1:{}", ports.site),
        },
        ports,
        has_been_ready: false,
        provider_state: ProviderState::new(),
    }
}
