//! Restores and upgrades of backends in containers: the data in another volume, and the way back from what does not come up.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stderr)]

use fixture::ProjectFixture;
use fixture::crash::{CrashPoint, crash_matrix};

use super::commands::Project;
use super::rig::{BACKEND, BACKEND_TWO, BROKEN, Engine};
use crate::engine_or_skip;

/// Worlds at once: most of the time is spent waiting for the engine.
const AT_ONCE: usize = 3;
const OLD: &str = "precompiled-2026-06-26-903b8b9";
const NEW: &str = "precompiled-2026-08-21-652b828";
const APPLY: &[&str] = &["apply", "--yes"];
const FILES: &str = "/convex/data/storage/files";

fn blocks(release: &str, image: &str) -> String {
    format!(
        "[backends.dev]\nprovider = \"docker\"\nrelease = \"{release}\"\nenv_file = \".env.local\"\n[backends.dev.docker]\n\
         image = \"{image}\"\npull = \"never\"\n"
    )
}

/// A backend with one document and one file.
fn new_project(engine: &'static Engine) -> Project {
    let project = Project::new(engine, &blocks(OLD, BACKEND));
    project.world.apply();
    import(&project.world, "{\"body\":\"one\"}\n");
    run(&project, &format!("mkdir -p {FILES}; head -c 700001 /dev/urandom > {FILES}/a.blob"));
    project
}

pub(super) fn run(project: &Project, script: &str) {
    project.engine.docker(&["exec", &project.container(), "sh", "-c", script]);
}

pub(super) fn import(world: &ProjectFixture, lines: &str) {
    let (url, key) = world.coordinates(".env.local");
    let url = format!("{url}/api/import?format=jsonLines&mode=append&tableName=messages");
    let request = reqwest::Client::builder().no_proxy().build().unwrap().post(url);
    let request = request.header("Authorization", format!("Convex {key}")).body(lines.to_owned());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    assert!(runtime.block_on(request.send()).unwrap().status().is_success());
}

pub(super) fn documents(project: &Project) -> u64 {
    let run = project.world.run_expecting(0, &["archive", "dev", "--out", "count.zip", "--json"]);
    std::fs::remove_file(project.world.folder.join("count.zip")).unwrap();
    run.document()["tables"].as_array().unwrap().iter().map(|table| table["documents"].as_u64().unwrap()).sum()
}

pub(super) fn file(project: &Project) -> Vec<u8> {
    let to = project.world.folder.join("a.blob");
    project.engine.docker(&["cp", &format!("{}:{FILES}/a.blob", project.container()), to.to_str().unwrap()]);
    std::fs::read(to).unwrap()
}

fn volumes(project: &Project) -> Vec<String> {
    project.everything().iter().filter_map(|name| name.strip_prefix("volume ").map(str::to_owned)).collect()
}

fn mounted(project: &Project) -> String {
    let seen = project.engine.inspect(&project.container());
    let mounts = seen["Mounts"].as_array().unwrap().clone();
    let data = mounts.iter().find(|mount| mount["Destination"] == "/convex/data").unwrap();
    data["Name"].as_str().unwrap().to_owned()
}

fn take(project: &Project) -> String {
    let document = project.world.run_expecting(0, &["snapshot", "create", "dev", "--json"]).document();
    document["snapshot"]["id"].as_str().unwrap().to_owned()
}

fn restore(id: &str) -> [&str; 7] {
    ["restore", "dev", "--snapshot", id, "--allow-replace", "dev", "--yes"]
}

