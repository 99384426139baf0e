//! The commands, from the manifest to the containers and back.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use super::rig::{BACKEND, DASHBOARD, Engine, POSTGRES, unique};
use crate::engine_or_skip;
use fixture::{ProjectFixture, get};

/// A project of its own on the engine.
pub(super) struct Project {
    pub(super) name: String,
    pub(super) world: ProjectFixture,
    pub(super) engine: &'static Engine,
}

impl Project {
    /// A project whose manifest has these blocks; `IMAGE` in them is the stand-in for the official image.
    pub(super) fn new(engine: &'static Engine, blocks: &str) -> Self {
        let name = unique("p");
        let mut world = ProjectFixture::new("");
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
    let (url, _) = world.assert_reachable(".env.local", &format!("{}-dev", project.name));
    world.assert_converged();
    assert_eq!(get(&format!("{url}/version")).0, 200);
    assert_eq!(project.everything().len(), 3, "{:?}", project.everything());
    assert!(!world.run_expecting(0, &["logs", "dev"]).out.is_empty());
    world.run_expecting(0, &["destroy", "--yes", "--allow-destroy", "dev"]);
    assert_eq!(project.everything(), Vec::<String>::new());
    assert_eq!(world.names(), Vec::<String>::new());
}

#[test]
fn two_projects_with_three_backends_share_an_engine() {
    let engine = engine_or_skip!();
    let blocks = |names: &[&str]| -> String {
        names
            .iter()
            .map(|name| {
                format!(
                    "[backends.{name}]\nprovider = \"docker\"\nenv_file = \"{name}.env\"\n[backends.{name}.docker]\nIMAGE\n"
                )
            })
            .collect()
    };
    let one = Project::new(engine, &blocks(&["dev", "staging"]));
    let two = Project::new(engine, &blocks(&["dev"]));
    std::thread::scope(|scope| {
        scope.spawn(|| one.world.apply());
        scope.spawn(|| two.world.apply());
    });
    for (project, name) in [(&one, "dev"), (&one, "staging"), (&two, "dev")] {
        project.world.assert_reachable(&format!("{name}.env"), &format!("{}-{name}", project.name));
    }
    // Backends of one project reach each other by their names; another project's does not.
    let neighbour = format!("http://{}-staging:{}/version", one.name, one.world.url("staging").rsplit(':').next().unwrap());
    let dev = |project: &Project| {
        let all = engine.containers(&project.name, "backend");
        all.into_iter().find(|id| engine.inspect(id)["Config"]["Labels"]["convexinfra.backend"] == "dev").unwrap()
    };
    engine.docker(&["exec", &dev(&one), "curl", "-fsS", "--max-time", "5", &neighbour]);
    assert!(!engine.try_docker(&["exec", &dev(&two), "curl", "-fsS", "--max-time", "5", &neighbour]));
    // Node actions call back to the URL that clients use, from inside.
    let own = format!("{}/version", one.world.url("dev"));
    engine.docker(&["exec", &dev(&one), "curl", "-fsS", "--max-time", "5", &own]);

    one.world.run_expecting(0, &["destroy", "--yes", "--allow-destroy", "dev,staging"]);
    assert_eq!(one.everything(), Vec::<String>::new());
    two.world.assert_converged();
    two.world.assert_reachable("dev.env", &format!("{}-dev", two.name));
    two.world.run_expecting(0, &["destroy", "--yes", "--allow-destroy", "dev"]);
    assert_eq!(two.everything(), Vec::<String>::new());
}

#[test]
fn a_dashboard_runs_beside_its_backend_and_has_no_key() {
    let engine = engine_or_skip!();
    let blocks = |dashboard: bool| {
        format!(
            "[backends.dev]\nprovider = \"docker\"\ndashboard = {dashboard}\n[backends.dev.docker]\nIMAGE\ndashboard_image = \"{DASHBOARD}\"\n"
        )
    };
    let project = Project::new(engine, &blocks(true));
    let world = &project.world;
    world.apply();
    world.assert_converged();
    let (url, key) = world.coordinates(".env.local");
    let dashboard = world.run_expecting(0, &["dashboard", "dev"]).out.trim().to_owned();
    let (status, page) = get(&format!("{dashboard}/"));
    assert_eq!(status, 200);
    assert!(page.contains(&format!("NEXT_PUBLIC_DEPLOYMENT_URL={url}")), "{page}");
    let secret = key.split('|').nth(1).unwrap();
    assert!(!page.contains(secret) && !page.contains("ADMIN_KEY"), "the dashboard knows the admin key");
    let backend = project.container();

    engine.docker(&["stop", &engine.container(&project.name, "dashboard")]);
    let drift = world.run_expecting(3, &["drift"]);
    assert!(drift.out.contains("dashboard.container"), "{drift}");
    world.apply();
    world.assert_converged();
    engine.docker(&["rm", "-f", &engine.container(&project.name, "dashboard")]);
    world.apply();
    assert_eq!(world.run_expecting(0, &["dashboard", "dev"]).out.trim(), dashboard, "its URL was known");

    project.manifest(&blocks(false));
    world.apply();
    world.assert_converged();
    assert_eq!(engine.containers(&project.name, "dashboard"), Vec::<String>::new());
    assert_eq!(project.container(), backend, "the backend has nothing to do with that");
    assert!(world.run_expecting(1, &["dashboard", "dev"]).err.contains("dashboard = true"));
}

#[test]
fn a_managed_database_runs_beside_its_backend() {
    let engine = engine_or_skip!();
    let blocks = format!(
        "[backends.dev]\nprovider = \"docker\"\nstorage = {{ engine = \"postgres\", managed = true }}\nenv = {{ KEPT = \"there\" }}\n\
         [backends.dev.docker]\nIMAGE\ndatabase_image = \"{POSTGRES}\"\n"
    );
    let project = Project::new(engine, &blocks);
    let world = &project.world;
    world.apply();
    world.assert_converged();
    world.assert_reachable(".env.local", &format!("{}-dev", project.name));
    // What it keeps is on the server, and is there again when both start anew.
    let in_a_file = ["exec", &project.container(), "test", "-e", "/convex/data/db.sqlite3"];
    assert!(!engine.try_docker(&in_a_file), "the documents are in a file of the backend's");
    engine.docker(&["restart", &engine.container(&project.name, "database"), &project.container()]);
    world.run_expecting(0, &["wait", "dev"]);
    world.assert_converged();
    let server = engine.container(&project.name, "database");
    let seen = engine.inspect(&server);
    assert_eq!(seen["HostConfig"]["PortBindings"], serde_json::json!({}), "only the backend reaches it");
    assert_eq!(project.everything().len(), 5, "{:?}", project.everything());

    engine.docker(&["stop", &server]);
    let drift = world.run_expecting(3, &["drift"]);
    assert!(drift.out.contains("database.container"), "{drift}");
    world.apply();
    world.assert_converged();
    assert_eq!(engine.container(&project.name, "database"), server);
    world.run_expecting(0, &["destroy", "--yes", "--allow-destroy", "dev"]);
    assert_eq!(project.everything(), Vec::<String>::new());
}

#[test]
fn an_engine_is_needed_only_where_something_runs_on_it() {
    let mut world = ProjectFixture::new("project = \"plain\"\n[backends.dev]\nprovider = \"simulated\"\n");
    world.set("DOCKER_HOST", "unix:///nowhere/docker.sock");
    world.apply();
    world.assert_converged();
    world.manifest("project = \"plain\"\n[backends.dev]\nprovider = \"simulated\"\n[backends.far]\nprovider = \"docker\"\n");
    world.run_expecting(0, &["plan"]);
    let run = world.run_expecting(69, &["apply", "--yes"]);
    assert!(run.err.contains("unix:///nowhere/docker.sock") && run.err.contains("DOCKER_HOST"), "{run}");
    world.run_expecting(0, &["status"]);
}

#[test]
fn limits_that_the_engine_cannot_give_are_refused_before_anything_changes() {
    let engine = engine_or_skip!();
    let with = |resources: &str| ONE.replace("\"docker\"\n", &format!("\"docker\"\nresources = {{ {resources} }}\n"));
    let project = Project::new(engine, &with("cpus = 512"));
    let world = &project.world;
    let refused = |words: &str| {
        let plan = world.run_expecting(4, &["plan"]);
        assert!(format!("{}{}", plan.out, plan.err).contains(words), "{plan}");
        let run = world.run_expecting(4, &["apply", "--yes"]);
        assert!(run.err.contains(words), "{run}");
    };
    refused("`resources.cpus` is 512, and this engine has");
    assert_eq!((world.names(), project.everything()), (Vec::new(), Vec::new()));

    project.manifest(ONE);
    world.apply();
    let container = project.container();
    for (resources, words) in [
        ("cpus = 512", "`resources.cpus` is 512"),
        ("memory = \"5 MiB\"", "6 MiB at least"),
        ("memory = \"8000 GiB\"", "`resources.memory` is 8000 GiB, and this engine has"),
    ] {
        project.manifest(&with(resources));
        refused(words);
        // What ran before is what is recorded, so it is neither drift nor something to wait for.
        world.run_expecting(0, &["drift"]);
        world.run_expecting(0, &["wait", "--timeout", "2m"]);
    }
    assert_eq!(project.container(), container);
    project.manifest(ONE);
    world.assert_converged();
}

#[test]
fn a_project_whose_home_was_moved_leaves_no_network_behind() {
    let engine = engine_or_skip!();
    let mut project = Project::new(engine, ONE);
    project.world.apply();
    let moved = project.world.home.with_file_name("moved-home");
    std::fs::rename(&project.world.home, &moved).unwrap();
    project.world.set("CONVEXINFRA_HOME", moved.to_str().unwrap());
    project.world.home = moved;
    project.world.apply();
    project.world.assert_converged();
    let networks = |project: &Project| project.everything().iter().filter(|name| name.starts_with("network ")).count();
    assert_eq!(networks(&project), 2, "{:?}", project.everything());
    project.world.run_expecting(0, &["destroy", "--yes", "--allow-destroy", "dev"]);
    assert_eq!(project.everything(), Vec::<String>::new());
}
