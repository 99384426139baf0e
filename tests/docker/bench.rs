//! The provider alone, with one placement of its own, and the means to look behind it.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::path::Path;
use std::time::{Duration, Instant};

use convexinfra::model::{
    BackendId, BackendSpec, InstanceName, Observation, ProjectName, ProviderKind, ProviderState, PullPolicy, ResolvedBackend,
    RunState, Server,
};
use convexinfra::provider::docker::{ControlPlaneId, Docker, EngineSource};
use convexinfra::provider::{Provider, ProviderError};
use serde_json::Value;

use super::rig::{BACKEND, Engine, PATIENCE, unique};
use crate::provider_world::{placement, ports};

/// One backend on the engine.
pub(super) struct DockerFixture {
    pub(super) engine: &'static Engine,
    pub(super) docker: Docker,
    pub(super) placement: ResolvedBackend,
}

/// The engine at an address.
fn source(engine: &Engine, host: String) -> EngineSource {
    let folder = engine.folder.path().display().to_string();
    let variable = move |name: &str| match name {
        "DOCKER_HOST" => Some(host.clone()),
        "DOCKER_CONFIG" => Some(folder.clone()),
        _ => None,
    };
    EngineSource::from_variables(variable, None)
}

impl DockerFixture {
    pub(super) fn new(engine: &'static Engine) -> Self {
        Self::at(engine, engine.host.clone())
    }

    /// One whose engine is on a server.
    #[allow(dead_code, reason = "only the tests of servers have one")]
    pub(super) fn on_server(engine: &'static Engine, server: Server) -> Self {
        let mut fixture = Self::at(engine, "unix:///nowhere/docker.sock".to_owned());
        fixture.placement.spec.settings.docker.server = Some(server);
        fixture
    }

    /// One whose engine is reached by another address than its own.
    pub(super) fn at(engine: &'static Engine, host: String) -> Self {
        let name = unique("b");
        let mut spec = BackendSpec::new(ProviderKind::Docker);
        spec.settings.docker.image = Some(BACKEND.to_owned());
        spec.settings.docker.pull = PullPolicy::Never;
        let mut placement = placement(spec, ports());
        // Names carry the beginning of an identity, which is random otherwise.
        placement.id = BackendId::new(name.chars().rev().collect::<String>());
        placement.project = ProjectName::parse(&name).unwrap();
        let control_plane = ControlPlaneId::of_home(Path::new(&name));
        let docker = Docker::new(source(engine, host), control_plane)
            .with_grace(Duration::from_secs(30))
            .with_ready_within(PATIENCE)
            // On a busy machine even a backend that ends at once takes a while for it.
            .with_watched_for(PATIENCE);
        Self { engine, docker, placement }
    }

    pub(super) async fn observe(&self) -> Observation {
        self.docker.observe(&self.placement).await.unwrap()
    }

    pub(super) async fn try_ensure(&self) -> Result<ProviderState, ProviderError> {
        self.docker.ensure(&self.placement, &|_| {}).await
    }

    /// Ensures as the control plane does: what was noted is handed in again, and what was ready stays known as that.
    pub(super) async fn ensure(&mut self) -> Observation {
        self.placement.provider_state = self.try_ensure().await.unwrap();
        let seen = self.until_running().await;
        self.placement.has_been_ready = true;
        seen
    }

    pub(super) async fn until_running(&self) -> Observation {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let seen = self.observe().await;
            if seen.state == RunState::Running {
                return seen;
            }
            assert!(Instant::now() < deadline, "not running: {seen:?}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    pub(super) fn container(&self) -> String {
        self.engine.container(self.placement.project.as_str(), "backend")
    }

    pub(super) fn inspect(&self) -> Value {
        self.engine.inspect(&self.container())
    }

    pub(super) fn everything(&self) -> Vec<String> {
        self.engine.everything(self.placement.project.as_str())
    }

    /// Runs a line of shell in the container.
    pub(super) fn shell(&self, line: &str) -> String {
        self.engine.docker(&["exec", &self.container(), "sh", "-c", line])
    }

    /// Gives the backend another name for itself, so that two of them can be told apart.
    pub(super) fn instance(&self) -> &InstanceName {
        &self.placement.instance_name
    }
}

impl Drop for DockerFixture {
    fn drop(&mut self) {
        self.engine.clear(self.placement.project.as_str());
    }
}

/// What is seen at a path, if it differs.
pub(super) fn observed_drift<'a>(seen: &'a Observation, path: &str) -> Option<&'a str> {
    seen.drift.iter().find(|deviation| deviation.path.as_str() == path).map(|deviation| deviation.observed.as_str())
}
