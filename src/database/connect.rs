//! Connections to servers, and the certificates that they trust.
//!
//! Must not do: trust a server that cannot prove its name, or ask it anything.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use mysql_async::{Conn, Opts, OptsBuilder, SslOpts};
use rustls::ClientConfig;
use rustls::RootCertStore;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use tokio_postgres::config::SslMode;
use tokio_postgres::{Client, Config, NoTls};
use tokio_postgres_rustls::MakeRustlsConnect;

use super::DatabaseError;

/// How long a server may take to let somebody in.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// The certificates in a file.
fn read_certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, DatabaseError> {
    let failed = |reason: String| DatabaseError::CaFile { path: path.display().to_string(), reason };
    let found: Vec<CertificateDer<'static>> = CertificateDer::pem_file_iter(path)
        .map_err(|error| failed(error.to_string()))?
        .collect::<Result<_, _>>()
        .map_err(|error| failed(error.to_string()))?;
    if found.is_empty() { Err(failed("there is no certificate in it".to_owned())) } else { Ok(found) }
}

/// What proves a PostgreSQL server's name: the system's authorities and those in a file, as Convex has it.
fn postgres_tls(ca: Option<&Path>) -> Result<MakeRustlsConnect, DatabaseError> {
    let mut roots = RootCertStore::empty();
    // A machine may have no authorities of its own; then only the file counts.
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if let Some(path) = ca {
        for certificate in read_certificates(path)? {
            roots
                .add(certificate)
                .map_err(|error| DatabaseError::CaFile { path: path.display().to_string(), reason: error.to_string() })?;
        }
    }
    let config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| DatabaseError::Parameters(Box::new(error)))?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(MakeRustlsConnect::new(config))
}

/// Why there is no connection to a PostgreSQL server.
#[derive(Debug)]
pub enum ConnectError {
    /// It did not come to that.
    Config(DatabaseError),
    /// The server or the way to it.
    Server(tokio_postgres::Error),
    /// Somebody took the connection and says nothing.
    TimedOut,
}

/// A connection to a PostgreSQL server. It lives as long as the client does.
///
/// # Errors
/// [`ConnectError`] in the driver's own words.
pub async fn postgres(config: &Config, ca: Option<&Path>) -> Result<Client, ConnectError> {
    // The driver's own limit is over as soon as there is a connection, whether anybody speaks on it or not.
    tokio::time::timeout(CONNECT_TIMEOUT, connect_postgres(config, ca)).await.unwrap_or(Err(ConnectError::TimedOut))
}

async fn connect_postgres(config: &Config, ca: Option<&Path>) -> Result<Client, ConnectError> {
    let client = if config.get_ssl_mode() == SslMode::Disable {
        let (client, connection) = config.connect(NoTls).await.map_err(ConnectError::Server)?;
        tokio::spawn(connection);
        client
    } else {
        let tls = postgres_tls(ca).map_err(ConnectError::Config)?;
        let (client, connection) = config.connect(tls).await.map_err(ConnectError::Server)?;
        tokio::spawn(connection);
        client
    };
    Ok(client)
}

/// How a connection to a MySQL server is protected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MysqlTls<'a> {
    /// Not at all.
    Off,
    /// With the certificate checked, also against those in a file.
    Verified(Option<&'a Path>),
}

/// A connection to a MySQL server over TCP.
///
/// # Errors
/// What the driver says, or that the server let nobody in for too long.
pub async fn mysql(opts: Opts, tls: MysqlTls<'_>) -> Result<Conn, mysql_async::Error> {
    // The driver takes the process's own choice, and there may be none yet.
    let _ = aws_lc_rs::default_provider().install_default();
    let ssl = match tls {
        MysqlTls::Off => None,
        MysqlTls::Verified(None) => Some(SslOpts::default()),
        MysqlTls::Verified(Some(path)) => Some(SslOpts::default().with_root_certs(vec![path.to_owned().into()])),
    };
    // Without this the driver would turn to a socket as soon as the server is on this machine.
    let opts = OptsBuilder::from_opts(opts).ssl_opts(ssl).prefer_socket(false);
    match tokio::time::timeout(CONNECT_TIMEOUT, Conn::new(opts)).await {
        Ok(connected) => connected,
        Err(_) => Err(mysql_async::Error::from(std::io::Error::from(std::io::ErrorKind::TimedOut))),
    }
}

/// Checks that a file holds certificates.
///
/// # Errors
/// [`DatabaseError::CaFile`] when it does not.
pub fn check_certificates(path: &Path) -> Result<(), DatabaseError> {
    read_certificates(path).map(drop)
}
