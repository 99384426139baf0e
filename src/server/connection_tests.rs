//! Connections of clients that hold on to what they get: idle ones, ones that do not read, and very many.

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::connection::ConnectionTimeouts;
use super::connections::{ConnectionCaps, ConnectionTable};
use super::listen::{BoundListener, ListenOptions};
use super::response_body::WriteDeadlines;
use super::tests::Fixture;

const SHORT: Duration = Duration::from_secs(1);
const TIMEOUTS: ConnectionTimeouts = ConnectionTimeouts {
    head: SHORT,
    idle: SHORT,
    age: PATIENCE,
    drain: SHORT,
    write: WriteDeadlines { piece: SHORT, whole: PATIENCE },
};
const CAPS: ConnectionCaps = ConnectionCaps { total: 64, per_address: Some(8), loopback_reserve: 0 };

/// Listens with these limits until the test ends.
async fn listen(fixture: &Fixture, timeouts: ConnectionTimeouts, caps: ConnectionCaps) -> SocketAddr {
    let options = ListenOptions { address: "127.0.0.1:0".parse().unwrap(), certificate: None, behind_proxy: false };
    let mut bound = BoundListener::new(options).await.unwrap();
    bound.timeouts = timeouts;
    let (address, router, server) = (bound.address(), fixture.router.clone(), std::sync::Arc::clone(&fixture.server));
    tokio::spawn(async move { bound.accept_loop(&server, &router, &ConnectionTable::new(caps)).await });
    address
}

/// A client that writes HTTP/2 frames by hand, and answers pings.
struct RawHttp2(TcpStream);

impl RawHttp2 {
    async fn open(address: SocketAddr, initial_window: Option<u32>) -> Self {
        let mut client = Self(TcpStream::connect(address).await.unwrap());
        client.0.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await.unwrap();
        let settings = initial_window.map(|size| [&[0, 4][..], &size.to_be_bytes()].concat()).unwrap_or_default();
        client.frame(4, 0, 0, &settings).await;
        client
    }

    async fn frame(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
        let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
        let head = [&length[1..], &[kind, flags], &stream.to_be_bytes()].concat();
        // The other side may be gone already.
        let _ = self.0.write_all(&[&head, payload].concat()).await;
    }

    /// Asks for a path: four header fields in HPACK, without its compression.
    async fn get(&mut self, stream: u32, path: &str) {
        let literal = |name: u8, value: &str| [&[name, u8::try_from(value.len()).unwrap()], value.as_bytes()].concat();
        let block = [vec![0x82, 0x86], literal(0x04, path), literal(0x01, "x")].concat();
        self.frame(1, 0x05, stream, &block).await;
    }

    /// Reads frames and answers pings until the connection closes. Returns the kinds of the frames.
    async fn read_to_end(&mut self) -> Vec<u8> {
        let mut kinds = Vec::new();
        loop {
            let mut head = [0; 9];
            if self.0.read_exact(&mut head).await.is_err() {
                return kinds;
            }
            let mut payload = vec![0; usize::from(head[0]) << 16 | usize::from(head[1]) << 8 | usize::from(head[2])];
            if self.0.read_exact(&mut payload).await.is_err() {
                return kinds;
            }
            kinds.push(head[3]);
            if head[3] == 6 && head[4] & 1 == 0 {
                self.frame(6, 1, 0, &payload).await;
            }
        }
    }
}

