//! What drivers that run processes promise beyond the contract of all drivers (`tests/contract`), each on a fresh world.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, unreachable_pub)]

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use convexinfra::model::{DataState, Generation, Observation, RunState};
use convexinfra::provider::{LogPosition, ProviderError};
use rustix::process::Signal;

use super::world::{ProviderFixture, until, until_running};

fn deviation<'a>(seen: &'a Observation, path: &str) -> Option<&'a str> {
    seen.drift.iter().find(|deviation| deviation.path.as_str() == path).map(|deviation| deviation.observed.as_str())
}

pub async fn absent_until_ensured_and_ensured_once(mut world: ProviderFixture) {
    let seen = world.observe().await;
    assert_eq!((seen.state, seen.data), (RunState::Absent, DataState::None));
    assert!(!world.root().exists(), "observing has made something");

    world.ensure().await;
    let seen = until_running(&world).await;
    assert_eq!((seen.data, seen.drift), (DataState::Present, Vec::new()));
    let pid = world.pid();

    world.ensure().await;
    world.placement.generation = Generation(2);
    world.ensure().await;
    assert_eq!(world.pid(), pid);
    assert_eq!(world.processes().len(), 1);
    let session = rustix::process::getsid(Some(pid)).unwrap();
    assert_eq!(session, pid, "a process in our session ends with our terminal");
}

pub async fn another_launch_restarts_and_keeps_the_data(mut world: ProviderFixture) {
    world.ensure().await;
    until_running(&world).await;
    let pid = world.pid();
    std::fs::write(world.root().join("data/mark"), "kept").unwrap();

    world.placement.spec.tuning.max_concurrent_queries = Some(32);
    world.placement.generation = Generation(2);
    let seen = world.observe().await;
    assert!(deviation(&seen, "launch").is_some(), "{seen:?}");

    world.ensure().await;
    let seen = until_running(&world).await;
    assert_eq!(seen.drift, Vec::new());
    assert_ne!(world.pid(), pid);
    assert_eq!(world.processes().len(), 1);
    assert_eq!(world.record()["generation"], 2);
    assert!(world.root().join("data/mark").exists());
}

pub async fn lost_data_is_never_replaced_by_none(mut world: ProviderFixture) {
    world.ensure().await;
    until_running(&world).await;
    world.kill().await;

    std::fs::remove_file(world.root().join("data/db.sqlite3")).unwrap();
    for gone in [world.root().join("data"), world.root()] {
        assert_eq!(world.observe().await.data, DataState::Missing);
        let refused = world.try_ensure().await;
        assert!(matches!(refused, Err(ProviderError::DataMissing { .. })), "{refused:?}");
        assert_eq!(world.processes(), Vec::<i32>::new());
        std::fs::remove_dir_all(gone).unwrap();
    }
    assert!(matches!(world.try_ensure().await, Err(ProviderError::DataMissing { .. })));
    assert!(!world.root().join("data").exists(), "a refusal has made something");
}

/// Here nothing but the lock of the backend itself is between the starts: the lock of the command is taken away.
pub async fn ensures_of_many_commands_give_one_process(world: ProviderFixture) {
    let turn = world.home.join("backends/b-0001.turn");
    let work = (0..6).map(|_| async {
        let _ = std::fs::remove_file(&turn);
        world.try_ensure().await
    });
    // The second one may find the port taken by the first, but there never is a second process.
    futures_util::future::join_all(work).await;
    world.try_ensure().await.unwrap();
    until_running(&world).await;
    assert_eq!(world.processes().len(), 1);
}

pub async fn removed_means_gone(mut world: ProviderFixture) {
    world.remove().await;
    world.ensure().await;
    until_running(&world).await;
    world.remove().await;
    assert_eq!(world.processes(), Vec::<i32>::new());
    assert_eq!(std::fs::read_dir(world.home.join("backends")).unwrap().count(), 0);
    world.placement.has_been_ready = false;
    assert_eq!(world.observe().await.state, RunState::Absent);
    world.remove().await;

    world.ensure().await;
    until_running(&world).await;
}

