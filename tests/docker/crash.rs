//! The crash matrix on an engine: the command killed at every point of the provider, and an engine that dies under it.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stderr)]

use std::collections::BTreeSet;
use std::fs;
use std::process::{Child, Command, Stdio};

use fixture::crash::{CrashPoint, crash_matrix};
use fixture::{Tmpfs, unmount_below};

use super::commands::Project;
use super::rig::{BACKEND, DASHBOARD, Engine};
use crate::engine_or_skip;

/// Worlds at once: most of the time is spent waiting for the engine.
const AT_ONCE: usize = 3;

fn first() -> String {
    format!(
        "[backends.dev]\nprovider = \"docker\"\ndashboard = true\n[backends.dev.docker]\nIMAGE\ndashboard_image = \"{DASHBOARD}\"\n"
    )
}

/// A replacement, and a backend more.
fn second() -> String {
    format!(
        "{}[backends.dev.tuning]\nmax_concurrent_queries = 8\n[backends.more]\nprovider = \"docker\"\n[backends.more.docker]\nIMAGE\n",
        first().replace("dashboard = true\n", "dashboard = true\nenv_file = \".env.local\"\n")
    )
}

#[derive(Clone, Copy, Debug)]
enum Story {
    First,
    Second,
    Destroy,
}

impl Story {
    fn words(self) -> &'static [&'static str] {
        match self {
            Self::First | Self::Second => &["apply", "--yes"],
            Self::Destroy => &["destroy", "--yes", "--allow-destroy", "dev,more"],
        }
    }

    fn project(self, engine: &'static Engine) -> Project {
        let project = Project::new(engine, &first());
        if matches!(self, Self::Second | Self::Destroy) {
            project.world.apply();
            engine.docker(&["exec", &project.container(), "sh", "-c", "echo kept > /convex/data/mark"]);
            project.manifest(&second());
        }
        if matches!(self, Self::Destroy) {
            project.world.apply();
        }
        project
    }

    /// How many containers, volumes and networks there are in the end.
    fn things(self) -> usize {
        match self {
            Self::First => 4,
            Self::Second => 6,
            Self::Destroy => 0,
        }
    }
}

/// The provider's points, each once: backends pass them alike.
fn points(engine: &'static Engine, story: Story) -> Vec<CrashPoint> {
    let all = story.project(engine).world.crash_points(story.words());
    let own: Vec<_> = all.into_iter().filter(|point| point.name.starts_with("provider.docker.") && point.pass == 1).collect();
    assert!(own.len() >= 3, "{story:?}: {own:?}");
    own
}

fn survives(engine: &'static Engine, story: Story, point: &CrashPoint) {
    let mut project = story.project(engine);
    let killed = project.world.run_killed_at(point, story.words());
    assert_eq!(killed.signal(), Some(9), "{story:?} {point}: {killed}");
    project.world.run_expecting(0, story.words());
    assert_eq!(project.everything().len(), story.things(), "{story:?} {point}: {:?}", project.everything());
    if matches!(story, Story::Destroy) {
        assert_eq!(project.world.names(), Vec::<String>::new(), "{story:?} {point}");
        return;
    }
    project.world.assert_converged();
    project.world.assert_reachable(".env.local", &format!("{}-dev", project.name));
    if matches!(story, Story::Second) {
        let all = engine.containers(&project.name, "backend");
        let kept = |id: &String| engine.try_docker(&["exec", id, "sh", "-c", "test $(cat /convex/data/mark) = kept"]);
        assert_eq!(all.iter().filter(|id| kept(id)).count(), 1, "{story:?} {point}");
    }
}

#[test]
fn a_command_killed_anywhere_is_healed_by_the_next() {
    let engine = engine_or_skip!();
    let mut work = Vec::new();
    for story in [Story::First, Story::Second, Story::Destroy] {
        work.extend(points(engine, story).into_iter().map(|point| (story, point)));
    }
    let seen: BTreeSet<&str> = work.iter().map(|(_, point)| point.name.as_str()).collect();
    for point in ["container_made", "files_sent", "renamed", "replacement_ready", "volume_removed", "network_removed"] {
        assert!(seen.contains(format!("provider.docker.{point}").as_str()), "{point} was never passed: {seen:?}");
    }
    crash_matrix("a command on an engine", &work, AT_ONCE, |(story, point)| {
        survives(engine, *story, point);
        true
    });
}

