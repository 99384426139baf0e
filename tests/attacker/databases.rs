//! Hostile database servers and S3 services for the control plane: each stalls, floods or announces too much, and neither the
//! server's time nor its memory goes with it.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::time::Duration;

use serde_json::{Value, json};

use super::Target;
use super::raw::{RawRequest, RawResponse};
use super::raw_project::Project;
use fixture::wait_until;

/// What a host does to its clients.
type Behaviour = fn(&mut TcpStream);

fn hang(stream: &mut TcpStream) {
    let _ = stream.read(&mut [0; 4096]);
    let _ = std::io::copy(stream, &mut std::io::sink());
}

fn flood(stream: &mut TcpStream, start: &[u8], piece: &[u8]) {
    let _ = stream.write_all(start);
    while stream.write_all(piece).is_ok() {}
}

/// A handshake of MySQL: protocol 10, a version, and a plugin that asks for a password.
fn mysql_greeting() -> Vec<u8> {
    let mut packet = vec![10];
    packet.extend_from_slice(b"8.4.0\0");
    packet.extend_from_slice(&[1, 0, 0, 0]);
    packet.extend_from_slice(b"12345678\0");
    packet.extend_from_slice(&[0xff, 0xf7, 0xff, 2, 0, 0xff, 0xdf, 21]);
    packet.extend_from_slice(&[0; 10]);
    packet.extend_from_slice(b"123456789012\0caching_sha2_password\0");
    let length = u32::try_from(packet.len()).unwrap().to_le_bytes();
    [&length[..3], &[0], &packet].concat()
}

fn mysql_packet(sequence: u8, body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(body.len()).unwrap().to_le_bytes();
    [&length[..3], &[sequence], body].concat()
}

/// Asks for the whole password, which the driver encrypts with the key that is sent here.
fn mysql_with_key(stream: &mut TcpStream, key: &[u8]) {
    let _ = stream.write_all(&mysql_greeting());
    let _ = stream.read(&mut [0; 4096]);
    let _ = stream.write_all(&mysql_packet(2, &[1, 4]));
    let _ = stream.read(&mut [0; 4096]);
    let _ = stream.write_all(&mysql_packet(4, key));
    hang(stream);
}

/// Has the driver log in by another method.
fn mysql_with_method(stream: &mut TcpStream, method: &[u8]) {
    let _ = stream.write_all(&mysql_greeting());
    let _ = stream.read(&mut [0; 4096]);
    let _ = stream.write_all(&mysql_packet(2, &[b"\xfe", method, b"\0", &[7; 32]].concat()));
    let _ = stream.read(&mut [0; 4096]);
    // For parsec: more rounds than any client should go through, and a salt.
    let _ = stream.write_all(&mysql_packet(4, &[b"\x01P\xff".as_slice(), &[7; 18]].concat()));
    hang(stream);
}

/// An RSA key whose modulus and exponent have so many bytes each.
fn rsa_key(bytes: usize) -> Vec<u8> {
    let der = |tag: u8, content: &[u8]| {
        let length = u32::try_from(content.len()).unwrap().to_be_bytes();
        [&[tag, 0x84], length.as_slice(), content].concat()
    };
    let number = der(2, &[&[0], vec![0xff; bytes].as_slice()].concat());
    let key = base64::Engine::encode(&base64::engine::general_purpose::STANDARD, der(0x30, &number.repeat(2)));
    format!("\x01-----BEGIN RSA PUBLIC KEY-----\n{key}\n-----END RSA PUBLIC KEY-----\n").into_bytes()
}

