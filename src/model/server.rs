//! `[servers.NAME]`: a machine of the user's own with a Docker engine, and how SSH reaches it.

use serde::{Deserialize, Serialize};

/// `[servers.NAME]`
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Server {
    /// The name in the manifest.
    pub name: String,
    /// `user@host`, a host, or an alias of the SSH configuration.
    pub host: String,
    /// The port of its SSH server, where that is not what the SSH configuration says.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub port: Option<u16>,
    /// The file of the private key, absolute once lowered. Its contents are never read.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub identity: Option<String>,
    /// The only host key that is accepted; known hosts decide where there is none.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub host_key: Option<String>,
    /// The socket of its Docker engine.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub socket: Option<String>,
}

impl Server {
    /// Where Docker engines listen by default.
    pub const SOCKET: &'static str = "/var/run/docker.sock";

    /// Returns the path of the engine's socket on the server.
    pub fn socket(&self) -> &str {
        self.socket.as_deref().unwrap_or(Self::SOCKET)
    }

    /// Returns how people and records name the engine's place.
    pub fn address(&self) -> String {
        match self.port {
            Some(port) => format!("ssh://{}:{port}", self.host),
            None => format!("ssh://{}", self.host),
        }
    }
}
