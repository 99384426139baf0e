//! The crash matrix over HTTP: the client killed at every point that it passes, and the server at every point of its own.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stdout)]

use std::fs;

use fixture::ProjectFixture;
use fixture::crash::{AT_ONCE, CrashPoint, CrashScenario, assert_heals, crash_matrix, env_files, remaining_files};

/// The points that the client passes when nothing stops it, those that the server passes meanwhile, and what is there
/// afterwards.
fn passed(scenario: CrashScenario) -> (Vec<CrashPoint>, Vec<CrashPoint>, Vec<String>) {
    let mut world = scenario.world(super::new_world);
    let trace = world.root().join("server-trace");
    world.server().kill();
    world.server().start_again(&[("CONVEXINFRA_FAULT_TRACE", trace.to_str().unwrap())]);
    let on_client = world.crash_points(scenario.words());
    let on_server = CrashPoint::of_trace(&fs::read_to_string(&trace).unwrap());
    fs::remove_file(&trace).unwrap();
    (on_client, on_server, remaining_files(&world))
}

/// The server dies at one point and comes back. The client that waits for it notices nothing but the wait.
fn server_survives(scenario: CrashScenario, point: &CrashPoint, shape: &[String]) -> bool {
    let mut world = scenario.world(super::new_world);
    let before = env_files(&world);
    world.server().kill();
    let mut server = world.server.take().unwrap();
    server.start_again(&[("CONVEXINFRA_FAULT", &point.to_string())]);
    let running = world.spawn(scenario.words());
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
    if point.is_in_detacher() {
        // Not the server died but the process that was about to become a backend, and the client is told so.
        assert!(!died && run.status.code().is_some(), "{point}: {run}\n{}", world.server().log());
    } else {
        assert_eq!(run.status.code(), Some(0), "{point}: {run}\n{}", world.server().log());
    }
    if !died {
        // What the server does by itself could still bring it to the point.
        world.server().kill();
        world.server().start_again(&[]);
    }
    assert_heals(scenario, &world, &before, &run, shape);
    died || point.is_in_detacher()
}

fn client_survives(scenario: CrashScenario, point: &CrashPoint, shape: &[String]) -> bool {
    let mut world = scenario.world(super::new_world);
    let before = env_files(&world);
    let killed = world.run_killed_at(point, scenario.words());
    assert_heals(scenario, &world, &before, &killed, shape);
    !killed.status.success()
}

fn matrix(scenario: CrashScenario) {
    let (on_client, on_server, shape) = passed(scenario);
    let servers = crash_matrix(scenario, &on_server, AT_ONCE, |point| server_survives(scenario, point, &shape));
    let clients = crash_matrix(scenario, &on_client, AT_ONCE, |point| client_survives(scenario, point, &shape));
    println!("crash matrix over HTTP: {servers} points of the server, {clients} of the client ({scenario:?})");
}

#[test]
fn a_first_apply_is_healed_after_client_or_server_is_killed() {
    matrix(CrashScenario::First);
}

#[test]
fn a_second_apply_is_healed_after_client_or_server_is_killed() {
    matrix(CrashScenario::Second);
}

#[test]
fn a_destroy_is_healed_after_client_or_server_is_killed() {
    matrix(CrashScenario::Destroy);
}

/// The client is gone, the work goes on: nobody runs anything again, and everything that was accepted ends well.
#[test]
fn accepted_work_ends_without_its_client() {
    let mut world: ProjectFixture = super::new_world("");
    // It is at work until it may go on, on any machine.
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
