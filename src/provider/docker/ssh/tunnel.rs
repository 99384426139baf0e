//! Ways to containers of a server: a port of this machine, each connection to which is forwarded to the address that the
//! container has then. Nothing has to be published for it.

use std::collections::BTreeMap;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream, UnixStream};
use tokio::task::{JoinHandle, JoinSet};

use super::SshConnection;

/// A port of a container on a server.
#[derive(Clone)]
pub(in crate::provider::docker) struct ContainerPort {
    pub(in crate::provider::docker) connection: Arc<SshConnection>,
    pub(in crate::provider::docker) client: bollard::Docker,
    pub(in crate::provider::docker) container: String,
    pub(in crate::provider::docker) port: u16,
}

impl ContainerPort {
    /// Returns where the port is now, seen from the server.
    async fn address(&self) -> Result<String, String> {
        let seen =
            self.client.inspect_container(&self.container, None).await.map_err(|error| crate::model::error_chain(&error))?;
        let networks = seen.network_settings.and_then(|settings| settings.networks).unwrap_or_default();
        let ip = networks.into_values().filter_map(|endpoint| endpoint.ip_address).find(|ip| !ip.is_empty());
        let ip = ip.ok_or_else(|| format!("`{}` does not run, so it has no address", self.container))?;
        Ok(if ip.contains(':') { format!("[{ip}]:{}", self.port) } else { format!("{ip}:{}", self.port) })
    }

    /// Forwards one connection until either end closes it.
    async fn relay(&self, mut connection: TcpStream) -> Result<(), String> {
        let address = self.address().await?;
        let socket = self.connection.forward(&address).await.map_err(|error| error.to_string())?;
        let mut stream = UnixStream::connect(&socket).await.map_err(|error| error.to_string())?;
        let copied = tokio::io::copy_bidirectional(&mut connection, &mut stream).await;
        match copied {
            Ok((_, 0)) => Err(self
                .connection
                .forwarding_failure()
                .map_or_else(|| format!("nothing answers at {address} of the server"), |error| error.to_string())),
            Ok(_) => Ok(()),
            Err(error) if matches!(error.kind(), io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe) => Ok(()),
            Err(error) => Err(error.to_string()),
        }
    }

    /// Accepts connections for ever, and tells why one of them could not be forwarded.
    pub(in crate::provider::docker) async fn serve(
        self,
        listener: &TcpListener,
        tell: impl Fn(String) + Send + Sync + 'static,
    ) {
        let tell = Arc::new(tell);
        let mut connections = JoinSet::new();
        loop {
            tokio::select! {
                accepted = listener.accept() => match accepted {
                    Ok((connection, _)) => {
                        let (target, tell) = (self.clone(), Arc::clone(&tell));
                        connections.spawn(async move {
                            if let Err(reason) = target.relay(connection).await {
                                tell(reason);
                            }
                        });
                    }
                    // Too many open files, say: the next one may do better.
                    Err(error) => {
                        tell(error.to_string());
                        tokio::time::sleep(Duration::from_millis(100)).await;
                    }
                },
                Some(_) = connections.join_next(), if !connections.is_empty() => {}
            }
        }
    }
}

/// The ports of this machine that lead to containers of one server.
#[derive(Debug, Default)]
pub(in crate::provider::docker) struct Tunnels(Mutex<BTreeMap<(String, u16), Tunnel>>);

#[derive(Debug)]
struct Tunnel {
    address: SocketAddr,
    task: JoinHandle<()>,
}

impl Drop for Tunnel {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Tunnels {
    /// Returns the URL that leads to a container's port, opening a way where there is none.
    pub(in crate::provider::docker) async fn url(&self, target: ContainerPort) -> io::Result<String> {
        let key = (target.container.clone(), target.port);
        let known =
            |tunnels: &BTreeMap<(String, u16), Tunnel>| tunnels.get(&key).map(|tunnel| format!("http://{}", tunnel.address));
        if let Some(url) = known(&self.0.lock().unwrap_or_else(PoisonError::into_inner)) {
            return Ok(url);
        }
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        let mut tunnels = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(url) = known(&tunnels) {
            return Ok(url);
        }
        let tell = |reason| tracing::debug!(%reason, "a forwarded connection ended");
        let task = tokio::spawn(async move { target.serve(&listener, tell).await });
        tunnels.insert(key, Tunnel { address, task });
        Ok(format!("http://{address}"))
    }
}
