//! Many clients on one server: on one project, on as many projects, and while the server is killed.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stdout)]

use std::collections::BTreeSet;
use std::fs;

use fixture::{CommandResult, ProjectFixture, RunningCommand};

const ONE: &str = "project = \"gremlin\"\n\n[backends.dev]\nprovider = \"simulated\"\nenv_file = \".env.local\"\n";
/// Enough to be many at once, and a record each, so that the server is what is tried.
const RECORD: &str = "project = \"gremlin\"\n\n[backends.dev]\nprovider = \"simulated\"\nsimulated = { listen = false }\n\n\
                      [backends.app]\nprovider = \"simulated\"\nsimulated = { listen = false }\ndepends_on = [\"dev\"]\n";

/// One apply in a folder and a project of its own.
fn apply_in(world: &ProjectFixture, number: usize, manifest: &str) -> RunningCommand {
    let name = format!("p{number}");
    let folder = world.root().join(&name);
    fs::create_dir_all(&folder).unwrap();
    let path = folder.join("convex.toml");
    fs::write(&path, manifest.replace("gremlin", &name)).unwrap();
    world.spawn(&["apply", "--yes", "--json", "--manifest", path.to_str().unwrap()])
}

#[test]
fn sixty_four_clients_on_one_project() {
    let world = super::new_world(ONE);
    let running: Vec<RunningCommand> = (0..64).map(|_| world.spawn(&["apply", "--yes", "--json"])).collect();
    let ended: Vec<CommandResult> = running.into_iter().map(RunningCommand::end).collect();
    for run in &ended {
        match run.code() {
            0 => {}
            5 => assert_eq!(run.errors(), ["control.lease_held"], "{run}"),
            _ => panic!("{run}"),
        }
    }
    let done = ended.iter().filter(|run| run.code() == 0).count();
    assert!(done >= 1);
    assert_eq!(world.processes().len(), 1, "{:?}", world.processes());
    world.assert_reachable(".env.local", "gremlin-dev");
    world.assert_converged();
    println!("concurrent clients: {done} of 64 clients of one project ended with 0, the others with 5");
}

#[test]
fn sixty_four_clients_on_sixty_four_projects() {
    let world = super::new_world(ONE);
    let running: Vec<RunningCommand> = (0..64).map(|number| apply_in(&world, number, RECORD)).collect();
    for run in running.into_iter().map(RunningCommand::end) {
        assert_eq!(run.code(), 0, "{run}");
    }
    for number in 0..64 {
        let log = world.run_expecting(0, &["log", "--json", "--project", &format!("p{number}")]).document();
        let recorded = log["entries"].as_array().unwrap().iter().filter(|entry| entry["kind"] == "backend_recorded").count();
        assert_eq!(recorded, 2, "{log:#}");
    }
}

/// The server dies in the middle of fifty applies and comes back; every one of them ends well, and nothing is there twice.
#[test]
fn a_server_killed_in_the_middle_of_fifty_applies() {
    let mut world = super::large_world(ONE);
    let running: Vec<RunningCommand> = (0..50).map(|number| apply_in(&world, number, ONE)).collect();
    // Some are done by then and some have not begun.
    fixture::wait_until("the middle", || world.records().len() >= 10);
    world.server().kill();
    let there = world.records().len();
    world.server().start_again(&[]);
    for run in running.into_iter().map(RunningCommand::end) {
        assert_eq!(run.code(), 0, "{run}");
    }
    let records = world.records();
    assert_eq!((records.len(), world.processes().len()), (50, 50));
    let ports: BTreeSet<u64> = records.values().map(|record| record["ports"]["api"].as_u64().unwrap()).collect();
    assert_eq!(ports.len(), 50);
    for number in 0..50 {
        let name = format!("p{number}");
        world.assert_reachable(&format!("../{name}/.env.local"), &format!("{name}-dev"));
        let manifest = world.root().join(&name).join("convex.toml").display().to_string();
        world.run_expecting(0, &["plan", "--detailed-exitcode", "--manifest", &manifest]);
    }
    println!("concurrent clients: the server was killed with {there} of 50 backends begun");
}
