//! Tunnels to containers of a server: each connection is forwarded to the address that the container has then. Nothing has to
//! be published for it.

use std::sync::Arc;

use tokio::net::{TcpStream, UnixStream};

use super::SshConnection;
use crate::provider::async_trait;
use crate::provider::kit::tunnel::{self, Relay};

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
}

#[async_trait]
impl Relay for ContainerPort {
    fn destination(&self) -> String {
        format!("{}:{}", self.container, self.port)
    }

    async fn relay(&self, mut connection: TcpStream) -> Result<(), String> {
        let address = self.address().await?;
        let socket = self.connection.forward(&address).await.map_err(|error| error.to_string())?;
        let mut stream = UnixStream::connect(&socket).await.map_err(|error| error.to_string())?;
        match tunnel::copy(&mut connection, &mut stream).await {
            Ok(Some(0)) => Err(self
                .connection
                .forwarding_failure()
                .map_or_else(|| format!("nothing answers at {address} of the server"), |error| error.to_string())),
            Ok(_) => Ok(()),
            Err(error) => Err(error.to_string()),
        }
    }
}