/// An engine of this test's own, which it may kill.
pub(super) struct OwnEngine {
    pub(super) engine: Engine,
    daemon: Child,
}

impl OwnEngine {
    /// An engine that is given these words more.
    pub(super) fn with(more: &[String]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let host = format!("unix://{}/docker.sock", folder.path().display());
        let engine = Engine { host, folder };
        let daemon = Self::start(&engine, more);
        Self { engine, daemon }
    }

    /// Gives it an image of another engine.
    pub(super) fn load(&self, from: &Engine, image: &str) {
        let mut save = from.command(&["save", image]).stdout(Stdio::piped()).spawn().unwrap();
        let mut load = self.engine.command(&["load"]);
        let loaded = load.stdin(save.stdout.take().unwrap()).stdout(Stdio::null()).status().unwrap();
        assert!(loaded.success() && save.wait().unwrap().success());
    }

    fn start(engine: &Engine, more: &[String]) -> Child {
        let path = |name: &str| engine.folder.path().join(name).display().to_string();
        // What a killed daemon leaves would be waited for: its own container runtime dies with it.
        if let Ok(pid) = fs::read_to_string(path("exec/containerd/containerd.pid")) {
            let runtime = std::path::Path::new("/proc").join(pid.trim());
            engine.until("its runtime has ended", |_| !runtime.exists());
        }
        for left in ["docker.pid", "exec/containerd/containerd.pid"] {
            let _ = fs::remove_file(path(left));
        }
        // It shares the default bridge: one that is to have none removes that of every engine of this machine.
        let daemon = Command::new("dockerd")
            .args(["--iptables=false", "--host", &engine.host])
            .args(["--exec-root", &path("exec"), "--pidfile", &path("docker.pid")])
            .args(if more.iter().any(|word| word == "--data-root") {
                vec![]
            } else {
                vec!["--data-root".to_owned(), path("data")]
            })
            .args(more)
            .stdout(Stdio::null())
            .stderr(fs::File::create(path("log")).unwrap())
            .spawn()
            .expect("`dockerd` is needed for an engine that dies");
        engine.until("the engine answers", |engine| engine.try_docker(&["version"]));
        daemon
    }

    fn kill(&mut self) {
        self.daemon.kill().unwrap();
        self.daemon.wait().unwrap();
    }
}

impl Drop for OwnEngine {
    fn drop(&mut self) {
        let pid = rustix::process::Pid::from_raw(i32::try_from(self.daemon.id()).unwrap()).unwrap();
        let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
        let _ = self.daemon.wait();
        // One that was killed before leaves its data folder mounted on itself, also when its successor ends well.
        unmount_below(self.engine.folder.path());
    }
}

