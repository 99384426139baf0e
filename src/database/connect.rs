//! Connections to PostgreSQL and MySQL servers, bounded in time and size, with TLS against the system's roots.
//!
//! A server's name is resolved once, each address is checked against the [`HostPolicy`], and the connection goes to
//! that address. Nothing here trusts a server that cannot prove its name, or lets it announce a message of any size.

use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use mysql_async::{Conn, Opts, OptsBuilder, SslOpts};
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::task::AbortHandle;
use tokio_postgres::config::Host;
use tokio_postgres::tls::MakeTlsConnect;
use tokio_postgres::{Client, Config, NoTls};
use tokio_postgres_rustls::MakeRustlsConnect;

use super::DatabaseError;
use super::message_limit::{Limited, LimitedTls, MessageLimits};
use super::mysql_relay;
use crate::model::{HostPolicy, error_chain};
use crate::system::contained;

/// How long a server may take to accept a connection and a login.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// Says how a connection is protected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TlsMode<'a> {
    /// Not at all.
    Off,
    /// Required, with the certificate checked against the system's roots and, where given, the authorities in a PEM text.
    Verified(Option<&'a str>),
}

/// Says how much is asked of a server.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Volume {
    /// Answers in small rows.
    #[default]
    Answers,
    /// All rows of a database.
    Rows,
}

/// Says whose server is connected to.
#[derive(Debug, Clone, Copy)]
pub enum Peer<'a> {
    /// One that others named: its address is held against the policy, and its messages are bounded.
    Foreign {
        /// The addresses that may be connected to.
        policy: &'a HostPolicy,
        /// The address of its host, where its name is known elsewhere and not here.
        address: Option<IpAddr>,
        /// How much it may send.
        volume: Volume,
    },
    /// The one that this very process was started for.
    Own,
}

impl Peer<'_> {
    fn allows(self, host: &str, address: std::net::IpAddr) -> bool {
        match self {
            Self::Foreign { policy, address: Some(_), .. } => policy.allows_inside(host, address),
            Self::Foreign { policy, address: None, .. } => policy.allows(host, address),
            Self::Own => true,
        }
    }

    fn allows_any(self) -> bool {
        match self {
            Self::Foreign { policy, .. } => policy.allows_any(),
            Self::Own => true,
        }
    }

    fn limits(self) -> MessageLimits {
        match self {
            Self::Foreign { volume: Volume::Answers, .. } => MessageLimits::FOREIGN,
            Self::Foreign { volume: Volume::Rows, .. } => MessageLimits::ROWS,
            Self::Own => MessageLimits::NONE,
        }
    }
}

/// Says why there is no connection.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError<E> {
    /// The authorities of `tls.ca` cannot be used.
    #[error(transparent)]
    Certificates(DatabaseError),
    /// The policy of this control plane forbids the address.
    #[error("no address of the host is one that this control plane may connect to")]
    Forbidden,
    /// The name does not resolve, or nothing listens.
    #[error(transparent)]
    Network(std::io::Error),
    /// The server refused, or spoke something else.
    #[error(transparent)]
    Server(E),
    /// The server accepted the connection and did not answer in time.
    #[error("timeout waiting for server")]
    TimedOut,
}

/// Holds a client of a PostgreSQL server; dropping it ends its connection.
#[derive(Debug)]
pub struct PostgresClient {
    client: Client,
    connection: AbortHandle,
    /// Why the connection ended, where it did so by itself. The driver tells its client only that it did.
    ended: Arc<OnceLock<String>>,
}

impl PostgresClient {
    /// Returns why the connection ended, where it did so by itself.
    pub fn why_ended(&self) -> Option<&str> {
        self.ended.get().map(String::as_str)
    }
}

impl std::ops::Deref for PostgresClient {
    type Target = Client;
    fn deref(&self) -> &Client {
        &self.client
    }
}

impl std::ops::DerefMut for PostgresClient {
    fn deref_mut(&mut self) -> &mut Client {
        &mut self.client
    }
}

impl Drop for PostgresClient {
    fn drop(&mut self) {
        self.connection.abort();
    }
}

/// Connects to a PostgreSQL server.
///
/// # Errors
/// [`ConnectError`] by the stage at which it failed.
pub async fn postgres(
    config: &Config,
    tls: TlsMode<'_>,
    peer: Peer<'_>,
) -> Result<PostgresClient, ConnectError<tokio_postgres::Error>> {
    let tls = match tls {
        TlsMode::Off => None,
        TlsMode::Verified(ca) => Some(postgres_tls(ca).map_err(ConnectError::Certificates)?),
    };
    tokio::time::timeout(CONNECT_TIMEOUT, connect_postgres(config, tls, peer)).await.unwrap_or(Err(ConnectError::TimedOut))
}

