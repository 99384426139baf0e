//! What all containers of one backend have in common, decided once from its specification and the engine.

use std::net::{IpAddr, Ipv4Addr};

use super::allow_list::AllowList;
use super::desired::{PortProtocol, PublishedPort};
use super::engine::Engine;
use super::inventory::{ADOPTED_VOLUME, Inventory};
use super::labels::{ControlPlaneId, ResourceNames, ResourceRole, network_name};
use super::limits::EngineCapabilities;
use crate::model::{PortPair, ResolvedBackend};
use crate::provider::ProviderError;

/// Networks on which containers have no names for each other.
const NAMELESS_NETWORKS: [&str; 4] = ["host", "none", "bridge", "default"];

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
    /// The address that ports are published on.
    pub(super) publish: IpAddr,
    /// The ports that the backend listens on inside its container.
    pub(super) ports_inside: PortPair,
    /// The host under which this machine reaches published ports.
    pub(super) internal_host: String,
    /// How long a container has to end by itself, in seconds.
    pub(super) grace_s: i64,
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
    ) -> Result<Self, ProviderError> {
        let settings = &resolved.spec.settings.docker;
        allowed.check(&resolved.spec)?;
        let refused = |reason: String| Err(ProviderError::Unsupported(reason));
        let publish = match settings.publish.as_deref().map(|text| (text, text.trim_matches(['[', ']']).parse())) {
            None => IpAddr::V4(Ipv4Addr::LOCALHOST),
            Some((_, Ok(address))) => address,
            Some((text, Err(_))) => return refused(format!("`docker.publish` is `{text}`, and it should be an IP address")),
        };
        let mut named = settings.network.iter().chain(&settings.networks);
        if let Some(network) = named.find(|name| NAMELESS_NETWORKS.contains(&name.as_str())) {
            return refused(format!(
                "`docker.network` is `{network}`, where containers have no names for each other: leave it out, or name a \
                 network of your own"
            ));
        }
        let internal_host = match &engine.remote_host {
            None => match publish {
                address if address.is_unspecified() => Ipv4Addr::LOCALHOST.to_string(),
                IpAddr::V6(address) => format!("[{address}]"),
                IpAddr::V4(address) => address.to_string(),
            },
            Some(host) if publish.is_loopback() || resolved.spec.origins.api.is_none() => {
                return refused(format!(
                    "the Docker engine runs on `{host}`, and `{}` would be reached there on a loopback address only: write \
                     `publish = \"0.0.0.0\"` (or one of its addresses) into `[backends.{}.docker]`, and the URLs that clients \
                     use into `origins.api` and `origins.site`",
                    resolved.name, resolved.name
                ));
            }
            Some(host) => host.clone(),
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
            publish,
            ports_inside: PortPair {
                api: inside(settings.api_port, resolved.ports.api),
                site: inside(settings.site_port, resolved.ports.site),
            },
            internal_host,
            grace_s,
        })
    }

    /// Returns a published port.
    pub(super) fn port(&self, inside: u16, outside: u16) -> PublishedPort {
        PublishedPort { inside, transport: PortProtocol::Tcp, address: self.publish.to_string(), outside }
    }

    /// Returns the URL under which this machine reaches a published port.
    pub(super) fn internal_url(&self, port: u16) -> String {
        format!("http://{}:{port}", self.internal_host)
    }

    /// Returns the networks of the backend's container, its own first.
    pub(super) fn networks(&self) -> Vec<String> {
        std::iter::once(&self.network).chain(&self.further_networks).cloned().collect()
    }
}