async fn status_of(address: SocketAddr, path: &str) -> Option<String> {
    let mut stream = TcpStream::connect(address).await.ok()?;
    stream.write_all(format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").as_bytes()).await.ok()?;
    let mut text = Vec::new();
    stream.read_to_end(&mut text).await.ok()?;
    String::from_utf8_lossy(&text).lines().next().map(str::to_owned)
}

const OK: Option<&str> = Some("HTTP/1.1 200 OK");
/// A guard against hanging.
const PATIENCE: Duration = Duration::from_secs(120);

/// Waits until a request is answered: on a busy machine a head may take longer than it is given.
async fn assert_answers(address: SocketAddr) {
    let asked = async {
        while status_of(address, "/healthz").await.as_deref() != OK {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(PATIENCE, asked).await.expect("it answers others");
}

#[tokio::test]
async fn an_idle_http_2_connection_is_closed_though_it_answers_pings() {
    let fixture = Fixture::new().await;
    let address = listen(&fixture, TIMEOUTS, CAPS).await;
    let mut client = RawHttp2::open(address, None).await;
    client.get(1, "/healthz").await;
    let kinds = timeout(PATIENCE, client.read_to_end()).await.expect("it is closed");
    assert!(kinds.contains(&1) && kinds.contains(&7), "headers of a response and GOAWAY are expected: {kinds:?}");
}

#[tokio::test]
async fn a_connection_that_never_asks_for_anything_is_closed() {
    let fixture = Fixture::new().await;
    let address = listen(&fixture, TIMEOUTS, CAPS).await;
    let mut http_2 = RawHttp2::open(address, None).await;
    timeout(PATIENCE, http_2.read_to_end()).await.expect("it is closed");
    let mut silent = TcpStream::connect(address).await.unwrap();
    assert_eq!(timeout(PATIENCE, silent.read(&mut [0; 16])).await.expect("it is closed").unwrap_or(0), 0);
}

#[tokio::test]
async fn a_connection_comes_of_age() {
    let fixture = Fixture::new().await;
    let address = listen(&fixture, ConnectionTimeouts { age: SHORT, idle: PATIENCE * 2, ..TIMEOUTS }, CAPS).await;
    let mut client = RawHttp2::open(address, None).await;
    client.get(1, "/healthz").await;
    let kinds = timeout(PATIENCE, client.read_to_end()).await.expect("it is closed");
    assert!(kinds.contains(&7), "{kinds:?}");
}

#[tokio::test]
async fn a_client_that_opens_no_window_is_cut_off_and_the_document_is_not_copied() {
    let fixture = Fixture::new().await;
    let address = listen(&fixture, ConnectionTimeouts { idle: PATIENCE * 2, ..TIMEOUTS }, CAPS).await;
    let mut client = RawHttp2::open(address, Some(0)).await;
    for stream in 0..20 {
        client.get(2 * stream + 1, "/openapi.json").await;
    }
    timeout(PATIENCE, client.read_to_end()).await.expect("it is closed");
    assert_answers(address).await;
}

#[tokio::test]
async fn a_client_that_pipelines_and_never_reads_is_cut_off() {
    let fixture = Fixture::new().await;
    let address = listen(&fixture, TIMEOUTS, CAPS).await;
    let mut stream = TcpStream::connect(address).await.unwrap();
    let request = "GET /openapi.json HTTP/1.1\r\nHost: x\r\n\r\n".repeat(200);
    let cut = timeout(PATIENCE, async {
        while stream.write_all(request.as_bytes()).await.is_ok() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    });
    cut.await.expect("the connection is reset");
    assert_answers(address).await;
}

#[tokio::test]
async fn idle_connections_block_no_other() {
    let fixture = Fixture::new().await;
    let patient = ConnectionTimeouts { head: PATIENCE, idle: PATIENCE, ..TIMEOUTS };
    let address = listen(&fixture, patient, CAPS).await;
    let mut idle = Vec::new();
    for _ in 0..40 {
        idle.push(TcpStream::connect(address).await.unwrap());
        assert_eq!(status_of(address, "/healthz").await.as_deref(), OK);
    }
    let are_closed = async {
        while idle.len() > 8 {
            let is_open =
                |stream: &mut TcpStream| stream.try_read(&mut [0; 1]).is_err_and(|error| error.kind() == ErrorKind::WouldBlock);
            idle.retain_mut(is_open);
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(PATIENCE, are_closed).await.expect("no more connections of one address stay open than may");
}
