//! The crash matrix: every command killed at every point that it passes, and what the same command then makes of it.

#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout)]

use std::time::Duration;

use fixture::crash::{AT_ONCE, CrashPoint, CrashScenario, THEIRS, assert_heals, crash_matrix, env_files, remaining_files};

/// The points that a command passes when nothing stops it, and what is there afterwards.
fn passed(scenario: CrashScenario) -> (Vec<CrashPoint>, Vec<String>) {
    let mut world = scenario.world(crate::new_world);
    let points = world.crash_points(scenario.words());
    (points, remaining_files(&world))
}

fn matrix(scenario: CrashScenario) {
    let (points, shape) = passed(scenario);
    let count = crash_matrix(scenario, &points, AT_ONCE, |point| {
        let mut world = scenario.world(crate::new_world);
        let before = env_files(&world);
        let killed = world.run_killed_at(point, scenario.words());
        let reached = !killed.status.success();
        if reached && !point.is_in_detacher() {
            assert_eq!(killed.signal(), Some(9), "{killed}");
        }
        assert_heals(scenario, &world, &before, &killed, &shape);
        reached
    });
    println!("crash matrix: {count} points ({scenario:?})");
}

#[test]
fn a_first_apply_killed_anywhere_is_healed_by_the_next() {
    matrix(CrashScenario::First);
}

/// A destroy takes away all that a killed first apply has left.
#[test]
fn a_first_apply_killed_anywhere_can_be_destroyed() {
    let (points, _) = passed(CrashScenario::First);
    let count = crash_matrix("a first apply that is destroyed", &points, AT_ONCE, |point| {
        let mut world = CrashScenario::First.world(crate::new_world);
        let killed = world.run_killed_at(point, CrashScenario::First.words());
        let destroyed = world.run(CrashScenario::Destroy.words());
        assert_eq!(destroyed.status.code(), Some(0), "after\n{killed}\n{destroyed}");
        assert_eq!(world.processes(), Vec::new(), "after\n{killed}\n{destroyed}");
        assert_eq!(world.names(), Vec::<String>::new());
        let left: Vec<String> = remaining_files(&world)
            .into_iter()
            .filter(|name| {
                !["home", "project", "project/.git", "project/.gitignore", "project/convex.toml", "user"]
                    .contains(&name.as_str())
            })
            .filter(|name| {
                !["home/backends", "home/control-plane.sqlite3", "home/master.key", "home/reserve", "project/.env.local"]
                    .contains(&name.as_str())
            })
            .collect();
        // Keys and env files that were on their way are swept when the next ones are made.
        let left: Vec<&String> =
            left.iter().filter(|name| !name.contains("/.master.key.") && !name.contains("/.env.convexinfra-")).collect();
        assert!(left.is_empty(), "{left:?} after\n{killed}\n{destroyed}");
        assert_eq!(world.read(".env.local"), THEIRS, "after\n{killed}\n{destroyed}");
        !killed.status.success()
    });
    println!("crash matrix: {count} points (First, then destroy)");
}

#[test]
fn a_second_apply_killed_anywhere_is_healed_by_the_next() {
    matrix(CrashScenario::Second);
}

#[test]
fn a_destroy_killed_anywhere_is_healed_by_the_next() {
    matrix(CrashScenario::Destroy);
}

/// Between failpoints too: what is asserted does not depend on how far the command came.
#[test]
fn a_command_killed_at_any_moment_is_healed_by_the_next() {
    const MOMENTS: [u64; 14] = [0, 2, 5, 9, 14, 20, 27, 35, 45, 60, 80, 110, 150, 200];
    for scenario in [CrashScenario::First, CrashScenario::Second, CrashScenario::Destroy] {
        let (_, shape) = passed(scenario);
        crash_matrix(scenario, &MOMENTS.map(Duration::from_millis), AT_ONCE, |moment| {
            let world = scenario.world(crate::new_world);
            let before = env_files(&world);
            let mut running = world.spawn(scenario.words());
            std::thread::sleep(*moment);
            let _ = running.child.kill();
            assert_heals(scenario, &world, &before, &running.end(), &shape);
            true
        });
    }
}
