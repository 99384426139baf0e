//! A container on a real engine, as the contract of all drivers wants it.

#![allow(clippy::unwrap_used, clippy::panic)]

use std::path::Path;
use std::sync::Mutex;

use convexinfra::model::ResolvedBackend;
use convexinfra::provider::Provider;
use convexinfra::provider::docker::{ControlPlaneId, Docker, EngineSource};

use crate::bench::DockerFixture;
use crate::promises::ContractFixture;
use crate::rig::BACKEND;

pub(super) struct ContainerFixture {
    fixture: DockerFixture,
    foreign: Mutex<Option<String>>,
}

impl ContainerFixture {
    pub(super) fn new(fixture: DockerFixture) -> Self {
        Self { fixture, foreign: Mutex::default() }
    }

    fn foreign(&self) -> Option<String> {
        self.foreign.lock().unwrap().clone()
    }
}

impl Drop for ContainerFixture {
    fn drop(&mut self) {
        if let Some(id) = self.foreign() {
            self.fixture.engine.try_docker(&["rm", "-f", "-v", &id]);
        }
    }
}

impl ContractFixture for ContainerFixture {
    fn provider(&self) -> &dyn Provider {
        &self.fixture.docker
    }

    fn unreachable_provider(&self) -> Box<dyn Provider> {
        let nowhere = |name: &str| (name == "DOCKER_HOST").then(|| "unix:///nowhere/docker.sock".to_owned());
        let docker = Docker::new(EngineSource::from_variables(nowhere, None), ControlPlaneId::of_home(Path::new("x")));
        Box::new(docker.with_ssh("/nowhere/ssh".into()))
    }

    fn resolved(&mut self) -> &mut ResolvedBackend {
        &mut self.fixture.placement
    }

    fn inventory(&self) -> Vec<String> {
        let mut all = self.fixture.everything();
        let ids = self.fixture.engine.containers(self.fixture.placement.project.as_str(), "backend");
        all.extend(ids.into_iter().map(|id| format!("container {id}")));
        all.extend(self.foreign().filter(|id| self.fixture.engine.try_docker(&["inspect", id])));
        all
    }

    async fn kill(&mut self) {
        self.fixture.engine.docker(&["kill", &self.fixture.container()]);
    }

    fn mark_data(&self) {
        self.fixture.shell("echo kept > /convex/data/mark");
    }

    fn has_mark(&self) -> bool {
        self.fixture.shell("cat /convex/data/mark") == "kept"
    }

    async fn add_foreign(&self) -> String {
        let resolved = &self.fixture.placement;
        let id: String = resolved.id.as_str().chars().take(6).collect();
        let name = format!("convexinfra-{}-{id}", resolved.instance_name);
        let foreign = self.fixture.engine.docker(&["create", "--name", &name, BACKEND]);
        *self.foreign.lock().unwrap() = Some(foreign.clone());
        foreign
    }

    fn readable_texts(&self) -> Vec<String> {
        let everything = self.fixture.everything();
        let kinds = everything.iter().map(|thing| thing.split_once(' ').unwrap());
        kinds.map(|(kind, name)| self.fixture.engine.docker(&[kind, "inspect", name])).collect()
    }
}
