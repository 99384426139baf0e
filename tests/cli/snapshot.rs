//! Snapshots and restores: what comes back, what is never restored, and what a kill anywhere leaves.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stdout)]

use std::path::PathBuf;

use fixture::ProjectFixture;
use fixture::crash::{AT_ONCE, crash_matrix};

use crate::archive::import;

const MANIFEST: &str = "project = \"gremlin\"\n[backends.dev]\nprovider = \"simulated\"\nenv_file = \".env.local\"\n";

fn new_world() -> ProjectFixture {
    let world = ProjectFixture::new(MANIFEST);
    world.apply();
    import(&world, "messages", "{\"body\":\"one\"}\n");
    world
}

/// Takes a snapshot, and returns its name.
fn take(world: &ProjectFixture) -> String {
    let document = world.run_expecting(0, &["snapshot", "create", "dev", "--json"]).document();
    assert_eq!(document["format"], "convexinfra.snapshot/1");
    document["snapshot"]["id"].as_str().unwrap().to_owned()
}

fn restore(id: &str) -> [&str; 7] {
    ["restore", "dev", "--snapshot", id, "--allow-replace", "dev", "--yes"]
}

/// Returns how many documents the backend has.
pub(crate) fn documents(world: &ProjectFixture) -> u64 {
    documents_of(world, "dev")
}

pub(crate) fn documents_of(world: &ProjectFixture, name: &str) -> u64 {
    let file = world.folder.join("count.zip");
    let run = world.run_expecting(0, &["archive", name, "--out", "count.zip", "--json"]);
    std::fs::remove_file(file).unwrap();
    let tables = run.document()["tables"].as_array().unwrap().clone();
    tables.iter().map(|table| table["documents"].as_u64().unwrap()).sum()
}

pub(crate) fn listed(world: &ProjectFixture) -> Vec<String> {
    let document = world.run_expecting(0, &["snapshot", "list", "--json"]).document();
    document["snapshots"].as_array().unwrap().iter().map(|snapshot| snapshot["id"].as_str().unwrap().to_owned()).collect()
}

fn chunks(world: &ProjectFixture) -> Vec<PathBuf> {
    let mut found = Vec::new();
    fixture::walk(&world.home.join("snapshots/gremlin/chunks"), &mut |path| {
        if path.is_file() {
            found.push(path.to_owned());
        }
    });
    found
}

#[test]
fn a_restore_brings_back_the_data_of_a_snapshot() {
    let world = new_world();
    assert_eq!(listed(&world), Vec::<String>::new());
    let first = take(&world);
    world.assert_reachable(".env.local", "gremlin-dev");
    import(&world, "messages", "{\"body\":\"two\"}\n{\"body\":\"three\"}\n");
    assert_eq!(documents(&world), 3);
    let run = world.run_expecting(0, &["snapshot", "create", "--note", "before the migration"]);
    assert!(run.out.contains("before the migration") && run.out.contains("did not run for"), "{run}");
    let all = listed(&world);
    assert_eq!((all.len(), &all[0]), (2, &first));

    let refused = world.run_expecting(4, &["restore", "dev", "--snapshot", &first, "--yes", "--json"]);
    assert_eq!(refused.errors(), ["restore.not_allowed"]);
    let run = world.run_expecting(0, &restore(&first));
    assert!(run.err.contains("it replaces the data of `dev`: a database of") && run.err.contains("last snapshot"), "{run}");
    assert_eq!(documents(&world), 1);
    world.run_expecting(0, &restore(&all[1]));
    assert_eq!(documents(&world), 3);
    world.run_expecting(0, &restore(&all[1]));
    assert_eq!(documents(&world), 3);

    for id in &all {
        let run = world.run_expecting(0, &["snapshot", "verify", id, "--json"]);
        assert_eq!(run.document()["verification"]["damaged"], 0, "{run}");
        world.run_expecting(0, &["snapshot", "delete", id, "--yes"]);
    }
    assert_eq!(chunks(&world), Vec::<PathBuf>::new());
    let missing = world.run_expecting(1, &["snapshot", "show", &first, "--json"]);
    assert_eq!(missing.errors(), ["snapshot.not_found"]);
    world.assert_converged();
}

