//! One simulated backend for one test: started on free ports in a folder of its own, killed when dropped.

use std::ffi::OsString;
use std::fs::File;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use convexinfra::convex::admin_key::{InstanceSecret, KeyKind, issue};
use convexinfra::convex::deployment::{Deployment, DeploymentClient};
use convexinfra::convex::readiness::{Readiness, probe_readiness};
use convexinfra::model::Secret;
use fixture::free_ports;
use rustix::process::{Pid, Signal, kill_process};

pub(crate) const PROGRAM: &str = env!("CARGO_BIN_EXE_convexinfra");
pub(crate) const NAME: &str = "gold-backend";
pub(crate) const SECRET: [u8; 32] = [7; 32];

/// What a start is made of; tests change parts of it.
#[derive(Clone)]
pub(crate) struct Setup {
    pub(crate) api: u16,
    pub(crate) site: u16,
    pub(crate) arguments: Vec<OsString>,
    pub(crate) variables: Vec<(&'static str, String)>,
}

/// A folder for data, shared by the backends that run over it one after another.
pub(crate) struct Place {
    pub(crate) folder: tempfile::TempDir,
}

impl Place {
    pub(crate) fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap() }
    }

    pub(crate) fn log(&self) -> PathBuf {
        self.folder.path().join("log")
    }

    /// The ordinary start.
    pub(crate) fn setup(&self) -> Setup {
        let (api, site) = free_ports();
        let mut setup = Setup { api, site, arguments: Vec::new(), variables: Vec::new() };
        setup.flag("--instance-name", NAME);
        setup.flag("--instance-secret", hex::encode(SECRET));
        setup.flag("--convex-origin", format!("http://127.0.0.1:{api}"));
        setup.flag("--convex-site", format!("http://127.0.0.1:{site}"));
        setup.flag("--interface", "127.0.0.1");
        setup.flag("--port", api.to_string());
        setup.flag("--site-proxy-port", site.to_string());
        setup.flag("--local-storage", self.folder.path().join("storage"));
        setup.arguments.push(self.folder.path().join("db.sqlite3").into());
        setup
    }

    /// Starts without waiting for anything.
    pub(crate) fn spawn(&self, setup: &Setup) -> Backend {
        let log = File::create(self.log()).unwrap();
        let child = Command::new(PROGRAM)
            .arg("simulate-backend")
            .args(&setup.arguments)
            .env_clear()
            .envs(setup.variables.iter().map(|(name, value)| (name, value)))
            .current_dir(self.folder.path())
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        Backend { child, api: setup.api, site: setup.site }
    }

    /// Starts, and waits until it is ready.
    pub(crate) async fn start(&self, setup: &Setup) -> Backend {
        let name = setup.value("--instance-name");
        let key = key_of(&name, &setup.value("--instance-secret"), KeyKind::Admin { member_id: 0 });
        self.start_with(setup, &name, &key).await
    }

    /// Starts, and waits until it answers by this name and takes this key.
    pub(crate) async fn start_with(&self, setup: &Setup, name: &str, key: &Secret) -> Backend {
        let mut backend = self.spawn(setup);
        let started = Instant::now();
        let connections = DeploymentClient::default();
        loop {
            match probe_readiness(&connections, &backend.url(), name, key).await {
                Readiness::Ready => return backend,
                // A bar in the name splits the key at the wrong place, so that no key is ever accepted.
                Readiness::KeyRefused if name.contains('|') => return backend,
                other if started.elapsed() > fixture::DEADLINE => panic!("not ready: {other:?}\n{}", self.text()),
                _ => {}
            }
            if let Some(status) = backend.child.try_wait().unwrap() {
                panic!("ended with {status}\n{}", self.text());
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// Starts what is to fail, and returns its exit code.
    pub(crate) fn failure(&self, setup: &Setup) -> i32 {
        let status = self.spawn(setup).wait();
        status.code().unwrap_or_else(|| panic!("ended with {status}\n{}", self.text()))
    }

    /// What it said.
    pub(crate) fn text(&self) -> String {
        std::fs::read_to_string(self.log()).unwrap_or_default()
    }
}

impl Setup {
    pub(crate) fn flag(&mut self, name: &str, value: impl Into<OsString>) {
        let value = value.into();
        match self.arguments.iter().position(|word| word == name) {
            Some(index) => self.arguments[index + 1] = value,
            None => self.arguments.splice(0..0, [name.into(), value]).for_each(drop),
        }
    }

    pub(crate) fn without(&mut self, name: &str) {
        let index = self.arguments.iter().position(|word| word == name).unwrap();
        self.arguments.drain(index..index + 2);
    }

    pub(crate) fn value(&self, name: &str) -> String {
        let index = self.arguments.iter().position(|word| word == name);
        index.map(|index| self.arguments[index + 1].to_string_lossy().into_owned()).unwrap_or_default()
    }
}

/// A key, made at a fixed time with a fixed nonce.
pub(crate) fn key_of(name: &str, secret: &str, kind: KeyKind) -> Secret {
    issue(name, &InstanceSecret::parse(secret).unwrap(), kind, 1_700_000_000, [3; 12]).unwrap()
}

/// An admin key of the ordinary start.
pub(crate) fn admin_key() -> Secret {
    key_of(NAME, &hex::encode(SECRET), KeyKind::Admin { member_id: 0 })
}

pub(crate) struct Backend {
    child: Child,
    pub(crate) api: u16,
    pub(crate) site: u16,
}

impl Backend {
    pub(crate) fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.api)
    }

    pub(crate) fn deployment(&self) -> Deployment {
        Deployment::new(&DeploymentClient::default(), self.url(), Some(admin_key()))
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    pub(crate) fn is_running(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    /// Waits for its end, but not for ever.
    pub(crate) fn wait(&mut self) -> ExitStatus {
        let started = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(started.elapsed() < fixture::DEADLINE, "it does not end");
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    /// Stops it as one should.
    pub(crate) fn interrupt(&mut self) -> ExitStatus {
        self.signal(Signal::INT);
        self.wait()
    }
}

impl Drop for Backend {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
