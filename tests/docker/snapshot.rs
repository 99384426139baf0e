//! Snapshots of backends in containers: whole, with a short stop, and nothing left of the way in which they are taken.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stderr)]

use fixture::crash::{CrashPoint, crash_matrix};
use sha2::{Digest, Sha256};

use super::commands::Project;
use super::rig::{BACKEND, Engine};
use crate::engine_or_skip;

/// Worlds at once: most of the time is spent waiting for the engine.
const AT_ONCE: usize = 3;
const ONE: &str = "[backends.dev]\nprovider = \"docker\"\nenv_file = \".env.local\"\n[backends.dev.env]\nWORD = \"one\"\n[backends.dev.docker]\nIMAGE\n";
const CREATE: &[&str] = &["snapshot", "create", "dev"];
/// More than one chunk, and no multiple of a block.
const FILE_BYTES: u64 = 700_001;
const BLOB: &str = "/convex/data/storage/files/a.blob";

fn new_project(engine: &'static Engine) -> Project {
    let project = Project::new(engine, ONE);
    project.world.apply();
    let files = format!(
        "mkdir -p /convex/data/storage/files /convex/data/storage/exports; head -c {FILE_BYTES} /dev/urandom > \
         /convex/data/storage/files/a.blob; : > /convex/data/storage/files/empty.blob; echo old > /convex/data/storage/exports/old.blob"
    );
    engine.docker(&["exec", &project.container(), "sh", "-c", &files]);
    project
}

fn take(project: &Project) -> serde_json::Value {
    project.world.run_expecting(0, &[CREATE, &["--json"]].concat()).document()["snapshot"].clone()
}

fn verify(project: &Project, id: &str) {
    let found = project.world.run_expecting(0, &["snapshot", "verify", id, "--json"]).document();
    assert_eq!((&found["verification"]["damaged"], &found["verification"]["files"]), (&0.into(), &3.into()), "{found}");
}

