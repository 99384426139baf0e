//! Ways to a Pod through the API server: a port of this machine, each connection to which is forwarded to a port of the Pod.
//!
//! Every connection is a forwarding of its own, so a Pod that is replaced or an API server that restarts ends the connections
//! of the moment, and the next one leads to what is there then.

use std::collections::BTreeMap;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

use super::cluster::Cluster;
use crate::model::BackendId;

/// How long the API server may take to open one forwarding.
const OPEN_WITHIN: Duration = Duration::from_secs(15);

/// A Pod's port in a cluster.
#[derive(Clone)]
pub(super) struct PodPort {
    pub(super) cluster: Cluster,
    pub(super) namespace: String,
    pub(super) pod: String,
    pub(super) port: u16,
}

impl PodPort {
    /// Forwards one connection until either end closes it.
    async fn forward(&self, mut connection: TcpStream) -> Result<(), String> {
        let pods: Api<Pod> = Api::namespaced(self.cluster.client.clone(), &self.namespace);
        let ports = [self.port];
        let opening = tokio::time::timeout(OPEN_WITHIN, pods.portforward(&self.pod, &ports));
        let mut forwarder = match opening.await {
            Ok(Ok(forwarder)) => forwarder,
            Ok(Err(error)) => return Err(crate::model::error_chain(&error)),
            Err(_) => return Err(format!("the API server did not open it within {} s", OPEN_WITHIN.as_secs())),
        };
        let Some(mut stream) = forwarder.take_stream(self.port) else { return Err("no stream was opened".to_owned()) };
        let refused = forwarder.take_error(self.port);
        let copied = tokio::io::copy_bidirectional(&mut connection, &mut stream).await;
        drop(stream);
        forwarder.abort();
        let refused = match refused {
            Some(refused) => tokio::time::timeout(Duration::from_millis(10), refused).await.ok().flatten(),
            None => None,
        };
        match (copied, refused) {
            (_, Some(reason)) => Err(reason),
            (Ok(_), None) => Ok(()),
            // The client has gone.
            (Err(error), None) if matches!(error.kind(), io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe) => Ok(()),
            (Err(error), None) => Err(error.to_string()),
        }
    }

    /// Accepts connections for ever, and tells why one of them could not be forwarded.
    pub(super) async fn serve(self, listener: TcpListener, tell: impl Fn(String) + Send + Sync + 'static) {
        let tell = std::sync::Arc::new(tell);
        let mut connections = tokio::task::JoinSet::new();
        loop {
            tokio::select! {
                accepted = listener.accept() => match accepted {
                    Ok((connection, _)) => {
                        let (target, tell) = (self.clone(), std::sync::Arc::clone(&tell));
                        connections.spawn(async move {
                            if let Err(reason) = target.forward(connection).await {
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

/// The tunnels that this process has open, one for each backend.
#[derive(Default)]
pub(super) struct Tunnels(Mutex<BTreeMap<BackendId, Tunnel>>);

struct Tunnel {
    address: SocketAddr,
    target: (String, String, u16),
    task: JoinHandle<()>,
}

impl Drop for Tunnel {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Tunnels {
    /// Returns the URL of a tunnel to a Pod's port, opening it where there is none.
    pub(super) async fn url(&self, id: &BackendId, port: PodPort) -> io::Result<String> {
        let target = (port.namespace.clone(), port.pod.clone(), port.port);
        let known = |tunnels: &BTreeMap<BackendId, Tunnel>| {
            let tunnel = tunnels.get(id).filter(|tunnel| tunnel.target == target && !tunnel.task.is_finished());
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
        let task = tokio::spawn(port.serve(listener, |reason| tracing::debug!(%reason, "a forwarded connection ended")));
        tunnels.insert(id.clone(), Tunnel { address, target, task });
        Ok(format!("http://{address}"))
    }

    /// Closes the tunnel of a backend.
    pub(super) fn close(&self, id: &BackendId) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(id);
    }
}
