//! Commands over a network that cuts, delays and repeats: nothing is lost, and nothing is done twice.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use super::commands::ONE;
use fixture::ProjectFixture;

/// What a bad way does to one connection, in one of its directions.
#[derive(Debug, Clone, Copy)]
enum Fate {
    Clean,
    Slow,
    /// So many bytes come through and then none any more.
    CutAfter(usize),
    /// The first piece comes twice.
    Twice,
}

/// What happens to one connection after another: towards the server, and back.
const FATES: [(Fate, Fate); 12] = [
    (Fate::CutAfter(2500), Fate::Clean),
    (Fate::Clean, Fate::CutAfter(60)),
    (Fate::Twice, Fate::Clean),
    (Fate::Slow, Fate::CutAfter(2000)),
    (Fate::Clean, Fate::CutAfter(0)),
    (Fate::CutAfter(150), Fate::Clean),
    (Fate::Clean, Fate::Twice),
    (Fate::Clean, Fate::CutAfter(700)),
    (Fate::Twice, Fate::CutAfter(0)),
    (Fate::CutAfter(900), Fate::Clean),
    (Fate::Slow, Fate::CutAfter(400)),
    (Fate::Twice, Fate::Twice),
];

/// A bad way to a server, and how many connections took it. `skip` is where in the list of fates it begins.
fn bad_way(server: SocketAddr, skip: usize) -> (SocketAddr, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let (address, count) = (listener.local_addr().unwrap(), Arc::new(AtomicUsize::new(0)));
    let counted = Arc::clone(&count);
    std::thread::spawn(move || {
        for client in listener.incoming().flatten() {
            let (there, back) = FATES[(skip + counted.fetch_add(1, Ordering::SeqCst)) % FATES.len()];
            let Ok(server) = TcpStream::connect(server) else { continue };
            let (from, to) = (client.try_clone().unwrap(), server.try_clone().unwrap());
            std::thread::spawn(move || carry(from, to, there));
            std::thread::spawn(move || carry(server, client, back));
        }
    });
    (address, count)
}

fn carry(mut from: TcpStream, mut to: TcpStream, fate: Fate) {
    let mut buffer = [0; 4096];
    let mut carried = 0;
    while let Ok(count @ 1..) = from.read(&mut buffer) {
        let piece = match fate {
            Fate::CutAfter(limit) => &buffer[..count.min(limit - carried)],
            Fate::Clean | Fate::Slow | Fate::Twice => &buffer[..count],
        };
        if matches!(fate, Fate::Slow) {
            std::thread::sleep(Duration::from_millis(60));
        }
        let again: &[u8] = if matches!(fate, Fate::Twice) && carried == 0 { piece } else { &[] };
        if to.write_all(piece).and_then(|()| to.write_all(again)).is_err() {
            break;
        }
        carried += piece.len();
        if matches!(fate, Fate::CutAfter(limit) if carried >= limit) {
            break;
        }
    }
    let _ = from.shutdown(std::net::Shutdown::Both);
    let _ = to.shutdown(std::net::Shutdown::Both);
}

#[test]
fn on_a_bad_way_nothing_is_lost_and_nothing_is_done_twice() {
    let manifest =
        (0..5).fold(ONE.to_owned(), |text, number| format!("{text}\n[backends.b{number}]\nprovider = \"simulated\"\n"));
    let mut world = ProjectFixture::new(&manifest);
    world.set("TOKEN", "hunter2");
    world.start_server();
    let url = world.server().url.clone();
    for (round, words) in
        [&["apply", "--yes"][..], &["destroy", "--allow-destroy", "dev,b0,b1,b2,b3,b4"]].into_iter().enumerate()
    {
        let (way, count) = bad_way(url.strip_prefix("http://").unwrap().parse().unwrap(), 5 * round);
        world.set("CONVEXINFRA_CONTROL_PLANE", &format!("http://{way}"));
        // A command that has heard nothing yet gives up soon and has done nothing; it may be run again.
        let mut run = world.run(words);
        while run.code() == 69 {
            run = world.run(words);
        }
        assert_eq!(run.code(), 0, "{run}");
        assert!(count.load(Ordering::SeqCst) > FATES.len(), "too few connections for every fate");
    }
    world.set("CONVEXINFRA_CONTROL_PLANE", &url);
    let entries = world.run_expecting(0, &["log", "--limit", "500", "--json"]).document();
    let mut counts: BTreeMap<(String, String), usize> = BTreeMap::new();
    for entry in entries["entries"].as_array().unwrap() {
        let backend = entry["backend"].as_str().unwrap_or("-").to_owned();
        *counts.entry((backend, entry["kind"].as_str().unwrap().to_owned())).or_default() += 1;
    }
    for backend in ["dev", "b0", "b1", "b2", "b3", "b4"] {
        for kind in ["operation_accepted", "backend_ready", "removal_accepted", "backend_removed"] {
            assert_eq!(counts.get(&(backend.to_owned(), kind.to_owned())), Some(&1), "{backend} {kind}: {counts:#?}");
        }
    }
    world.run_expecting(0, &["log", "--verify"]);
    assert_eq!(world.names(), Vec::<String>::new());
    assert!(!world.folder.join(".env.local").exists());
}
