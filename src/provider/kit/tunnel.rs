//! Ports of this machine, each connection to which is relayed to what is behind it then.

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinHandle, JoinSet};

use crate::provider::async_trait;

/// How long to wait after a connection could not be accepted: too many open files, say, of which the next one finds less.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// The far end of a tunnel.
#[async_trait]
pub trait Relay: Clone + Send + Sync + 'static {
    /// Names the far end. A tunnel to another one is no tunnel to this one.
    fn destination(&self) -> String;

    /// Relays one connection until either end closes it, or returns why that is not possible.
    async fn relay(&self, connection: TcpStream) -> Result<(), String>;
}

/// Relays connections for ever, and tells why one of them could not be.
pub async fn serve(listener: &TcpListener, target: impl Relay, tell: impl Fn(String) + Send + Sync + 'static) {
    let tell = Arc::new(tell);
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((connection, _)) => {
                    let (target, tell) = (target.clone(), Arc::clone(&tell));
                    connections.spawn(async move {
                        if let Err(reason) = target.relay(connection).await {
                            tell(reason);
                        }
                    });
                }
                Err(error) => {
                    tell(error.to_string());
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            },
            Some(_) = connections.join_next(), if !connections.is_empty() => {}
        }
    }
}

/// Copies between both ends of a relayed connection: how many bytes came back. A client that has gone is no error.
///
/// # Errors
/// [`io::Error`] of the far end.
pub async fn copy(
    connection: &mut TcpStream,
    stream: &mut (impl tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin),
) -> io::Result<Option<u64>> {
    match tokio::io::copy_bidirectional(connection, stream).await {
        Ok((_, received)) => Ok(Some(received)),
        Err(error) if matches!(error.kind(), io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe) => Ok(None),
        Err(error) => Err(error),
    }
}

/// The tunnels that this process has open.
pub struct Tunnels<K>(Mutex<BTreeMap<K, Tunnel>>);

impl<K> Default for Tunnels<K> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<K> fmt::Debug for Tunnels<K> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Tunnels").finish_non_exhaustive()
    }
}

struct Tunnel {
    address: SocketAddr,
    destination: String,
    task: JoinHandle<()>,
}

impl Drop for Tunnel {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl<K: Ord> Tunnels<K> {
    /// Returns the URL of a tunnel, opening it where there is none to this destination.
    ///
    /// # Errors
    /// [`io::Error`] when no port of this machine can be opened.
    pub async fn url(&self, key: K, target: impl Relay) -> io::Result<String> {
        let destination = target.destination();
        let known = |tunnels: &BTreeMap<K, Tunnel>| {
            let tunnel = tunnels.get(&key).filter(|tunnel| tunnel.destination == destination && !tunnel.task.is_finished());
            tunnel.map(|tunnel| format!("http://{}", tunnel.address))
        };
        if let Some(url) = known(&self.0.lock().unwrap_or_else(PoisonError::into_inner)) {
            return Ok(url);
        }
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        let mut tunnels = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // Another task may have been faster.
        if let Some(url) = known(&tunnels) {
            return Ok(url);
        }
        let tell = |reason| tracing::debug!(%reason, "a forwarded connection ended");
        let task = tokio::spawn(async move { serve(&listener, target, tell).await });
        tunnels.insert(key, Tunnel { address, destination, task });
        Ok(format!("http://{address}"))
    }

    /// Closes a tunnel.
    pub fn close(&self, key: &K) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(key);
    }
}
