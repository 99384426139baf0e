//! Many commands at once: one works, the others are told so, and what is there afterwards is there once.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stdout)]

use std::collections::BTreeSet;
use std::fs;

use fixture::{CommandResult, ProjectFixture};

const TWO: &str = "project = \"gremlin\"\n\n[backends.dev]\nprovider = \"simulated\"\nenv_file = \".env.local\"\n\n[backends.app]\nprovider = \"simulated\"\ndepends_on = [\"dev\"]\n";

/// A command beside another apply is refused with the name of its process. It does not wait: after the wait it would succeed.
fn told(run: &CommandResult) {
    assert_eq!(run.errors(), ["control.lease_held"], "{run}");
    assert!(run.out.contains("process "), "{run}");
}

#[test]
fn twenty_applies_at_once_make_one_set_of_backends() {
    let mut world = super::new_world(&format!("{TWO}\n[backends.dev.env]\nTOKEN = {{ env = \"TOKEN\" }}\n"));
    world.set("TOKEN", "token");
    let running: Vec<_> = (0..20).map(|_| world.spawn(&["apply", "--yes", "--json"])).collect();
    let ended: Vec<CommandResult> = running.into_iter().map(fixture::RunningCommand::end).collect();
    let mut done = 0;
    for run in &ended {
        match run.code() {
            0 => done += 1,
            5 => told(run),
            _ => panic!("{run}"),
        }
    }
    assert!(done >= 1);
    println!("concurrency: {done} of 20 ended with 0, the others with 5");
    assert_eq!(world.processes().len(), 2, "{:?}", world.processes());
    assert_eq!(world.names(), ["app", "dev"]);
    let created = |run: &CommandResult| {
        run.events().iter().filter(|event| event["type"] == "step_started" && event["action"] == "create").count()
    };
    let creators: Vec<String> = ended.iter().filter(|run| created(run) > 0).map(ToString::to_string).collect();
    assert_eq!(ended.iter().filter(|run| run.code() == 0).map(created).sum::<usize>(), 2, "{}", creators.join("\n"));
    world.assert_reachable(".env.local", "gremlin-dev");
    world.assert_converged();
}

/// Each adds its block to the one manifest: the command that comes later reads it again.
#[test]
fn provisions_of_one_manifest_that_wait_for_each_other_all_end_well() {
    let world = super::new_world("project = \"gremlin\"\n[backends.dev]\nprovider = \"simulated\"\nenv_file = \"dev.env\"\n");
    let provision =
        |name: &str| world.spawn(&["provision", name, "--provider", "simulated", "--wait-for-lock", "5m", "--json"]);
    let running: Vec<_> = ["one", "two", "three", "four"].map(provision).into();
    for run in running.into_iter().map(fixture::RunningCommand::end) {
        assert_eq!(run.code(), 0, "{run}");
    }
    let manifest = world.read("convex.toml");
    for name in ["dev", "one", "two", "three", "four"] {
        assert!(manifest.contains(&format!("[backends.{name}]")), "{manifest}");
    }
    assert!(
        ["one", "two", "three", "four"].iter().all(|name| world.names().iter().any(|there| there == name)),
        "{:?}",
        world.names()
    );
}

