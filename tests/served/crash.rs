//! The crash matrix over HTTP: the client killed at every point that it passes, and the server at every point of its own.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stdout)]

use std::collections::BTreeMap;
use std::fs;

use fixture::ProjectFixture;
use fixture::crash::{CrashScenario, IN_DETACHER, assert_heals, env_files, every};

/// The points that the client passes when nothing stops it, those that the server passes meanwhile, and what is there
/// afterwards.
fn passed(story: CrashScenario) -> (BTreeMap<String, usize>, BTreeMap<String, usize>, Vec<String>) {
    let mut world = story.world(super::new_world);
    let (client, server) = (world.root().join("client-trace"), world.root().join("server-trace"));
    world.server().kill();
    world.server().start_again(&[("CONVEXINFRA_FAULT_TRACE", server.to_str().unwrap())]);
    // What it passes while it starts is not a part of the story.
    let skipped = count(&fs::read_to_string(&server).unwrap_or_default());
    world.set("CONVEXINFRA_FAULT_TRACE", client.to_str().unwrap());
    world.run_expecting(0, story.words());
    world.unset("CONVEXINFRA_FAULT_TRACE");
    let mut on_server = count(&fs::read_to_string(&server).unwrap());
    for (name, count) in skipped {
        assert!(on_server[&name] >= count);
    }
    for name in IN_DETACHER {
        on_server.entry(name.to_owned()).and_modify(|count| *count = 1);
    }
    let on_client = count(&fs::read_to_string(&client).unwrap_or_default());
    fs::remove_file(&server).unwrap();
    let _ = fs::remove_file(&client);
    (on_client, on_server, world.file_names())
}

fn count(trace: &str) -> BTreeMap<String, usize> {
    let mut points = BTreeMap::new();
    for name in trace.lines() {
        *points.entry(name.to_owned()).or_default() += 1;
    }
    points
}

/// The server dies at one point and comes back. The client that waits for it notices nothing but the wait.
fn server_survives(story: CrashScenario, name: &str, number: usize, shape: &[String]) -> bool {
    let mut world = story.world(super::new_world);
    let before = env_files(&world);
    world.server().kill();
    let mut server = world.server.take().unwrap();
    server.start_again(&[("CONVEXINFRA_FAULT", &format!("{name}:{number}"))]);
    let running = world.spawn(story.words());
    let back = std::thread::spawn(move || {
        let deadline = std::time::Instant::now() + fixture::DEADLINE;
        let mut died = false;
        while !died && std::time::Instant::now() < deadline && running.is_running() {
            died = server.has_ended();
            std::thread::sleep(std::time::Duration::from_millis(2));
        }
        died = died || server.has_ended();
        if died {
            server.start_again(&[]);
        }
        (server, running.end(), died)
    });
    let (server, run, died) = back.join().unwrap();
    world.server = Some(server);
    if IN_DETACHER.contains(&name) {
        // Not the server died but the process that was about to become a backend, and the client is told so.
        assert!(!died && run.status.code().is_some(), "{name}:{number}: {run}\n{}", world.server().log());
    } else {
        assert_eq!(run.status.code(), Some(0), "{name}:{number}: {run}\n{}", world.server().log());
    }
    if !died {
        // What the server does by itself could still bring it to the point.
        world.server().kill();
        world.server().start_again(&[]);
    }
    assert_heals(story, &world, &before, &run, shape);
    died || IN_DETACHER.contains(&name)
}

fn client_survives(story: CrashScenario, name: &str, number: usize, shape: &[String]) -> bool {
    let mut world = story.world(super::new_world);
    let before = env_files(&world);
    world.set("CONVEXINFRA_FAULT", &format!("{name}:{number}"));
    let killed = world.run(story.words());
    world.unset("CONVEXINFRA_FAULT");
    assert_heals(story, &world, &before, &killed, shape);
    !killed.status.success()
}

fn matrix(story: CrashScenario) {
    let (on_client, on_server, shape) = passed(story);
    let servers = every(&on_server, story, |name, number| server_survives(story, name, number, &shape));
    let clients = every(&on_client, story, |name, number| client_survives(story, name, number, &shape));
    println!("crash matrix over HTTP: {servers} points of the server, {clients} of the client ({story:?})");
}

#[test]
fn a_first_apply_goes_on_whoever_is_killed() {
    matrix(CrashScenario::First);
}

#[test]
fn a_second_apply_goes_on_whoever_is_killed() {
    matrix(CrashScenario::Second);
}

#[test]
fn a_destroy_goes_on_whoever_is_killed() {
    matrix(CrashScenario::Destroy);
}

/// The client is gone, the work goes on: nobody runs anything again, and everything that was accepted ends well.
#[test]
fn a_client_that_vanishes_leaves_work_that_ends() {
    let mut world: ProjectFixture = super::new_world("");
    // It is at work until it may go on, whatever the machine.
    let may_go_on = world.root().join("may-go-on");
    let words = format!(
        "until [ -e '{}' ]; do sleep 0.05; done\nexec '{}' simulate-backend \"$@\"",
        may_go_on.display(),
        fixture::executable()
    );
    let slow = fixture::script(&world.root(), "slow", &words);
    let manifest = format!(
        "project = \"gremlin\"\n\n[backends.dev]\nprovider = \"local\"\nrelease = \"precompiled-2026-08-22-652b828\"\n\n\
         [backends.dev.local]\nbinary = \"{}\"\n",
        slow.display()
    );
    world.manifest(&manifest);
    let mut client = world.spawn(&["apply", "--yes"]);
    fixture::wait_until("the server is at work", || {
        world.status()["operations"].as_array().is_some_and(|operations| !operations.is_empty())
    });
    client.child.kill().unwrap();
    client.end();
    assert!(!world.folder.join(".env.local").exists());
    fs::write(&may_go_on, "").unwrap();
    world.run_expecting(0, &["wait", "dev"]);
    assert_eq!(world.processes().len(), 1);
    let status = world.status();
    assert_eq!(status["backends"][0]["phase"], "ready", "{status:#}");
    world.apply();
    world.assert_reachable(".env.local", "gremlin-dev");
    world.assert_converged();
    world.server().terminate();
}
