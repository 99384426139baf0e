//! The commands, from the manifest to the containers and back.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use super::rig::{BACKEND, Engine, unique};
use crate::engine_or_skip;
use crate::world::{World, get};

/// A project of its own on the engine.
pub(super) struct Project {
    pub(super) name: String,
    pub(super) world: World,
    pub(super) engine: &'static Engine,
}

impl Project {
    /// A project whose manifest has these blocks; `IMAGE` in them is the stand-in for the official image.
    pub(super) fn new(engine: &'static Engine, blocks: &str) -> Self {
        let name = unique("p");
        let mut world = World::new("");
        world.set("DOCKER_HOST", &engine.host);
        let project = Self { name, world, engine };
        project.manifest(blocks);
        project
    }

    pub(super) fn manifest(&self, blocks: &str) {
        let blocks = blocks.replace("IMAGE", &format!("image = \"{BACKEND}\"\npull = \"never\""));
        self.world.manifest(&format!("project = \"{}\"\n{blocks}", self.name));
    }

    pub(super) fn container(&self) -> String {
        self.engine.container(&self.name, "backend")
    }

    pub(super) fn everything(&self) -> Vec<String> {
        self.engine.everything(&self.name)
    }
}

impl Drop for Project {
    fn drop(&mut self) {
        self.engine.clear(&self.name);
    }
}

const ONE: &str = "[backends.dev]\nprovider = \"docker\"\n[backends.dev.docker]\nIMAGE\n";

#[test]
fn a_backend_comes_up_and_goes_away() {
    let engine = engine_or_skip!();
    let project = Project::new(engine, ONE);
    let world = &project.world;
    world.apply();
    let (url, _) = world.reachable(".env.local", &format!("{}-dev", project.name));
    world.settled();
    assert_eq!(get(&format!("{url}/version")).0, 200);
    assert_eq!(project.everything().len(), 3, "{:?}", project.everything());
    assert!(!world.expect(0, &["logs", "dev"]).out.is_empty());
    world.expect(0, &["destroy", "--yes", "--allow-destroy", "dev"]);
    assert_eq!(project.everything(), Vec::<String>::new());
    assert_eq!(world.names(), Vec::<String>::new());
}
