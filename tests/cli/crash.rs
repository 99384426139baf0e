//! The crash matrix: every command killed at every point that it passes, and what the same command then makes of it.

#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout)]

use std::collections::BTreeMap;
use std::fs;

use fixture::crash::{CrashScenario, IN_DETACHER, THEIRS, assert_heals, env_files, every};

/// The points that a command passes when nothing stops it, how often each, and what is there afterwards.
fn passed(story: CrashScenario) -> (BTreeMap<String, usize>, Vec<String>) {
    let mut world = story.world(crate::new_world);
    let trace = world.root().join("trace");
    world.set("CONVEXINFRA_FAULT_TRACE", trace.to_str().unwrap());
    world.run_expecting(0, story.words());
    let text = fs::read_to_string(&trace).unwrap();
    fs::remove_file(&trace).unwrap();
    world.unset("CONVEXINFRA_FAULT_TRACE");
    let mut points = BTreeMap::new();
    for name in text.lines() {
        *points.entry(name.to_owned()).or_default() += 1;
    }
    for name in IN_DETACHER {
        points.entry(name.to_owned()).and_modify(|count| *count = 1);
    }
    (points, world.file_names())
}

/// Kills the command at one point and runs it again. Says whether the point was reached.
fn survives(story: CrashScenario, name: &str, count: usize, shape: &[String]) -> bool {
    let mut world = story.world(crate::new_world);
    let before = env_files(&world);
    world.set("CONVEXINFRA_FAULT", &format!("{name}:{count}"));
    let killed = world.run(story.words());
    world.unset("CONVEXINFRA_FAULT");
    let reached = !killed.status.success();
    if reached && !IN_DETACHER.contains(&name) {
        assert_eq!(killed.signal(), Some(9), "{killed}");
    }
    assert_heals(story, &world, &before, &killed, shape);
    reached
}

fn matrix(story: CrashScenario) {
    let (points, shape) = passed(story);
    let count = every(&points, story, |name, count| survives(story, name, count, &shape));
    println!("crash matrix: {count} points ({story:?})");
}

#[test]
fn a_first_apply_killed_anywhere_is_healed_by_the_next() {
    matrix(CrashScenario::First);
}

/// Whatever a killed first apply has left, a destroy takes away.
#[test]
fn a_first_apply_killed_anywhere_can_be_destroyed() {
    let (points, _) = passed(CrashScenario::First);
    let count = every(&points, CrashScenario::First, |name, count| {
        let mut world = CrashScenario::First.world(crate::new_world);
        world.set("CONVEXINFRA_FAULT", &format!("{name}:{count}"));
        let killed = world.run(CrashScenario::First.words());
        world.unset("CONVEXINFRA_FAULT");
        let destroyed = world.run(CrashScenario::Destroy.words());
        assert_eq!(destroyed.status.code(), Some(0), "after\n{killed}\n{destroyed}");
        assert_eq!(world.processes(), Vec::new(), "after\n{killed}\n{destroyed}");
        assert_eq!(world.names(), Vec::<String>::new());
        let left: Vec<String> = world
            .file_names()
            .into_iter()
            .filter(|name| {
                !["home", "project", "project/.git", "project/.gitignore", "project/convex.toml", "user"]
                    .contains(&name.as_str())
            })
            .filter(|name| {
                !["home/backends", "home/control-plane.sqlite3", "home/master.key", "project/.env.local"]
                    .contains(&name.as_str())
            })
            .collect();
        // Keys and env files that were on their way are swept by whoever makes the next ones.
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

/// Not at a point that somebody thought of, but whenever the clock says so.
#[test]
fn a_command_killed_at_any_moment_is_healed_by_the_next() {
    const MOMENTS: [u64; 14] = [0, 2, 5, 9, 14, 20, 27, 35, 45, 60, 80, 110, 150, 200];
    for story in [CrashScenario::First, CrashScenario::Second, CrashScenario::Destroy] {
        let (_, shape) = passed(story);
        let moments: BTreeMap<String, usize> = MOMENTS.into_iter().map(|moment| (format!("after {moment} ms"), 1)).collect();
        every(&moments, story, |moment, _| {
            let world = story.world(crate::new_world);
            let before = env_files(&world);
            let mut running = world.spawn(story.words());
            let milliseconds = moment.split(' ').nth(1).unwrap().parse().unwrap();
            std::thread::sleep(std::time::Duration::from_millis(milliseconds));
            let _ = running.child.kill();
            assert_heals(story, &world, &before, &running.end(), &shape);
            true
        });
    }
}
