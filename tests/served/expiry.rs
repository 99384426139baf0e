//! What a server removes by itself because its time is over.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::fs;
use std::path::PathBuf;

use serde_json::Value;

use fixture::{ProjectFixture, wait_until};

const SHORT: &str = "project = \"gremlin\"\n\n[backends.dev]\nprovider = \"simulated\"\nttl = \"3s\"\n";

/// What the audit log says happened to the backend, each with who did it.
fn history(world: &ProjectFixture) -> Vec<(String, String)> {
    let entries = world.run_expecting(0, &["log", "--json"]).document();
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let of_backend = |entry: &&Value| entry["backend"] == "dev";
    let entries = entries["entries"].as_array().unwrap_or_else(|| panic!("{entries:#}")).iter().filter(of_backend);
    entries.map(|entry| (text(&entry["kind"]), text(&entry["actor"]["name"]))).collect()
}

#[test]
fn an_expired_backend_is_removed_by_the_server() {
    let mut world: ProjectFixture = super::new_world(SHORT);
    world.apply();
    wait_until("the backend is removed", || world.names().is_empty());
    assert!(world.processes().iter().all(|(_, words)| !words.contains("simulate-backend")), "{:?}", world.processes());
    let last: Vec<_> = history(&world).into_iter().rev().take(2).collect();
    let by = |kind: &str| (kind.to_owned(), "the control plane".to_owned());
    assert_eq!(last, [by("backend_removed"), by("removal_accepted")]);
    world.run_expecting(0, &["log", "--verify"]);
    let log = world.server().log();
    assert!(!log.contains("WARN"), "{log}");
}

#[test]
fn a_removal_that_failed_is_done_once_nothing_is_in_the_way() {
    let mut world: ProjectFixture = super::new_world(SHORT);
    world.apply();
    let turn = turn_file(&world);
    let _ = fs::remove_file(&turn);
    // No lock can be taken on a directory.
    fs::create_dir(&turn).unwrap();
    let failed = |world: &mut ProjectFixture| world.server().log().matches("an operation failed").count();
    wait_until("the removal has failed", || failed(&mut world) > 0);
    assert_eq!(world.names(), ["dev"]);
    let log = world.server().log();
    let line = log.lines().find(|line| line.contains("an operation failed")).unwrap();
    for part in ["WARN", "project=gremlin", "backend=dev", "operation=", "code="] {
        assert!(line.contains(part), "{part} is not in {line}");
    }
    let count = |world: &ProjectFixture, kind: &str| history(world).iter().filter(|(found, _)| found == kind).count();
    assert_eq!((count(&world, "removal_accepted"), count(&world, "operation_failed")), (1, 1));
    fs::remove_dir(&turn).unwrap();
    wait_until("the backend is removed", || world.names().is_empty());
    assert_eq!(count(&world, "backend_removed"), 1);
    let tries = count(&world, "removal_accepted");
    assert!((2..=4).contains(&tries), "{tries} attempts, {}", world.server().log());
}

/// The file whose lock the provider takes before it changes the backend.
fn turn_file(world: &ProjectFixture) -> PathBuf {
    let backends = fs::read_dir(world.home.join("backends")).unwrap().flatten().map(|entry| entry.path());
    let directory = backends.into_iter().find(|path| path.is_dir()).expect("the backend has a directory");
    directory.with_extension("turn")
}