fn snapshots(project: &Project) -> Vec<String> {
    let document = project.world.run_expecting(0, &["snapshot", "list", "--json"]).document();
    document["snapshots"].as_array().unwrap().iter().map(|snapshot| snapshot["id"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn a_snapshot_has_everything_and_its_backend_runs_on() {
    let engine = engine_or_skip!();
    let project = new_project(engine);
    let (world, container) = (&project.world, project.container());
    let first = take(&project);
    assert!(first["downtime_ms"].as_u64().is_some_and(|downtime| downtime > 0), "{first}");
    assert_eq!((&first["provider"], &first["engine"]), (&"docker".into(), &"sqlite".into()));
    assert_eq!((&first["content"]["files"], &first["content"]["file_bytes"]), (&2.into(), &FILE_BYTES.into()));
    verify(&project, first["id"].as_str().unwrap());

    // It is the same container, and nothing else is there.
    world.assert_reachable(".env.local", &format!("{}-dev", project.name));
    assert_eq!(project.container(), container);
    assert_eq!(project.everything().len(), 3, "{:?}", project.everything());
    world.assert_converged();
    // What is stored is stored once.
    let second = take(&project);
    assert!(second["content"]["stored_bytes"].as_u64().unwrap() < FILE_BYTES, "{second}");

    // An export in the clear names each piece by its content.
    let out = world.folder.join("out");
    world.run_expecting(0, &["snapshot", "export", first["id"].as_str().unwrap(), "--out", out.to_str().unwrap(), "--plain"]);
    let file = world.folder.join("a.blob");
    engine.docker(&["cp", &format!("{container}:/convex/data/storage/files/a.blob"), file.to_str().unwrap()]);
    for piece in std::fs::read(&file).unwrap().chunks(256 << 10) {
        let name = hex::encode(Sha256::digest(piece));
        assert!(out.join("chunks").join(&name[..2]).join(&name).exists(), "{name}");
    }
}

#[test]
fn a_fork_has_the_data_of_its_source_in_a_volume_or_a_folder() {
    let engine = engine_or_skip!();
    let project = new_project(engine);
    let world = &project.world;
    let original = engine.docker(&["exec", &project.container(), "cat", BLOB]);
    let other = |name: &str, provider: &str| {
        format!(
            "[backends.{name}]\nprovider = \"{provider}\"\nenv_file = \"{name}.env\"\n[backends.{name}.env]\nWORD = \"two\"\n"
        )
    };
    let copies = format!("{ONE}{}[backends.copy.docker]\nIMAGE\n{}", other("copy", "docker"), other("here", "simulated"));
    project.manifest(&copies);
    for name in ["copy", "here"] {
        let fork = world.run_expecting(0, &["fork", "dev", name, "--exact", "--yes", "--json"]).document();
        assert_eq!(fork["state"], "paused", "{fork:#}");
        world.run_expecting(0, &["resume", name]);
        world.assert_reachable(&format!("{name}.env"), &format!("{}-{name}", project.name));
    }
    world.assert_converged();
    let containers = engine.containers(&project.name, "backend");
    assert_eq!(containers.len(), 2);
    for container in containers {
        assert_eq!(engine.docker(&["exec", &container, "cat", BLOB]), original);
    }
    let mut folders = Vec::new();
    fixture::walk(&world.home.join("backends"), &mut |path| {
        if path.ends_with("data/storage/files/a.blob") {
            folders.push(std::fs::metadata(path).unwrap().len());
        }
    });
    assert_eq!(folders, [FILE_BYTES]);
    assert!(!world.home.join("moves").exists() || std::fs::read_dir(world.home.join("moves")).unwrap().next().is_none());
}

#[test]
fn what_was_stopped_on_purpose_stays_so_and_what_runs_beside_it_is_refused() {
    let engine = engine_or_skip!();
    let project = new_project(engine);
    let container = project.container();
    project.world.run_expecting(0, &["stop", "dev"]);
    let taken = take(&project);
    assert_eq!(taken.get("downtime_ms"), None);
    assert_eq!(engine.inspect(&container)["State"]["Running"], false);
    verify(&project, taken["id"].as_str().unwrap());

    // Nobody knows what a second writer is in the middle of.
    let volume = project.everything().iter().find_map(|name| name.strip_prefix("volume ").map(str::to_owned)).unwrap();
    let mount = format!("{volume}:/convex/data");
    let other = engine.docker(&["run", "-d", "--network", "none", "-v", &mount, "--entrypoint", "sleep", BACKEND, "600"]);
    let refused = project.world.run_expecting(1, &[CREATE, &["--json"]].concat());
    engine.docker(&["rm", "-f", &other]);
    assert_eq!(refused.errors(), ["provider.volume_shared"]);
    assert_eq!(snapshots(&project).len(), 1);
    project.world.run_expecting(0, &["start", "dev"]);
    project.world.assert_converged();
}

#[test]
fn data_that_is_not_in_the_volume_alone_is_refused() {
    let engine = engine_or_skip!();
    let project = new_project(engine);
    project
        .manifest(&ONE.replace("IMAGE", &format!("mounts = [\"{}-more:/convex/data/storage/modules\"]\nIMAGE", project.name)));
    project.world.apply();
    let refused = project.world.run_expecting(1, &[CREATE, &["--json"]].concat());
    assert_eq!(refused.errors(), ["snapshot.unsupported"]);
    project.world.run_expecting(0, &["destroy", "--yes", "--allow-destroy", "dev"]);
    engine.docker(&["volume", "rm", &format!("{}-more", project.name)]);
}

/// The points of the provider and of the snapshot, each once: the engine is asked in the same way again and again.
fn points(engine: &'static Engine) -> Vec<CrashPoint> {
    let all = new_project(engine).world.crash_points(CREATE);
    let own: Vec<_> = all
        .into_iter()
        .filter(|point| ["provider.docker.", "snapshot.", "host."].iter().any(|part| point.name.starts_with(part)))
        .filter(|point| point.pass == 1 || point.name == "provider.docker.probe_made")
        .collect();
    for name in ["host.stopped_for_copy", "provider.docker.probe_made", "provider.docker.volume_read", "snapshot.committed"] {
        assert!(own.iter().any(|point| point.name == name), "{name} was never passed: {own:?}");
    }
    own
}

#[test]
fn a_snapshot_killed_anywhere_leaves_a_backend_that_the_next_command_starts() {
    let engine = engine_or_skip!();
    crash_matrix("a snapshot of a container", &points(engine), AT_ONCE, |point| {
        let mut project = new_project(engine);
        let killed = project.world.run_killed_at(point, CREATE);
        if point.pass % 2 == 0 || point.name.starts_with("snapshot.") {
            project.world.apply();
        } else {
            take(&project);
        }
        project.world.assert_reachable(".env.local", &format!("{}-dev", project.name));
        take(&project);
        for id in snapshots(&project) {
            verify(&project, &id);
        }
        project.world.assert_converged();
        assert_eq!(project.everything().len(), 3, "{point}: {:?}", project.everything());
        !killed.status.success()
    });
}
