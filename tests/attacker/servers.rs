//! Hostile control planes for the client: each command ends in bounded time and memory with a clear error, and the token
//! goes nowhere else.

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use serde_json::json;

use super::Target;
use super::raw::RawRequest;
use fixture::ProjectFixture;

const MANIFEST: &str = "project = \"demo\"\n\n[backends.dev]\nprovider = \"simulated\"\n";
/// Of no issuer, so that it goes to any host that the user names.
const TOKEN: &str = "cvxi_0123456789_canary-token";
/// How long a command may take, on a machine that has much else to do.
const DEADLINE: Duration = fixture::DEADLINE;
/// How much memory a command may use: an answer of the largest size, twice, and itself.
const MEMORY_KIB: u64 = 700 << 10;

/// A host that does one thing to every connection.
struct Host {
    address: SocketAddr,
    connections: Arc<AtomicUsize>,
    sent: Arc<AtomicU64>,
}

/// What a host does once a request has come; false closes the connection.
type Behaviour = Arc<dyn Fn(&str, &mut dyn FnMut(&[u8]) -> bool) -> bool + Send + Sync>;

impl Host {
    fn start(behaviour: Behaviour) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let (address, connections, sent) = (listener.local_addr().unwrap(), Arc::new(AtomicUsize::new(0)), Arc::default());
        let (count, total) = (Arc::clone(&connections), Arc::clone(&sent));
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                count.fetch_add(1, Ordering::SeqCst);
                let (behaviour, total) = (Arc::clone(&behaviour), Arc::clone(&total));
                std::thread::spawn(move || converse(stream, &behaviour, &total));
            }
        });
        Self { address, connections, sent }
    }

    fn url(&self) -> String {
        format!("http://{}", self.address)
    }
}

fn converse(mut stream: TcpStream, behaviour: &Behaviour, total: &AtomicU64) {
    loop {
        let (mut head, mut byte) = (Vec::new(), [0]);
        while !head.ends_with(b"\r\n\r\n") {
            if head.len() > 64 << 10 || stream.read_exact(&mut byte).is_err() {
                return;
            }
            head.push(byte[0]);
        }
        let head = String::from_utf8_lossy(&head).into_owned();
        let length: u64 = header(&head, "content-length").parse().unwrap_or(0);
        let _ = std::io::copy(&mut Read::by_ref(&mut stream).take(length), &mut std::io::sink());
        let mut write = |bytes: &[u8]| {
            total.fetch_add(bytes.len() as u64, Ordering::SeqCst);
            stream.write_all(bytes).is_ok()
        };
        if !behaviour(&head, &mut write) {
            return;
        }
    }
}

fn header<'a>(head: &'a str, name: &str) -> &'a str {
    let is_it = |line: &&str| line.split_once(':').is_some_and(|(found, _)| found.eq_ignore_ascii_case(name));
    head.lines().find(is_it).and_then(|line| line.split_once(": ")).map_or("", |(_, value)| value)
}

