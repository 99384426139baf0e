//! Backends of this machine without a record: forgotten on purpose, or of a store that is lost; and keys that are rotated.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::fs;

use fixture::{ProjectFixture, get_with_key};

const MANIFEST: &str = "project = \"gremlin\"\n[backends.dev]\nprovider = \"simulated\"\nenv_file = \".env.local\"\n";

/// Sets a variable of the deployment, which stands for its data.
fn leave_a_mark(world: &ProjectFixture) {
    let (url, key) = world.coordinates(".env.local");
    let body = serde_json::json!({ "changes": [{ "name": "MARK", "value": "kept" }] });
    let request = reqwest::Client::builder().no_proxy().build().unwrap();
    let request = request.post(format!("{url}/api/update_environment_variables"));
    let request = request.header("Authorization", format!("Convex {key}")).json(&body);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    assert!(runtime.block_on(request.send()).unwrap().status().is_success());
}

fn assert_marked(world: &ProjectFixture) {
    let (url, key) = world.assert_reachable(".env.local", "gremlin-dev");
    let (status, text) = get_with_key(&format!("{url}/api/v1/list_environment_variables"), &key);
    assert!(status == 200 && text.contains("kept"), "{status} {text}");
}

fn forgotten(world: &ProjectFixture) -> Vec<fs::DirEntry> {
    fs::read_dir(world.home.join("forgotten")).map(|found| found.map(Result::unwrap).collect()).unwrap_or_default()
}

#[test]
fn a_forgotten_backend_keeps_its_data_and_is_taken_up_again() {
    let world = ProjectFixture::new(MANIFEST);
    world.apply();
    leave_a_mark(&world);
    let (url, key) = world.coordinates(".env.local");
    let run = world.run_expecting(0, &["forget", "dev", "--yes"]);
    assert!(run.err.contains("its data stays in ") && run.err.contains("convexinfra recover dev"), "{run}");
    assert!(world.pid("gremlin-dev").is_none());
    assert!(world.names().is_empty() && forgotten(&world).len() == 1);
    // No second backend is made beside its data.
    assert_eq!(world.run_expecting(4, &["apply", "--yes", "--json"]).errors(), ["provider.orphaned"]);
    assert_eq!(world.run_expecting(0, &["recover", "--json"]).document()["recovered"], serde_json::json!(["dev"]));
    assert!(forgotten(&world).is_empty());
    world.apply();
    assert_marked(&world);
    let (url_after, key_after) = world.coordinates(".env.local");
    assert_eq!(url, url_after, "it keeps its ports");
    assert_ne!(key, key_after, "its secret went with its record");
    assert_eq!(world.run_expecting(0, &["recover", "--json"]).document()["recovered"], serde_json::json!([]));
    world.assert_converged();
}

#[test]
fn a_kill_anywhere_in_forget_and_recover_is_repaired_by_the_same_command() {
    let mut traced = ProjectFixture::new(MANIFEST);
    traced.apply();
    let forget = traced.crash_points(&["forget", "dev", "--yes"]);
    let recover = traced.crash_points(&["recover"]);
    assert!(forget.len() > 3 && recover.len() > 1, "{forget:?} {recover:?}");
    for point in &forget {
        let mut world = ProjectFixture::new(MANIFEST);
        world.apply();
        leave_a_mark(&world);
        world.run_killed_at(point, &["forget", "dev", "--yes"]);
        // Either the next apply takes it up where it was left, or it is forgotten and recovered.
        if world.names().is_empty() {
            world.run_expecting(0, &["recover", "dev"]);
        }
        world.apply();
        assert_marked(&world);
        world.assert_converged();
    }
    for point in &recover {
        let mut world = ProjectFixture::new(MANIFEST);
        world.apply();
        leave_a_mark(&world);
        world.run_expecting(0, &["forget", "dev", "--yes"]);
        world.run_killed_at(point, &["recover"]);
        world.run_expecting(0, &["recover"]);
        world.apply();
        assert_marked(&world);
        world.assert_converged();
    }
}