#[test]
fn what_no_rule_keeps_is_deleted_and_what_is_recent_is_not_taken_again() {
    let world = new_world();
    let first = take(&world);
    import(&world, "messages", &format!("{{\"body\":\"{}\"}}\n", "x".repeat(100_000)));
    let second = take(&world);
    let recent = world.run_expecting(0, &["snapshot", "create", "dev", "--every", "1h", "--json"]).document();
    assert_eq!((recent["snapshot"]["id"].as_str().unwrap(), listed(&world).len()), (second.as_str(), 2));
    take(&world);

    assert_eq!(world.run(&["snapshot", "prune", "dev", "--yes"]).code(), 64, "a rule has to be given");
    let prune = |flags: &[&str]| {
        let run = world.run_expecting(0, &[&["snapshot", "prune", "dev", "--keep-last", "1", "--json"], flags].concat());
        let document = run.document();
        assert_eq!(document["format"], "convexinfra.snapshot-pruning/1");
        let ids = document["snapshots"].as_array().unwrap().iter().map(|gone| gone["id"].as_str().unwrap().to_owned());
        (ids.collect::<Vec<_>>(), document["deleted"].as_bool().unwrap(), document["freed_bytes"].as_u64().unwrap())
    };
    assert_eq!(prune(&["--dry-run"]), (vec![first.clone(), second.clone()], false, 0));
    let unconfirmed = world.run(&["snapshot", "prune", "dev", "--keep-last", "1", "--json"]);
    assert_eq!((unconfirmed.errors(), listed(&world).len()), (vec!["usage.not_confirmed".to_owned()], 3), "{unconfirmed}");
    let (gone, deleted, freed) = prune(&["--yes"]);
    assert!(deleted && freed > 0 && gone == [first, second], "{gone:?} {freed}");
    let left = listed(&world);
    assert_eq!((left.len(), prune(&["--yes"])), (1, (vec![], false, 0)));
    world.run_expecting(0, &["snapshot", "verify", &left[0]]);
    world.run_expecting(0, &restore(&left[0]));
    assert_eq!(documents(&world), 2);
}

/// Returns the folders of data that restores have put out of their place.
fn kept_from_before(world: &ProjectFixture) -> usize {
    let is_kept = |name: &&String| name.rsplit('/').next().is_some_and(|name| name.starts_with("data.previous-"));
    world.file_names().iter().filter(is_kept).count()
}

#[test]
fn data_from_before_a_restore_is_kept_until_it_is_dropped_by_name() {
    let world = new_world();
    let drop = ["restore", "dev", "--drop-previous", "--yes"];
    world.run_expecting(0, &drop);
    let id = take(&world);
    let run = world.run_expecting(0, &restore(&id));
    assert!(run.out.contains("convexinfra restore dev --drop-previous"), "{run}");
    assert_eq!(kept_from_before(&world), 1);
    let process = world.pid("gremlin-dev");
    for (code, words) in [
        (64, vec!["restore", "dev", "--drop-previous"]),
        (64, vec!["restore", "--drop-previous", "--yes"]),
        (64, vec!["restore", "dev", "--drop-previous", "--snapshot", &id, "--yes"]),
        (64, vec!["restore", "dev", "--allow-replace", "dev", "--yes"]),
    ] {
        world.run_expecting(code, &words);
    }
    assert_eq!(kept_from_before(&world), 1);
    world.run_expecting(0, &drop);
    assert_eq!((kept_from_before(&world), world.pid("gremlin-dev"), documents(&world)), (0, process, 1));
    world.run_expecting(0, &drop);
    world.assert_converged();
}

#[test]
fn data_that_a_killed_restore_may_go_back_to_is_not_dropped() {
    let mut world = new_world();
    let id = take(&world);
    import(&world, "messages", "{\"body\":\"two\"}\n");
    let points = world.crash_points(&restore(&id));
    let switched = points.iter().find(|point| point.name == "host.data_switched").unwrap();
    import(&world, "messages", "{\"body\":\"three\"}\n");
    world.run_killed_at(switched, &restore(&id));
    let refused = world.run(&["restore", "dev", "--drop-previous", "--yes", "--json"]);
    assert_ne!(refused.code(), 0, "{refused}");
    assert!(refused.out.contains("has not come to its end"), "{refused}");
    assert_eq!(kept_from_before(&world), 1);
    world.run_expecting(0, &restore(&id));
    world.run_expecting(0, &["restore", "dev", "--drop-previous", "--yes"]);
    assert_eq!((kept_from_before(&world), documents(&world)), (0, 1));
}

