//! Listens: accepts connections, with or without TLS, until it is time to stop.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::IntoResponse;
use subtle::ConstantTimeEq;
use tokio::net::TcpListener;
use tokio::time::{Instant, sleep, timeout, timeout_at};

use super::access_log::Peer;
use super::connection::{ConnectionTimeouts, serve_connection};
use super::connections::{ConnectionCaps, ConnectionTable};
use super::tls::Certificate;
use super::{ApiServer, ServerPhase};
use crate::host::Serving;
use crate::model::Secret;

/// How long a scrape waits for what runs.
const SAMPLE_TIMEOUT: Duration = Duration::from_secs(8);
/// The number of connections that may be open at once, where the system allows as many.
const MAX_CONNECTIONS: usize = 8192;
/// The number of those that one address may have.
const MAX_PER_ADDRESS: usize = 256;
/// The number of those that are for this machine alone.
const LOOPBACK_RESERVE: usize = 64;
/// The number of file descriptors that are left for everything but connections.
const OTHER_DESCRIPTORS: usize = 512;
/// How long connections have to close once nothing runs any more.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);

/// Says where and how to listen.
#[derive(Clone)]
pub struct ListenOptions {
    /// The address; port 0 takes a free one.
    pub address: SocketAddr,
    /// Talk TLS with this.
    pub certificate: Option<Certificate>,
    /// A proxy is in front of this server, terminates TLS, and forwards the addresses of clients.
    pub behind_proxy: bool,
}

/// Says why an address is not listened on.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// Others could read what passes.
    #[error("`{0}` can be reached from other machines, and without TLS everybody in between reads the tokens")]
    Cleartext(SocketAddr),
    /// Other machines could read the metrics.
    #[error("`{0}` can be reached from other machines, and the metrics need no token")]
    OpenMetrics(SocketAddr),
    /// The address cannot be bound.
    #[error("`{address}` cannot be listened on")]
    Bind {
        /// The address.
        address: SocketAddr,
        /// Why.
        source: std::io::Error,
    },
}

/// A listener that accepts no connections yet.
pub struct BoundListener {
    listener: TcpListener,
    address: SocketAddr,
    options: ListenOptions,
    pub(super) timeouts: ConnectionTimeouts,
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
        Ok(Self { listener, address, options: how, timeouts: ConnectionTimeouts::default() })
    }

    /// Returns the address, with its port.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Returns the URL under which this machine reaches it.
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
        let connections = ConnectionTable::new(ConnectionCaps {
            total: MAX_CONNECTIONS.min(descriptor_limit().saturating_sub(OTHER_DESCRIPTORS).max(LOOPBACK_RESERVE * 2)),
            per_address: (!self.options.behind_proxy).then_some(MAX_PER_ADDRESS),
            loopback_reserve: LOOPBACK_RESERVE,
        });
        tokio::select! {
            () = self.accept_loop(server, &router, &connections) => {}
            () = stop => {}
        }
        drop(self.listener);
        server.set_phase(ServerPhase::Draining);
        let deadline = Instant::now() + grace;
        // Clients that are connected can still look, and hear how operations end.
        let left = serving.stop(grace).await;
        server.set_phase(ServerPhase::Closing);
        let _ = timeout_at(deadline.max(Instant::now() + CLOSE_TIMEOUT), connections.wait_until_empty()).await;
        left
    }

    /// Accepts connections until the runtime ends.
    pub(super) async fn accept_loop(&self, server: &Arc<ApiServer>, router: &Router, connections: &Arc<ConnectionTable>) {
        loop {
            let (stream, address) = match self.listener.accept().await {
                Ok(accepted) => accepted,
                Err(error) => {
                    // Such as no file descriptors left: some will be given back.
                    tracing::warn!(%error, "a connection could not be accepted");
                    sleep(Duration::from_millis(50)).await;
                    continue;
                }
            };
            let Some(slot) = connections.admit(address.ip()) else {
                tracing::debug!(client = %address.ip(), "too many connections are in use");
                continue;
            };
            let _ = stream.set_nodelay(true);
            let certificate = self.options.certificate.clone();
            let peer = Peer { address, behind_proxy: self.options.behind_proxy, is_encrypted: certificate.is_some() };
            let (router, phase, timeouts) = (router.clone(), server.phase.subscribe(), self.timeouts);
            tokio::spawn(async move {
                let Some(certificate) = certificate else {
                    return serve_connection(stream, peer, &slot, router, phase, timeouts).await;
                };
                match timeout(timeouts.head, certificate.acceptor().accept(stream)).await {
                    Ok(Ok(stream)) => serve_connection(stream, peer, &slot, router, phase, timeouts).await,
                    Ok(Err(error)) => tracing::debug!(client = %address.ip(), %error, "the TLS handshake failed"),
                    Err(_) => tracing::debug!(client = %address.ip(), "the TLS handshake timed out"),
                }
            });
        }
    }
}

/// Raises the number of file descriptors that this process may have open to what the system allows, and returns it.
fn descriptor_limit() -> usize {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    let wanted = maximum.unwrap_or(u64::MAX).min((MAX_CONNECTIONS + OTHER_DESCRIPTORS) as u64);
    let raised = current.is_some_and(|current| current < wanted)
        && setrlimit(Resource::Nofile, Rlimit { current: Some(wanted), maximum }).is_ok();
    let limit = if raised { Some(wanted) } else { current };
    limit.and_then(|limit| usize::try_from(limit).ok()).unwrap_or(usize::MAX)
}

/// Serves the metrics of a server at an address, until the runtime ends. Where other machines reach the address, a scraper
/// has to show `token`.
///
/// # Errors
/// The address is not to be had, or can be reached from other machines without a token.
pub async fn serve_metrics(
    address: SocketAddr,
    token: Option<Secret>,
    server: Arc<ApiServer>,
) -> Result<SocketAddr, ListenError> {
    if token.is_none() && !address.ip().to_canonical().is_loopback() {
        return Err(ListenError::OpenMetrics(address));
    }
    // Metrics hold no secret, so they need no TLS.
    let options = ListenOptions { address, certificate: None, behind_proxy: true };
    let listener = BoundListener::new(options).await?;
    let bound = listener.address();
    let metered = Arc::clone(&server);
    let expected = token.map(|token| zeroize::Zeroizing::new(format!("Bearer {}", token.expose())));
    let metrics = axum::routing::get(move |headers: HeaderMap| async move {
        let shown = headers.get(header::AUTHORIZATION).map(HeaderValue::as_bytes).unwrap_or_default();
        match expected.as_ref().is_none_or(|expected| bool::from(shown.ct_eq(expected.as_bytes()))) {
            true => {
                // A provider that does not answer in time leaves the figures of before.
                let _ = timeout(SAMPLE_TIMEOUT, metered.refresh_samples()).await;
                ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], metered.render_metrics()).into_response()
            }
            false => (StatusCode::UNAUTHORIZED, [(header::WWW_AUTHENTICATE, "Bearer")]).into_response(),
        }
    });
    let router = Router::new().route("/metrics", metrics);
    let caps = ConnectionCaps { total: LOOPBACK_RESERVE, per_address: None, loopback_reserve: LOOPBACK_RESERVE / 8 };
    tokio::spawn(async move { listener.accept_loop(&server, &router, &ConnectionTable::new(caps)).await });
    Ok(bound)
}
