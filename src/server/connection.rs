//! One connection, from its first byte to its end: HTTP/1.1 or HTTP/2, and how long it may last without use.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::http::Request;
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::watch;
use tokio::time::{Instant, interval, sleep_until};
use tower::{ServiceExt, service_fn};

use super::ServerPhase;
use super::access_log::Peer;
use super::connections::ConnectionSlot;
use super::response_body::{Outgoing, WriteDeadlines};

/// The size of the head of a request, in bytes.
const MAX_HEAD_BYTES: usize = 32 << 10;
/// The number of headers of a request.
const MAX_HEADERS: usize = 64;
/// The number of requests that share one HTTP/2 connection at once.
const MAX_STREAMS: u32 = 64;
/// The number of bytes that one HTTP/2 stream buffers for a client that does not read.
const MAX_SEND_BUFFER: usize = 64 << 10;

/// Says how long a connection may take for what.
#[derive(Debug, Clone, Copy)]
pub(super) struct ConnectionTimeouts {
    /// To send the head of its first request, and over HTTP/1.1 of any.
    pub(super) head: Duration,
    /// To send another request, when none is in flight.
    pub(super) idle: Duration,
    /// To exist: after that it is asked to close, and its requests in flight go on for `drain`.
    pub(super) age: Duration,
    /// To end its requests in flight once it is asked to close.
    pub(super) drain: Duration,
    /// To read what is sent.
    pub(super) write: WriteDeadlines,
}

impl Default for ConnectionTimeouts {
    fn default() -> Self {
        Self {
            head: Duration::from_secs(10),
            idle: Duration::from_secs(30),
            age: Duration::from_secs(60 * 60),
            drain: Duration::from_secs(5 * 60),
            write: WriteDeadlines { piece: Duration::from_secs(30), whole: Duration::from_secs(120) },
        }
    }
}

/// Serves a connection until it closes, has to make room for another, or takes too long.
pub(super) async fn serve_connection<S>(
    stream: S,
    peer: Peer,
    slot: &ConnectionSlot,
    router: Router,
    mut phase: watch::Receiver<ServerPhase>,
    timeouts: ConnectionTimeouts,
) where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let outgoing = Arc::new(Outgoing::default());
    let (bodies, activity) = (Arc::clone(&outgoing), Arc::clone(&slot.activity));
    let service = service_fn(move |mut request: Request<Incoming>| {
        let (bodies, in_flight) = (Arc::clone(&bodies), activity.begin());
        request.extensions_mut().insert(peer);
        let response = router.clone().oneshot(request);
        async move { response.await.map(|response| response.map(|body| bodies.track(body, in_flight))) }
    });
    let mut builder = Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(timeouts.head)
        .max_buf_size(MAX_HEAD_BYTES)
        .max_headers(MAX_HEADERS)
        .http2()
        .timer(TokioTimer::new())
        .max_header_list_size(MAX_HEAD_BYTES as u32)
        .max_concurrent_streams(MAX_STREAMS)
        .max_send_buf_size(MAX_SEND_BUFFER)
        .keep_alive_interval(Some(Duration::from_secs(20)))
        .keep_alive_timeout(timeouts.head);
    let mut serving = pin!(builder.serve_connection(TokioIo::new(stream), TowerToHyperService::new(service)));
    let mut check = interval((timeouts.idle.min(timeouts.head).min(timeouts.write.piece) / 4).max(Duration::from_millis(10)));
    let mut close_by: Option<Instant> = None;
    let ended = loop {
        let drain = tokio::select! {
            ended = &mut serving => break ended,
            () = slot.evicted.notified() => return,
            _ = phase.wait_for(|phase| *phase == ServerPhase::Closing), if close_by.is_none() => timeouts.drain,
            () = sleep_until(close_by.unwrap_or_else(Instant::now)), if close_by.is_some() => return,
            _ = check.tick() => {
                if outgoing.has_stalled(timeouts.write) {
                    tracing::debug!(client = %peer.address.ip(), "a client does not read its response");
                    return;
                }
                let idle = slot.activity.idle_for();
                if !slot.activity.has_begun() && idle.is_some_and(|idle| idle > timeouts.head) {
                    return;
                }
                match idle {
                    _ if close_by.is_some() => continue,
                    // What is still to be flushed gets a moment.
                    Some(idle) if idle > timeouts.idle => timeouts.head.min(timeouts.idle),
                    _ if slot.activity.age() > timeouts.age => timeouts.drain,
                    _ => continue,
                }
            }
        };
        serving.as_mut().graceful_shutdown();
        close_by = Some(Instant::now() + drain);
    };
    if let Err(error) = ended {
        tracing::debug!(client = %peer.address.ip(), error, "a connection ended early");
    }
}