#[test]
fn a_project_has_no_more_snapshots_than_it_may_and_nothing_is_stopped_for_one() {
    let world = new_world();
    take(&world);
    let manifests = world.home.join("snapshots/gremlin/manifests");
    for number in 1..1000 {
        std::fs::write(manifests.join(format!("dev-{number}.json")), "").unwrap();
    }
    let process = world.pid("gremlin-dev");
    let refused = world.run_expecting(4, &["snapshot", "create", "dev", "--json"]);
    assert_eq!(refused.errors(), ["snapshot.too_many"]);
    assert_eq!(world.pid("gremlin-dev"), process);
    std::fs::remove_file(manifests.join("dev-1.json")).unwrap();
    take(&world);
}

#[test]
fn a_backend_that_was_stopped_on_purpose_stays_so() {
    let world = new_world();
    world.run_expecting(0, &["stop", "dev"]);
    let id = take(&world);
    assert!(world.pid("gremlin-dev").is_none());
    let shown = world.run_expecting(0, &["snapshot", "show", &id, "--json"]).document();
    assert_eq!(shown["snapshot"].get("downtime_ms"), None);
    world.run_expecting(0, &restore(&id));
    assert!(world.pid("gremlin-dev").is_none());
    world.run_expecting(0, &["start", "dev"]);
    world.run_expecting(0, &["wait", "dev"]);
    assert_eq!(documents(&world), 1);
}

#[test]
fn an_export_goes_to_another_home_in_the_clear_only() {
    let (here, there) = (new_world(), new_world());
    let id = take(&here);
    import(&there, "messages", "{\"body\":\"two\"}\n");
    for (name, words) in [("sealed", vec![]), ("plain", vec!["--plain"])] {
        let out = here.folder.join(name);
        let out = out.to_str().unwrap();
        let command = [["snapshot", "export", &id, "--out", out].as_slice(), &words].concat();
        here.run_expecting(0, &command);
        assert_eq!(here.run_expecting(4, &[command.as_slice(), &["--json"]].concat()).errors(), ["snapshot.not_empty"]);
        let code = if name == "plain" { 0 } else { 1 };
        there.run_expecting(code, &["snapshot", "import", out]);
    }
    assert_eq!(documents(&there), 2);
    there.run_expecting(0, &restore(&id));
    assert_eq!(documents(&there), 1);
    there.assert_converged();
}

#[test]
fn a_damaged_snapshot_is_found_and_never_restored() {
    let world = new_world();
    let id = take(&world);
    import(&world, "messages", "{\"body\":\"two\"}\n");
    for chunk in chunks(&world) {
        let mut bytes = std::fs::read(&chunk).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        std::fs::write(&chunk, bytes).unwrap();
    }
    let found = world.run_expecting(1, &["snapshot", "verify", &id, "--json"]);
    assert_eq!(found.errors(), ["snapshot.damaged"]);
    let before = world.pid("gremlin-dev");
    let refused = world.run_expecting(1, &[restore(&id).as_slice(), &["--json"]].concat());
    assert_eq!(refused.errors(), ["snapshot.damaged"]);
    assert_eq!((world.pid("gremlin-dev"), documents(&world)), (before, 2));
    world.assert_converged();
}

#[test]
fn data_that_does_not_come_up_is_taken_back() {
    let world = new_world();
    let id = take(&world);
    import(&world, "messages", "{\"body\":\"two\"}\n");
    // A whole snapshot of a database that no backend can use.
    let out = world.folder.join("out");
    world.run_expecting(0, &["snapshot", "export", &id, "--out", out.to_str().unwrap(), "--plain"]);
    let broken = rebuilt_with_another_database(&out);
    world.run_expecting(0, &["snapshot", "delete", &id, "--yes"]);
    world.run_expecting(0, &["snapshot", "import", broken.to_str().unwrap()]);
    let failed = world.run(&restore(&id));
    assert_eq!(failed.code(), 1, "{failed}");
    assert_eq!(documents(&world), 2, "{failed}");
    world.assert_converged();
}

