//! A network between client and server that delays, cuts, truncates and repeats: nothing is lost, and nothing done twice.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stdout)]

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use fixture::ProjectFixture;

/// What happens to one connection.
#[derive(Debug, Clone, Copy)]
enum Fault {
    None,
    /// Every piece comes this much later.
    Delay(u64),
    /// So many bytes of the request get through, and then the connection breaks.
    CutRequest(usize),
    /// So many bytes of the answer get through, and then the connection breaks.
    CutAnswer(usize),
    /// The request arrives, and no answer to it.
    Swallow,
    /// The whole request arrives twice, on two connections; the answer to the first is lost.
    Repeat,
    /// It breaks before anything gets through.
    Refuse,
}

/// A proxy in front of a server.
struct Proxy {
    address: String,
    connections: Arc<AtomicUsize>,
    stop: Arc<AtomicBool>,
}

impl Proxy {
    fn new(server: &str, fault: impl Fn(usize) -> Fault + Send + Sync + 'static) -> Self {
        let target = server.strip_prefix("http://").unwrap().to_owned();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let (connections, stop) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicBool::new(false)));
        let (count, stopping) = (Arc::clone(&connections), Arc::clone(&stop));
        std::thread::spawn(move || {
            let fault = Arc::new(fault);
            for client in listener.incoming().map_while(Result::ok) {
                if stopping.load(Ordering::Relaxed) {
                    return;
                }
                let number = count.fetch_add(1, Ordering::Relaxed);
                let (target, fault) = (target.clone(), Arc::clone(&fault));
                std::thread::spawn(move || {
                    let _ = carry(client, &target, fault(number));
                });
            }
        });
        Self { address, connections, stop }
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        let _ = TcpStream::connect(self.address.strip_prefix("http://").unwrap());
    }
}

fn carry(client: TcpStream, target: &str, fault: Fault) -> std::io::Result<()> {
    if matches!(fault, Fault::Refuse) {
        return client.shutdown(Shutdown::Both);
    }
    let server = TcpStream::connect(target)?;
    let (mut up_from, mut up_to) = (client.try_clone()?, server.try_clone()?);
    let twin = matches!(fault, Fault::Repeat).then(|| TcpStream::connect(target)).transpose()?;
    let (request_limit, answer_limit) = match fault {
        Fault::CutRequest(bytes) => (bytes, usize::MAX),
        Fault::CutAnswer(bytes) => (usize::MAX, bytes),
        Fault::Swallow | Fault::Repeat => (usize::MAX, 0),
        _ => (usize::MAX, usize::MAX),
    };
    let delay = if let Fault::Delay(milliseconds) = fault { Duration::from_millis(milliseconds) } else { Duration::ZERO };
    let mut second = twin.as_ref().map(TcpStream::try_clone).transpose()?;
    let up = std::thread::spawn(move || {
        let mut left = request_limit;
        let mut buffer = [0; 16 << 10];
        while let Ok(count) = up_from.read(&mut buffer) {
            std::thread::sleep(delay);
            let count = count.min(left);
            if count == 0 || up_to.write_all(&buffer[..count]).is_err() {
                break;
            }
            if let Some(second) = &mut second {
                let _ = second.write_all(&buffer[..count]);
            }
            left -= count;
            if left == 0 {
                break;
            }
        }
        let _ = up_to.shutdown(Shutdown::Write);
        if request_limit != usize::MAX {
            let _ = up_from.shutdown(Shutdown::Both);
        }
    });
    let (mut down_from, mut down_to) = (server, client);
    let mut left = answer_limit;
    let mut buffer = [0; 16 << 10];
    while let Ok(count) = down_from.read(&mut buffer) {
        std::thread::sleep(delay);
        if count == 0 {
            break;
        }
        if answer_limit == 0 {
            // The server has answered, so it has done what was asked; nobody hears of it.
            break;
        }
        let count = count.min(left);
        if down_to.write_all(&buffer[..count]).is_err() {
            break;
        }
        left -= count;
        if left == 0 {
            break;
        }
    }
    if let Some(mut twin) = twin {
        twin.set_read_timeout(Some(Duration::from_secs(5)))?;
        let _ = twin.read(&mut buffer);
    }
    let _ = down_to.shutdown(Shutdown::Both);
    let _ = down_from.shutdown(Shutdown::Both);
    let _ = up.join();
    Ok(())
}

