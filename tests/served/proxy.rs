//! A proxy between client and server that passes every request but one: what a command does then.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use fixture::{PortBudget, ProjectFixture, RunningCommand, wait_until};

const ONE: &str = "project = \"gremlin\"\n\n[backends.dev]\nprovider = \"simulated\"\n";

/// What becomes of a request.
#[derive(Clone, Copy)]
enum Verdict {
    Through,
    /// It is heard and never answered.
    Held,
    /// It is refused with 401 in place of the server.
    TurnedAway,
}

/// A proxy in front of a server.
struct Proxy {
    url: String,
    /// How many requests were not let through.
    caught: Arc<AtomicUsize>,
}

impl Proxy {
    /// Decides by the first line of a request, and how often the same line was there before.
    fn new(server: &str, path: &'static str, way: fn(usize) -> Verdict) -> Self {
        let server = server.strip_prefix("http://").unwrap().to_owned();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let (caught, matched) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let count = Arc::clone(&caught);
        std::thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                let Ok(server) = TcpStream::connect(&server) else { continue };
                let (count, matched) = (Arc::clone(&count), Arc::clone(&matched));
                let (mut from, mut back) = (server.try_clone().unwrap(), client.try_clone().unwrap());
                std::thread::spawn(move || {
                    let _ = std::io::copy(&mut from, &mut back);
                    let _ = back.shutdown(Shutdown::Both);
                });
                std::thread::spawn(move || {
                    let _ = carry(
                        client,
                        server,
                        &|request| {
                            let line = request.lines().next().unwrap_or_default();
                            if !line.starts_with("GET ") || !line.split([' ', '?']).any(|word| word == path) {
                                return Verdict::Through;
                            }
                            way(matched.fetch_add(1, Ordering::SeqCst))
                        },
                        &count,
                    );
                });
            }
        });
        Self { url, caught }
    }
}

fn carry(
    mut client: TcpStream,
    mut server: TcpStream,
    decide: &dyn Fn(&str) -> Verdict,
    caught: &AtomicUsize,
) -> std::io::Result<()> {
    let mut piece = [0; 16 << 10];
    loop {
        let count = client.read(&mut piece)?;
        match decide(&String::from_utf8_lossy(&piece[..count])) {
            _ if count == 0 => return server.shutdown(Shutdown::Both),
            Verdict::Through => server.write_all(&piece[..count])?,
            Verdict::Held => {
                caught.fetch_add(1, Ordering::SeqCst);
                return client.read_to_end(&mut Vec::new()).map(drop);
            }
            Verdict::TurnedAway => {
                caught.fetch_add(1, Ordering::SeqCst);
                client.write_all(b"HTTP/1.1 401 Unauthorized\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")?;
                return server.shutdown(Shutdown::Both);
            }
        }
    }
}

#[test]
fn an_interrupt_ends_a_log_that_is_waited_for() {
    let world = ProjectFixture::served(ONE, PortBudget::Small);
    world.apply();
    let path = "/v1/projects/gremlin/backends/dev/logs";
    let proxy = Proxy::new(&world.variables["CONVEXINFRA_CONTROL_PLANE"], path, |_| Verdict::Held);
    let words = ["logs", "--follow"];
    let mut command = world.command(&words);
    command.env("CONVEXINFRA_CONTROL_PLANE", &proxy.url);
    let following = RunningCommand::new(command, &words);
    wait_until("the log is asked for", || proxy.caught.load(Ordering::SeqCst) > 0);
    following.interrupt();
    let run = following.end();
    assert_eq!(run.code(), 130, "{run}");
}

#[test]
fn finished_steps_are_reported_where_the_last_observation_fails() {
    let world = ProjectFixture::served(ONE, PortBudget::Small);
    // The first look is for the plan, the second one for what came of it.
    let second = |number| if number == 1 { Verdict::TurnedAway } else { Verdict::Through };
    let proxy = Proxy::new(&world.variables["CONVEXINFRA_CONTROL_PLANE"], "/v1/projects/gremlin", second);
    let words = ["apply", "--yes", "--json"];
    let mut command = world.command(&words);
    command.env("CONVEXINFRA_CONTROL_PLANE", &proxy.url);
    let run = RunningCommand::new(command, &words).end();
    assert_eq!(proxy.caught.load(Ordering::SeqCst), 1, "{run}");
    let documents: Vec<serde_json::Value> = run.out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let finished = documents.iter().find(|event| event["type"] == "finished").unwrap_or_else(|| panic!("{run}"));
    assert_eq!((&finished["done"], &finished["converged"]), (&2.into(), &serde_json::Value::Null), "{run}");
    assert_eq!((&finished["exit"], &finished["backends"][0]["url"]), (&run.code().into(), &world.url("dev").into()), "{run}");
    assert_ne!(run.code(), 0, "{run}");
    let error = documents.last().unwrap();
    let message = error["errors"][0]["message"].as_str().unwrap_or_default();
    assert!(message.starts_with("every step is done, but the result could not be observed: "), "{run}");
    world.assert_converged();
    // The same in words.
    world.manifest(&ONE.replace("\"simulated\"\n", "\"simulated\"\nttl = \"7d\"\n"));
    let proxy = Proxy::new(&world.variables["CONVEXINFRA_CONTROL_PLANE"], "/v1/projects/gremlin", second);
    let words = ["apply", "--yes"];
    let mut command = world.command(&words);
    command.env("CONVEXINFRA_CONTROL_PLANE", &proxy.url);
    let run = RunningCommand::new(command, &words).end();
    assert!(run.out.contains("`dev` is ready at ") && run.err.contains("1 step done"), "{run}");
    world.assert_converged();
}

#[test]
fn an_account_without_a_name_and_a_place_without_an_end_are_no_bugs() {
    let mut world = ProjectFixture::served(ONE, PortBudget::Small);
    for user in ["", "two\nlines", &"x".repeat(5000)] {
        world.set("USER", user);
        world.manifest(&format!("{ONE}ttl = \"{}h\"\n", 24 + user.len()));
        world.apply();
    }
    world.git();
    let long = format!("https://example.com/{}.git", "p".repeat(5000));
    world.write(".git/config", &format!("[remote \"origin\"]\n\turl = {long}\n"));
    world.manifest(&format!("{ONE}ttl = \"9d\"\n"));
    world.run_expecting(0, &["apply", "--yes", "--take-over"]);
    world.assert_converged();
}