/// Writes the export again, whole in itself, with a database that has other tables of the same names.
fn rebuilt_with_another_database(export: &std::path::Path) -> PathBuf {
    use sha2::{Digest, Sha256};
    let database = export.join("db");
    let connection = rusqlite::Connection::open(&database).unwrap();
    connection
        .execute_batch("CREATE TABLE setting (other); CREATE TABLE documents (other); CREATE TABLE document (other)")
        .unwrap();
    drop(connection);
    let content = std::fs::read(&database).unwrap();
    std::fs::remove_file(&database).unwrap();
    let name = |bytes: &[u8]| hex::encode(Sha256::digest(bytes));
    let put = |bytes: &[u8]| {
        let name = name(bytes);
        let folder = export.join("chunks").join(&name[..2]);
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(folder.join(&name), [&[0], lz4_flex::compress_prepend_size(bytes).as_slice()].concat()).unwrap();
        name
    };
    let chunk = put(&content);
    let entry =
        serde_json::json!({ "path": "db.sqlite3", "bytes": content.len(), "sha256": name(&content), "chunks": [chunk] });
    let listing = put(format!("{entry}\n").as_bytes());
    let manifests = export.join("manifests");
    let path = std::fs::read_dir(&manifests).unwrap().next().unwrap().unwrap().path();
    let text = std::fs::read_to_string(&path).unwrap();
    let mut manifest: serde_json::Value = serde_json::from_str(text.lines().next().unwrap()).unwrap();
    manifest["listing"] = serde_json::json!([listing]);
    manifest["content"] = serde_json::json!({
        "database_bytes": content.len(), "database_sha256": name(&content), "files": 0, "file_bytes": 0, "stored_bytes": 0,
    });
    let body = manifest.to_string();
    std::fs::write(&path, format!("{body}\nsha256:{}\n", name(body.as_bytes()))).unwrap();
    export.to_owned()
}

/// After the next apply the backend is up with the data of before or after, and nothing is left to do.
fn assert_comes_up(world: &ProjectFixture, expected: &[u64]) {
    world.apply();
    assert!(expected.contains(&documents(world)));
    for id in listed(world) {
        world.run_expecting(0, &["snapshot", "verify", &id]);
    }
    world.assert_converged();
}

#[test]
fn a_snapshot_killed_anywhere_leaves_a_backend_that_comes_up_and_no_half_snapshot() {
    let words = ["snapshot", "create", "dev"];
    let points = new_world().crash_points(&words);
    let count = crash_matrix("a snapshot", &points, AT_ONCE, |point| {
        let mut world = new_world();
        let killed = world.run_killed_at(point, &words);
        if point.pass % 2 == 0 {
            assert_comes_up(&world, &[1]);
        }
        let before = listed(&world).len();
        take(&world);
        assert_eq!(listed(&world).len(), before + 1);
        assert_comes_up(&world, &[1]);
        for id in listed(&world) {
            world.run_expecting(0, &["snapshot", "delete", &id, "--yes"]);
        }
        assert_eq!(chunks(&world), Vec::<PathBuf>::new());
        !killed.status.success()
    });
    println!("crash matrix: {count} points (a snapshot)");
}

fn ready_to_restore() -> (ProjectFixture, String) {
    let world = new_world();
    let id = take(&world);
    import(&world, "messages", "{\"body\":\"two\"}\n");
    (world, id)
}

#[test]
fn a_restore_killed_anywhere_is_completed_by_the_next() {
    let (mut world, id) = ready_to_restore();
    let points = world.crash_points(&restore(&id));
    let count = crash_matrix("a restore", &points, AT_ONCE, |point| {
        let (mut world, id) = ready_to_restore();
        let killed = world.run_killed_at(point, &restore(&id));
        world.run_expecting(0, &restore(&id));
        assert_comes_up(&world, &[1]);
        !killed.status.success()
    });
    println!("crash matrix: {count} points (a restore)");
}

#[test]
fn a_restore_killed_anywhere_leaves_the_data_of_before_or_after() {
    let (mut world, id) = ready_to_restore();
    let points = world.crash_points(&restore(&id));
    let count = crash_matrix("a restore that is given up", &points, AT_ONCE, |point| {
        let (mut world, id) = ready_to_restore();
        let killed = world.run_killed_at(point, &restore(&id));
        assert_comes_up(&world, &[1, 2]);
        !killed.status.success()
    });
    println!("crash matrix: {count} points (a restore, then an apply)");
}
