//! A server that others reach: under a private authority, over HTTP/2, and through a proxy.

#![allow(clippy::unwrap_used, clippy::panic)]

use std::io::{BufRead, BufReader, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use fixture::ProjectFixture;
use fixture::Server;

const ONE: &str = "project = \"gremlin\"\n\n[backends.dev]\nprovider = \"simulated\"\nenv_file = \".env.local\"\n";
/// A name that means something to the proxy alone.
const HOST: &str = "control.example.test";

/// A world whose server has a certificate of a private authority. Its commands know the token, and nothing else yet.
fn world() -> ProjectFixture {
    let mut world = ProjectFixture::new(ONE);
    fixture::certificates::issue(&world.root(), &["127.0.0.1", HOST]);
    let token = Server::init(&world.variables);
    let mut variables = world.variables.clone();
    for (variable, file) in [("CONVEXINFRA_TLS_CERT", "server.pem"), ("CONVEXINFRA_TLS_KEY", "server.key")] {
        variables.insert(variable.to_owned(), world.root().join(file).display().to_string());
    }
    world.server = Some(Server::start(&variables));
    world.set("CONVEXINFRA_TOKEN", &token);
    world.set("CONVEXINFRA_HOME", "/nonexistent/home");
    world
}

/// A proxy that passes every connection on to one address, and remembers what it was asked for.
fn proxy(target: String) -> (String, Arc<Mutex<Vec<String>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    let asked: Arc<Mutex<Vec<String>>> = Arc::default();
    let seen = Arc::clone(&asked);
    std::thread::spawn(move || {
        for client in listener.incoming().map_while(Result::ok) {
            let (target, seen) = (target.clone(), Arc::clone(&seen));
            std::thread::spawn(move || tunnel(client, &target, &seen));
        }
    });
    (address, asked)
}

fn tunnel(mut client: TcpStream, target: &str, seen: &Mutex<Vec<String>>) -> std::io::Result<()> {
    let mut head = BufReader::new(client.try_clone()?).lines();
    seen.lock().unwrap().push(head.next().transpose()?.unwrap_or_default());
    while head.next().transpose()?.is_some_and(|line| !line.is_empty()) {}
    let mut server = TcpStream::connect(target)?;
    client.write_all(b"HTTP/1.1 200 Connection established\r\n\r\n")?;
    let (mut from_client, mut to_server) = (client.try_clone()?, server.try_clone()?);
    let up = std::thread::spawn(move || {
        let _ = std::io::copy(&mut from_client, &mut to_server);
        to_server.shutdown(Shutdown::Write)
    });
    std::io::copy(&mut server, &mut client)?;
    client.shutdown(Shutdown::Write)?;
    up.join().unwrap()
}

#[test]
fn a_private_authority_is_trusted_when_it_is_named() {
    let mut world = world();
    let url = world.server().url.clone();
    assert!(url.starts_with("https://127.0.0.1:"), "{url}");
    world.set("CONVEXINFRA_CONTROL_PLANE", &url);
    let unknown = world.run_expecting(69, &["plan", "--json"]);
    assert!(unknown.out.contains("CONVEXINFRA_CA_FILE"), "{unknown}");
    world.set("CONVEXINFRA_CA_FILE", &world.root().join("ca.pem").display().to_string());
    world.apply();
    world.assert_reachable(".env.local", "gremlin-dev");
    world.assert_converged();
    let log = world.server().log();
    let requests: Vec<&str> = log.lines().filter(|line| line.contains(" answered ")).collect();
    assert!(requests.len() > 5 && requests.iter().all(|line| line.contains("HTTP/2.0")), "{log}");
    // Another authority's word is worth nothing here.
    let other = tempfile::tempdir().unwrap();
    fixture::certificates::issue(other.path(), &["127.0.0.1"]);
    world.set("CONVEXINFRA_CA_FILE", &other.path().join("ca.pem").display().to_string());
    world.run_expecting(69, &["plan"]);
}

#[test]
fn a_proxy_is_used_for_other_machines_only() {
    let mut world = world();
    let target = world.server().url.strip_prefix("https://").unwrap().to_owned();
    let (address, asked) = proxy(target);
    world.set("CONVEXINFRA_CONTROL_PLANE", &format!("https://{HOST}"));
    world.set("CONVEXINFRA_CA_FILE", &world.root().join("ca.pem").display().to_string());
    world.set("HTTPS_PROXY", &address);
    world.apply();
    world.assert_reachable(".env.local", "gremlin-dev");
    world.assert_converged();
    let asked = asked.lock().unwrap().clone();
    assert!(!asked.is_empty() && asked.iter().all(|line| line == &format!("CONNECT {HOST}:443 HTTP/1.1")), "{asked:?}");
}