#[test]
fn what_is_destroyed_is_kept_in_a_last_snapshot() {
    let engine = engine_or_skip!();
    let project = new_project(engine);
    let (world, original) = (&project.world, file(&project));
    let run = world.run_expecting(0, &["destroy", "dev", "--allow-destroy", "dev"]);
    assert!(run.err.contains("its last snapshot is `dev-"), "{run}");
    assert!(volumes(&project).is_empty() && engine.containers(&project.name, "backend").is_empty());
    let listed = world.run_expecting(0, &["snapshot", "list", "--json"]).document();
    let id = listed["snapshots"][0]["id"].as_str().unwrap();
    world.apply();
    assert_eq!(documents(&project), 0);
    world.run_expecting(0, &["restore", "dev", "--snapshot", id, "--allow-replace", "dev", "--yes"]);
    assert_eq!((documents(&project), file(&project)), (1, original.clone()));
    world.assert_converged();
    // What it had before the restore stays until it is dropped.
    assert_eq!(volumes(&project).len(), 2);
    let container = project.container();
    world.run_expecting(0, &["restore", "dev", "--drop-previous", "--yes"]);
    assert_eq!((volumes(&project).len(), project.container()), (1, container));
    assert_eq!((documents(&project), file(&project)), (1, original));
    world.run_expecting(0, &["restore", "dev", "--drop-previous", "--yes"]);
    world.assert_converged();
    world.run_expecting(0, &["destroy", "dev", "--allow-destroy", "dev", "--no-last-snapshot"]);
    assert!(volumes(&project).is_empty());
}

#[test]
fn a_restore_puts_the_data_into_another_volume_and_keeps_the_old_one() {
    let engine = engine_or_skip!();
    let project = new_project(engine);
    let (world, first, before) = (&project.world, mounted(&project), file(&project));
    let id = take(&project);
    import(world, "{\"body\":\"two\"}\n");
    run(&project, &format!("echo later > {FILES}/b.blob; rm {FILES}/a.blob"));
    world.run_expecting(0, &restore(&id));
    assert_eq!((documents(&project), file(&project)), (1, before));
    assert!(!engine.try_docker(&["exec", &project.container(), "sh", "-c", &format!("cat {FILES}/b.blob")]));
    let second = mounted(&project);
    assert_ne!(first, second);
    assert_eq!(volumes(&project).len(), 2, "the data from before stays");
    world.assert_reachable(".env.local", &format!("{}-dev", project.name));
    world.assert_converged();

    // Without its container, it is still this volume that is its own.
    engine.docker(&["rm", "-f", &project.container()]);
    world.apply();
    assert_eq!((mounted(&project), documents(&project)), (second.clone(), 1));
    import(world, "{\"body\":\"three\"}\n");
    // One way back is kept, the last.
    world.run_expecting(0, &restore(&id));
    assert_eq!(documents(&project), 1);
    assert!(volumes(&project).contains(&second) && !volumes(&project).contains(&first), "{:?}", volumes(&project));
    world.assert_converged();
    // A lost home finds the volume that the container mounts.
    let third = mounted(&project);
    std::fs::remove_dir_all(&world.home).unwrap();
    // Its release is the commit that the image names.
    project.manifest("[backends.dev]\nprovider = \"docker\"\nenv_file = \".env.local\"\n[backends.dev.docker]\nIMAGE\n");
    world.run_expecting(0, &["recover"]);
    world.apply();
    assert_eq!((mounted(&project), documents(&project)), (third, 1));
    world.run_expecting(0, &["destroy", "--yes", "--allow-destroy", "dev"]);
    assert_eq!(project.everything(), Vec::<String>::new());
}

#[test]
fn a_restore_killed_anywhere_is_completed_by_the_next() {
    let engine = engine_or_skip!();
    let ready = || {
        let project = new_project(engine);
        let id = take(&project);
        import(&project.world, "{\"body\":\"two\"}\n");
        (project, id)
    };
    let (mut project, id) = ready();
    let points = own_points(project.world.crash_points(&restore(&id)));
    for name in ["staging_made", "volume_filled", "volume_switched", "replacement_ready"] {
        assert!(points.iter().any(|point| point.name.ends_with(name)), "{name} was never passed: {points:?}");
    }
    crash_matrix("a restore of a container", &points, AT_ONCE, |point| {
        let (mut project, id) = ready();
        let killed = project.world.run_killed_at(point, &restore(&id));
        if point.name.len() % 2 == 0 {
            // It goes on, or has changed nothing.
            project.world.apply();
            assert!([1, 2].contains(&documents(&project)), "{point}");
        }
        project.world.run_expecting(0, &restore(&id));
        assert_eq!(documents(&project), 1, "{point}");
        project.world.assert_converged();
        assert_eq!(volumes(&project).len(), 2, "{point}: {:?}", volumes(&project));
        !killed.status.success()
    });
}

