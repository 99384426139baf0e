//! A token goes only where it belongs: what a manifest names gets none.

#![allow(clippy::unwrap_used, clippy::panic)]

use std::io::{Read, Write};
use std::net::TcpListener;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use fixture::ProjectFixture;

const TOKEN: &str = "cvxi_abcdefghij_not-a-bound-token";

/// A host that notes all that is sent to it.
struct Listener {
    url: String,
    connections: Arc<AtomicUsize>,
    received: Arc<Mutex<String>>,
}

impl Listener {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let (connections, received) = (Arc::new(AtomicUsize::new(0)), Arc::new(Mutex::new(String::new())));
        let (count, text) = (Arc::clone(&connections), Arc::clone(&received));
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                count.fetch_add(1, Ordering::SeqCst);
                let mut stream = stream.unwrap();
                let mut piece = [0; 4096];
                if let Ok(length) = stream.read(&mut piece) {
                    text.lock().unwrap().push_str(&String::from_utf8_lossy(&piece[..length]));
                }
                let _ = stream.write_all(b"HTTP/1.1 401 Unauthorized\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
            }
        });
        Self { url, connections, received }
    }

    fn count(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }
}

fn project(listener: &Listener) -> ProjectFixture {
    let manifest = format!(
        "project = \"gremlin\"\n\n[control_plane]\nurl = \"{}\"\n\n[backends.dev]\nprovider = \"simulated\"\n",
        listener.url
    );
    ProjectFixture::new(&manifest)
}

#[test]
fn a_host_that_only_a_manifest_names_gets_nothing() {
    let listener = Listener::start();
    let mut project = project(&listener);
    project.set("CONVEXINFRA_TOKEN", TOKEN);
    for words in [
        &["plan", "--json"][..],
        &["apply", "--yes", "--json"],
        &["drift", "--json"],
        &["status", "--json"],
        &["log", "--json"],
        &["env", "dev", "--json"],
        &["token", "list", "--json"],
        &["destroy", "dev", "--allow-destroy", "dev", "--json"],
    ] {
        let run = project.run_expecting(77, words);
        assert_eq!(run.errors(), ["auth.untrusted_host"], "{run}");
        assert!(!run.out.contains(TOKEN) && !run.err.contains(TOKEN), "{run}");
    }
    assert_eq!(listener.count(), 0, "{}", listener.received.lock().unwrap());
}

#[test]
fn a_command_that_prints_a_token_is_not_started_for_such_a_host() {
    let listener = Listener::start();
    let mut project = project(&listener);
    project.set("CONVEXINFRA_TOKEN_COMMAND", &format!("touch started; echo {TOKEN}"));
    assert_eq!(project.run_expecting(77, &["plan", "--json"]).errors(), ["auth.untrusted_host"]);
    assert!(!project.folder.join("started").exists());
    assert_eq!(listener.count(), 0);
}

#[test]
fn a_host_that_the_user_names_or_trusts_gets_the_token() {
    let listener = Listener::start();
    let mut project = project(&listener);
    project.set("CONVEXINFRA_TOKEN", TOKEN);
    project.run_expecting(69, &["plan", "--control-plane", &listener.url]);
    assert!(listener.received.lock().unwrap().contains(TOKEN));
    listener.received.lock().unwrap().clear();

    project.run_expecting(0, &["trust", "add", &format!("{}/path", listener.url)]);
    project.run_expecting(69, &["plan"]);
    assert!(listener.received.lock().unwrap().contains(TOKEN));
    listener.received.lock().unwrap().clear();

    project.run_expecting(0, &["trust", "remove", &listener.url]);
    let run = project.run_expecting(77, &["plan", "--json"]);
    assert_eq!(run.errors(), ["auth.untrusted_host"]);
    assert_eq!(*listener.received.lock().unwrap(), "");
}
