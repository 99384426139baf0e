//! The rows of a backend move between engines, by a change of the manifest: with what the real backend wrote, killed at every
//! point, and to a server that goes away.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use convexinfra::convex::persistence::DatabaseDigest;
use convexinfra::database::rows::{self, RowScope, RowStore, Stage};
use fixture::crash::crash_matrix;
use fixture::database::{Kind, Server, server};
use fixture::{ProjectFixture, executable, refusals, script, shared_bytes, steps, wait_until, walk};

use super::rows::{on_server, run};
use super::story::variables;

const MOVE: &[&str] = &["apply", "--yes", "--allow-move", "dev"];

/// A backend of the provider `local` on a database that the real backend made, with its files.
struct World {
    project: ProjectFixture,
    name: String,
    binary: PathBuf,
}

impl World {
    fn new() -> Option<Self> {
        let recorded = shared_bytes("golden/data/sqlite.sqlite3")?;
        let mut project = ProjectFixture::new("");
        // What the stand-in does not start on is for the tests to say.
        let line = format!(
            "for word; do test \"$word\" != \"$(cat '{}' 2>/dev/null)\" || exit 7; done\nexec '{}' simulate-backend \"$@\"",
            project.folder.join("refused").display(),
            executable()
        );
        let binary = script(&project.folder, "convex-local-backend", &line);
        let postgres = server(Kind::Postgres)?;
        project.set("POSTGRES", &postgres.root());
        if let Some(mysql) = server(Kind::Mysql) {
            project.set("MYSQL", &mysql.root());
        }
        let world = Self { project, name: Server::project(), binary };
        world.on("sqlite", "");
        world.project.apply();
        world.project.run_expecting(0, &["stop", "dev"]);
        let file = world.file();
        for name in ["db.sqlite3-wal", "db.sqlite3-shm"] {
            let _ = std::fs::remove_file(file.with_file_name(name));
        }
        std::fs::write(&file, recorded).unwrap();
        let archive = world.project.root().join("storage.tar.gz");
        std::fs::write(&archive, shared_bytes("golden/data/sqlite-storage.tar.gz")?).unwrap();
        let unpacked = Command::new("tar").arg("xzf").arg(&archive).arg("-C").arg(file.parent().unwrap()).status().unwrap();
        assert!(unpacked.success());
        world.project.run_expecting(0, &["start", "dev"]);
        assert_eq!(variables(&world.project)["GREETING"], "gold");
        Some(world)
    }

    /// Writes the manifest with an engine.
    fn on(&self, engine: &str, more: &str) {
        let storage = match engine {
            "sqlite" => String::new(),
            _ => format!(
                "storage = {{ engine = \"{engine}\", url = {{ env = \"{}\" }}, tls = \"disable\"{more} }}\n",
                engine.to_uppercase()
            ),
        };
        let (name, binary) = (&self.name, self.binary.display());
        self.project.manifest(&format!(
            "project = \"{name}\"\n\n[backends.dev]\nprovider = \"local\"\n{storage}local = {{ binary = \"{binary}\" }}\n"
        ));
    }

    fn database(&self) -> String {
        format!("{}_dev", self.name)
    }

    /// Where the database is on SQLite.
    fn file(&self) -> PathBuf {
        let mut found = None;
        walk(&self.project.home.join("backends"), &mut |path| {
            if path.ends_with("data/storage") {
                found = Some(path.with_file_name("db.sqlite3"));
            }
        });
        found.expect("the backend has a folder")
    }

    fn store(&self, engine: &str) -> RowStore {
        match engine {
            "sqlite" => RowStore::Sqlite(self.file()),
            "postgres" => on_server(server(Kind::Postgres).unwrap(), &self.database()),
            _ => on_server(server(Kind::Mysql).unwrap(), &self.database()),
        }
    }

    fn digest(&self, engine: &str, stage: Stage) -> DatabaseDigest {
        run(async {
            let mut reader = self.store(engine).reader(stage, RowScope::ALL).await.unwrap();
            rows::digest(reader.as_mut()).await.unwrap()
        })
    }

    /// The backend was started on this engine, without waiting for it.
    fn assert_soon_on(&self, engine: &str) {
        wait_until("it runs where it was", || self.project.run(&["plan", "--detailed-exitcode"]).code() == 0);
        self.assert_on(engine);
    }

