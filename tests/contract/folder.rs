//! The drivers that run processes, and the toy, as the contract of all drivers wants them.

#![allow(clippy::unwrap_used, clippy::panic)]

use std::fs;
use std::path::{Path, PathBuf};

use convexinfra::model::{BackendSpec, ProviderKind, ResolvedBackend};
use convexinfra::provider::Provider;
use rustix::process::{Pid, Signal, kill_process};

use super::toy::Toy;
use crate::promises::ContractFixture;
use crate::provider_world::{EXECUTABLE, ProviderFixture, Setup, until};

/// A backend that is a folder with a process.
pub(super) struct FolderFixture {
    fixture: ProviderFixture,
    setup: Setup,
    /// The folder that has one folder for each backend.
    folders: PathBuf,
    /// The folder of the backend in it.
    own: String,
    /// A home whose folder of backends is a file, so that no look at it succeeds.
    blind: tempfile::TempDir,
    /// Whether the process is given its secret elsewhere than in its arguments, which everybody may list.
    hides_secret: bool,
}

impl FolderFixture {
    /// The driver of processes that a setup makes.
    pub(super) fn of_processes(setup: Setup) -> Self {
        let fixture = ProviderFixture::new(setup);
        let (folders, own) = (fixture.home.join("backends"), fixture.placement.id.to_string());
        // Convex's own binary knows no other way than an argument.
        let hides_secret = fixture.provider.kind() == ProviderKind::Simulated;
        Self { fixture, setup, folders, own, blind: tempfile::tempdir().unwrap(), hides_secret }
    }

    /// The toy.
    pub(super) fn of_toy() -> Self {
        let fixture = ProviderFixture::new(toy);
        let (folders, own) = (fixture.home.join("backends"), fixture.placement.instance_name.to_string());
        Self { fixture, setup: toy, folders, own, blind: tempfile::tempdir().unwrap(), hides_secret: true }
    }

    fn mark(&self) -> PathBuf {
        self.folders.join(&self.own).join("data/mark")
    }
}

fn toy(home: &Path) -> (Box<dyn Provider>, BackendSpec) {
    (Box::new(Toy::new(home.join("backends"), EXECUTABLE.into())), BackendSpec::new(ProviderKind::Local))
}

impl ContractFixture for FolderFixture {
    fn provider(&self) -> &dyn Provider {
        self.fixture.provider.as_ref()
    }

    fn unreachable_provider(&self) -> Box<dyn Provider> {
        let home = self.blind.path().join("home");
        let (provider, _) = (self.setup)(&home);
        fs::create_dir_all(&home).unwrap();
        fs::write(home.join("backends"), "a file").unwrap();
        provider
    }

    fn resolved(&mut self) -> &mut ResolvedBackend {
        &mut self.fixture.placement
    }

    fn inventory(&self) -> Vec<String> {
        let folders = fs::read_dir(&self.folders).into_iter().flatten().map(Result::unwrap);
        let folders = folders.filter(|entry| entry.path().is_dir()).map(|entry| format!("folder {:?}", entry.file_name()));
        let processes = self.fixture.processes().into_iter().map(|pid| format!("process {pid}"));
        let mut all: Vec<String> = folders.chain(processes).collect();
        all.sort();
        all
    }

    async fn kill(&mut self) {
        for pid in self.fixture.processes() {
            kill_process(Pid::from_raw(pid).unwrap(), Signal::KILL).unwrap();
        }
        until("the process is gone", || self.fixture.processes().is_empty()).await;
    }

    fn mark_data(&self) {
        fs::write(self.mark(), "kept").unwrap();
    }

    fn has_mark(&self) -> bool {
        self.mark().exists()
    }

    async fn add_foreign(&self) -> String {
        // The toy finds folders by names for people, the others by an identity that nobody else can have.
        let name = if self.own == self.fixture.placement.id.as_str() { format!("{}x", self.own) } else { self.own.clone() };
        fs::create_dir_all(self.folders.join(&name).join("data")).unwrap();
        fs::write(self.folders.join(&name).join("data/db.sqlite3"), "somebody's").unwrap();
        format!("folder {name:?}")
    }

    fn readable_texts(&self) -> Vec<String> {
        let listed = std::process::Command::new("ps").args(["-A", "-ww", "-o", "args="]).output().unwrap();
        let mut texts = Vec::new();
        if self.hides_secret {
            texts.push(String::from_utf8_lossy(&listed.stdout).into_owned());
        }
        let mut folders = vec![self.folders.clone()];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
                match (entry.is_dir(), entry.ends_with("data")) {
                    (true, false) => folders.push(entry),
                    (true, true) => {}
                    (false, _) => texts.push(String::from_utf8_lossy(&fs::read(entry).unwrap()).into_owned()),
                }
            }
        }
        texts
    }
}
