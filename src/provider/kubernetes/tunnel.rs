//! Tunnels to a Pod through the API server.
//!
//! Every connection is a forwarding of its own, so a Pod that is replaced or an API server that restarts ends the connections
//! of the moment, and the next one leads to what is there then.

use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use tokio::net::TcpStream;

use super::cluster::Cluster;
use crate::model::{BackendId, BackendSpec, InstanceName, PortPair};
use crate::provider::async_trait;
use crate::provider::kit::tunnel::{self, Relay};

/// How long the API server may take to open one forwarding.
const OPEN_WITHIN: Duration = Duration::from_secs(15);

/// What is forwarded to this machine.
#[derive(Debug, Clone, Copy)]
pub struct ForwardTarget<'a> {
    /// The identity of the backend.
    pub id: &'a BackendId,
    /// What its process calls itself.
    pub instance_name: &'a InstanceName,
    /// What it is.
    pub spec: &'a BackendSpec,
    /// The ports of this machine.
    pub local: PortPair,
}

/// A Pod's port in a cluster.
#[derive(Clone)]
pub(super) struct PodPort {
    pub(super) cluster: Cluster,
    pub(super) namespace: String,
    pub(super) pod: String,
    pub(super) port: u16,
}

#[async_trait]
impl Relay for PodPort {
    fn destination(&self) -> String {
        format!("{}/{}:{}", self.namespace, self.pod, self.port)
    }

    async fn relay(&self, mut connection: TcpStream) -> Result<(), String> {
        let client = self.cluster.client().await.map_err(|error| error.to_string())?;
        let pods: Api<Pod> = Api::namespaced(client, &self.namespace);
        let ports = [self.port];
        let opening = tokio::time::timeout(OPEN_WITHIN, pods.portforward(&self.pod, &ports));
        let mut forwarder = match opening.await {
            Ok(Ok(forwarder)) => forwarder,
            Ok(Err(error)) => return Err(crate::model::error_chain(&error)),
            Err(_) => return Err(format!("the API server did not open it within {} s", OPEN_WITHIN.as_secs())),
        };
        let Some(mut stream) = forwarder.take_stream(self.port) else { return Err("no stream was opened".to_owned()) };
        let refused = forwarder.take_error(self.port);
        let copied = tunnel::copy(&mut connection, &mut stream).await;
        drop(stream);
        forwarder.abort();
        let refused = match refused {
            Some(refused) => tokio::time::timeout(Duration::from_millis(10), refused).await.ok().flatten(),
            None => None,
        };
        match (copied, refused) {
            (_, Some(reason)) => Err(reason),
            (Ok(_), None) => Ok(()),
            (Err(error), None) => Err(error.to_string()),
        }
    }
}
