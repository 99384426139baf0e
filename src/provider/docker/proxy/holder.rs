//! Who has the ports of the web on an engine's machine: the proxies that people have, by what shows of them.

use std::collections::{BTreeSet, HashMap};
use std::fmt;

use bollard::models::ContainerSummary;
use bollard::query_parameters::ListContainersOptionsBuilder;

use super::super::engine::Engine;
use super::super::volume_users::name_in;
use crate::provider::ProviderError;

/// The container of convexinfra's own proxy, and its name on every network.
pub(in crate::provider::docker) const PROXY: &str = "convexinfra-proxy";

/// A proxy that is known by name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProxyProduct {
    /// Coolify's, which is Traefik or Caddy.
    Coolify,
    /// Dokploy's Traefik.
    Dokploy,
    /// Traefik.
    Traefik,
    /// Caddy with its configuration from labels.
    CaddyDockerProxy,
    /// nginx with its configuration from variables.
    NginxProxy,
    /// Kamal's.
    Kamal,
    /// CapRover's nginx.
    CapRover,
    /// Any other program.
    Other,
}

/// What shows in the name or the image of a proxy, the most telling first.
const KNOWN: [(&str, ProxyProduct); 9] = [
    ("coolify-proxy", ProxyProduct::Coolify),
    ("dokploy-traefik", ProxyProduct::Dokploy),
    ("captain-nginx", ProxyProduct::CapRover),
    ("kamal-proxy", ProxyProduct::Kamal),
    ("caddy-docker-proxy", ProxyProduct::CaddyDockerProxy),
    ("nginxproxy/nginx-proxy", ProxyProduct::NginxProxy),
    ("nginx-proxy/nginx-proxy", ProxyProduct::NginxProxy),
    ("jwilder/nginx-proxy", ProxyProduct::NginxProxy),
    ("traefik", ProxyProduct::Traefik),
];

impl ProxyProduct {
    /// Recognises a proxy by its container.
    fn of(name: &str, image: &str, labels: &HashMap<String, String>) -> Self {
        if labels.contains_key("coolify.proxy") {
            return Self::Coolify;
        }
        let shown = |(word, _): &&(&str, Self)| image.contains(word) || name.contains(word);
        KNOWN.iter().find(shown).map_or(Self::Other, |(_, product)| *product)
    }

    /// Returns what people call it.
    pub(super) fn words(self) -> Option<&'static str> {
        match self {
            Self::Coolify => Some("Coolify's proxy"),
            Self::Dokploy => Some("Dokploy's Traefik"),
            Self::Traefik => Some("Traefik"),
            Self::CaddyDockerProxy => Some("caddy-docker-proxy"),
            Self::NginxProxy => Some("nginx-proxy"),
            Self::Kamal => Some("kamal-proxy"),
            Self::CapRover => Some("CapRover's nginx"),
            Self::Other => None,
        }
    }
}

/// A container that publishes a port of the web.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PortHolder {
    /// Its name.
    pub container: String,
    /// What it is.
    pub product: ProxyProduct,
    /// The first network that it is on, by which it reaches backends.
    pub network: Option<String>,
}

impl fmt::Display for PortHolder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.product.words() {
            Some(words) => write!(f, "{words}, the container `{}`", self.container),
            None => write!(f, "the container `{}`", self.container),
        }
    }
}

impl PortHolder {
    fn of(summary: &ContainerSummary) -> Self {
        let container = name_in(summary);
        let labels = summary.labels.clone().unwrap_or_default();
        let product = ProxyProduct::of(&container, summary.image.as_deref().unwrap_or_default(), &labels);
        let networks = summary.network_settings.as_ref().and_then(|settings| settings.networks.as_ref());
        let mut names: Vec<String> = networks.into_iter().flat_map(HashMap::keys).cloned().collect();
        names.sort();
        Self { container, product, network: names.into_iter().next() }
    }

    /// Returns how a backend is served by what has the ports.
    pub fn help(&self) -> String {
        let network = self.network.as_deref().unwrap_or("its network");
        let keep = format!(
            "leave `tls` and `domain` out and write `origins`; then put the backend on its network with\n    docker.networks = [\"{network}\"]\n"
        );
        match self.product {
            ProxyProduct::Coolify | ProxyProduct::Dokploy | ProxyProduct::Traefik | ProxyProduct::CaddyDockerProxy => {
                format!("it stays in charge: {keep}and tell it the routes with `docker.labels`")
            }
            ProxyProduct::NginxProxy => format!("it stays in charge: {keep}and tell it the hosts with `docker.extra_env`"),
            ProxyProduct::Kamal | ProxyProduct::CapRover | ProxyProduct::Other => {
                format!(
                    "it may stay in charge: {keep}and lead the names there in its own configuration; or stop it with\n    docker stop {}",
                    self.container
                )
            }
        }
    }
}

/// Returns the ports of the web that containers publish, each with its container.
pub(in crate::provider::docker) fn holders(containers: &[ContainerSummary]) -> impl Iterator<Item = (u16, PortHolder)> {
    containers.iter().flat_map(|summary| {
        let published = summary.ports.iter().flatten().filter_map(|port| port.public_port);
        let ports: BTreeSet<u16> = published.filter(|port| matches!(port, 80 | 443)).collect();
        ports.into_iter().map(|port| (port, PortHolder::of(summary)))
    })
}

/// Returns the port inside a container to which a published one leads.
pub(super) fn published_inside(summary: &ContainerSummary, outside: u16) -> Option<u16> {
    let mut ports = summary.ports.iter().flatten();
    ports.find(|port| port.public_port == Some(outside)).map(|port| port.private_port)
}

/// Lists the containers that run.
pub(super) async fn list_containers(engine: &Engine) -> Result<Vec<ContainerSummary>, ProviderError> {
    let listed = engine.client.list_containers(Some(ListContainersOptionsBuilder::default().build())).await;
    listed.map_err(|error| engine.failed("list the containers", error))
}

/// Returns a port of the web that another container than the proxy publishes.
pub(super) async fn holder(engine: &Engine) -> Result<Option<(u16, PortHolder)>, ProviderError> {
    let listed = list_containers(engine).await?;
    Ok(holders(&listed).find(|(_, holder)| holder.container != PROXY))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn proxies_are_known_by_what_shows_of_them() {
        let none = HashMap::new();
        let labelled = HashMap::from([("coolify.proxy".to_owned(), "true".to_owned())]);
        for (name, image, labels, product) in [
            ("coolify-proxy", "traefik:v3.6", &none, ProxyProduct::Coolify),
            ("proxy", "traefik:v3.6", &labelled, ProxyProduct::Coolify),
            ("dokploy-traefik", "traefik:v3.6.25", &none, ProxyProduct::Dokploy),
            ("edge", "docker.io/library/traefik:3", &none, ProxyProduct::Traefik),
            ("edge", "lucaslorentz/caddy-docker-proxy:2.8", &none, ProxyProduct::CaddyDockerProxy),
            ("edge", "nginxproxy/nginx-proxy", &none, ProxyProduct::NginxProxy),
            ("kamal-proxy", "basecamp/kamal-proxy:v0.9.2", &none, ProxyProduct::Kamal),
            ("captain-nginx.1.x", "nginx:1", &none, ProxyProduct::CapRover),
            ("web", "nginx:1", &none, ProxyProduct::Other),
        ] {
            assert_eq!(ProxyProduct::of(name, image, labels), product, "{name} {image}");
        }
    }
}