#[test]
fn an_engine_that_dies_in_the_middle_is_healed_once_it_is_back() {
    let shared = engine_or_skip!();
    let mut own = OwnEngine::with(&[]);
    own.load(shared, BACKEND);
    let blocks = "[backends.dev]\nprovider = \"docker\"\n[backends.dev.docker]\nIMAGE\n";
    let mut project = Project::new(shared, blocks);
    project.world.set("DOCKER_HOST", &own.engine.host);
    // Asking the engine takes so long on a busy machine that the command might be through by then.
    let trace = project.world.root().join("trace");
    project.world.set("CONVEXINFRA_FAULT_TRACE", trace.to_str().unwrap());
    let passed = |point: &str| {
        let line = format!("provider.docker.{point}");
        fixture::wait_until(&line, || fs::read_to_string(&trace).is_ok_and(|text| text.lines().any(|passed| passed == line)));
    };
    let command = project.world.spawn(&["apply", "--yes"]);
    passed("network_made");
    own.kill();
    let died = command.end();
    assert_eq!(died.code(), 69, "{died}");
    assert!(died.err.contains("does not answer") && died.err.contains(&own.engine.host), "{died}");
    // Nobody can tell now what is there, and nobody says that nothing is.
    let plan = project.world.run(&["plan"]);
    assert!(!plan.out.contains("destroy"), "{plan}");

    own.daemon = OwnEngine::start(&own.engine, &[]);
    project.world.apply();
    project.world.assert_converged();
    assert_eq!(own.engine.everything(&project.name).len(), 3);

    // The same in the middle of a replacement.
    project.manifest(&format!("{blocks}[backends.dev.tuning]\nmax_concurrent_queries = 8\n"));
    own.engine.docker(&["exec", &own.engine.container(&project.name, "backend"), "sh", "-c", "echo kept > /convex/data/mark"]);
    fs::remove_file(&trace).unwrap();
    let command = project.world.spawn(&["apply", "--yes"]);
    passed("stopped");
    own.kill();
    let died = command.end();
    assert_eq!(died.code(), 69, "{died}");
    own.daemon = OwnEngine::start(&own.engine, &[]);
    project.world.apply();
    project.world.assert_converged();
    let id = own.engine.container(&project.name, "backend");
    assert_eq!(own.engine.docker(&["exec", &id, "cat", "/convex/data/mark"]), "kept");
    project.world.run_expecting(0, &["destroy", "--yes", "--allow-destroy", "dev"]);
    assert_eq!(own.engine.everything(&project.name), Vec::<String>::new());
}

#[test]
fn an_engine_that_dies_before_it_writes_the_labels_of_a_volume_is_healed() {
    let shared = engine_or_skip!();
    let mut own = OwnEngine::with(&[]);
    own.load(shared, BACKEND);
    let volumes = own.engine.folder.path().join("data/volumes");
    // It makes a folder, a folder in that, and then an entry in its database.
    for has_folder in [true, false] {
        let mut project = Project::new(shared, "[backends.dev]\nprovider = \"docker\"\n[backends.dev.docker]\nIMAGE\n");
        project.world.set("DOCKER_HOST", &own.engine.host);
        project.world.set("CONVEXINFRA_FAULT", "provider.docker.volume_made:1");
        assert_eq!(project.world.run(&["apply", "--yes"]).signal(), Some(9));
        project.world.unset("CONVEXINFRA_FAULT");
        let everything = own.engine.everything(&project.name);
        let volume = everything.iter().find_map(|name| name.strip_prefix("volume ")).expect("no volume was made");
        own.kill();
        fs::remove_file(volumes.join("metadata.db")).unwrap();
        if !has_folder {
            fs::remove_dir(volumes.join(volume).join("_data")).unwrap();
        }
        own.daemon = OwnEngine::start(&own.engine, &[]);
        assert!(own.engine.try_docker(&["volume", "inspect", volume]), "the engine has lost the volume as well");
        project.world.apply();
        project.world.assert_converged();
        assert_eq!(own.engine.everything(&project.name).len(), 3);
        project.world.run_expecting(0, &["destroy", "--yes", "--allow-destroy", "dev"]);
        assert_eq!(own.engine.everything(&project.name), Vec::<String>::new());
    }
}

/// Leaves a project as an engine does that died while it made the volume: of the right name, and without labels.
fn with_a_volume_without_labels(engine: &'static Engine) -> (Project, String) {
    let mut project = Project::new(engine, "[backends.dev]\nprovider = \"docker\"\n[backends.dev.docker]\nIMAGE\n");
    project.world.set("CONVEXINFRA_FAULT", "provider.docker.volume_made:1");
    assert_eq!(project.world.run(&["apply", "--yes"]).signal(), Some(9));
    project.world.unset("CONVEXINFRA_FAULT");
    let everything = project.everything();
    let volume = everything.iter().find_map(|name| name.strip_prefix("volume ")).expect("no volume was made").to_owned();
    engine.docker(&["volume", "rm", &volume]);
    engine.docker(&["volume", "create", &volume]);
    (project, volume)
}