fn hosts() -> Vec<(&'static str, &'static str, Behaviour)> {
    vec![
        ("postgres", "stalls", hang),
        ("mysql", "stalls", hang),
        ("postgres", "stalls after the login", |stream| {
            let _ = stream.read(&mut [0; 4096]);
            let _ = stream.write_all(b"R\0\0\0\x08\0\0\0\0Z\0\0\0\x05I");
            hang(stream);
        }),
        ("mysql", "stalls after its greeting", |stream| {
            let _ = stream.write_all(&mysql_greeting());
            hang(stream);
        }),
        ("postgres", "announces two gigabytes", |stream| {
            let _ = stream.read(&mut [0; 4096]);
            flood(stream, b"R\0\0\0\x08\0\0\0\0Z\0\0\0\x05ID\x7f\xff\xff\xff", &[0; 64 << 10]);
        }),
        ("mysql", "announces sixteen megabytes again and again", |stream| {
            flood(stream, b"\xff\xff\xff\0", &[0xff; 64 << 10]);
        }),
        ("postgres", "floods with notices", |stream| {
            let _ = stream.read(&mut [0; 4096]);
            let notice = [b"N\0\0\x10\x04S".as_slice(), &[b'a'; 4094], b"\0"].concat();
            flood(stream, b"R\0\0\0\x08\0\0\0\0", &notice.repeat(16));
        }),
        ("mysql", "sends a key that no time is enough for", |stream| mysql_with_key(stream, &rsa_key(256 << 10))),
        ("mysql", "sends a key that is none", |stream| mysql_with_key(stream, b"\x01-----BEGIN PUBLIC KEY-----\nAAAA")),
        ("mysql", "sends an empty key", |stream| mysql_with_key(stream, b"")),
        ("mysql", "sends a key of eight bits", |stream| mysql_with_key(stream, &rsa_key(1))),
        ("mysql", "logs in by parsec", |stream| mysql_with_method(stream, b"parsec")),
        ("mysql", "logs in by a curve", |stream| mysql_with_method(stream, b"client_ed25519")),
        ("mysql", "has a method without a name", |stream| mysql_with_method(stream, b"")),
        ("postgres", "has an endless derivation of its key", |stream| {
            let _ = stream.read(&mut [0; 4096]);
            let _ = stream.write_all(b"R\0\0\0\x17\0\0\0\x0aSCRAM-SHA-256\0\0");
            let mut first = [0; 4096];
            let length = stream.read(&mut first).unwrap_or(0);
            let first = String::from_utf8_lossy(&first[..length]).into_owned();
            let nonce = first.split("r=").nth(1).unwrap_or_default();
            let next = format!("r={nonce}more,s=QUJDRA==,i=4294967295");
            let size = u32::try_from(next.len() + 8).unwrap().to_be_bytes();
            let _ = stream.write_all(&[b"R", size.as_slice(), &[0, 0, 0, 11], next.as_bytes()].concat());
            hang(stream);
        }),
        ("mysql", "floods without sense", |stream| flood(stream, b"", &[7; 64 << 10])),
        ("postgres", "drips", |stream| {
            while stream.write_all(b"N").is_ok() {
                std::thread::sleep(Duration::from_millis(200));
            }
        }),
        ("postgres", "speaks HTTP", |stream| {
            let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n");
            hang(stream);
        }),
        ("s3", "stalls", hang),
        ("s3", "floods", |stream| {
            let _ = stream.read(&mut [0; 4096]);
            flood(
                stream,
                b"HTTP/1.1 403 Forbidden\r\ntransfer-encoding: chunked\r\n\r\n",
                &[b"10000\r\n".as_slice(), &[b'a'; 0x10000], b"\r\n"].concat(),
            );
        }),
        ("s3", "has a head without end", |stream| {
            let _ = stream.read(&mut [0; 4096]);
            flood(stream, b"HTTP/1.1 200 OK\r\n", &b"x-more: aaaaaaaaaaaaaaaaaaaa\r\n".repeat(512));
        }),
        ("s3", "redirects", |stream| {
            let _ = stream.read(&mut [0; 4096]);
            let _ = stream.write_all(b"HTTP/1.1 307 Temporary Redirect\r\nlocation: http://169.254.169.254/latest/meta-data\r\ncontent-length: 0\r\n\r\n");
        }),
    ]
}

fn listen(behaviour: Behaviour) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            std::thread::spawn(move || behaviour(&mut stream));
        }
    });
    port
}

fn request(kind: &str, port: u16, step: usize) -> Value {
    json!({
        "step": { "plan": "raw", "step": format!("s{step}") }, "backend": format!("b{step}"),
        "work": work(kind, &format!("127.0.0.1:{port}")),
    })
}

/// A backend with its data on a server, or its files in a bucket.
fn work(kind: &str, host: &str) -> Value {
    let (spec, secrets) = match kind {
        "s3" => (
            json!({ "provider": "simulated", "files": {
                "engine": "s3", "buckets": { "single": "shop" }, "region": "auto", "path_style": true,
                "endpoint": { "literal": format!("http://{host}") },
                "credentials": { "access_key_id": { "env": "A" }, "secret_access_key": { "env": "B" } },
            } }),
            json!({ "files.access_key_id": "id", "files.secret_access_key": "hunter2-canary" }),
        ),
        engine => (
            json!({ "provider": "simulated", "storage": { "engine": engine, "url": { "env": "U" }, "tls": "disable" } }),
            json!({ "storage.url": format!("{engine}://me:hunter2-canary@{host}") }),
        ),
    };
    json!({ "kind": "put", "spec": spec, "secrets": secrets })
}

