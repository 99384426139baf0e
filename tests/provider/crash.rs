//! Commands that are killed in the middle: the next command repairs what is left.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use convexinfra::model::{PortPair, RunState};

use super::world::{ProviderFixture, Setup, local, placement, simulated, until_running};

const HOME: &str = "CONVEXINFRA_TEST_HOME";
const VERB: &str = "CONVEXINFRA_TEST_VERB";
const PORTS: &str = "CONVEXINFRA_TEST_PORTS";
const KIND: &str = "CONVEXINFRA_TEST_KIND";

/// Not a test but the command that the tests below kill: this test binary, started once more.
#[tokio::test]
async fn command() {
    let Ok(home) = std::env::var(HOME) else { return };
    let setup: Setup = if std::env::var(KIND).unwrap() == "local" { local } else { simulated };
    let ports = std::env::var(PORTS).unwrap();
    let (api, site) = ports.split_once(' ').unwrap();
    let ports = PortPair { api: api.parse().unwrap(), site: site.parse().unwrap() };
    let (provider, spec) = setup(Path::new(&home));
    let placement = placement(spec, ports);
    if std::env::var(VERB).unwrap() == "ensure" {
        provider.ensure(&placement, &|_| {}).await.unwrap();
    } else {
        provider.remove(&placement, &|_| {}).await.unwrap();
    }
}

fn spawn(world: &ProviderFixture, verb: &str, fault: Option<&str>) -> Child {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command
        .args(["--exact", "crash::command", "--nocapture"])
        .env(HOME, &world.home)
        .env(KIND, world.provider.kind().as_str())
        .env(VERB, verb)
        .env(PORTS, format!("{} {}", world.placement.ports.api, world.placement.ports.site))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    if let Some(fault) = fault {
        command.env("CONVEXINFRA_FAULT", fault);
    }
    command.spawn().unwrap()
}

/// After a command was killed: there is at most one process, and the same command once more ends well.
async fn heals(world: &mut ProviderFixture, verb: &str) {
    assert!(world.processes().iter().filter(|pid| is_backend(**pid)).count() <= 1);
    if verb == "ensure" {
        world.ensure().await;
        until_running(world).await;
        assert_eq!(world.processes().len(), 1);
    } else {
        world.remove().await;
        assert_eq!(world.processes(), Vec::<i32>::new());
        let left: Vec<_> = std::fs::read_dir(world.home.join("backends")).unwrap().collect();
        assert!(left.is_empty(), "{left:?}");
        world.placement.has_been_ready = false;
        assert_eq!(world.observe().await.state, RunState::Absent);
    }
}

/// A detacher is not a backend yet.
fn is_backend(pid: i32) -> bool {
    let listed = Command::new("ps").args(["-ww", "-o", "args=", "-p", &pid.to_string()]).output().unwrap();
    !String::from_utf8_lossy(&listed.stdout).contains(" detach ")
}

fn wait(mut child: Child) -> ExitStatus {
    let deadline = Instant::now() + fixture::DEADLINE;
    loop {
        match child.try_wait().unwrap() {
            Some(status) => return status,
            None if Instant::now() > deadline => {
                child.kill().unwrap();
                panic!("the command hangs");
            }
            None => std::thread::sleep(Duration::from_millis(5)),
        }
    }
}

async fn kill_after(setup: Setup, verb: &str, delay: Duration) {
    let mut world = ProviderFixture::new(setup);
    if verb == "remove" {
        world.ensure().await;
        until_running(&world).await;
    }
    let mut child = spawn(&world, verb, None);
    tokio::time::sleep(delay).await;
    let _ = child.kill();
    child.wait().unwrap();
    heals(&mut world, verb).await;
}

#[tokio::test]
async fn a_command_killed_at_any_time_is_healed_by_the_next() {
    for milliseconds in [0, 5, 10, 15, 20, 30, 45, 70, 120] {
        for verb in ["ensure", "remove"] {
            kill_after(simulated, verb, Duration::from_millis(milliseconds)).await;
        }
        kill_after(local, "ensure", Duration::from_millis(milliseconds)).await;
    }
}

#[tokio::test]
async fn commands_at_once_give_one_process() {
    let mut world = ProviderFixture::new(simulated);
    let children: Vec<_> = (0..4).map(|_| spawn(&world, "ensure", None)).collect();
    for child in children {
        assert!(wait(child).success());
    }
    assert_eq!(world.processes().len(), 1);
    heals(&mut world, "ensure").await;
}

#[tokio::test]
async fn a_backend_outlives_its_command() {
    let mut world = ProviderFixture::new(simulated);
    let status = wait(spawn(&world, "ensure", None));
    assert!(status.success() && status.signal().is_none());
    until_running(&world).await;
    let pid = world.pid();
    world.ensure().await;
    assert_eq!(world.pid(), pid);
}

#[cfg(debug_assertions)]
#[tokio::test]
async fn a_command_killed_at_every_point_is_healed_by_the_next() {
    const ENSURE: [&str; 6] =
        ["directories_made", "detacher_spawned", "description_sent", "log_opened", "record_written", "started"];
    const REMOVE: [&str; 5] = ["stop_signalled", "stopped", "directory_renamed", "data_removed", "directory_removed"];
    for setup in [simulated as Setup, local] {
        for point in ENSURE {
            let mut world = ProviderFixture::new(setup);
            let status = wait(spawn(&world, "ensure", Some(&format!("provider.process.{point}:1"))));
            assert!(!status.success(), "{point} was not passed");
            heals(&mut world, "ensure").await;
            world.remove().await;
            assert_eq!(world.processes(), Vec::<i32>::new());
        }
        for point in REMOVE {
            let mut world = ProviderFixture::new(setup);
            world.ensure().await;
            until_running(&world).await;
            let status = wait(spawn(&world, "remove", Some(&format!("provider.process.{point}:1"))));
            assert_eq!(status.signal(), Some(9), "{point} was not passed");
            heals(&mut world, "remove").await;
        }
    }
}
