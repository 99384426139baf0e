//! The crash matrix: every command killed at every point that it passes, and what the same command then makes of it.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stdout, unreachable_pub)]

use std::collections::BTreeMap;
use std::fs;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::world::{CommandResult, ProjectFixture, coordinates, steps};

/// Points that the process passes which then becomes the backend. Each of them is a process of its own.
pub const IN_DETACHER: [&str; 2] = ["provider.process.log_opened", "provider.process.record_written"];
/// Worlds at once: most of the time is spent waiting for processes and disks.
const AT_ONCE: usize = 6;

const FIRST: &str = r#"
project = "gremlin"

[backends.base]
provider = "simulated"
env_file = ".env.local"

[backends.base.env]
PLAIN = "plain"
TOKEN = { env = "TOKEN" }

[backends.app]
provider = "simulated"
depends_on = ["base"]
env_file = "app.env"
"#;

/// A restart, a variable less, another value, and one backend more.
const SECOND: &str = r#"
project = "gremlin"

[backends.base]
provider = "simulated"
env_file = ".env.local"
tuning = { max_concurrent_queries = 8 }

[backends.base.env]
TOKEN = { env = "TOKEN" }

[backends.app]
provider = "simulated"
depends_on = ["base"]
env_file = "app.env"

[backends.extra]
provider = "simulated"
env_file = "extra.env"
"#;

const THEIRS: &str = "# theirs\nTHEIR_OWN=1\n";
const ENV_FILES: [&str; 3] = [".env.local", "app.env", "extra.env"];

/// A command and the world that it is given in.
#[derive(Clone, Copy, Debug)]
pub enum CrashScenario {
    First,
    Second,
    Destroy,
}

impl CrashScenario {
    pub fn words(self) -> &'static [&'static str] {
        match self {
            Self::First | Self::Second => &["apply", "--yes"],
            Self::Destroy => &["destroy", "--yes", "--allow-destroy", "base,app,extra"],
        }
    }

    fn instances(self) -> &'static [&'static str] {
        match self {
            Self::First => &["gremlin-app", "gremlin-base"],
            Self::Second => &["gremlin-app", "gremlin-base", "gremlin-extra"],
            Self::Destroy => &[],
        }
    }

    pub fn world(self, new: fn(&str) -> ProjectFixture) -> ProjectFixture {
        let mut world = new(FIRST);
        world.git();
        world.write(".env.local", THEIRS);
        world.set("TOKEN", "first-token");
        if matches!(self, Self::Second | Self::Destroy) {
            world.apply();
            world.manifest(SECOND);
            world.set("TOKEN", "second-token");
        }
        if matches!(self, Self::Destroy) {
            world.apply();
        }
        world
    }
}

/// What stands in the env files.
pub fn env_files(world: &ProjectFixture) -> BTreeMap<&'static str, Option<String>> {
    ENV_FILES.into_iter().map(|name| (name, fs::read_to_string(world.folder.join(name)).ok())).collect()
}

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

/// After a command was killed: what is there is whole, and the same command once more ends well.
pub fn assert_heals(
    story: CrashScenario,
    world: &ProjectFixture,
    before: &BTreeMap<&'static str, Option<String>>,
    killed: &CommandResult,
    shape: &[String],
) {
    let known = before.values().flatten().filter_map(|text| coordinates(text)).collect::<Vec<_>>();
    // Whatever stands in an env file now is all of the old or all of the new.
    let between = env_files(world);
    for (file, text) in &between {
        match text {
            None => assert!(before[file].is_none() || matches!(story, CrashScenario::Destroy), "{file} is gone"),
            Some(text) if Some(text) == before[file].as_ref() => {}
            Some(text) => {
                assert!(*file != ".env.local" || text.starts_with(THEIRS), "{file} lost lines:\n{text}");
                match coordinates(text) {
                    // A key that was written once stays.
                    Some(pair) => {
                        assert!(before[file].as_deref().and_then(coordinates).is_none_or(|old| old == pair), "{file}:\n{text}")
                    }
                    None => assert!(matches!(story, CrashScenario::Destroy) && text == THEIRS, "{file}:\n{text}"),
                }
            }
        }
    }

    let again = world.run(story.words());
    assert_eq!(again.status.code(), Some(0), "after\n{killed}\n{again}");
    assert_eq!(world.file_names(), shape, "after\n{killed}\n{again}");
    let processes = world.processes();
    assert_eq!(processes.len(), story.instances().len(), "{processes:?}\nafter\n{killed}\n{again}");
    for instance in story.instances() {
        assert!(world.pid(instance).is_some(), "{instance} does not run after\n{killed}\n{again}");
    }
    let after = env_files(world);
    if matches!(story, CrashScenario::Destroy) {
        let once_more = world.run_expecting(0, &["destroy", "--json"]);
        assert_eq!(once_more.events().len(), 1, "{once_more}");
        assert_eq!(world.names(), Vec::<String>::new());
        assert_eq!(after[".env.local"].as_deref(), Some(THEIRS));
        assert_eq!((after["app.env"].as_ref(), after["extra.env"].as_ref()), (None, None));
    } else {
        assert_eq!(steps(&world.plan()), Vec::<String>::new(), "after\n{killed}\n{again}");
        world.run_expecting(0, &["drift"]);
        for (instance, file) in [("gremlin-base", ".env.local"), ("gremlin-app", "app.env"), ("gremlin-extra", "extra.env")] {
            if story.instances().contains(&instance) {
                world.assert_reachable(file, instance);
            }
        }
        for (file, text) in between.iter().filter(|(_, text)| text.as_deref().is_some_and(|text| coordinates(text).is_some())) {
            assert_eq!(after[file], *text, "{file} was written by the killed command and is different now");
        }
        let kept = after.values().flatten().filter_map(|text| coordinates(text)).collect::<Vec<_>>();
        assert!(known.iter().all(|pair| kept.contains(pair)), "a key has changed");
        let ignored = world.read(".gitignore");
        assert!(ENV_FILES.iter().all(|file| ignored.lines().filter(|line| line == file).count() <= 1), "{ignored}");
    }
}

fn matrix(story: CrashScenario) {
    let (points, shape) = passed(story);
    let count = every(&points, story, |name, count| survives(story, name, count, &shape));
    println!("crash matrix: {count} points ({story:?})");
}

/// Tries every point, several at once, and says how many there were.
pub fn every(points: &BTreeMap<String, usize>, story: CrashScenario, attempt: impl Fn(&str, usize) -> bool + Sync) -> usize {
    let points: Vec<(&String, usize)> =
        points.iter().flat_map(|(name, count)| (1..=*count).map(move |number| (name, number))).collect();
    let next = AtomicUsize::new(0);
    let (missed, failed) = (Mutex::new(Vec::new()), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(|| {
                while let Some((name, count)) = points.get(next.fetch_add(1, Ordering::Relaxed)) {
                    match std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| attempt(name, *count))) {
                        Ok(true) => {}
                        Ok(false) => missed.lock().unwrap().push(format!("{name}:{count}")),
                        Err(_) => failed.lock().unwrap().push(format!("{name}:{count}")),
                    }
                }
            });
        }
    });
    let (missed, failed) = (missed.into_inner().unwrap(), failed.into_inner().unwrap());
    assert!(failed.is_empty(), "{story:?} killed here is not healed: {failed:?}");
    // A stranger on a port makes one more round in one world than in another, so the last points may not be reached.
    assert!(missed.len() * 5 < points.len(), "never reached: {missed:?}");
    points.len()
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