#[test]
fn an_empty_volume_that_lost_its_labels_is_made_again() {
    let engine = engine_or_skip!();
    let (mut project, volume) = with_a_volume_without_labels(engine);
    // Killed while it looks into it, too.
    project.world.set("CONVEXINFRA_FAULT", "provider.docker.probe_made:1");
    assert_eq!(project.world.run(&["apply", "--yes"]).signal(), Some(9));
    project.world.unset("CONVEXINFRA_FAULT");
    project.world.apply();
    project.world.assert_converged();
    assert_eq!(project.everything().len(), 3, "{:?}", project.everything());
    assert!(project.everything().contains(&format!("volume {volume}")));
    project.world.run_expecting(0, &["destroy", "--yes", "--allow-destroy", "dev"]);
    assert_eq!(project.everything(), Vec::<String>::new());
}

#[test]
fn an_empty_volume_that_lost_its_labels_goes_with_its_backend() {
    let engine = engine_or_skip!();
    let (mut project, volume) = with_a_volume_without_labels(engine);
    project.world.set("CONVEXINFRA_FAULT", "provider.docker.probe_made:1");
    assert_eq!(project.world.run(&["apply", "--yes"]).signal(), Some(9));
    project.world.unset("CONVEXINFRA_FAULT");
    project.world.run_expecting(0, &["destroy", "--yes", "--allow-destroy", "dev"]);
    assert_eq!(project.everything(), Vec::<String>::new());
    assert!(!engine.try_docker(&["volume", "inspect", &volume]));
}

#[test]
fn a_volume_without_labels_that_may_hold_data_is_left_alone() {
    let engine = engine_or_skip!();
    let (project, volume) = with_a_volume_without_labels(engine);
    let mount = format!("{volume}:/elsewhere");
    let refused = |why: &str| {
        let run = project.world.run_expecting(1, &["apply", "--yes"]);
        assert!(run.err.contains("was not made by this control plane") && run.err.contains(&volume), "{why}: {run}");
        assert!(engine.try_docker(&["volume", "inspect", &volume]), "{why}");
    };
    // A container that has it may be about to write to it.
    let user = engine.docker(&["create", "-v", &mount, "--entrypoint", "sleep", BACKEND, "600"]);
    refused("a container has it");
    engine.docker(&["rm", "-f", "-v", &user]);
    engine.docker(&[
        "run",
        "--rm",
        "-v",
        &mount,
        "--network",
        "none",
        "--entrypoint",
        "cp",
        BACKEND,
        "/etc/passwd",
        "/elsewhere",
    ]);
    refused("a file is in it");
    // Nor does it go with the backend.
    project.world.run_expecting(0, &["destroy", "--yes", "--allow-destroy", "dev"]);
    assert!(engine.try_docker(&["volume", "inspect", &volume]));
    engine.docker(&["volume", "rm", &volume]);
}

#[test]
fn a_full_disk_is_told_and_the_next_command_goes_on() {
    let shared = engine_or_skip!();
    let folder = tempfile::tempdir().unwrap();
    let disk = Tmpfs::mount(folder.path(), "size=1g").expect("a small disk cannot be mounted");
    let own = OwnEngine::with(&["--data-root".to_owned(), folder.path().display().to_string()]);
    own.load(shared, BACKEND);
    let mut project = Project::new(shared, "[backends.dev]\nprovider = \"docker\"\n[backends.dev.docker]\nIMAGE\n");
    project.world.set("DOCKER_HOST", &own.engine.host);
    let filler = folder.path().join("filler");
    let filled = Command::new("dd")
        .args(["if=/dev/zero", "bs=1M", &format!("of={}", filler.display())])
        .stderr(Stdio::null())
        .status()
        .unwrap();
    assert!(!filled.success(), "the disk is larger than it should be");
    let full = project.world.run_expecting(1, &["apply", "--yes"]);
    assert!(full.err.contains("no space left on device") && full.err.contains("docker system df"), "{full}");
    fs::remove_file(&filler).unwrap();
    project.world.apply();
    project.world.assert_converged();
    project.world.run_expecting(0, &["destroy", "--yes", "--allow-destroy", "dev"]);
    assert_eq!(own.engine.everything(&project.name), Vec::<String>::new());
    drop(own);
    drop(disk);
}
