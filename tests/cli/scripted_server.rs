//! A server that answers as a test scripts it, and clients for it.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use convexinfra::api::client::{ClientConfig, ClientTimeouts, ControlPlaneUrl, HttpControlPlane, TokenSource};
use convexinfra::api::{ControlError, Lease, OperationRequest, Work, wire};
use convexinfra::model::{BackendName, ProjectName, Revision, Secret, StepKey};
use serde_json::{Value, json};

pub(super) const TOKEN: &str = "cvxi_0123456789_secret";

/// One request as it arrived.
#[derive(Debug, Clone)]
pub(super) struct Seen {
    pub(super) line: String,
    pub(super) headers: BTreeMap<String, String>,
    pub(super) body: String,
}

/// What the server does with the bytes of an answer.
pub(super) enum Reply {
    /// Sends them and keeps the connection.
    Send(Vec<u8>),
    /// Sends them and closes the connection.
    Cut(Vec<u8>),
    /// Sends them and then nothing more, for as long as the client stays.
    Hang(Vec<u8>),
}

type Handler = dyn Fn(&Seen, usize) -> Reply + Send + Sync;

/// A server that does what it is told, on a port of its own.
pub(super) struct Server {
    pub(super) address: SocketAddr,
    pub(super) seen: Arc<Mutex<Vec<Seen>>>,
}

impl Server {
    pub(super) fn new(handler: impl Fn(&Seen, usize) -> Reply + Send + Sync + 'static) -> Self {
        Self::on(TcpListener::bind("127.0.0.1:0").unwrap(), handler)
    }

    pub(super) fn on(listener: TcpListener, handler: impl Fn(&Seen, usize) -> Reply + Send + Sync + 'static) -> Self {
        let (address, seen) = (listener.local_addr().unwrap(), Arc::new(Mutex::new(Vec::new())));
        let (handler, log): (Arc<Handler>, _) = (Arc::new(handler), Arc::clone(&seen));
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (handler, log) = (Arc::clone(&handler), Arc::clone(&log));
                std::thread::spawn(move || serve(stream, &*handler, &log));
            }
        });
        Self { address, seen }
    }

    pub(super) fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }

    pub(super) fn client(&self) -> HttpControlPlane {
        client(&format!("http://{}", self.address))
    }
}

fn serve(mut stream: TcpStream, handler: &Handler, log: &Mutex<Vec<Seen>>) {
    while let Some(seen) = read(&mut stream) {
        let number = {
            let mut log = log.lock().unwrap();
            log.push(seen.clone());
            log.len() - 1
        };
        let (bytes, close) = match handler(&seen, number) {
            Reply::Send(bytes) => (bytes, false),
            Reply::Cut(bytes) => (bytes, true),
            Reply::Hang(bytes) => {
                let _ = stream.write_all(&bytes);
                let _ = stream.read(&mut [0]);
                return;
            }
        };
        if stream.write_all(&bytes).is_err() || close {
            return;
        }
    }
}

pub(super) fn read(stream: &mut TcpStream) -> Option<Seen> {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        stream.read_exact(&mut byte).ok()?;
        head.push(byte[0]);
    }
    let head = String::from_utf8(head).unwrap();
    let mut lines = head.lines();
    let line = lines.next()?.trim_end_matches(" HTTP/1.1").to_owned();
    let headers: BTreeMap<String, String> =
        lines.filter_map(|line| line.split_once(": ")).map(|(name, value)| (name.to_lowercase(), value.to_owned())).collect();
    let length = headers.get("content-length").map_or(0, |length| length.parse().unwrap());
    let mut body = vec![0; length];
    stream.read_exact(&mut body).ok()?;
    Some(Seen { line, headers, body: String::from_utf8(body).unwrap() })
}

pub(super) fn answer(status: &str, headers: &str, body: &str) -> Vec<u8> {
    format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\n{headers}\r\n{body}", body.len()).into_bytes()
}

pub(super) fn document(seen: &Seen, status: &str, body: &Value) -> Vec<u8> {
    let id = &seen.headers["x-request-id"];
    answer(status, &format!("content-type: application/json\r\nx-request-id: {id}\r\n"), &body.to_string())
}

pub(super) fn error(seen: &Seen, error: &ControlError) -> Vec<u8> {
    let (status, body) = wire::ErrorDocument::from_error(error, None);
    document(seen, &format!("{status} No"), &serde_json::to_value(body).unwrap())
}

pub(super) struct Fixed(pub(super) &'static str);

#[async_trait]
impl TokenSource for Fixed {
    async fn token(&self) -> Result<Secret, ControlError> {
        Ok(Secret::new(self.0))
    }
}

/// A control plane that never answers is given up soon, and one that has answered is waited for as long as any test may take.
pub(super) const TIMEOUTS: ClientTimeouts = ClientTimeouts {
    first_response: Duration::from_millis(400),
    reconnect: fixture::DEADLINE,
    connect: fixture::DEADLINE,
    read: fixture::DEADLINE,
    stream_idle: fixture::DEADLINE,
};

pub(super) fn client(url: &str) -> HttpControlPlane {
    client_with(url, TIMEOUTS)
}

pub(super) fn client_with(url: &str, timeouts: ClientTimeouts) -> HttpControlPlane {
    let url = ControlPlaneUrl::parse(url).unwrap();
    HttpControlPlane::new(ClientConfig {
        url,
        token: Box::new(Fixed(TOKEN)),
        certificates: None,
        timeouts,
        on_wait: Box::new(drop),
    })
    .unwrap()
}

pub(super) fn project() -> ProjectName {
    ProjectName::parse("shop").unwrap()
}

pub(super) fn snapshot() -> Value {
    json!({ "project": "shop", "revision": 7, "control_plane": { "name": "itself", "providers": [] }, "origin": null, "backends": [] })
}

pub(super) fn lease() -> Lease {
    Lease { project: project(), fence: 3, revision: Revision(1) }
}

pub(super) fn removal() -> OperationRequest {
    let step = StepKey { plan: "sha256:ab".into(), step: "destroy:backend.dev".into() };
    OperationRequest {
        step,
        backend: BackendName::parse("dev").unwrap(),
        work: Work::Remove {
            volume: convexinfra::model::VolumeReclaim::Delete,
            database: convexinfra::model::DatabaseReclaim::Retain,
            final_snapshot: false,
        },
        origin: None,
    }
}

pub(super) fn operation(state: &str) -> Value {
    json!({
        "id": "op-1", "backend": "dev", "kind": "remove", "step": { "plan": "sha256:ab", "step": "destroy:backend.dev" },
        "actor": { "name": "ci" }, "accepted_at": 1, "state": state,
    })
}

pub(super) fn event(id: u64, document: &Value) -> String {
    format!("id: {id}\nevent: message\ndata: {document}\n\n")
}

pub(super) fn notice(id: u64) -> String {
    event(id, &json!({ "type": "notice", "message": format!("n{id}") }))
}

pub(super) fn ended(id: u64) -> String {
    event(id, &json!({ "type": "ended", "operation": operation("done") }))
}

pub(super) fn stream(events: &str) -> Vec<u8> {
    format!("HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n{events}").into_bytes()
}