/// A whole answer, to the very request.
fn answer(head: &str, status: &str, body: &[u8]) -> Vec<u8> {
    let id = header(head, "x-request-id");
    let head = format!(
        "HTTP/1.1 {status}\r\ncontent-type: application/json\r\nx-request-id: {id}\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    [head.as_bytes(), body].concat()
}

/// What would change colours, titles and the order of characters of a terminal.
const ESCAPES: &str = "\u{1b}]0;owned\u{7}\u{1b}[2J\u{9b}31m\u{202e}\r\n::error::owned";

fn hostile() -> Vec<(&'static str, Behaviour)> {
    let once = |make: fn(&str) -> Vec<u8>| -> Behaviour {
        Arc::new(move |head, write| {
            write(&make(head));
            false
        })
    };
    let body = |make: fn() -> Vec<u8>| -> Behaviour { Arc::new(move |head, write| write(&answer(head, "200 OK", &make()))) };
    let held = |first: fn(&str) -> Vec<u8>, piece: fn() -> Vec<u8>| -> Behaviour {
        Arc::new(move |head, write| {
            let piece = piece();
            if write(&first(head)) {
                while !piece.is_empty() && write(&piece) {}
                // Held until the client leaves.
                std::thread::sleep(DEADLINE);
            }
            false
        })
    };
    vec![
        ("says nothing", held(|_| Vec::new(), Vec::new)),
        ("closes at once", once(|_| Vec::new())),
        ("speaks something else", once(|_| b"SSH-2.0-OpenSSH_9.9\r\n".to_vec())),
        ("stops inside of its head", held(|_| b"HTTP/1.1 200 OK\r\ncontent-".to_vec(), Vec::new)),
        (
            "has a head without end",
            held(|_| b"HTTP/1.1 200 OK\r\n".to_vec(), || b"x-more: aaaaaaaaaaaaaaaaaaaaaaaa\r\n".repeat(512)),
        ),
        (
            "has a header of a megabyte",
            once(|_| [b"HTTP/1.1 200 OK\r\nx-large: ".as_slice(), &vec![b'a'; 1 << 20], b"\r\n\r\n"].concat()),
        ),
        (
            "has a body without end",
            held(
                |head| {
                    let id = header(head, "x-request-id");
                    format!("HTTP/1.1 200 OK\r\nx-request-id: {id}\r\ntransfer-encoding: chunked\r\n\r\n1\r\n\"\r\n")
                        .into_bytes()
                },
                || [b"100000\r\n".as_slice(), &vec![b'a'; 1 << 20], b"\r\n"].concat(),
            ),
        ),
        (
            "announces a terabyte",
            once(|head| {
                let id = header(head, "x-request-id");
                format!("HTTP/1.1 200 OK\r\nx-request-id: {id}\r\ncontent-length: 1099511627776\r\n\r\n{{").into_bytes()
            }),
        ),
        ("sends no JSON", body(|| b"<html>\x1b[2J</html>".to_vec())),
        ("sends bytes that are no text", body(|| vec![0xff; 4096])),
        ("nests without end", body(|| vec![b'['; 1 << 20])),
        ("sends the wrong types", body(|| br#"{"project":7,"revision":"x","backends":{},"quota":[]}"#.to_vec())),
        ("sends null", body(|| b"null".to_vec())),
        ("sends a number without end", body(|| vec![b'9'; 1 << 20])),
        (
            "writes to the terminal in its errors",
            Arc::new(|head, write| {
                let error = json!({ "code": ESCAPES, "message": ESCAPES, "help": ESCAPES });
                let document = json!({ "format": "convexinfra.error/1", "exit": 4, "errors": [error] });
                write(&answer(head, "422 Unprocessable Entity", document.to_string().as_bytes()))
            }),
        ),
        (
            "writes to the terminal in its documents",
            Arc::new(|head, write| {
                let plane = json!({ "name": ESCAPES, "providers": ["simulated"] });
                let step = json!({ "plan": ESCAPES, "step": ESCAPES });
                let operation = json!({
                    "id": "1", "backend": "dev", "kind": "put", "step": step, "actor": { "name": ESCAPES }, "accepted_at": 1,
                    "state": "failed", "error": { "code": ESCAPES, "message": ESCAPES },
                });
                let document = json!({
                    "project": "demo", "revision": 1, "control_plane": plane, "origin": ESCAPES, "backends": [],
                    "operations": [operation],
                });
                let entries = json!([{ "sequence": 1, "at": 1, "kind": ESCAPES, "backend": ESCAPES, "detail": ESCAPES }]);
                let document = if head.contains("/events") { entries } else { document };
                write(&answer(head, "200 OK", document.to_string().as_bytes()))
            }),
        ),
        (
            "repeats the token",
            Arc::new(|head, write| {
                let error = json!({ "code": "auth.token_unknown", "message": header(head, "authorization") });
                let document = json!({ "format": "convexinfra.error/1", "exit": 77, "errors": [error] });
                write(&answer(head, "401 Unauthorized", document.to_string().as_bytes()))
            }),
        ),
    ]
}

/// Runs a command within the bounds; returns its exit code and all that it has written.
fn bounded(world: &ProjectFixture, words: &[&str], what: &str) -> (i32, Vec<u8>) {
    let output = world.root().join(format!("output-{}", words.join("-").replace('/', "")));
    let file = fs::File::create(&output).unwrap();
    let mut child = world.command(words).stdin(Stdio::null()).stdout(file.try_clone().unwrap()).stderr(file).spawn().unwrap();
    let (started, mut peak) = (Instant::now(), 0);
    let status = loop {
        if let Some(status) = child.try_wait().unwrap() {
            break status;
        }
        let text = fs::read_to_string(format!("/proc/{}/status", child.id())).unwrap_or_default();
        let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let kib = line.and_then(|line| line.trim().trim_end_matches(" kB").parse::<u64>().ok());
        peak = peak.max(kib.unwrap_or(0));
        if started.elapsed() > DEADLINE || peak > MEMORY_KIB {
            let _ = child.kill();
            let _ = child.wait();
            panic!("{what}: {words:?} took {:?} and {peak} KiB", started.elapsed());
        }
        std::thread::sleep(Duration::from_millis(10));
    };
    let written = fs::read(&output).unwrap();
    let code = status.code().unwrap_or_else(|| panic!("{what}: {words:?} ended with {status}"));
    (code, written)
}

#[test]
fn whatever_a_control_plane_does_a_command_ends_and_says_what_is_wrong() {
    std::thread::scope(|scope| {
        for (what, behaviour) in hostile() {
            scope.spawn(move || {
                let host = Host::start(behaviour);
                let mut world = ProjectFixture::new(MANIFEST);
                world.set("CONVEXINFRA_CONTROL_PLANE", &host.url());
                world.set("CONVEXINFRA_TOKEN", TOKEN);
                for words in [&["plan"][..], &["status", "--json"], &["log"], &["apply", "--yes", "--json"]] {
                    let started = Instant::now();
                    let (code, written) = bounded(&world, words, what);
                    let is_slow = started.elapsed() > Duration::from_secs(20);
                    let text = String::from_utf8_lossy(&written);
                    let is_readable = what == "writes to the terminal in its documents";
                    assert!(is_readable || [1, 4, 69, 77].contains(&code), "{what}: {words:?} ended with {code}: {text}");
                    assert_ne!(code, 70, "{what}: {words:?} is a bug: {text}");
                    assert!(!text.contains(TOKEN), "{what}: {words:?} shows the token: {text}");
                    assert!(!written.is_empty() && written.len() < 64 << 10, "{what}: {} bytes", written.len());
                    let obeyed =
                        text.chars().find(|c| matches!(c, '\u{1b}' | '\u{7}' | '\u{80}'..='\u{9f}' | '\u{202e}' | '\r'));
                    assert_eq!(obeyed, None, "{what}: {words:?} writes to the terminal: {text:?}");
                    assert!(!text.lines().any(|line| line.starts_with("::error::")), "{what}: {text}");
                    if is_slow {
                        break;
                    }
                }
            });
        }
    });
}

#[test]
fn a_redirect_leads_the_token_nowhere() {
    let elsewhere = Host::start(Arc::new(|head, write| write(&answer(head, "200 OK", b"{}"))));
    for status in ["301 Moved", "302 Found", "303 See Other", "307 Temporary Redirect", "308 Permanent Redirect"] {
        let place = format!("{}/v1/projects/demo", elsewhere.url());
        let here: Behaviour = Arc::new(move |head, write| {
            let id = header(head, "x-request-id");
            write(format!("HTTP/1.1 {status}\r\nlocation: {place}\r\nrefresh: 0;url={place}\r\nx-request-id: {id}\r\ncontent-length: 0\r\n\r\n").as_bytes())
        });
        let host = Host::start(here);
        let mut world = ProjectFixture::new(MANIFEST);
        world.set("CONVEXINFRA_CONTROL_PLANE", &host.url());
        world.set("CONVEXINFRA_TOKEN", TOKEN);
        let (code, written) = bounded(&world, &["plan"], status);
        assert_eq!(code, 69, "{status}: {}", String::from_utf8_lossy(&written));
        assert!(String::from_utf8_lossy(&written).contains(&elsewhere.address.to_string()), "where it leads is said");
    }
    assert_eq!(elsewhere.connections.load(Ordering::SeqCst), 0);
}

/// A token that a real server has issued, at a foreign host: not even a connection is opened.
#[test]
fn a_bound_token_is_kept_from_every_other_host() {
    let target = Target::new();
    let foreign = Host::start(Arc::new(|head, write| write(&answer(head, "200 OK", b"{}"))));
    let body = json!({ "scope": "apply", "project": "demo", "note": "bound" });
    let request = RawRequest::new("POST", "/v1/tokens").host(&target.address.to_string()).json(&body);
    let token = target.send("operator", request).json()["token"].as_str().unwrap().to_owned();
    let mut world = ProjectFixture::new(MANIFEST);
    world.set("CONVEXINFRA_TOKEN", &token);
    // Where it was issued it opens the project.
    world.run_expecting(0, &["plan", "--control-plane", &target.server.url]);
    for (what, words) in [
        ("named by hand", vec!["plan", "--json", "--control-plane"]),
        ("for an apply", vec!["apply", "--yes", "--json", "--control-plane"]),
        ("for a key", vec!["env", "dev", "--json", "--control-plane"]),
    ] {
        let url = foreign.url();
        let run = world.run_expecting(77, &[words, vec![&url]].concat());
        assert_eq!(run.errors(), ["auth.untrusted_host"], "{what}: {run}");
        assert!(!format!("{run}").contains(&token), "{what}: {run}");
    }
    // Nor does a command that prints it, or a host that the user trusts.
    world.unset("CONVEXINFRA_TOKEN");
    world.set("CONVEXINFRA_TOKEN_COMMAND", &format!("printf %s {token}"));
    let run = world.run_expecting(77, &["plan", "--json", "--control-plane", &foreign.url()]);
    assert_eq!(run.errors(), ["auth.untrusted_host"], "{run}");
    world.run_expecting(0, &["trust", "add", &foreign.url()]);
    world.manifest(&MANIFEST.replace("\n\n", &format!("\n[control_plane]\nurl = \"{}\"\n\n", foreign.url())));
    let run = world.run_expecting(77, &["plan", "--json"]);
    assert_eq!(run.errors(), ["auth.untrusted_host"], "{run}");
    assert_eq!(foreign.connections.load(Ordering::SeqCst), 0);
    assert_eq!(foreign.sent.load(Ordering::SeqCst), 0);
}

/// An apply against a control plane that accepts it and then streams without end.
#[test]
fn a_stream_without_end_is_left_for_the_record() {
    for event in [
        // One event that never ends.
        "data: aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa".to_owned(),
        // Events that are none.
        "data: {\"type\":7}\n\n".to_owned(),
        format!("data: {}\n\n", json!({ "type": "notice", "message": "x".repeat(4096) })),
    ] {
        let piece = event.repeat(1024);
        let looks = Arc::new(AtomicUsize::new(0));
        let seen = Arc::clone(&looks);
        let host = Host::start(Arc::new(move |head, write| {
            let line = head.lines().next().unwrap_or_default().to_owned();
            let record = |state: &str| {
                json!({
                    "id": "op-1", "backend": "dev", "kind": "put", "step": { "plan": "p", "step": "s" },
                    "actor": { "name": "ci" }, "accepted_at": 1, "state": state,
                    "error": { "code": "host.tired", "message": "it gave up" },
                })
            };
            let document = match () {
                () if line.contains("/fingerprint-key") => json!({ "key": "0".repeat(64) }),
                () if line.starts_with("POST") && line.contains("/lease") => {
                    json!({ "project": "demo", "fence": 1, "revision": 1 })
                }
                () if line.contains("/lease") || line.contains("/origin") => {
                    let id = header(head, "x-request-id");
                    return write(format!("HTTP/1.1 204 No Content\r\nx-request-id: {id}\r\n\r\n").as_bytes());
                }
                () if line.contains("/events") => {
                    let id = header(head, "x-request-id");
                    let start = format!("HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nx-request-id: {id}\r\n\r\n");
                    if write(start.as_bytes()) {
                        while write(piece.as_bytes()) {}
                    }
                    return false;
                }
                () if line.starts_with("POST") => record("running"),
                () if line.contains("/operations/") => {
                    seen.fetch_add(1, Ordering::SeqCst);
                    record("failed")
                }
                () => json!({
                    "project": "demo", "revision": 1, "control_plane": { "name": "x", "providers": ["simulated"] }, "origin": null,
                    "backends": [],
                }),
            };
            let status = if line.starts_with("POST") { "201 Created" } else { "200 OK" };
            write(&answer(head, status, document.to_string().as_bytes()))
        }));
        let mut world = ProjectFixture::new(MANIFEST);
        world.set("CONVEXINFRA_CONTROL_PLANE", &host.url());
        world.set("CONVEXINFRA_TOKEN", TOKEN);
        let (code, written) = bounded(&world, &["apply", "--yes"], &event[..10]);
        let text = String::from_utf8_lossy(&written);
        assert!(code == 1 && text.contains("it gave up"), "{code}: {:.2000}", text);
        assert!(looks.load(Ordering::SeqCst) > 0);
    }
}
