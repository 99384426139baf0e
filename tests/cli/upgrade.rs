//! Upgrades: the snapshot before, the way back from a release that does not come up, and what a kill anywhere leaves.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stdout)]

use fixture::crash::{AT_ONCE, crash_matrix};
use fixture::{ProjectFixture, executable, script, steps};

use crate::archive::import;
use crate::snapshot::{documents, listed};

const OLD: &str = "precompiled-2026-06-26-903b8b9";
const NEW: &str = "precompiled-2026-08-22-652b828";
const APPLY: [&str; 2] = ["apply", "--yes"];

fn manifest(provider: &str) -> String {
    format!("project = \"gremlin\"\n[backends.dev]\nprovider = \"{provider}\"\nenv_file = \".env.local\"\n")
}

fn simulated(release: &str) -> String {
    format!("{}release = \"{release}\"\n", manifest("simulated"))
}

/// A backend with one document on the old release.
fn new_world() -> ProjectFixture {
    let world = ProjectFixture::new(&simulated(OLD));
    world.apply();
    import(&world, "messages", "{\"body\":\"one\"}\n");
    world.manifest(&simulated(NEW));
    world
}

fn local(world: &ProjectFixture, release: &str, lines: &str) -> String {
    let binary = script(&world.folder, release, lines);
    format!("{}release = \"{release}\"\nlocal = {{ binary = \"{}\" }}\n", manifest("local"), binary.display())
}

fn working() -> String {
    format!("exec '{}' simulate-backend \"$@\"", executable())
}

/// A backend with one document on the old release, and a manifest with a new one that ruins the database and ends.
fn world_with_broken_release() -> ProjectFixture {
    let world = ProjectFixture::new(&manifest("simulated"));
    world.manifest(&local(&world, OLD, &working()));
    world.apply();
    import(&world, "messages", "{\"body\":\"one\"}\n");
    let broken = "for word in \"$@\"; do case $word in *db.sqlite3) echo broken > \"$word\";; esac; done\n\
                  echo 'panicked: Transition too old!' >&2\nexit 1";
    world.manifest(&local(&world, NEW, broken));
    world
}

#[test]
fn a_newer_release_is_an_upgrade_with_a_snapshot_before() {
    let world = new_world();
    let plan = world.plan();
    assert_eq!(steps(&plan), ["update:backend.dev"]);
    assert_eq!(plan["upgrades"][0]["from"], OLD, "{plan:#}");
    assert_eq!((&plan["upgrades"][0]["to"], &plan["upgrades"][0]["way_back"]), (&NEW.into(), &"snapshot".into()));
    let shown = world.run_expecting(0, &["plan"]);
    assert!(shown.out.contains("come back by themselves"), "{shown}");
    world.apply();
    let snapshots = listed(&world);
    let shown = world.run_expecting(0, &["snapshot", "show", &snapshots[0], "--json"]).document();
    assert_eq!((&shown["snapshot"]["release"], &shown["snapshot"]["before_upgrade_to"]), (&OLD.into(), &NEW.into()));
    assert_eq!((snapshots.len(), documents(&world)), (1, 1));
    world.assert_converged();
}

/// It is back as it was: with its data, and with the release that ran on it.
fn assert_is_back(world: &ProjectFixture) {
    assert_eq!(documents(world), 1);
    let dev = world.status()["backends"][0].clone();
    assert_eq!((&dev["phase"], &dev["release"]), (&"ready".into(), &OLD.into()), "{dev:#}");
}

#[test]
fn a_release_that_does_not_come_up_is_taken_back() {
    let world = world_with_broken_release();
    let failed = world.run(&["apply", "--yes"]);
    assert_eq!(failed.code(), 1, "{failed}");
    assert!(failed.err.contains("it is back at") && failed.err.contains("Transition too old!"), "{failed}");
    assert_is_back(&world);
    assert_eq!(steps(&world.plan()), ["update:backend.dev"], "it is still to be upgraded");
    world.manifest(&local(&world, NEW, &working()));
    world.apply();
    assert_eq!(documents(&world), 1);
    world.assert_converged();
}

#[test]
fn what_was_stopped_on_purpose_is_stopped_after_the_way_back() {
    let world = world_with_broken_release();
    world.run_expecting(0, &["stop", "dev"]);
    assert_eq!(world.run(&["apply", "--yes"]).code(), 1);
    assert!(world.pid("gremlin-dev").is_none());
    world.run_expecting(0, &["start", "dev"]);
    world.run_expecting(0, &["wait", "dev"]);
    assert_is_back(&world);
}

#[test]
fn a_rollback_brings_back_the_data_and_the_release_from_before() {
    let world = new_world();
    world.manifest(&simulated(OLD));
    let none = world.run_expecting(4, &["rollback", "dev", "--allow-replace", "dev", "--yes", "--json"]);
    assert_eq!(none.errors(), ["rollback.no_upgrade"]);
    world.run_expecting(0, &["upgrade", "dev", "--to", NEW, "--yes"]);
    assert_eq!(world.read("convex.toml"), simulated(NEW));
    world.assert_converged();
    import(&world, "messages", "{\"body\":\"two\"}\n");
    let refused = world.run_expecting(4, &["rollback", "dev", "--yes", "--json"]);
    assert_eq!(refused.errors(), ["restore.not_allowed"]);
    assert_eq!(documents(&world), 2);
    let run = world.run_expecting(0, &["rollback", "dev", "--allow-replace", "dev", "--yes"]);
    assert!(run.err.contains("everything that was written since"), "{run}");
    assert_eq!((documents(&world), world.read("convex.toml")), (1, simulated(OLD)));
    world.assert_converged();
}