/// The points of the provider and of the effects, each once: the engine is asked in the same way again and again.
pub(super) fn own_points(all: Vec<CrashPoint>) -> Vec<CrashPoint> {
    let is_own = |point: &CrashPoint| ["provider.docker.", "host."].iter().any(|part| point.name.starts_with(part));
    all.into_iter().filter(|point| is_own(point) && point.pass == 1).collect()
}

#[test]
fn a_newer_release_is_an_upgrade_with_a_snapshot_before() {
    let engine = engine_or_skip!();
    let project = new_project(engine);
    project.manifest(&blocks(NEW, BACKEND_TWO));
    let plan = project.world.plan();
    assert_eq!((&plan["upgrades"][0]["to"], &plan["upgrades"][0]["way_back"]), (&NEW.into(), &"snapshot".into()), "{plan:#}");
    project.world.apply();
    let listed = project.world.run_expecting(0, &["snapshot", "list", "--json"]).document();
    let taken = &listed["snapshots"][0];
    assert_eq!((&taken["release"], &taken["before_upgrade_to"]), (&OLD.into(), &NEW.into()), "{listed:#}");
    assert_eq!((documents(&project), volumes(&project).len()), (1, 1));
    project.world.assert_converged();
    // Which image belongs to a release, only the user knows here.
    let unknown = project.world.run_expecting(4, &["rollback", "dev", "--allow-replace", "dev", "--yes", "--json"]);
    assert_eq!(unknown.errors(), ["rollback.unknown_release"]);
}

/// A backend that a new release is to ruin.
fn to_be_ruined(engine: &'static Engine) -> Project {
    let project = new_project(engine);
    run(&project, ": > /convex/data/ruins");
    project.manifest(&blocks(NEW, BROKEN));
    project
}

fn assert_is_back(project: &Project, before: &[u8]) {
    assert_eq!((documents(project), file(project).as_slice()), (1, before));
    let dev = project.world.status()["backends"][0].clone();
    assert_eq!((&dev["phase"], &dev["release"]), (&"ready".into(), &OLD.into()), "{dev:#}");
    project.manifest(&blocks(OLD, BACKEND));
    project.world.assert_converged();
    assert_eq!(project.everything().iter().filter(|name| name.starts_with("container ")).count(), 1);
}

#[test]
fn a_release_that_ruins_the_data_is_taken_back() {
    let engine = engine_or_skip!();
    let project = to_be_ruined(engine);
    let (first, before) = (mounted(&project), file(&project));
    let failed = project.world.run(APPLY);
    assert_eq!(failed.code(), 1, "{failed}");
    assert!(failed.err.contains("was not upgraded") && failed.err.contains("it is broken"), "{failed}");
    assert_ne!(mounted(&project), first);
    assert_is_back(&project, &before);
}

#[test]
fn an_upgrade_killed_anywhere_goes_on_or_back() {
    let engine = engine_or_skip!();
    let points = own_points(to_be_ruined(engine).world.crash_points_until(1, APPLY));
    for name in ["host.stopped_for_copy", "provider.docker.staging_made", "host.data_switched"] {
        assert!(points.iter().any(|point| point.name == name), "{name} was never passed: {points:?}");
    }
    crash_matrix("an upgrade of a container", &points, AT_ONCE, |point| {
        let mut project = to_be_ruined(engine);
        let before = file(&project);
        let killed = project.world.run_killed_at(point, APPLY);
        let failed = project.world.run(APPLY);
        assert_eq!(failed.code(), 1, "{point}: {failed}");
        assert_is_back(&project, &before);
        !killed.status.success()
    });
}
