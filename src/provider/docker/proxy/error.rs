//! Why convexinfra's own proxy cannot serve a route.

use super::holder::PortHolder;

/// Why convexinfra's own proxy cannot serve a route.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProxyError {
    /// A container has a port of the web.
    #[error("port {port} of the engine's machine, which convexinfra's own proxy needs, is published by {holder}")]
    PortPublished {
        /// The port.
        port: u16,
        /// The container.
        holder: PortHolder,
    },
    /// A process that is in no container has one.
    #[error(
        "port {port} of the engine's machine, which convexinfra's own proxy needs, is taken by a process outside of containers"
    )]
    PortTaken {
        /// The port.
        port: u16,
    },
    /// A proxy of other software has the ports, and cannot be told about routes.
    #[error("{holder} has the ports of the web on the engine's machine, and cannot lead there: {reason}")]
    Unsuitable {
        /// The container.
        holder: PortHolder,
        /// Why not.
        reason: String,
    },
    /// Another backend of the same engine has the host.
    #[error("`{host}` is routed to `{instance}` on this engine, and a host leads to one backend only")]
    HostTaken {
        /// The host.
        host: String,
        /// What the backend that has it calls itself.
        instance: String,
    },
    /// Something else has the name of the proxy's container or network.
    #[error("the {kind} `{name}` was not made by convexinfra, and its proxy needs the name")]
    NameTaken {
        /// `container` or `network`.
        kind: &'static str,
        /// The name.
        name: &'static str,
    },
    /// A later release has made the proxy.
    #[error("the proxy on this engine has the format {found}, which this release of convexinfra does not know")]
    Newer {
        /// The format.
        found: String,
    },
    /// Caddy does not take the configuration.
    #[error("the proxy refuses the route, and what it had before goes on: {reason}")]
    Refused {
        /// What it said.
        reason: String,
    },
}

impl ProxyError {
    /// A stable name of the situation.
    pub fn code(&self) -> &'static str {
        match self {
            Self::PortPublished { .. } | Self::PortTaken { .. } => "proxy.port_taken",
            Self::Unsuitable { .. } => "proxy.unsuitable",
            Self::HostTaken { .. } => "proxy.host_taken",
            Self::NameTaken { .. } => "proxy.name_taken",
            Self::Newer { .. } => "proxy.newer",
            Self::Refused { .. } => "proxy.refused",
        }
    }

    /// Returns what to do about it.
    pub fn help(&self) -> String {
        match self {
            Self::PortPublished { holder, .. } | Self::Unsuitable { holder, .. } => holder.help(),
            Self::PortTaken { port } => format!(
                "see which one with\n    ss -ltnp 'sport = :{port}'\non that machine; stop it, or leave `tls` and `domain` out, write `origins`, \
                 and lead those names to the backend there"
            ),
            Self::HostTaken { .. } => "choose another host, or have what has it give it up first".to_owned(),
            Self::NameTaken { kind, name } => format!("remove it with\n    docker {kind} rm {name}"),
            Self::Newer { .. } => "upgrade convexinfra".to_owned(),
            Self::Refused { .. } => "nothing was changed; what it says is about `origins` or `tls` of this backend".to_owned(),
        }
    }
}
