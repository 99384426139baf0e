//! What all containers of one backend have in common, decided once from its specification and the engine.

use std::net::{IpAddr, Ipv4Addr};

use super::allow_list::AllowList;
use super::desired::{PortProtocol, PublishedPort};
use super::engine::Engine;
use super::external_proxy::ExternalProxy;
use super::inventory::{ADOPTED_VOLUME, Inventory};
use super::labels::{ControlPlaneId, ResourceNames, ResourceRole, network_name};
use super::limits::EngineCapabilities;
use crate::model::{PortPair, ResolvedBackend};
use crate::provider::ProviderError;

/// Networks on which containers have no names for each other.
const NAMELESS_NETWORKS: [&str; 4] = ["host", "none", "bridge", "default"];

/// How this machine reaches a backend.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Access {
    /// At its published ports, on this host.
    Published(String),
    /// At this URL, which leads to its container on a server.
    Tunnel(String),
}

/// The parts of a backend's containers that do not depend on images.
#[derive(Debug, Clone)]
pub(super) struct BackendContext {
    pub(super) names: ResourceNames,
    pub(super) control_plane: ControlPlaneId,
    pub(super) capabilities: EngineCapabilities,
    /// The network of all its containers.
    pub(super) network: String,
    /// Whether that network is the project's own.
    pub(super) owns_network: bool,
    /// Further networks of the backend's container.
    pub(super) further_networks: Vec<String>,
    /// The volume of its data: its own, or the one that was taken over.
    pub(super) data_volume: String,
    /// The address that ports are published on; none where nothing is published.
    pub(super) publish: Option<IpAddr>,
    /// The ports that the backend listens on inside its container.
    pub(super) ports_inside: PortPair,
    /// How this machine reaches it.
    pub(super) access: Access,
    /// How long a container has to end by itself, in seconds.
    pub(super) grace_s: i64,
    /// The proxy of other software that leads its routes to it.
    pub(super) external_proxy: Option<ExternalProxy>,
}

impl BackendContext {
    /// Derives the context of a backend.
    ///
    /// # Errors
    /// [`ProviderError::Unsupported`] for what cannot work on this engine, or is not allowed on it.
    pub(super) fn new(
        resolved: &ResolvedBackend,
        engine: &Engine,
        inventory: &Inventory,
        control_plane: &ControlPlaneId,
        allowed: &AllowList,
        grace_s: i64,
        tunnel: Option<String>,
    ) -> Result<Self, ProviderError> {
        let settings = &resolved.spec.settings.docker;
        allowed.check(&resolved.spec)?;
        let refused = |reason: String| Err(ProviderError::Unsupported(reason));
        let published = match settings.publish.as_deref().map(|text| (text, text.trim_matches(['[', ']']).parse())) {
            None => None,
            Some((_, Ok(address))) => Some(address),
            Some((text, Err(_))) => return refused(format!("`docker.publish` is `{text}`, and it should be an IP address")),
        };
        let mut named = settings.network.iter().chain(&settings.networks);
        if let Some(network) = named.find(|name| NAMELESS_NETWORKS.contains(&name.as_str())) {
            return refused(format!(
                "`docker.network` is `{network}`, where containers have no names for each other: leave it out, or name a \
                 network of your own"
            ));
        }
        let publish = published.unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST));
        let access = match (tunnel, &engine.remote_host) {
            (Some(url), _) => Access::Tunnel(url),
            (None, None) => Access::Published(match publish {
                address if address.is_unspecified() => Ipv4Addr::LOCALHOST.to_string(),
                IpAddr::V6(address) => format!("[{address}]"),
                IpAddr::V4(address) => address.to_string(),
            }),
            (None, Some(host)) if publish.is_loopback() || resolved.spec.origins.api.is_none() => {
                return refused(format!(
                    "the Docker engine runs on `{host}`, and `{}` would be reached there on a loopback address only: reach it over SSH \
                     with `[servers.NAME]`, which needs no published port, or write `publish = \"…\"` with one of its addresses into \
                     `[backends.{}.docker]`, and the URLs that clients use into `origins.api` and `origins.site`",
                    resolved.name, resolved.name
                ));
            }
            (None, Some(host)) => Access::Published(host.clone()),
        };
        let inside = |port: Option<u16>, outside: u16| port.unwrap_or(outside);
        let names = ResourceNames::of(resolved);
        // A volume is known by its labels, not by its name.
        let data_volume = match (inventory.volume(ResourceRole::Data, resolved), resolved.provider_state.get(ADOPTED_VOLUME)) {
            (Some(volume), _) => volume.name.clone(),
            (None, Some(adopted)) => adopted.clone(),
            (None, None) => names.volume(ResourceRole::Data),
        };
        Ok(Self {
            names,
            data_volume,
            control_plane: control_plane.clone(),
            capabilities: engine.capabilities,
            network: settings.network.clone().unwrap_or_else(|| network_name(resolved, control_plane)),
            owns_network: settings.network.is_none(),
            further_networks: settings.networks.clone(),
            publish: published.or((!matches!(access, Access::Tunnel(_))).then_some(publish)),
            ports_inside: PortPair {
                api: inside(settings.api_port, resolved.ports.api),
                site: inside(settings.site_port, resolved.ports.site),
            },
            access,
            grace_s,
            external_proxy: ExternalProxy::recorded(resolved),
        })
    }

    /// Returns a published port; none where nothing is published.
    pub(super) fn port(&self, inside: u16, outside: u16) -> Option<PublishedPort> {
        let address = self.publish?.to_string();
        Some(PublishedPort { inside, transport: PortProtocol::Tcp, address, outside })
    }

    /// Returns the URL under which this machine reaches a published port of the backend's machine; the API, where that is on a
    /// server.
    pub(super) fn internal_url(&self, port: u16) -> String {
        match &self.access {
            Access::Published(host) => format!("http://{host}:{port}"),
            Access::Tunnel(url) => url.clone(),
        }
    }

    /// Whether the backend is on a server, and reached through a tunnel.
    pub(super) fn is_on_server(&self) -> bool {
        matches!(self.access, Access::Tunnel(_))
    }

    /// Returns the networks of the backend's container, its own first.
    pub(super) fn networks(&self) -> Vec<String> {
        std::iter::once(&self.network).chain(&self.further_networks).cloned().collect()
    }
}
