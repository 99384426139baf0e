//! Moves of the rows of backends in containers, as the real backend wrote them: out of their volume to servers, back into it,
//! killed at every point.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::process::Command;

use convexinfra::convex::deployment::{Deployment, DeploymentClient};
use convexinfra::model::Secret;
use fixture::crash::{CrashPoint, crash_matrix};
use fixture::database::{Kind, ROOT_PASSWORD, server};
use fixture::shared_bytes;

use super::commands::Project;
use super::restore::{file, own_points, run};
use super::rig::Engine;
use crate::engine_or_skip;

/// Worlds at once: most of the time is spent waiting for the engine.
const AT_ONCE: usize = 3;
const MOVE: &[&str] = &["apply", "--yes", "--allow-move", "dev"];

/// Writes the manifest with an engine.
fn on(project: &Project, engine: &str) {
    let storage = match kind(engine).and_then(server) {
        None => String::new(),
        Some(server) => format!(
            "storage = {{ engine = \"{engine}\", url = {{ env = \"{}\" }}, tls = {{ ca = \"{}\" }} }}\n",
            engine.to_uppercase(),
            server.ca.display()
        ),
    };
    project.manifest(&format!("[backends.dev]\nprovider = \"docker\"\n{storage}[backends.dev.docker]\nIMAGE\n"));
}

fn kind(engine: &str) -> Option<Kind> {
    match engine {
        "postgres" => Some(Kind::Postgres),
        "mysql" => Some(Kind::Mysql),
        _ => None,
    }
}

/// A project whose databases go with it.
struct World(Project);

impl Drop for World {
    fn drop(&mut self) {
        for server in ["postgres", "mysql"].into_iter().filter_map(kind).filter_map(server) {
            let _ = server.try_sql("", &format!("DROP DATABASE IF EXISTS {}", database(&self.0)));
        }
    }
}

fn database(project: &Project) -> String {
    format!("{}_dev", project.name.replace('-', "_"))
}

/// A backend on a database that the real backend made, with a file; none where there is no such database or no server.
fn new_world(engine: &'static Engine) -> Option<World> {
    let (recorded, postgres) = (shared_bytes("golden/data/sqlite.sqlite3")?, server(Kind::Postgres)?);
    let mut project = Project::new(engine, "");
    project.world.set("POSTGRES", &postgres.url_of("127.0.0.1", "root", ROOT_PASSWORD));
    if let Some(mysql) = server(Kind::Mysql) {
        project.world.set("MYSQL", &mysql.url_of("127.0.0.1", "root", ROOT_PASSWORD));
    }
    on(&project, "sqlite");
    project.world.apply();
    project.world.run_expecting(0, &["stop", "dev"]);
    let golden = project.world.folder.join("golden");
    std::fs::create_dir(&golden).unwrap();
    std::fs::write(golden.join("db.sqlite3"), recorded).unwrap();
    std::fs::write(golden.join("storage.tar.gz"), shared_bytes("golden/data/sqlite-storage.tar.gz")?).unwrap();
    let unpacked = Command::new("tar").args(["xzf", "storage.tar.gz"]).current_dir(&golden).status().unwrap();
    assert!(unpacked.success());
    engine.docker(&["cp", &format!("{}/.", golden.display()), &format!("{}:/convex/data", project.container())]);
    project.world.run_expecting(0, &["start", "dev"]);
    assert_gold(&project);
    run(&project, "mkdir -p /convex/data/storage/files; head -c 700001 /dev/urandom > /convex/data/storage/files/a.blob");
    Some(World(project))
}

/// The backend shows what the real one wrote.
fn assert_gold(project: &Project) {
    let (url, key) = project.world.coordinates(".env.local");
    let deployment = Deployment::new(&DeploymentClient::default(), url, Some(Secret::new(key)));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let variables = runtime.block_on(deployment.environment()).unwrap();
    assert_eq!(variables["GREETING"].expose(), "gold");
}

/// Returns how many revisions of documents the database of a backend has on a server.
fn revisions(project: &Project, engine: &str) -> u64 {
    let server = kind(engine).and_then(server).unwrap();
    server.sql(&database(project), "SELECT count(*) FROM documents")[0].parse().unwrap()
}