#[test]
fn what_a_foreign_server_does_costs_neither_time_nor_memory() {
    let target = Target::with(&[("CONVEXINFRA_ALLOW_DATABASE_HOSTS", "127.0.0.1"), ("CONVEXINFRA_REQUEST_TIMEOUT", "150s")]);
    let holder = json!({ "user": "mallory", "host": "elsewhere", "process": 1 });
    let lease = target.send("apply", RawRequest::new("POST", "/v1/projects/demo/lease").json(&holder)).json();
    let fence = lease["fence"].to_string();
    let send = |path: &str, body: &Value| -> RawResponse {
        let request = RawRequest::new("POST", &format!("/v1/projects/demo/{path}")).header("convexinfra-fence", &fence);
        target.send("apply", request.json(body))
    };
    let before = target.peak_memory_kib();
    std::thread::scope(|scope| {
        for (number, (kind, what, behaviour)) in hosts().into_iter().enumerate() {
            let (send, target) = (&send, &target);
            scope.spawn(move || {
                let port = listen(behaviour);
                let looked = send("preflight", &request(kind, port, number));
                assert!(looked.status == 200, "{kind} {what}: {looked:?}");
                assert!(!looked.body.contains("hunter2-canary"), "{kind} {what}: {looked:?}");
                let found = looked.json();
                let is_said = ["refusals", "notes"].iter().any(|list| !found[list].as_array().unwrap().is_empty());
                assert!(is_said, "{kind} {what}: {found}");
                // Others are served meanwhile.
                assert_eq!(target.send("read", RawRequest::new("GET", "/v1/projects/demo")).status, 200);
            });
        }
    });
    // One operation of each kind: it ends, and its backend is free to go.
    let end = |holder_of_token: &str, body: &Value, what: &str| {
        let renewed = RawRequest::new("PUT", "/v1/projects/demo/lease").header("convexinfra-fence", &fence);
        target.send("apply", renewed);
        let lease = target.send("apply", RawRequest::new("POST", "/v1/projects/demo/lease").json(&holder)).json();
        let fence = if lease["fence"].is_u64() { lease["fence"].to_string() } else { fence.clone() };
        let post = RawRequest::new("POST", "/v1/projects/demo/operations").header("convexinfra-fence", &fence);
        let begun = target.send(holder_of_token, post.json(body));
        assert!((200..500).contains(&begun.status), "{what}: {begun:?}");
        wait_until("the operation has ended", || {
            let list = target.send("apply", RawRequest::new("GET", "/v1/projects/demo/operations")).json();
            !list.as_array().unwrap().iter().any(|operation| operation["state"] == "running")
        });
    };
    for (number, (kind, what, behaviour)) in hosts().into_iter().enumerate().filter(|(_, (_, what, _))| *what == "stalls") {
        let body = request(kind, listen(behaviour), number);
        end("apply", &body, &format!("{kind} {what}"));
        let mut removal = body;
        removal["step"]["step"] = json!(format!("r{number}"));
        removal["work"] = json!({ "kind": "remove", "volume": "destroy", "database": "leave" });
        end("destroy", &removal, &format!("{kind} {what}, removed"));
    }
    assert_eq!(target.send("read", RawRequest::new("GET", "/v1/projects/demo/backends")).json(), json!([]));
    let grown = target.peak_memory_kib().saturating_sub(before);
    assert!(grown < 400 << 10, "the server grew by {grown} KiB");
    assert!(!target.server.log().contains("hunter2-canary"));
    target.assert_well();
}

/// A served control plane connects to no host inside of its network, for any engine.
#[test]
fn addresses_inside_are_not_asked_for_others() {
    let target = Target::new();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let port = listener.local_addr().unwrap().port();
    for (number, kind) in ["postgres", "mysql", "s3"].into_iter().enumerate() {
        let body = request(kind, port, number);
        let looked = target.send("apply", RawRequest::new("POST", "/v1/projects/demo/preflight").json(&body));
        assert_eq!(looked.status, 200, "{looked:?}");
        let found = looked.json();
        let said = found["refusals"][0]["message"].as_str().or(found["notes"][0]["message"].as_str()).unwrap();
        // One text for all: neither the address nor what is there.
        assert!(said.contains("this control plane cannot use the") && !said.contains(&port.to_string()), "{said}");
        assert!(listener.accept().is_err(), "{kind}: somebody connected");
    }
    target.assert_well();
}

/// What an operation says on its way and at its end tells no host inside from another one, nor from one that is not there.
#[test]
fn no_word_about_an_operation_tells_hosts_apart() {
    let target = Target::new();
    let project = Project::new(&target, "demo".to_owned());
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let hosts = [listener.local_addr().unwrap().to_string(), closed.to_string(), "no-such-host.invalid:9".to_owned()];
    let said_about = |answer: &RawResponse| {
        assert!([200, 202].contains(&answer.status), "{answer:?}");
        project.settle();
        project.renew();
        let path = format!("operations/{}", answer.json()["id"].as_str().unwrap());
        let record = project.send(&project.apply, "GET", &path, None).json();
        let events = project.send(&project.apply, "GET", &format!("{path}/events"), None).body;
        let notices = events.lines().filter_map(|line| line.strip_prefix("data:")).filter_map(|line| {
            let event: Value = serde_json::from_str(line).unwrap();
            event["message"].as_str().map(str::to_owned)
        });
        json!([record["state"], record["error"], notices.collect::<Vec<_>>()])
    };
    let remove = json!({ "kind": "remove", "volume": "destroy", "database": "leave" });
    for kind in ["postgres", "mysql", "s3"] {
        let about = |host: &String| {
            let created = said_about(&project.operate(&project.apply, kind, None, &work(kind, host)));
            json!([created, said_about(&project.operate(&project.destroy, kind, None, &remove))])
        };
        let said: Vec<Value> = hosts.iter().map(about).collect();
        assert!(said[0].to_string().contains("this control plane cannot use the"), "{kind}: {}", said[0]);
        for (host, other) in hosts.iter().zip(&said).skip(1) {
            assert_eq!(&said[0], other, "{kind}: {} and {host}", hosts[0]);
        }
    }
    target.assert_well();
}
