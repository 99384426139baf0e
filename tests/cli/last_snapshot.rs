//! The last snapshot before data is destroyed: it is the way back, it is taken before anything is removed, and what cannot have
//! one says so.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stdout)]

use fixture::crash::{AT_ONCE, crash_matrix};
use fixture::{CommandResult, ProjectFixture};
use rstest::rstest;

use crate::archive::import;
use crate::snapshot::{documents, listed};

const MANIFEST: &str = "project = \"gremlin\"\n[backends.dev]\nprovider = \"simulated\"\nenv_file = \".env.local\"\n";
const EMPTY: &str = "project = \"gremlin\"\n";
const DESTROY: [&str; 4] = ["destroy", "dev", "--allow-destroy", "dev"];
const DEPROVISION: [&str; 4] = ["deprovision", "dev", "--allow-destroy", "dev"];
const APPLY: [&str; 4] = ["apply", "--yes", "--allow-destroy", "dev"];

fn new_world(manifest: &str) -> ProjectFixture {
    let world = ProjectFixture::new(manifest);
    world.apply();
    import(&world, "messages", "{\"body\":\"one\"}\n");
    world
}

/// Brings the backend up again, and gives it back what it had.
fn bring_back(world: &ProjectFixture) {
    world.manifest(MANIFEST);
    world.apply();
    assert_eq!(documents(world), 0);
    let id = listed(world).pop().unwrap();
    let verified = world.run_expecting(0, &["snapshot", "verify", &id, "--json"]).document();
    assert_eq!(verified["verification"]["damaged"], 0, "{verified}");
    world.run_expecting(0, &["restore", "dev", "--snapshot", &id, "--allow-replace", "dev", "--yes"]);
    assert_eq!(documents(world), 1);
    world.assert_converged();
}

fn planned(world: &ProjectFixture, flags: &[&str]) -> serde_json::Value {
    let plan = world.run_expecting(0, &[&["plan", "--json"], flags].concat()).document();
    plan.pointer("/at_stake/0/final_snapshot").cloned().unwrap_or_default()
}

#[rstest]
#[case::by_name(MANIFEST, &DESTROY)]
#[case::with_its_block(MANIFEST, &DEPROVISION)]
#[case::by_an_apply(EMPTY, &APPLY)]
fn what_is_destroyed_can_be_had_again(#[case] manifest: &str, #[case] words: &[&str]) {
    let world = new_world(MANIFEST);
    world.manifest(manifest);
    let run = world.run_expecting(0, words);
    let id = listed(&world).pop().unwrap();
    assert!(run.err.contains(&format!("its last snapshot is `{id}`")), "{run}");
    assert!(run.err.contains("a last snapshot is taken first, and kept"), "{run}");
    let shown = world.run_expecting(0, &["snapshot", "show", &id, "--json"]).document();
    assert_eq!(shown["snapshot"]["note"], "before it was destroyed");
    assert!(world.pid("gremlin-dev").is_none());
    bring_back(&world);
}

#[test]
fn what_was_stopped_has_a_last_snapshot_as_well() {
    let world = new_world(MANIFEST);
    world.run_expecting(0, &["stop", "dev"]);
    world.run_expecting(0, &DESTROY);
    bring_back(&world);
}

#[rstest]
#[case::declined(MANIFEST, &["--no-last-snapshot"], "declined", "as was asked for")]
#[case::with_a_ttl(&format!("{MANIFEST}ttl = \"3d\"\n"), &[], "expires", "as it has a `ttl`")]
#[case::of_a_record(&format!("{MANIFEST}[backends.dev.simulated]\nlisten = false\n"), &[], "", "")]
fn none_is_taken_and_the_plan_says_why(#[case] manifest: &str, #[case] flags: &[&str], #[case] why: &str, #[case] words: &str) {
    let world = ProjectFixture::new(manifest);
    world.apply();
    world.manifest(EMPTY);
    assert_eq!(planned(&world, flags).as_str().unwrap_or_default(), why);
    world.manifest(manifest);
    let run = world.run_expecting(0, &[DESTROY.as_slice(), flags].concat());
    assert!(run.err.contains(words) && !run.err.contains("last snapshot is `"), "{run}");
    assert!(!world.home.join("snapshots").exists());
}

/// What stands where the store writes keeps a snapshot from being taken.
#[rstest]
#[case::of_the_database("copies")]
#[case::of_the_content("chunks")]
fn where_it_cannot_be_taken_nothing_is_removed_and_the_backend_runs_on(#[case] blocked: &str) {
    let world = new_world(MANIFEST);
    let store = world.home.join("snapshots/gremlin");
    std::fs::create_dir_all(&store).unwrap();
    std::fs::write(store.join(blocked), "").unwrap();
    let failed = |run: &CommandResult| {
        assert_eq!(run.code(), 1, "{run}");
        assert!(run.err.contains("`dev` was not destroyed, as its last snapshot could not be taken"), "{run}");
        assert!(run.err.contains("convexinfra destroy dev --no-last-snapshot --allow-destroy dev"), "{run}");
        assert_eq!(documents(&world), 1);
    };
    failed(&world.run(&DESTROY));
    failed(&world.run(&DESTROY));
    // What is left is its env file, whose block goes before a backend does.
    world.apply();
    world.assert_reachable(".env.local", "gremlin-dev");
    world.assert_converged();
    world.run_expecting(0, &[DESTROY.as_slice(), &["--no-last-snapshot"]].concat());
    assert!(world.pid("gremlin-dev").is_none());
}

#[test]
fn a_project_with_too_many_snapshots_is_told_so_before_anything_is_stopped() {
    let world = new_world(MANIFEST);
    let manifests = world.home.join("snapshots/gremlin/manifests");
    std::fs::create_dir_all(&manifests).unwrap();
    for number in 0..1000 {
        std::fs::write(manifests.join(format!("dev-{number}.json")), "").unwrap();
    }
    let process = world.pid("gremlin-dev");
    let refused = world.run_expecting(1, &[DESTROY.as_slice(), &["--json"]].concat());
    assert!(refused.out.contains("snapshot.too_many") && refused.out.contains("--no-last-snapshot"), "{refused}");
    assert_eq!(world.pid("gremlin-dev"), process);
    world.run_expecting(0, &[DESTROY.as_slice(), &["--no-last-snapshot"]].concat());
}

#[test]
fn a_destroy_killed_anywhere_keeps_the_data_in_a_whole_snapshot() {
    let points = new_world(MANIFEST).crash_points(&DESTROY);
    let names: Vec<String> = points.iter().map(ToString::to_string).collect();
    assert!(names.iter().any(|name| name.contains("snapshot.content_written")), "{names:?}");
    let count = crash_matrix("a destroy with a last snapshot", &points, AT_ONCE, |point| {
        let mut world = new_world(MANIFEST);
        let killed = world.run_killed_at(point, &DESTROY);
        if point.pass % 2 == 0 {
            // An apply finishes it as well, and makes a new backend where the old one went.
            world.apply();
        }
        world.run_expecting(0, &DESTROY);
        assert!(world.pid("gremlin-dev").is_none());
        let with_data = listed(&world).into_iter().find(|id| {
            world.run_expecting(0, &["snapshot", "verify", id]);
            world.apply();
            world.run_expecting(0, &["restore", "dev", "--snapshot", id, "--allow-replace", "dev", "--yes"]);
            documents(&world) == 1
        });
        assert!(with_data.is_some(), "{point}");
        !killed.status.success()
    });
    println!("crash matrix: {count} points (a destroy with a last snapshot)");
}