#[test]
fn the_backends_of_a_lost_store_are_taken_up_from_their_directories() {
    let world = ProjectFixture::new(MANIFEST);
    world.apply();
    leave_a_mark(&world);
    for name in fs::read_dir(&world.home).unwrap().map(|entry| entry.unwrap().path()) {
        if name.file_name().unwrap().to_string_lossy().starts_with("control-plane.sqlite3") {
            fs::remove_file(name).unwrap();
        }
    }
    let refused = world.run_expecting(1, &["apply", "--yes", "--json"]);
    assert_eq!(refused.errors(), ["home.store_lost"]);
    assert_eq!(world.run_expecting(0, &["recover", "--json"]).document()["recovered"], serde_json::json!(["dev"]));
    world.apply();
    assert_marked(&world);
    world.assert_converged();
}

#[test]
fn only_what_the_manifest_declares_alike_is_recovered() {
    let world = ProjectFixture::new(MANIFEST);
    world.apply();
    world.run_expecting(0, &["forget", "dev", "--yes"]);
    world.manifest("project = \"gremlin\"\n[backends.other]\nprovider = \"simulated\"\n");
    assert_eq!(world.run_expecting(4, &["recover", "--json"]).errors(), ["recover.not_possible"]);
    assert_eq!(forgotten(&world).len(), 1);
    // Another project does not see it.
    world.manifest("project = \"other\"\n[backends.dev]\nprovider = \"simulated\"\n");
    assert_eq!(world.run_expecting(0, &["recover", "--json"]).document()["recovered"], serde_json::json!([]));
    // What is no identity is none.
    let file = forgotten(&world)[0].path().join("identity.json");
    fs::write(&file, "{").unwrap();
    world.manifest(MANIFEST);
    assert_eq!(world.run_expecting(0, &["recover", "--json"]).document()["recovered"], serde_json::json!([]));
}

#[test]
fn a_rotated_key_is_in_every_env_file_and_the_one_before_opens_nothing() {
    let world = ProjectFixture::new(MANIFEST);
    world.apply();
    leave_a_mark(&world);
    world.run_expecting(0, &["env", "dev", "--write", "typed.env"]);
    let (url, before) = world.coordinates(".env.local");
    assert_eq!(world.run_expecting(64, &["key", "rotate", "dev", "--json"]).errors(), ["usage.not_confirmed"]);
    let run = world.run_expecting(0, &["key", "rotate", "--yes", "--json"]);
    assert_eq!(run.document()["env_files"], serde_json::json!([".env.local", "typed.env"]), "{run}");
    let (same, after) = world.coordinates(".env.local");
    assert_eq!((&url, world.coordinates("typed.env")), (&same, (url.clone(), after.clone())));
    assert!(before != after && !run.out.contains(&after) && !run.err.contains(&after), "{run}");
    let (refused, _) = get_with_key(&format!("{url}/api/v1/list_environment_variables"), &before);
    assert!((400..500).contains(&refused), "{refused}");
    assert_marked(&world);
    world.assert_converged();
    world.run_expecting(0, &["log", "--verify"]);
}

#[test]
fn a_kill_anywhere_in_a_rotation_is_repaired_by_apply() {
    let mut traced = ProjectFixture::new(MANIFEST);
    traced.apply();
    let points = traced.crash_points(&["key", "rotate", "dev", "--yes"]);
    assert!(points.len() > 3, "{points:?}");
    for point in points.iter().filter(|point| !point.is_in_detacher()) {
        let mut world = ProjectFixture::new(MANIFEST);
        world.apply();
        leave_a_mark(&world);
        world.run_killed_at(point, &["key", "rotate", "dev", "--yes"]);
        world.apply();
        assert_marked(&world);
        world.assert_converged();
    }
}