#[test]
fn twenty_projects_at_once_in_a_new_home() {
    let world = super::large_world(TWO);
    let names: Vec<String> = (0..20).map(|number| format!("p{number}")).collect();
    let running: Vec<_> = names
        .iter()
        .map(|name| {
            let folder = world.root().join(name);
            fs::create_dir(&folder).unwrap();
            fs::write(folder.join("convex.toml"), TWO.replace("gremlin", name)).unwrap();
            let words = ["apply", "--yes", "--json", "--manifest", &folder.join("convex.toml").display().to_string()]
                .map(str::to_owned);
            let words: Vec<&str> = words.iter().map(String::as_str).collect();
            world.spawn(&words)
        })
        .collect();
    for run in running.into_iter().map(fixture::RunningCommand::end) {
        assert_eq!(run.code(), 0, "{run}");
    }
    let records = world.records();
    assert_eq!((records.len(), world.processes().len()), (40, 40));
    let ports: BTreeSet<u64> =
        records.values().flat_map(|record| ["api", "site"].map(|port| record["ports"][port].as_u64().unwrap())).collect();
    assert_eq!(ports.len(), 80, "{ports:?}");
    let mut files: BTreeSet<String> =
        fs::read_dir(&world.home).unwrap().map(|entry| entry.unwrap().file_name().display().to_string()).collect();
    if world.server.is_some() {
        // What a server has open, and the lock that says so.
        files.retain(|name| !name.contains(".sqlite3-") && name != "occupied");
    }
    let mut expected: BTreeSet<String> =
        ["backends", "control-plane.sqlite3", "master.key", "reserve"].map(str::to_owned).into();
    if world.server.is_none() {
        // The env files that were written, by project, and nothing beside them.
        expected.insert("env-files".to_owned());
        let memory: Vec<_> = fs::read_dir(world.home.join("env-files")).unwrap().map(|entry| entry.unwrap().path()).collect();
        assert!(
            memory.len() == 20 && memory.iter().all(|path| path.extension().is_some_and(|end| end == "json")),
            "{memory:?}"
        );
    }
    assert_eq!(files, expected);
    for name in &names {
        let manifest = world.root().join(name).join("convex.toml").display().to_string();
        world.run_expecting(0, &["plan", "--detailed-exitcode", "--manifest", &manifest]);
    }
}

#[test]
fn an_apply_and_a_destroy_at_once_leave_all_or_nothing() {
    let world = super::new_world(TWO);
    for round in 0..6 {
        if round % 2 == 0 {
            world.apply();
        }
        let destroy = world.spawn(&["destroy", "--yes", "--allow-destroy", "dev,app", "--json"]);
        let apply = world.spawn(&["apply", "--yes", "--json"]);
        let (destroy, apply) = (destroy.end(), apply.end());
        for run in [&destroy, &apply] {
            match run.code() {
                0 => {}
                5 => told(run),
                _ => panic!("{apply}\n{destroy}"),
            }
        }
        let names = world.names();
        assert!(names.is_empty() || names.len() == 2, "{names:?}\n{apply}\n{destroy}");
        assert_eq!(world.processes().len(), names.len(), "{apply}\n{destroy}");
        world.apply();
        world.assert_reachable(".env.local", "gremlin-dev");
        world.assert_converged();
        world.run_expecting(0, &["destroy", "--allow-destroy", "dev,app"]);
        assert_eq!(world.processes(), Vec::new());
        assert!(!world.folder.join(".env.local").exists());
    }
}

#[test]
fn homes_that_do_not_know_of_each_other_find_ports_all_the_same() {
    // The same names and the same first port: the second one has to avoid all that the first has taken.
    let mut worlds: Vec<ProjectFixture> = (0..4).map(|_| super::large_world(TWO)).collect();
    let first = worlds[0].variables["CONVEXINFRA_FIRST_PORT"].clone();
    for world in &mut worlds {
        world.set("CONVEXINFRA_FIRST_PORT", &first);
    }
    let running: Vec<_> = worlds.iter().map(|world| world.spawn(&["apply", "--yes", "--json"])).collect();
    for run in running.into_iter().map(fixture::RunningCommand::end) {
        assert_eq!(run.code(), 0, "{run}");
    }
    let mut urls = BTreeSet::new();
    for world in &worlds {
        urls.insert(world.assert_reachable(".env.local", "gremlin-dev").0);
        urls.insert(world.url("app"));
        assert_eq!(world.processes().len(), 2);
        world.assert_converged();
    }
    assert_eq!(urls.len(), 8);
}

#[test]
fn a_dead_holder_makes_room_at_once() {
    let mut world = super::new_world(TWO);
    world.set("CONVEXINFRA_FAULT", "host.ready:1");
    let mut killed = world.spawn(&["apply", "--yes"]);
    world.unset("CONVEXINFRA_FAULT");
    fixture::wait_until("it is killed", || {
        !fixture::alive(rustix::process::Pid::from_raw(killed.child.id().cast_signed()).unwrap())
    });
    // It has ended and nobody has asked for its end yet: a zombie holds no lease.
    world.apply();
    killed.child.wait().unwrap();
    world.assert_converged();
}