async fn connect_postgres(
    config: &Config,
    tls: Option<MakeRustlsConnect>,
    peer: Peer<'_>,
) -> Result<PostgresClient, ConnectError<tokio_postgres::Error>> {
    let mut failed = ConnectError::Network(std::io::Error::other("the URL names no host"));
    for (index, host) in config.get_hosts().iter().enumerate() {
        let port = config.get_ports().get(index).or(config.get_ports().first()).copied().unwrap_or(5432);
        let attempt = match host {
            Host::Tcp(name) => match dial(name, port, peer).await {
                Ok(stream) => log_in(config, stream, name, tls.clone(), peer.limits()).await,
                Err(error) => Err(error),
            },
            #[cfg(unix)]
            Host::Unix(_) if !peer.allows_any() => Err(ConnectError::Forbidden),
            #[cfg(unix)]
            Host::Unix(folder) => match tokio::net::UnixStream::connect(folder.join(format!(".s.PGSQL.{port}"))).await {
                Ok(stream) => log_in(config, stream, "localhost", None, peer.limits()).await,
                Err(error) => Err(ConnectError::Network(error)),
            },
        };
        match attempt {
            Err(error @ (ConnectError::Network(_) | ConnectError::Forbidden)) => failed = error,
            done => return done,
        }
    }
    Err(failed)
}

async fn log_in<S>(
    config: &Config,
    stream: S,
    host: &str,
    tls: Option<MakeRustlsConnect>,
    limits: MessageLimits,
) -> Result<PostgresClient, ConnectError<tokio_postgres::Error>>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let ended = Arc::new(OnceLock::new());
    let (client, connection) = match tls {
        None => {
            let (client, connection) =
                config.connect_raw(Limited::new(stream, limits), NoTls).await.map_err(ConnectError::Server)?;
            (client, spawn(connection, Arc::clone(&ended)))
        }
        Some(mut tls) => {
            let tls = MakeTlsConnect::<S>::make_tls_connect(&mut tls, host)
                .map_err(|error| ConnectError::Network(std::io::Error::other(error)))?;
            let (client, connection) =
                config.connect_raw(stream, LimitedTls(tls, limits)).await.map_err(ConnectError::Server)?;
            (client, spawn(connection, Arc::clone(&ended)))
        }
    };
    Ok(PostgresClient { client, connection, ended })
}

fn spawn<C>(mut connection: C, ended: Arc<OnceLock<String>>) -> AbortHandle
where
    C: Future<Output = Result<(), tokio_postgres::Error>> + Unpin + Send + 'static,
{
    let driven = async move {
        if let Err(error) = (&mut connection).await {
            let _ = ended.set(error_chain(&error));
        }
        // Only now the client is told.
        drop(connection);
    };
    tokio::spawn(driven).abort_handle()
}

/// Connects to a MySQL server over TCP.
///
/// # Errors
/// [`ConnectError`] by the stage at which it failed.
pub async fn mysql(opts: Opts, tls: TlsMode<'_>, peer: Peer<'_>) -> Result<Conn, ConnectError<mysql_async::Error>> {
    // The driver takes the process's default provider, and there may be none yet.
    let _ = aws_lc_rs::default_provider().install_default();
    let (host, port) = (opts.ip_or_hostname().to_owned(), opts.tcp_port());
    let ssl = match tls {
        TlsMode::Off => None,
        TlsMode::Verified(ca) => Some(mysql_tls(ca).map_err(ConnectError::Certificates)?),
    };
    let connect = async {
        // The driver dials for itself, so the address is chosen here and the certificate still held against the name.
        let mut address = reachable(&host, port, peer).await?;
        if let (None, Peer::Foreign { .. }) = (&ssl, peer) {
            let stream = TcpStream::connect(address).await.map_err(ConnectError::Network)?;
            address = mysql_relay::start(stream, CONNECT_TIMEOUT).await.map_err(ConnectError::Network)?;
        }
        let ssl = ssl.map(|ssl| ssl.with_danger_tls_hostname_override(Some(host.clone())));
        let opts = OptsBuilder::from_opts(opts)
            .ip_or_hostname(address.ip().to_string())
            .tcp_port(address.port())
            // Without these two the driver would turn to a socket as soon as the server is on this machine.
            .socket(None::<String>)
            .prefer_socket(false)
            .max_allowed_packet(peer.limits().message)
            .ssl_opts(ssl);
        match contained(Conn::new(opts)).await {
            Ok(connected) => connected.map_err(ConnectError::Server),
            Err(panic) => Err(ConnectError::Network(std::io::Error::other(panic))),
        }
    };
    tokio::time::timeout(CONNECT_TIMEOUT, connect).await.unwrap_or(Err(ConnectError::TimedOut))
}

