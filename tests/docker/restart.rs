//! An engine that starts a container again before its end was observed.
//!
//! The end is a tenth of a second, in which a busy machine does not look. So the provider speaks to the engine through a
//! door that lets its first look at what it has started pass only once the engine has started that again.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use convexinfra::provider::ProviderError;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};

use super::bench::DockerFixture;
use super::rig::{BACKEND, BROKEN, Engine};
use crate::engine_or_skip;

/// Opens the door in a folder, and gives its address. It holds back one look, after the first start that finds `holds`.
fn door(engine: &'static Engine, folder: &Path, holds: Arc<AtomicBool>) -> String {
    let path = folder.join("docker.sock");
    let listener = UnixListener::bind(&path).unwrap();
    let started = Arc::new(AtomicBool::new(false));
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            tokio::spawn(pass(engine, client, Arc::clone(&holds), Arc::clone(&started)));
        }
    });
    format!("unix://{}", path.display())
}

async fn pass(engine: &'static Engine, client: UnixStream, holds: Arc<AtomicBool>, started: Arc<AtomicBool>) {
    let server = UnixStream::connect(engine.host.strip_prefix("unix://").unwrap()).await.unwrap();
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_server, mut to_server) = server.into_split();
    let back = tokio::spawn(async move { tokio::io::copy(&mut from_server, &mut to_client).await });
    let mut piece = vec![0; 64 << 10];
    while let Ok(length @ 1..) = from_client.read(&mut piece).await {
        let text = String::from_utf8_lossy(&piece[..length]);
        let words: Vec<&str> = text.lines().next().unwrap_or_default().split(['/', ' ', '?']).collect();
        let act = words.iter().position(|word| *word == "containers").map(|at| (words[0], &words[at + 1..]));
        match act {
            Some(("POST", [_, "start", ..])) => started.store(holds.swap(false, Ordering::SeqCst), Ordering::SeqCst),
            Some(("GET", [id, "json", ..])) if started.swap(false, Ordering::SeqCst) => {
                let id = (*id).to_owned();
                let waited = tokio::task::spawn_blocking(move || until_started_again(engine, &id));
                waited.await.unwrap();
            }
            _ => {}
        }
        if to_server.write_all(&piece[..length]).await.is_err() {
            break;
        }
    }
    back.abort();
}

fn until_started_again(engine: &Engine, id: &str) {
    engine.until("the engine has started the container again", |engine| {
        let seen = engine.inspect(id);
        seen["RestartCount"] != 0 && seen["State"]["Status"] == "running"
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn how_a_container_ended_is_told_although_the_engine_has_started_it_again() {
    let engine = engine_or_skip!();
    let folder = tempfile::tempdir().unwrap();
    let holds = Arc::new(AtomicBool::new(false));
    let mut bench = DockerFixture::at(engine, door(engine, folder.path(), Arc::clone(&holds)));
    bench.ensure().await;
    bench.shell(": > /convex/data/stumbles");
    let first = bench.container();

    holds.store(true, Ordering::SeqCst);
    bench.placement.spec.settings.docker.image = Some(BROKEN.to_owned());
    match bench.try_ensure().await {
        Err(ProviderError::NotReplaced { reason, log }) => {
            assert_eq!(reason, "it ended with exit code 7");
            assert!(log.iter().any(|line| line == "it is broken"), "{log:?}");
        }
        other => panic!("{other:?}"),
    }
    bench.placement.spec.settings.docker.image = Some(BACKEND.to_owned());
    assert_eq!(bench.ensure().await.drift, Vec::new());
    assert_eq!(bench.container(), first);
}