const STORY: &str = r#"
project = "gremlin"

[backends.dev]
provider = "simulated"
env_file = ".env.local"

[backends.dev.env]
TOKEN = { env = "TOKEN" }

[backends.app]
provider = "simulated"
depends_on = ["dev"]
"#;

/// A whole life through a network where every connection but some goes wrong in one way.
fn lives_through(name: &str, fault: impl Fn(usize) -> Fault + Send + Sync + 'static) {
    let mut world: ProjectFixture = super::new_world(STORY);
    world.set("TOKEN", "first-token");
    let direct = world.variables["CONVEXINFRA_CONTROL_PLANE"].clone();
    let proxy = Proxy::new(&direct, fault);
    world.set("CONVEXINFRA_CONTROL_PLANE", &proxy.address);
    world.apply();
    let (url, key) = world.assert_reachable(".env.local", "gremlin-dev");
    world.manifest(&STORY.replace(
        "provider = \"simulated\"\nenv_file",
        "provider = \"simulated\"\ntuning = { max_concurrent_queries = 3 }\nenv_file",
    ));
    world.apply();
    let connections = proxy.connections.load(Ordering::Relaxed);

    // Looked at without the network in between.
    world.set("CONVEXINFRA_CONTROL_PLANE", &direct);
    world.assert_converged();
    assert_eq!(world.assert_reachable(".env.local", "gremlin-dev"), (url, key), "{name}");
    assert_eq!(world.processes().len(), 2, "{name}: {:?}", world.processes());
    let log = world.run_expecting(0, &["log", "--json"]).document();
    let count = |kind: &str, backend: &str| {
        let entries = log["entries"].as_array().unwrap();
        entries.iter().filter(|entry| entry["kind"] == kind && entry["backend"] == backend).count()
    };
    // Once for the first apply; the second one only changed `dev`.
    assert_eq!((count("operation_accepted", "dev"), count("operation_accepted", "app")), (2, 1), "{name}: {log:#}");
    assert_eq!((count("backend_ready", "dev"), count("backend_ready", "app")), (2, 1), "{name}: {log:#}");
    world.run_expecting(0, &["log", "--verify"]);

    world.set("CONVEXINFRA_CONTROL_PLANE", &proxy.address);
    world.run_expecting(0, &["destroy", "--allow-destroy", "dev,app"]);
    assert_eq!(world.processes(), Vec::new(), "{name}");
    println!("network: {name}: {connections} connections for two applies");
}

#[test]
fn late() {
    lives_through("every piece 40 ms late", |_| Fault::Delay(40));
}

#[test]
fn broken_before_anything() {
    lives_through("every other connection refused", |number| if number % 2 == 0 { Fault::Refuse } else { Fault::None });
}

#[test]
fn requests_that_break_off() {
    lives_through("requests cut", |number| match number % 3 {
        0 => Fault::CutRequest(30 + 97 * (number / 3)),
        1 => Fault::CutRequest(700),
        _ => Fault::None,
    });
}

#[test]
fn answers_that_break_off() {
    lives_through("answers cut", |number| match number % 3 {
        0 => Fault::CutAnswer(1 + 61 * (number / 3)),
        1 => Fault::CutAnswer(300),
        _ => Fault::None,
    });
}

#[test]
fn answers_that_never_come() {
    lives_through(
        "answers lost after the work was accepted",
        |number| if number % 2 == 0 { Fault::Swallow } else { Fault::None },
    );
}

#[test]
fn requests_that_come_twice() {
    lives_through("requests repeated", |number| if number % 2 == 0 { Fault::Repeat } else { Fault::None });
}