pub async fn the_log_is_read_and_followed(mut world: ProviderFixture) {
    assert_eq!(world.provider.logs(&world.placement, LogPosition::Tail(10)).await.unwrap().text, "");
    world.ensure().await;
    until_running(&world).await;
    let tail = world.provider.logs(&world.placement, LogPosition::Tail(100)).await.unwrap();
    assert!(!tail.text.is_empty());
    let one = world.provider.logs(&world.placement, LogPosition::Tail(1)).await.unwrap();
    assert_eq!(one.text.lines().count(), 1);

    let log = world.root().join("log/backend.log");
    let end = std::fs::metadata(&log).unwrap().len();
    rustix::process::kill_process(world.pid(), Signal::INT).unwrap();
    until("the process has ended", || world.processes().is_empty()).await;
    let more = world.provider.logs(&world.placement, LogPosition::Byte(end)).await.unwrap();
    assert_eq!(more.next, std::fs::metadata(&log).unwrap().len());
    let whole = std::fs::read_to_string(&log).unwrap();
    assert_eq!(more.text, whole[usize::try_from(end).unwrap()..]);
}

pub async fn a_stranger_on_a_port_is_told(mut world: ProviderFixture) {
    for port in [world.placement.ports.api, world.placement.ports.site] {
        let stranger = std::net::TcpListener::bind(("0.0.0.0", port)).unwrap();
        let refused = world.try_ensure().await;
        assert!(matches!(refused, Err(ProviderError::PortTaken { port: told, .. }) if told == port), "{refused:?}");
        drop(stranger);
    }
    world.ensure().await;
    until_running(&world).await;
}

pub async fn a_suspended_process_is_not_absent(mut world: ProviderFixture) {
    world.ensure().await;
    until_running(&world).await;
    let pid = world.pid();
    rustix::process::kill_process(pid, Signal::STOP).unwrap();
    let seen = world.observe().await;
    assert_eq!((seen.state, seen.data), (RunState::Unready, DataState::Present));
    // It was ready before and answers nobody now: bringing it about means starting it anew.
    world.ensure().await;
    until_running(&world).await;
    assert_ne!(world.pid(), pid);
}

pub async fn a_suspended_process_is_stopped_all_the_same(mut world: ProviderFixture) {
    world.ensure().await;
    until_running(&world).await;
    rustix::process::kill_process(world.pid(), Signal::STOP).unwrap();
    // Its directory goes with it; what it says last can still be read under another name.
    let kept = world.home.join("kept.log");
    std::fs::hard_link(world.root().join("log/backend.log"), &kept).unwrap();
    world.remove().await;
    let log = std::fs::read_to_string(kept).unwrap();
    assert!(log.contains("the simulated backend has ended"), "it was killed instead of stopped:\n{log}");
    assert_eq!(world.processes(), Vec::<i32>::new());
}

pub async fn a_lost_record_gives_no_second_process(mut world: ProviderFixture) {
    world.ensure().await;
    until_running(&world).await;
    let first = world.pid();
    let record = world.root().join("run/process.json");
    let mut foreign = world.record();
    foreign["started"] = "another time".into();
    for content in ["", "{", &foreign.to_string()] {
        std::fs::write(&record, content).unwrap();
        let seen = world.observe().await;
        assert_eq!(seen.state, RunState::Running, "it holds the lock and answers");
        assert!(deviation(&seen, "launch").is_some());
        world.ensure().await;
        let seen = until_running(&world).await;
        assert_eq!(seen.drift, Vec::new());
        assert_eq!(world.processes().len(), 1);
    }
    assert_ne!(world.pid(), first);
    std::fs::remove_file(&record).unwrap();
    world.remove().await;
    assert_eq!(world.processes(), Vec::<i32>::new());
}