    /// The backend runs on this engine, once, with its variables, and there is nothing left to do.
    fn assert_on(&self, engine: &str) {
        self.project.assert_reachable(".env.local", &format!("{}-dev", self.name));
        self.project.assert_converged();
        let running: Vec<_> = self.project.processes().into_iter().filter(|(_, words)| words.contains("--port")).collect();
        assert_eq!(running.len(), 1, "{running:?}");
        assert!(engine != "sqlite" || variables(&self.project)["GREETING"] == "gold");
        assert!(!run(self.store(engine).is_locked()).unwrap(), "{engine} is locked");
    }
}

impl Drop for World {
    fn drop(&mut self) {
        self.project.run(&["destroy", "--allow-destroy", "dev", "--with-database"]);
        for kind in [Kind::Postgres, Kind::Mysql] {
            if let Some(server) = server(kind) {
                let _ = server.try_sql("", &format!("DROP DATABASE IF EXISTS {}", self.database()));
            }
        }
    }
}

#[test]
fn from_engine_to_engine_and_back_with_every_row() {
    let Some(world) = World::new() else { return };
    let mut engine = "sqlite";
    let rows = world.digest(engine, Stage::Published);
    assert!(rows.documents.rows > 400);
    let last = if server(Kind::Mysql).is_some() { vec!["postgres", "mysql", "sqlite"] } else { vec!["postgres", "sqlite"] };
    for next in last {
        world.on(next, "");
        let refused = world.project.run_expecting(4, &["plan", "--json"]).document();
        assert_eq!(refusals(&refused), ["plan.move_not_allowed"], "{refused:#}");
        assert!(refused["refusals"][0]["help"].as_str().unwrap().contains("convexinfra apply --allow-move dev"));
        world.project.run_expecting(4, &["apply", "--yes"]);
        assert_eq!(world.digest(engine, Stage::Published), rows);

        let plan = world.project.run_expecting(0, &["plan", "--json", "--allow-move", "dev"]).document();
        assert_eq!(steps(&plan), ["move:backend.dev"], "{plan:#}");
        assert_eq!(plan["data_moves"][0]["backend"], "dev");
        let shown = world.project.run_expecting(0, &["plan", "--allow-move", "dev"]);
        for words in ["copy the rows", "compare both sides", "locked", "stops"] {
            assert!(shown.out.contains(words), "{words}: {shown}");
        }
        let moved = world.project.run_expecting(0, MOVE);
        assert!(moved.err.contains("both sides have the same rows") && moved.err.contains("stay locked"), "{moved}");
        assert_eq!(world.digest(engine, Stage::Locked), rows, "{next}: the source is as it was");
        assert_eq!(world.digest(next, Stage::Published), rows, "{next}");
        assert!(run(world.store(engine).is_locked()).unwrap(), "{engine} may be started again");
        world.assert_on(next);
        engine = next;
    }
}

#[test]
fn a_role_of_its_own_enters_the_copy() {
    let Some(world) = World::new() else { return };
    let rows = world.digest("sqlite", Stage::Published);
    world.on("postgres", ", role = \"least_privilege\"");
    world.project.run_expecting(0, MOVE);
    assert_eq!(world.digest("postgres", Stage::Published), rows);
    world.assert_on("postgres");
}

#[test]
fn a_move_alone_and_to_a_free_place() {
    let Some(mut world) = World::new() else { return };
    let rows = world.digest("sqlite", Stage::Published);
    let codes = |world: &World| refusals(&world.project.run(&["plan", "--json", "--allow-move", "dev"]).document());
    world.on("postgres", "");
    let manifest = world.project.read("convex.toml");
    world.project.manifest(&format!("{manifest}env = {{ OTHER = \"1\" }}\n"));
    assert_eq!(codes(&world), ["plan.move_not_alone"]);

    // Tables of others, and a database that is in use.
    let postgres = server(Kind::Postgres).unwrap();
    world.project.manifest(&manifest);
    postgres.sql("", &format!("CREATE DATABASE {}", world.database()));
    postgres.sql(&world.database(), "CREATE TABLE mine (x int)");
    assert_eq!(codes(&world), ["database.occupied"]);
    assert_eq!(world.project.run(MOVE).code(), 4);
    postgres.sql("", &format!("DROP DATABASE {}", world.database()));
    // Nothing listens there.
    world.project.set("POSTGRES", "postgres://me:pw@127.0.0.1:1");
    assert_ne!(world.project.run(MOVE).code(), 0);
    world.project.set("POSTGRES", &postgres.root());

    world.on("sqlite", "");
    assert_eq!(world.digest("sqlite", Stage::Published), rows);
    world.project.apply();
    world.assert_on("sqlite");
}

