//! Listening: connections in, with or without TLS, until it is time to stop.
//!
//! Must not do: read a request; the router does.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::Router;
use axum::http::Request;
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use hyper_util::server::graceful::{GracefulShutdown, Watcher};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::{Instant, sleep, timeout, timeout_at};
use tower::{ServiceExt, service_fn};

use super::access_log::Peer;
use super::tls::Certificate;
use super::{ApiServer, ServerPhase};
use crate::host::Serving;

/// How long a client may take to open a connection and send the head of a request.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);
/// How large the head of a request may be, in bytes.
const MAX_HEAD_BYTES: usize = 32 << 10;
/// How many headers a request may have.
const MAX_HEADERS: usize = 64;
/// How many requests may share one HTTP/2 connection at once.
const MAX_STREAMS: u32 = 256;
/// How many connections may be open at once.
const MAX_CONNECTIONS: usize = 8192;
/// How long connections have to close once nothing runs any more.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);

/// Where and how to listen.
#[derive(Clone)]
pub struct ListenOptions {
    /// The address; port 0 takes a free one.
    pub address: SocketAddr,
    /// Talk TLS with this.
    pub certificate: Option<Certificate>,
    /// A proxy stands before this, does TLS there, and says who is behind it.
    pub behind_proxy: bool,
}

/// Why nobody can be listened to.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// Others could read what passes.
    #[error("`{0}` can be reached from other machines, and without TLS everybody in between reads the tokens")]
    Cleartext(SocketAddr),
    /// The address cannot be had.
    #[error("`{address}` cannot be listened on")]
    Bind {
        /// The address.
        address: SocketAddr,
        /// Why.
        source: std::io::Error,
    },
}

/// A listener that nobody is accepted from yet.
pub struct BoundListener {
    listener: TcpListener,
    address: SocketAddr,
    options: ListenOptions,
}

impl BoundListener {
    /// Takes the address.
    ///
    /// # Errors
    /// [`ListenError`] when it is not safe, or taken.
    pub async fn new(how: ListenOptions) -> Result<Self, ListenError> {
        let address = how.address;
        if !address.ip().to_canonical().is_loopback() && how.certificate.is_none() && !how.behind_proxy {
            return Err(ListenError::Cleartext(address));
        }
        let failed = |source| ListenError::Bind { address, source };
        let listener = TcpListener::bind(address).await.map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        Ok(Self { listener, address, options: how })
    }

    /// The address, with its port.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The URL under which this machine reaches it.
    pub fn url(&self) -> String {
        format!("http{}://{}", if self.options.certificate.is_some() { "s" } else { "" }, self.address)
    }

    /// Serves until `stop`; then takes no more connections and no more work, gives what runs so long to end, and closes.
    /// Returns how many operations are left to the next server.
    pub async fn serve(
        self,
        server: &Arc<ApiServer>,
        router: Router,
        serving: Serving,
        stop: impl Future<Output = ()>,
        grace: Duration,
    ) -> usize {
        let connections = GracefulShutdown::new();
        tokio::select! {
            () = self.accept_loop(&router, &connections) => {}
            () = stop => {}
        }
        drop(self.listener);
        server.set_phase(ServerPhase::Draining);
        let deadline = Instant::now() + grace;
        // Whoever is connected can still look, and hears how operations end.
        let left = serving.stop(grace).await;
        server.set_phase(ServerPhase::Closing);
        let _ = timeout_at(deadline.max(Instant::now() + CLOSE_TIMEOUT), connections.shutdown()).await;
        left
    }

    async fn accept_loop(&self, router: &Router, connections: &GracefulShutdown) {
        let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
        loop {
            let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
            let (stream, peer) = match self.listener.accept().await {
                Ok(accepted) => accepted,
                Err(error) => {
                    // Such as no file descriptors left: some will be given back.
                    tracing::warn!(%error, "a connection could not be accepted");
                    sleep(Duration::from_millis(50)).await;
                    continue;
                }
            };
            let _ = stream.set_nodelay(true);
            let peer = Peer { address: peer, behind_proxy: self.options.behind_proxy };
            let (router, watcher, certificate) = (router.clone(), connections.watcher(), self.options.certificate.clone());
            tokio::spawn(async move {
                let _place = place;
                match certificate {
                    None => serve_connection(stream, peer, router, watcher).await,
                    Some(certificate) => serve_tls(&certificate, stream, peer, router, watcher).await,
                }
            });
        }
    }
}

async fn serve_tls(certificate: &Certificate, stream: TcpStream, peer: Peer, router: Router, watcher: Watcher) {
    match timeout(HEAD_TIMEOUT, certificate.acceptor().accept(stream)).await {
        Ok(Ok(stream)) => serve_connection(stream, peer, router, watcher).await,
        Ok(Err(error)) => tracing::debug!(client = %peer.address.ip(), %error, "TLS could not be agreed on"),
        Err(_) => tracing::debug!(client = %peer.address.ip(), "TLS was not agreed on in time"),
    }
}

/// Serves one connection to its end.
async fn serve_connection<S>(stream: S, peer: Peer, router: Router, watcher: Watcher)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let begun = Arc::new(AtomicBool::new(false));
    let began = Arc::clone(&begun);
    let service = service_fn(move |mut request: Request<Incoming>| {
        began.store(true, Ordering::Relaxed);
        request.extensions_mut().insert(peer);
        router.clone().oneshot(request)
    });
    let mut builder = Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .max_buf_size(MAX_HEAD_BYTES)
        .max_headers(MAX_HEADERS)
        .http2()
        .timer(TokioTimer::new())
        .max_header_list_size(MAX_HEAD_BYTES as u32)
        .max_concurrent_streams(MAX_STREAMS)
        .keep_alive_interval(Some(Duration::from_secs(20)))
        .keep_alive_timeout(HEAD_TIMEOUT);
    let serving = watcher.watch(builder.serve_connection(TokioIo::new(stream), TowerToHyperService::new(service)).into_owned());
    tokio::pin!(serving);
    // Before the first bytes say which version it is, nothing else limits how long a client takes.
    let ended = tokio::select! {
        ended = &mut serving => ended,
        () = sleep(HEAD_TIMEOUT) => {
            if !begun.load(Ordering::Relaxed) {
                return;
            }
            serving.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(client = %peer.address.ip(), error, "a connection ended early");
    }
}

/// Answers whoever asks at this address with the figures of a server, until the runtime ends.
///
/// # Errors
/// The address cannot be had.
pub async fn serve_metrics(address: SocketAddr, server: Arc<ApiServer>) -> Result<SocketAddr, ListenError> {
    let failed = |source| ListenError::Bind { address, source };
    let listener = TcpListener::bind(address).await.map_err(failed)?;
    let bound = listener.local_addr().map_err(failed)?;
    let content = [(axum::http::header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")];
    let figures = axum::routing::get(move || async move { (content, server.render_metrics()) });
    let router = Router::new().route("/metrics", figures);
    tokio::spawn(async move {
        // It never ends by itself.
        let _ = axum::serve(listener, router).await;
    });
    Ok(bound)
}