#[test]
fn the_manifest_goes_back_with_a_failed_upgrade() {
    let world = ProjectFixture::new(&manifest("simulated"));
    let lines = format!("case $CONVEX_RELEASE_VERSION_DEV in *652b828*) exit 1;; esac\n{}", working());
    let text = local(&world, OLD, &lines);
    world.manifest(&text);
    world.apply();
    import(&world, "messages", "{\"body\":\"one\"}\n");
    let failed = world.run(&["upgrade", "dev", "--to", NEW, "--yes"]);
    assert_eq!((failed.code(), world.read("convex.toml")), (1, text), "{failed}");
    assert_is_back(&world);
    world.assert_converged();
}

#[test]
fn releases_say_what_is_newer_and_what_the_client_needs() {
    let mut world = ProjectFixture::new(&simulated("precompiled-2025-12-01-aaaaaaa"));
    world.set("CONVEXINFRA_LATEST_URL", "http://127.0.0.1:9/");
    world.apply();
    world.write("package.json", "{ \"dependencies\": { \"convex\": \"^1.45.0\" } }");
    let run = world.run_expecting(0, &["releases", "--outdated", "--json"]);
    let document = run.document();
    assert_eq!(document["backends"][0]["outdated"], true, "{run}");
    assert_eq!((&document["newest"], &document["lints"][0]["code"]), (&NEW.into(), &"releases.client_too_new".into()));
    world.manifest(&simulated(NEW));
    world.apply();
    let document = world.run_expecting(0, &["releases", "--outdated", "--json"]).document();
    assert_eq!((&document["backends"], &document["lints"]), (&serde_json::json!([]), &serde_json::json!([])));
}

/// An SQLite file with the tables of the real backend, and the version of a database in it.
fn convex_database(path: &std::path::Path, version: i64) {
    use base64::Engine as _;
    let _ = std::fs::remove_file(path);
    let connection = rusqlite::Connection::open(path).unwrap();
    let (tables, globals) = ("01".repeat(16), "02".repeat(16));
    let named = base64::engine::general_purpose::URL_SAFE_NO_PAD.encode([1; 16]);
    let version = base64::engine::general_purpose::STANDARD.encode(version.to_le_bytes());
    connection
        .execute_batch(&format!(
            "CREATE TABLE documents (id BLOB NOT NULL, ts INTEGER NOT NULL, table_id BLOB NOT NULL, json_value TEXT NULL,
                 deleted INTEGER NOT NULL, prev_ts INTEGER, PRIMARY KEY (ts, table_id, id));
             CREATE TABLE indexes (index_id BLOB NOT NULL, ts INTEGER NOT NULL, key BLOB NOT NULL, deleted INTEGER NOT NULL,
                 table_id BLOB NULL, document_id BLOB NULL, PRIMARY KEY (index_id, key, ts));
             CREATE TABLE persistence_globals (key TEXT NOT NULL, json_value TEXT NOT NULL, PRIMARY KEY (key));
             INSERT INTO persistence_globals VALUES ('tables_table_id', '\"{named}\"');
             INSERT INTO documents VALUES (X'{globals}', 1, X'{tables}', '{{\"name\":\"_db\",\"state\":\"active\"}}', 0, NULL);
             INSERT INTO documents VALUES (X'{globals}', 2, X'{globals}', '{{\"version\":{{\"$integer\":\"{version}\"}}}}', 0, NULL);"
        ))
        .unwrap();
}

#[test]
fn a_build_is_not_started_on_data_that_it_does_not_know() {
    let world = ProjectFixture::new(&simulated(OLD));
    world.apply();
    world.run_expecting(0, &["stop", "dev"]);
    let mut database = None;
    fixture::walk(&world.home.join("backends"), &mut |path| {
        if path.ends_with("data/db.sqlite3") {
            database = Some(path.to_owned());
        }
    });
    let database = database.unwrap();
    for (version, code) in [(128, "data.newer_version"), (115, "data.older_version")] {
        convex_database(&database, version);
        let refused = world.run_expecting(1, &["start", "dev", "--json"]);
        assert_eq!(refused.errors(), [code], "{refused}");
        assert!(world.pid("gremlin-dev").is_none());
    }
}

#[test]
fn an_upgrade_killed_anywhere_is_completed_by_the_next_apply() {
    let points = new_world().crash_points(&APPLY);
    let count = crash_matrix("an upgrade", &points, AT_ONCE, |point| {
        let mut world = new_world();
        let killed = world.run_killed_at(point, &APPLY);
        world.apply();
        assert_eq!(documents(&world), 1);
        assert_eq!(world.status()["backends"][0]["release"], NEW);
        world.assert_converged();
        !killed.status.success()
    });
    println!("crash matrix: {count} points (an upgrade)");
}

#[test]
fn an_upgrade_that_fails_and_is_killed_anywhere_goes_back() {
    let points = world_with_broken_release().crash_points_until(1, &APPLY);
    let count = crash_matrix("an upgrade that fails", &points, AT_ONCE, |point| {
        let mut world = world_with_broken_release();
        let killed = world.run_killed_at(point, &APPLY);
        assert_eq!(world.run(&APPLY).code(), 1, "after {killed}");
        assert_is_back(&world);
        killed.signal().is_some() || point.is_in_detacher()
    });
    println!("crash matrix: {count} points (an upgrade that fails)");
}
