//! Rotation of the master key: killed anywhere, the old key or the new one opens everything, and the same command ends it.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stdout)]

use std::fs;

use fixture::ProjectFixture;
use fixture::crash::{AT_ONCE, crash_matrix};

use crate::snapshot::listed;

const MANIFEST: &str = r#"
project = "gremlin"

[backends.dev]
provider = "simulated"
env_file = ".env.local"

[backends.dev.env]
TOKEN = { env = "TOKEN" }
"#;
const ROTATE: [&str; 3] = ["key", "rotate-master", "--yes"];

/// A project with a backend that has a secret, and a snapshot of it.
fn new_world() -> ProjectFixture {
    let mut world = ProjectFixture::new(MANIFEST);
    world.set("TOKEN", "a-secret-of-the-app");
    world.apply();
    world.run_expecting(0, &["snapshot", "create", "dev"]);
    world
}

fn key(world: &ProjectFixture) -> String {
    fs::read_to_string(world.home.join("master.key")).unwrap()
}

/// Every snapshot is read again, whichever key it was sealed under.
fn assert_snapshots(world: &ProjectFixture) {
    let all = listed(world);
    assert_ne!(all, Vec::<String>::new());
    for id in &all {
        world.run_expecting(0, &["snapshot", "verify", id]);
    }
}

/// Everything that needs a key does what it did.
fn assert_whole(world: &ProjectFixture, env_file: &str) {
    world.assert_converged();
    world.run_expecting(0, &["log", "--verify"]);
    assert_snapshots(world);
    assert_eq!(world.read(".env.local"), env_file);
    world.assert_reachable(".env.local", "gremlin-dev");
}

#[test]
fn a_rotation_killed_anywhere_leaves_a_key_that_opens_everything() {
    let mut world = new_world();
    let points = world.crash_points(&ROTATE);
    assert!(points.iter().any(|point| point.name == "store.committed"), "{points:?}");
    let count = crash_matrix("rotation of the master key", &points, AT_ONCE, |point| {
        let mut world = new_world();
        let (old, env_file) = (key(&world), world.read(".env.local"));
        let killed = world.run_killed_at(point, &ROTATE);
        assert_whole(&world, &env_file);
        world.run_expecting(0, &ROTATE);
        assert_ne!(key(&world), old);
        assert_whole(&world, &env_file);
        let left = world.file_names().into_iter().filter(|name| name.contains("master.key")).collect::<Vec<_>>();
        assert_eq!(left, ["home/master.key"]);
        // A work after it, under the new key alone.
        world.run_expecting(0, &["key", "rotate", "dev", "--yes"]);
        world.run_expecting(0, &["snapshot", "create", "dev"]);
        assert_snapshots(&world);
        !killed.status.success()
    });
    println!("crash matrix: {count} points (rotation of the master key)");
}

#[test]
fn the_old_key_opens_nothing_afterwards() {
    let world = new_world();
    let (old, env_file) = (key(&world), world.read(".env.local"));
    let plan = world.folder.join("before.plan");
    world.manifest(&MANIFEST.replace("env_file", "protected = true\nenv_file"));
    world.run_expecting(0, &["plan", "--out", plan.to_str().unwrap()]);
    let run = world.run_expecting(0, &ROTATE);
    assert!(!run.out.contains(key(&world).trim()) && !run.err.contains(key(&world).trim()), "{run}");
    let new = key(&world);
    fs::write(world.home.join("master.key"), &old).unwrap();
    let run = world.run_expecting(1, &["plan", "--json"]);
    assert_eq!(run.errors(), ["store.sealed"]);
    fs::write(world.home.join("master.key"), &new).unwrap();
    world.manifest(MANIFEST);
    assert_whole(&world, &env_file);
    let log = world.run_expecting(0, &["log", "--json", "--everywhere"]);
    assert!(log.out.contains("master_key_rotated"), "{log}");
}

#[test]
fn a_key_from_outside_is_rotated_to_another_one_from_outside() {
    let mut world = ProjectFixture::new(MANIFEST);
    world.set("TOKEN", "a-secret-of-the-app");
    let (old, new) = ("0a".repeat(32), "0b".repeat(32));
    world.set("CONVEXINFRA_MASTER_KEY", &old);
    world.apply();
    let env_file = world.read(".env.local");
    let refused = world.run_expecting(4, &[&ROTATE[..], &["--json"]].concat());
    assert_eq!(refused.errors(), ["key.next_missing"]);
    world.set("CONVEXINFRA_NEXT_MASTER_KEY", &old);
    let refused = world.run_expecting(4, &[&ROTATE[..], &["--json"]].concat());
    assert_eq!(refused.errors(), ["key.same"]);
    world.set("CONVEXINFRA_NEXT_MASTER_KEY", "short");
    let refused = world.run_expecting(1, &[&ROTATE[..], &["--json"]].concat());
    assert_eq!(refused.errors(), ["home.master_key_shape"]);
    world.set("CONVEXINFRA_NEXT_MASTER_KEY", &new);
    world.run_expecting(0, &ROTATE);
    world.unset("CONVEXINFRA_NEXT_MASTER_KEY");
    assert_eq!(world.run_expecting(1, &["plan", "--json"]).errors(), ["store.sealed"]);
    world.set("CONVEXINFRA_MASTER_KEY", &new);
    world.assert_converged();
    world.run_expecting(0, &["log", "--verify"]);
    assert_eq!(world.read(".env.local"), env_file);
    assert!(!world.home.join("master.key").exists() && !world.home.join("master.key.next").exists());
}

#[test]
fn there_is_nothing_to_rotate_without_a_store() {
    let world = ProjectFixture::new(MANIFEST);
    let refused = world.run_expecting(4, &[&ROTATE[..], &["--json"]].concat());
    assert_eq!(refused.errors(), ["key.no_store"]);
    assert!(!world.home.exists());
}