#[test]
fn what_does_not_start_on_the_target_runs_where_it_was() {
    let Some(world) = World::new() else { return };
    let rows = world.digest("sqlite", Stage::Published);
    world.project.write("refused", "postgres-v5");
    world.on("postgres", "");
    let failed = world.project.run(MOVE);
    assert_ne!(failed.code(), 0, "{failed}");
    assert_eq!(world.digest("sqlite", Stage::Published), rows);
    assert!(run(world.store("postgres").is_locked()).unwrap(), "a copy that is not used may be started");
    world.on("sqlite", "");
    world.assert_soon_on("sqlite");

    // What the failed one left is begun again.
    world.project.write("refused", "");
    world.on("postgres", "");
    world.project.run_expecting(0, MOVE);
    assert_eq!(world.digest("postgres", Stage::Published), rows);
    world.assert_on("postgres");
}

/// Passes so many bytes on to a server, and then nothing more.
fn cut_after(server: u16, bytes: i64) -> (u16, Arc<AtomicI64>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let (port, left) = (listener.local_addr().unwrap().port(), Arc::new(AtomicI64::new(bytes)));
    let budget = Arc::clone(&left);
    std::thread::spawn(move || {
        for client in listener.incoming() {
            let (Ok(client), true) = (client, budget.load(Ordering::SeqCst) > 0) else { continue };
            let Ok(upstream) = TcpStream::connect(("127.0.0.1", server)) else { continue };
            for (mut from, mut to, counts) in
                [(client.try_clone().unwrap(), upstream.try_clone().unwrap(), true), (upstream, client, false)]
            {
                let budget = Arc::clone(&budget);
                std::thread::spawn(move || {
                    let mut buffer = [0; 4096];
                    while let Ok(read) = from.read(&mut buffer) {
                        let is_over = counts && budget.fetch_sub(read as i64, Ordering::SeqCst) <= 0;
                        if read == 0 || is_over || to.write_all(&buffer[..read]).is_err() {
                            break;
                        }
                    }
                    let _ = (from.shutdown(Shutdown::Both), to.shutdown(Shutdown::Both));
                });
            }
        }
    });
    (port, left)
}

#[test]
fn a_server_that_goes_away_in_the_middle_costs_nothing() {
    let Some(mut world) = World::new() else { return };
    let rows = world.digest("sqlite", Stage::Published);
    let postgres = server(Kind::Postgres).unwrap();
    let (port, left) = cut_after(postgres.port, 120_000);
    world.project.set("POSTGRES", &postgres.root().replace(&postgres.port.to_string(), &port.to_string()));
    world.on("postgres", "");
    let failed = world.project.run(MOVE);
    assert!(failed.code() != 0 && left.load(Ordering::SeqCst) <= 0, "{failed}");
    assert_eq!(world.digest("sqlite", Stage::Published), rows);
    assert!(run(world.store("postgres").is_locked()).unwrap(), "half a copy may be started");
    world.on("sqlite", "");
    world.assert_soon_on("sqlite");
    // It is there again, at the same place.
    left.store(i64::MAX, Ordering::SeqCst);
    world.on("postgres", "");
    world.project.run_expecting(0, MOVE);
    assert_eq!(world.digest("postgres", Stage::Published), rows);
    world.assert_on("postgres");
}

#[test]
fn a_move_killed_anywhere_goes_on_and_another_change_takes_it_back() {
    let Some(mut first) = World::new() else { return };
    first.on("postgres", "");
    let points = first.project.crash_points(MOVE);
    let is_own = |name: &str| name.starts_with("host.") || name.starts_with("authority.");
    let points: Vec<_> = points.into_iter().filter(|point| is_own(&point.name)).collect();
    for name in ["source_locked", "stopped_for_move", "rows_copied", "rows_verified", "target_published", "ready"] {
        assert!(points.iter().any(|point| point.name == format!("host.{name}")), "{name}: {points:?}");
    }
    drop(first);
    let back = points.iter().filter(|point| point.name.starts_with("host.")).map(|point| (point, "sqlite"));
    let stories: Vec<_> = points.iter().map(|point| (point, "postgres")).chain(back).collect();
    crash_matrix("move", &stories, 2, |(point, then)| {
        let mut world = World::new().unwrap();
        let rows = world.digest("sqlite", Stage::Published);
        world.on("postgres", "");
        let killed = world.project.run_killed_at(point, MOVE);
        assert_eq!(killed.signal(), Some(9), "{point}: {killed}");
        // A move that came to its end is a way back of its own.
        world.on(then, "");
        world.project.run_expecting(0, MOVE);
        assert_eq!(world.digest(then, Stage::Published), rows, "{point}");
        world.assert_on(then);
        true
    });
}
