//! What only one of the providers promises.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::time::{Duration, Instant};

use convexinfra::model::{DataState, RunState, ServerStorage, Storage};
use convexinfra::provider::local::Local;
use convexinfra::provider::{Provider, ProviderError};
use rustix::process::Signal;

use super::world::{EXECUTABLE, ProviderFixture, local, no_sources, script, simulated, until, until_running};

#[tokio::test]
async fn a_backend_that_does_not_listen_is_only_a_record() {
    let mut world = ProviderFixture::new(simulated);
    world.placement.spec.settings.simulated.listen = false;
    world.ensure().await;
    let seen = world.observe().await;
    assert_eq!((seen.state, seen.data, seen.drift), (RunState::Recorded, DataState::None, Vec::new()));
    world.remove().await;
    assert!(!world.home.exists(), "a record has left something on the disk");
}

#[tokio::test]
async fn a_backend_that_stops_listening_is_stopped_and_still_removed() {
    let mut world = ProviderFixture::new(simulated);
    world.ensure().await;
    until_running(&world).await;
    world.placement.spec.settings.simulated.listen = false;
    world.ensure().await;
    assert_eq!(world.processes(), Vec::<i32>::new());
    assert!(world.root().join("data/db.sqlite3").exists());
    world.remove().await;
    assert!(!world.root().exists());
}

#[tokio::test]
async fn a_backend_whose_server_is_not_known_is_not_started() {
    let mut world = ProviderFixture::new(simulated);
    world.placement.spec.storage = Storage::Postgres(ServerStorage::default());
    let refused = world.try_ensure().await.unwrap_err();
    assert_eq!(refused.to_string(), "`dev` cannot be started: the value of `storage.url` is missing");
    assert_eq!(world.observe().await.state, RunState::Absent);
}

/// Convex starts a Node process for actions. When the backend is killed, that child lives on for a while with
/// everything that it has inherited, and must not be taken for its parent.
#[tokio::test]
async fn a_child_that_outlives_the_backend_is_not_the_backend() {
    let mut world = ProviderFixture::new(local);
    let line = format!("sh -c 'sleep 20; :' {} &\nexec '{EXECUTABLE}' simulate-backend \"$@\"", world.home.display());
    let binary = script(&world.home, "with-child", &line);
    world.placement.spec.settings.local.binary = Some(binary.display().to_string());
    world.ensure().await;
    until_running(&world).await;
    assert_eq!(world.processes().len(), 2);
    rustix::process::kill_process(world.pid(), Signal::KILL).unwrap();
    until("the backend is gone", || world.processes().len() == 1).await;
    assert_eq!(world.observe().await.state, RunState::Stopped);
    world.ensure().await;
    until_running(&world).await;
}

#[tokio::test]
async fn a_process_that_ignores_the_signal_is_killed() {
    let mut world = ProviderFixture::new(local);
    let line = format!("trap '' INT\nwhile :; do sleep 0.2; done # {}", world.home.display());
    let binary = script(&world.home, "deaf", &line);
    world.placement.spec.settings.local.binary = Some(binary.display().to_string());
    world.provider =
        Box::new(Local::new(world.home.clone(), EXECUTABLE.into(), no_sources()).with_grace(Duration::from_millis(300)));
    world.ensure().await;
    assert_eq!(world.observe().await.state, RunState::Unready);
    let begun = Instant::now();
    world.remove().await;
    assert!(begun.elapsed() >= Duration::from_millis(300));
    assert_eq!(world.processes(), Vec::<i32>::new());
    assert!(!world.root().exists());
}

#[tokio::test]
async fn a_foreign_pid_in_the_record_is_never_signalled() {
    let mut world = ProviderFixture::new(simulated);
    world.ensure().await;
    until_running(&world).await;
    world.kill().await;
    // The record now names a living process that is none of ours, even with its true start time.
    let mut stranger = std::process::Command::new("sleep").arg("60").spawn().unwrap();
    let mut record = world.record();
    record["pid"] = stranger.id().into();
    std::fs::write(world.root().join("run/process.json"), record.to_string()).unwrap();
    assert_eq!(world.observe().await.state, RunState::Stopped);
    world.ensure().await;
    until_running(&world).await;
    world.remove().await;
    assert!(stranger.try_wait().unwrap().is_none(), "the stranger was signalled");
    stranger.kill().unwrap();
    stranger.wait().unwrap();
}

#[tokio::test]
async fn a_managed_server_is_refused_by_local() {
    let mut world = ProviderFixture::new(local);
    world.placement.spec.storage = Storage::Mysql(ServerStorage { managed: true, ..ServerStorage::default() });
    assert!(matches!(world.try_ensure().await, Err(ProviderError::Unsupported(_))));
}

/// The type of a provider is one that a server can share among its tasks.
#[test]
fn a_provider_can_be_shared() {
    fn shared(_: std::sync::Arc<dyn Provider>) {}
    let (provider, _) = local(tempfile::tempdir().unwrap().path());
    shared(provider.into());
}