/// Resolves a host once, and returns its addresses as far as the policy allows them.
async fn resolve<E>(host: &str, port: u16, peer: Peer<'_>) -> Result<Vec<SocketAddr>, ConnectError<E>> {
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    let found: Vec<SocketAddr> = match peer {
        Peer::Foreign { address: Some(address), .. } => vec![SocketAddr::new(address, port)],
        _ => tokio::net::lookup_host((bare, port)).await.map_err(ConnectError::Network)?.collect(),
    };
    let allowed: Vec<SocketAddr> = found.iter().copied().filter(|address| peer.allows(host, address.ip())).collect();
    match (found.is_empty(), allowed.is_empty()) {
        (true, _) => Err(ConnectError::Network(std::io::Error::other("the name has no address"))),
        (false, true) => Err(ConnectError::Forbidden),
        (false, false) => Ok(allowed),
    }
}

async fn dial<E>(host: &str, port: u16, peer: Peer<'_>) -> Result<TcpStream, ConnectError<E>> {
    let addresses = resolve(host, port, peer).await?;
    let stream = TcpStream::connect(addresses.as_slice()).await.map_err(ConnectError::Network)?;
    let _ = stream.set_nodelay(true);
    Ok(stream)
}

/// Returns the first address that something listens at.
async fn reachable<E>(host: &str, port: u16, peer: Peer<'_>) -> Result<SocketAddr, ConnectError<E>> {
    let addresses = resolve(host, port, peer).await?;
    if let [only] = addresses.as_slice() {
        return Ok(*only);
    }
    let stream = TcpStream::connect(addresses.as_slice()).await.map_err(ConnectError::Network)?;
    stream.peer_addr().map_err(ConnectError::Network)
}

/// Returns the system's certificate authorities. A machine may have none; then only those of `tls.ca` count.
fn system_roots() -> &'static [CertificateDer<'static>] {
    static ROOTS: OnceLock<Vec<CertificateDer<'static>>> = OnceLock::new();
    ROOTS.get_or_init(|| {
        let usable = |root: &CertificateDer<'static>| RootCertStore::empty().add(root.clone()).is_ok();
        rustls_native_certs::load_native_certs().certs.into_iter().filter(usable).collect()
    })
}

/// Reads the certificates in a PEM text.
fn authorities(pem: &str) -> Result<Vec<CertificateDer<'static>>, DatabaseError> {
    let failed = |reason: String| DatabaseError::Certificates { reason };
    let found: Vec<CertificateDer<'static>> =
        CertificateDer::pem_slice_iter(pem.as_bytes()).collect::<Result<_, _>>().map_err(|error| failed(error.to_string()))?;
    for certificate in &found {
        RootCertStore::empty().add(certificate.clone()).map_err(|error| failed(error.to_string()))?;
    }
    if found.is_empty() { Err(failed("there is no certificate in it".to_owned())) } else { Ok(found) }
}

fn roots(ca: Option<&str>) -> Result<impl Iterator<Item = CertificateDer<'static>>, DatabaseError> {
    let own = ca.map(authorities).transpose()?.unwrap_or_default();
    Ok(system_roots().iter().cloned().chain(own))
}

fn postgres_tls(ca: Option<&str>) -> Result<MakeRustlsConnect, DatabaseError> {
    let mut store = RootCertStore::empty();
    store.add_parsable_certificates(roots(ca)?);
    let config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| DatabaseError::Parameters(Box::new(error)))?
        .with_root_certificates(store)
        .with_no_client_auth();
    Ok(MakeRustlsConnect::new(config))
}

fn mysql_tls(ca: Option<&str>) -> Result<SslOpts, DatabaseError> {
    let roots = roots(ca)?.map(|root| root.as_ref().to_vec().into()).collect();
    Ok(SslOpts::default().with_disable_built_in_roots(true).with_root_certs(roots))
}

/// Checks that a PEM text holds certificates.
///
/// # Errors
/// [`DatabaseError::Certificates`] when it does not.
pub fn check_certificates(pem: &str) -> Result<(), DatabaseError> {
    authorities(pem).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_engines_trust_the_authorities_of_the_system_and_no_others() {
        let mut authority = rcgen::CertificateParams::new(Vec::new()).unwrap();
        authority.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let authority = authority.self_signed(&rcgen::KeyPair::generate().unwrap()).unwrap();
        for (ca, more) in [(None, 0), (Some(authority.pem()), 1)] {
            let trusted = system_roots().len() + more;
            assert_eq!(roots(ca.as_deref()).unwrap().count(), trusted);
            let options = mysql_tls(ca.as_deref()).unwrap();
            assert!(options.disable_built_in_roots(), "the driver brings along roots of its own");
            assert_eq!(options.root_certs().len(), trusted);
            assert!(!options.skip_domain_validation() && !options.accept_invalid_certs());
            assert!(postgres_tls(ca.as_deref()).is_ok());
        }
    }
}