fn assert_settled(project: &Project) {
    project.world.assert_reachable(".env.local", &format!("{}-dev", project.name));
    project.world.assert_converged();
    assert_eq!(project.engine.containers(&project.name, "backend").len(), 1, "{:?}", project.everything());
    let moves = project.world.home.join("moves");
    let left = std::fs::read_dir(&moves).map(|entries| entries.count()).unwrap_or_default();
    assert_eq!(left, 0, "copies of a database stay in `{}`", moves.display());
}

#[test]
fn out_of_the_volume_from_server_to_server_and_back_with_every_row() {
    let engine = engine_or_skip!();
    let Some(World(project)) = &new_world(engine) else { return };
    let before = file(project);
    let servers = if server(Kind::Mysql).is_some() { vec!["postgres", "mysql"] } else { vec!["postgres"] };
    let mut counts = Vec::new();
    for next in servers {
        on(project, next);
        project.world.run_expecting(4, &["apply", "--yes"]);
        let moved = project.world.run_expecting(0, MOVE);
        assert!(moved.err.contains("both sides have the same rows"), "{moved}");
        assert_settled(project);
        counts.push(revisions(project, next));
    }
    assert!(counts.iter().all(|count| *count == counts[0] && *count > 0), "{counts:?}");
    on(project, "sqlite");
    project.world.run_expecting(0, MOVE);
    assert_settled(project);
    assert_gold(project);
    assert_eq!(file(project), before);
}

#[test]
fn a_database_that_its_backend_left_unclean_is_replaced_as_a_whole() {
    let engine = engine_or_skip!();
    let Some(World(project)) = &new_world(engine) else { return };
    on(project, "postgres");
    project.world.run_expecting(0, MOVE);
    // Were these opened beside the database that comes, they would be taken for its own.
    run(
        project,
        "head -c 9000 /dev/urandom > /convex/data/db.sqlite3-journal; cp /convex/data/db.sqlite3-journal /convex/data/db.sqlite3-wal",
    );
    on(project, "sqlite");
    project.world.run_expecting(0, MOVE);
    assert_settled(project);
    assert_gold(project);
}

fn killed_anywhere(from: &'static str, to: &'static str, expected: &[&str]) {
    let engine = engine_or_skip!();
    let Some(_) = new_world(engine) else { return };
    let ready = || {
        let world = new_world(engine).unwrap();
        if from != "sqlite" {
            on(&world.0, from);
            world.0.world.run_expecting(0, MOVE);
        }
        on(&world.0, to);
        world
    };
    // How containers are replaced is killed everywhere in the tests of changes.
    let is_of_moves = |point: &CrashPoint| {
        point.name.starts_with("host.")
            || ["probe_made", "volume_read", "database_replaced"].iter().any(|end| point.name.ends_with(end))
    };
    let points: Vec<_> = own_points(ready().0.world.crash_points(MOVE)).into_iter().filter(is_of_moves).collect();
    for name in expected {
        assert!(points.iter().any(|point: &CrashPoint| point.name.ends_with(name)), "{name} was never passed: {points:?}");
    }
    crash_matrix(format!("a move from {from} to {to}"), &points, AT_ONCE, |point| {
        let mut world = ready();
        let World(project) = &mut world;
        let before = file(project);
        let killed = project.world.run_killed_at(point, MOVE);
        if point.name.len() % 2 == 0 {
            // Another change takes it back first, unless it has come to its end.
            on(project, from);
            project.world.run_expecting(0, MOVE);
            assert_settled(project);
            on(project, to);
        }
        project.world.run_expecting(0, MOVE);
        assert_settled(project);
        if to != "sqlite" {
            on(project, "sqlite");
            project.world.run_expecting(0, MOVE);
        }
        assert_gold(project);
        assert_eq!(file(project), before, "{point}");
        !killed.status.success()
    });
}

#[test]
fn a_move_out_of_a_volume_killed_anywhere_goes_on_or_back() {
    killed_anywhere("sqlite", "postgres", &["database_fetched", "source_locked", "rows_copied", "target_published"]);
}

#[test]
fn a_move_into_a_volume_killed_anywhere_goes_on_or_back() {
    killed_anywhere("postgres", "sqlite", &["source_locked", "rows_verified", "database_replaced", "target_published"]);
}