pub async fn a_start_that_fails_says_why(mut world: ProviderFixture) {
    let sound = world.placement.clone();
    world.placement.instance_secret = convexinfra::model::Secret::new("no hex");
    match world.try_ensure().await {
        Err(ProviderError::Exited { status, log }) => {
            assert!(status.starts_with("exit code"), "{status}");
            assert!(!log.is_empty());
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(world.observe().await.state, RunState::Stopped);
    world.placement = sound;
    world.ensure().await;
    until_running(&world).await;
}

pub async fn no_secret_is_left_in_files_or_our_arguments(mut world: ProviderFixture) {
    world.ensure().await;
    until_running(&world).await;
    let secret = world.placement.instance_secret.expose().to_owned();
    for file in ["run/process.json", "run/lock", "log/backend.log"] {
        let text = std::fs::read_to_string(world.root().join(file)).unwrap();
        assert!(!text.contains(&secret), "{file}");
    }
    if world.provider.kind() == convexinfra::model::ProviderKind::Simulated {
        let listed = std::process::Command::new("ps").args(["-A", "-ww", "-o", "args="]).output().unwrap();
        assert!(!String::from_utf8_lossy(&listed.stdout).contains(&secret));
    }
}

pub async fn an_ended_process_leaves_no_zombie(mut world: ProviderFixture) {
    world.ensure().await;
    until_running(&world).await;
    let pid = world.pid();
    rustix::process::kill_process(pid, Signal::KILL).unwrap();
    // A zombie can still be signalled; this process is the parent and goes on.
    until("the process is reaped", || rustix::process::test_kill_process(pid).is_err()).await;
}

pub async fn another_instance_on_the_port_is_told(mut world: ProviderFixture) {
    world.ensure().await;
    until_running(&world).await;
    let mut other = world.placement.clone();
    other.instance_name = convexinfra::model::InstanceName::parse("gremlin-other").unwrap();
    let seen = world.provider.observe(&other).await.unwrap();
    assert_eq!(seen.state, RunState::Unready);
    assert_eq!(deviation(&seen, "instance_name"), Some("gremlin-dev"));
    other.instance_name = world.placement.instance_name.clone();
    other.ports.api = super::world::ports().api;
    let seen = world.provider.observe(&other).await.unwrap();
    assert_eq!(seen.state, RunState::Unready);
    assert!(deviation(&seen, "port").is_some());
}

pub async fn a_half_removed_backend_is_swept(mut world: ProviderFixture) {
    world.ensure().await;
    until_running(&world).await;
    // As if the command had been killed right after renaming, with a process that was just about to start.
    let tombstone = world.home.join("backends/.removed-b-0001.0");
    std::fs::rename(world.root(), &tombstone).unwrap();
    world.placement.has_been_ready = false;
    assert_eq!(world.observe().await.state, RunState::Absent);
    world.remove().await;
    assert!(!tombstone.exists());
    assert_eq!(world.processes(), Vec::<i32>::new());
}

pub async fn everything_is_private(mut world: ProviderFixture) {
    world.ensure().await;
    until_running(&world).await;
    check_private(&world.root());
    assert_eq!(std::fs::metadata(world.root().join("run/lock")).unwrap().permissions().mode() & 0o777, 0o600);
}

fn check_private(directory: &Path) {
    for entry in std::fs::read_dir(directory).unwrap() {
        let entry = entry.unwrap();
        let mode = entry.metadata().unwrap().permissions().mode();
        assert_eq!(mode & 0o077, 0, "{} has mode {mode:o}", entry.path().display());
        if entry.file_type().unwrap().is_dir() {
            check_private(&entry.path());
        }
    }
}

/// A shell may hold locks and pipes open in every command that it starts; a backend lives for months and must not keep them.
pub async fn a_backend_inherits_no_descriptors_of_its_command(mut world: ProviderFixture) {
    let held = tempfile::Builder::new().suffix("held-by-the-shell").tempfile().unwrap();
    // As a shell passes one on, such as `exec 9>lock`.
    rustix::io::fcntl_setfd(held.as_file(), rustix::io::FdFlags::empty()).unwrap();
    world.ensure().await;
    until_running(&world).await;
    let open = open_files(world.pid().as_raw_nonzero().get());
    assert!(open.iter().any(|path| path.ends_with("run/lock")), "{open:?}");
    assert!(!open.iter().any(|path| path.to_string_lossy().ends_with("held-by-the-shell")), "{open:?}");
}

/// The files that a process has open.
fn open_files(pid: i32) -> Vec<std::path::PathBuf> {
    if cfg!(target_os = "linux") {
        let descriptors = std::fs::read_dir(format!("/proc/{pid}/fd")).unwrap();
        return descriptors.map(|entry| std::fs::read_link(entry.unwrap().path()).unwrap()).collect();
    }
    let listed = std::process::Command::new("lsof").args(["-p", &pid.to_string(), "-Fn"]).output().unwrap();
    let text = String::from_utf8(listed.stdout).unwrap();
    text.lines().filter_map(|line| Some(line.strip_prefix('n')?.into())).collect()
}
