//! The way to apps from outside: one port that takes the place of the whole Internet.
//!
//! It is a proxy for those who can be told to use one (`CONNECT` and whole URLs), and it takes requests and TLS
//! connections as they come, by the host that they name. What it finds for a host is what Fly's own proxy would: an
//! app without a public address, without a machine that runs, or with failing checks is not reached.

use std::collections::HashMap;
use std::io;
use std::sync::{Arc, Mutex};

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::LazyConfigAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer};
use tokio_rustls::rustls::server::Acceptor;

use super::addresses::Address;
use super::life::State;
use super::registry;
use super::world::{App, World};

/// The public port of `https` URLs.
const HTTPS: u16 = 443;
const LONGEST_HEAD: usize = 64 * 1024;

/// An authority that is trusted by nobody who was not told to.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    /// Its own certificate, for those who are to trust it.
    pub pem: String,
    made: Mutex<HashMap<String, Arc<ServerConfig>>>,
}

impl Authority {
    pub fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        params.distinguished_name.push(DnType::CommonName, "Fly.io stand-in");
        let key = KeyPair::generate().unwrap();
        let pem = params.self_signed(&key).unwrap().pem();
        Self { issuer: Issuer::new(params, key), pem, made: Mutex::default() }
    }

    fn config(&self, host: &str) -> Arc<ServerConfig> {
        let mut made = self.made.lock().unwrap();
        let config = made.entry(host.to_owned()).or_insert_with(|| {
            let key = KeyPair::generate().unwrap();
            let params = CertificateParams::new(vec![host.to_owned()]).unwrap();
            let certificate = params.signed_by(&key, &self.issuer).unwrap();
            let chain = vec![CertificateDer::from(certificate.der().to_vec())];
            let key = PrivatePkcs8KeyDer::from(key.serialize_der());
            let config = ServerConfig::builder().with_no_client_auth().with_single_cert(chain, key.into()).unwrap();
            Arc::new(config)
        });
        Arc::clone(config)
    }
}

/// What an edge needs to find its way.
pub struct RouteMap {
    pub world: Arc<Mutex<World>>,
    pub authority: Authority,
    /// The port of the API, for those who ask for `api.machines.dev`.
    pub api: u16,
}

/// Why a host is not reached.
#[derive(Debug, PartialEq, Eq)]
enum Unreached {
    /// The name does not resolve.
    NoName,
    /// Nothing runs behind it that would answer.
    NoMachine,
}

pub async fn serve(listener: TcpListener, map: Arc<RouteMap>) {
    while let Ok((stream, _)) = listener.accept().await {
        let map = Arc::clone(&map);
        tokio::spawn(async move {
            // The client sees a connection that ends.
            let _ = meet(stream, &map).await;
        });
    }
}

/// Only ever leads to one app.
pub async fn serve_one(listener: TcpListener, map: Arc<RouteMap>, host: String) {
    while let Ok((mut stream, _)) = listener.accept().await {
        let (map, host) = (Arc::clone(&map), host.clone());
        tokio::spawn(async move {
            let _ = pass(&mut stream, &map, (&host, HTTPS), &[]).await;
        });
    }
}

async fn meet(mut stream: TcpStream, map: &RouteMap) -> io::Result<()> {
    let mut first = [0];
    // The first byte of every TLS connection, and of no request.
    if stream.peek(&mut first).await? == 1 && first[0] == 0x16 {
        return meet_secretly(stream, map, HTTPS).await;
    }
    let head = read_head(&mut stream).await?;
    let text = String::from_utf8_lossy(&head).into_owned();
    let mut words = text.split_ascii_whitespace();
    let (method, target) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let host_line = text.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("host").then(|| value.trim().to_owned())
    });
    let host = match target.split_once("://") {
        Some((_, rest)) => rest.split('/').next().unwrap_or_default().to_owned(),
        None if method == "CONNECT" => target.to_owned(),
        None => host_line.unwrap_or_default(),
    };
    let (host, port) = host.rsplit_once(':').map_or((host.as_str(), None), |(name, port)| (name, port.parse().ok()));
    // A request without TLS that comes straight to this port names this port, or none.
    let port = if method == "CONNECT" { port.unwrap_or(HTTPS) } else { HTTPS };
    if method != "CONNECT" {
        return pass(&mut stream, map, (host, port), &head).await;
    }
    match find(map, (host, port)) {
        Err(Unreached::NoName) => stream.write_all(b"HTTP/1.1 502 No such host\r\nContent-Length: 0\r\n\r\n").await,
        _ => {
            stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await?;
            meet_secretly(stream, map, port).await
        }
    }
}

/// Takes off the TLS, with a certificate for the name that is asked for, and passes on what is inside.
async fn meet_secretly(stream: TcpStream, map: &RouteMap, port: u16) -> io::Result<()> {
    let hello = LazyConfigAcceptor::new(Acceptor::default(), stream).await?;
    let host = hello.client_hello().server_name().unwrap_or_default().to_owned();
    if find(map, (&host, port)) == Err(Unreached::NoName) {
        return Ok(());
    }
    let mut stream = hello.into_stream(map.authority.config(&host)).await?;
    pass(&mut stream, map, (&host, port), &[]).await
}

async fn pass(
    stream: &mut (impl AsyncRead + AsyncWrite + Unpin),
    map: &RouteMap,
    asked: (&str, u16),
    head: &[u8],
) -> io::Result<()> {
    let Ok(port) = find(map, asked) else {
        // An answer to a request that was not made yet would be no answer.
        if head.is_empty() {
            read_head(stream).await?;
        }
        return stream.write_all(b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\nConnection: close\r\n\r\n").await;
    };
    let mut inside = TcpStream::connect(("127.0.0.1", port)).await?;
    inside.write_all(head).await?;
    copy_bidirectional(stream, &mut inside).await.map(drop)
}

async fn read_head(stream: &mut (impl AsyncRead + Unpin)) -> io::Result<Vec<u8>> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") && head.len() < LONGEST_HEAD {
        let byte = stream.read_u8().await?;
        head.push(byte);
    }
    Ok(head)
}

/// The port on this machine that a host and a public port lead to.
fn find(map: &RouteMap, (host, port): (&str, u16)) -> Result<u16, Unreached> {
    if host == "api.machines.dev" || registry::HOSTS.contains(&host) {
        return Ok(map.api);
    }
    let mut world = map.world.lock().unwrap();
    super::settle(&mut world);
    let is_its_own = |app: &&App| app.certificates.iter().any(|known| known.hostname == host && known.is_configured);
    let app = match host.strip_suffix(".fly.dev") {
        Some(name) => world.apps.get(name),
        None => world.apps.values().find(is_its_own),
    };
    let app = app.filter(|app| app.addresses.iter().any(|address: &Address| address.kind.is_public()));
    let app = app.ok_or(Unreached::NoName)?;
    let is_open = |machine: &&super::machines::Machine| {
        let is_fit = machine.is_passing || machine.config.checks().is_empty();
        machine.state == State::Started && !machine.is_cordoned && is_fit
    };
    let machines = app.machines.iter().filter(is_open);
    let mut ports = machines.filter_map(|machine| machine.process.as_ref()?.port(machine.config.internal_port(port)?));
    ports.next().ok_or(Unreached::NoMachine)
}
