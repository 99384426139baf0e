//! A proxy of other software that has the ports of the web and takes its routes from labels or variables of containers.
//!
//! Found by reading the engine, and recorded with the backend: its container is then made for that proxy, on that proxy's network.
//! Must not do: change anything about the proxy, which stays its owner's.

use std::collections::{BTreeSet, HashMap};

use bollard::models::{ContainerInspectResponse, ContainerSummary};

use super::super::diff::field_drift;
use super::super::engine::Engine;
use super::super::external_proxy::{DEFAULT_FILES, ExternalProxy, RouteInterface, StaticConfiguration};
use super::super::inventory::{environment_of, inspect_container, read_archive};
use super::super::labels::ID;
use super::super::volume_users::name_in;
use super::error::ProxyError;
use super::holder::{PortHolder, ProxyProduct, list_containers, published_inside};
use super::{container, is_routed};
use crate::model::{FieldDrift, ResolvedBackend, Route, RouteTls, routes};
use crate::provider::ProviderError;

/// A configuration of Traefik is some kilobytes.
const MAX_CONFIGURATION: usize = 256 << 10;
/// Networks on which containers have no names for each other, and the one of convexinfra's own proxy.
const UNSUITABLE_NETWORKS: [&str; 4] = ["bridge", "host", "none", container::NETWORK];

/// Finds the proxy of other software that has the ports of the web; none where convexinfra's own has them, or can.
///
/// # Errors
/// [`ProxyError::Unsuitable`] where one has the ports and cannot be told about routes, and [`ProxyError::HostTaken`] where it leads a
/// host elsewhere.
pub(in crate::provider::docker) async fn discover(
    engine: &Engine,
    resolved: &ResolvedBackend,
) -> Result<Option<ExternalProxy>, ProviderError> {
    let Some(tls) = resolved.spec.settings.docker.tls.as_ref().filter(|_| is_routed(resolved)) else { return Ok(None) };
    if container::find(engine).await?.as_ref().is_some_and(container::is_running) {
        return Ok(None);
    }
    let containers = list_containers(engine).await?;
    let Some((summary, holder)) = web_proxy(&containers) else { return Ok(None) };
    let Some(seen) = inspect_container(engine, &holder.container).await? else { return Ok(None) };
    let unsuitable = |reason: String| ProviderError::from(ProxyError::Unsuitable { holder: holder.clone(), reason });
    let (interface, preferred) = match holder.product.interface(summary.image.as_deref().unwrap_or_default()) {
        Some(Interface::Traefik) => {
            let configuration = read_configuration(engine, &seen).await?;
            let (http, https) = (published_inside(summary, 80), published_inside(summary, 443));
            let routing = configuration.routing(http, https).map_err(unsuitable)?;
            if routing.resolver.is_none() && *tls == RouteTls::Auto {
                return Err(unsuitable("it gets no certificates, as it has no resolver of them; `tls = \"internal\"` has it serve the one that it has"
                        .to_owned()));
            }
            (RouteInterface::Traefik(routing), configuration.network().map(str::to_owned))
        }
        Some(Interface::CaddyLabels) => {
            let variable = |name: &str| environment_of(&seen).find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='));
            let prefix = variable("CADDY_DOCKER_LABEL_PREFIX").unwrap_or("caddy").to_owned();
            let ingress = variable("CADDY_INGRESS_NETWORKS").and_then(|names| names.split(',').next()).map(str::to_owned);
            (RouteInterface::CaddyLabels { prefix }, ingress)
        }
        Some(Interface::NginxVariables) => (RouteInterface::NginxVariables, None),
        None => return Ok(None),
    };
    if !matches!(tls, RouteTls::Auto | RouteTls::Internal) {
        return Err(unsuitable("it serves its own certificates, and `tls` names others".to_owned()));
    }
    let network = suitable_network(&container::networks_of(&seen), resolved, preferred.as_deref())
        .ok_or_else(|| unsuitable("it is on no network of its own that a backend could join".to_owned()))?;
    let product = holder.product.words().unwrap_or("a proxy").to_owned();
    let proxy = ExternalProxy { container: holder.container.clone(), product, network, interface };
    let wanted = routes(&resolved.spec).unwrap_or_default();
    match route_holder(&containers, &proxy, &wanted, resolved.id.as_str()) {
        Some((host, instance)) => Err(ProxyError::HostTaken { host, instance }.into()),
        None => Ok(Some(proxy)),
    }
}

/// What a kind of proxy is told by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Interface {
    Traefik,
    CaddyLabels,
    NginxVariables,
}

impl ProxyProduct {
    /// Returns whether containers can tell a proxy about their routes.
    pub(in crate::provider::docker) fn takes_routes(self) -> bool {
        self.interface("").is_some()
    }

    /// Returns how a proxy learns of routes; none where containers cannot tell it. `image` is what a panel runs as its proxy.
    fn interface(self, image: &str) -> Option<Interface> {
        match self {
            Self::Coolify | Self::Dokploy if image.contains("caddy") => Some(Interface::CaddyLabels),
            Self::Coolify | Self::Dokploy | Self::Traefik => Some(Interface::Traefik),
            Self::CaddyDockerProxy => Some(Interface::CaddyLabels),
            Self::NginxProxy => Some(Interface::NginxVariables),
            Self::Kamal | Self::CapRover | Self::Other => None,
        }
    }
}

/// Returns the container that has port 443, or 80 where none has that.
fn web_proxy(containers: &[ContainerSummary]) -> Option<(&ContainerSummary, PortHolder)> {
    let holders = super::holder::holders(containers).filter(|(_, holder)| holder.container != super::NAME);
    let (_, holder) = holders.max_by_key(|(port, _)| *port)?;
    let summary = containers.iter().find(|summary| name_in(summary) == holder.container)?;
    Some((summary, holder))
}

async fn read_configuration(engine: &Engine, seen: &ContainerInspectResponse) -> Result<StaticConfiguration, ProviderError> {
    let flags = StaticConfiguration::of_flags(seen.args.iter().flatten().map(String::as_str));
    let variables = StaticConfiguration::of_variables(environment_of(seen));
    let named = flags.named_file().or(variables.named_file());
    for path in named.map_or(DEFAULT_FILES.to_vec(), |path| vec![path]) {
        let id = seen.id.as_deref().unwrap_or_default();
        let Some(archive) = read_archive(engine, id, path, MAX_CONFIGURATION).await? else { continue };
        let text = first_file(&archive.bytes);
        if let Some(found) = text.and_then(|text| StaticConfiguration::of_file(path, &text)) {
            return Ok(found);
        }
    }
    Ok(if flags.is_empty() { variables } else { flags })
}

/// Returns the text of the only file of an archive.
fn first_file(bytes: &[u8]) -> Option<String> {
    use std::io::Read as _;
    let mut archive = tar::Archive::new(bytes);
    let mut entry = archive.entries().ok()?.next()?.ok()?;
    let mut text = String::new();
    entry.read_to_string(&mut text).ok()?;
    Some(text)
}

/// Returns the network to join: one that the manifest names, the one that the proxy prefers, or the first of its own.
fn suitable_network(attached: &BTreeSet<String>, resolved: &ResolvedBackend, preferred: Option<&str>) -> Option<String> {
    let docker = &resolved.spec.settings.docker;
    let named = docker.network.iter().chain(&docker.networks).map(String::as_str);
    let candidates = named.chain(preferred).chain(attached.iter().map(String::as_str));
    let mut suitable = candidates.filter(|name| attached.contains(*name) && !UNSUITABLE_NETWORKS.contains(name));
    suitable.next().map(str::to_owned)
}

/// Returns a host that the labels of another container claim, and the name of that.
fn route_holder(
    containers: &[ContainerSummary],
    proxy: &ExternalProxy,
    wanted: &[Route],
    id: &str,
) -> Option<(String, String)> {
    let is_claimed = |labels: &HashMap<String, String>, host: &str| {
        labels.iter().any(|(key, value)| match &proxy.interface {
            RouteInterface::Traefik(_) => {
                key.starts_with("traefik.http.routers.") && key.ends_with(".rule") && value.contains(&format!("Host(`{host}`)"))
            }
            RouteInterface::CaddyLabels { prefix } => {
                let number = key.strip_prefix(prefix.as_str()).map(|rest| rest.trim_start_matches('_'));
                let is_site = number.is_some_and(|number| number.bytes().all(|byte| byte.is_ascii_digit()));
                is_site && value.split([' ', ',']).any(|name| name.trim_start_matches("https://") == host)
            }
            // Variables do not show in a list.
            RouteInterface::NginxVariables => false,
        })
    };
    containers.iter().find_map(|summary| {
        let labels = summary.labels.as_ref().filter(|labels| labels.get(ID).map(String::as_str) != Some(id))?;
        let route = wanted.iter().find(|route| is_claimed(labels, &route.host))?;
        Some((route.host.clone(), name_in(summary)))
    })
}

/// Returns the drift of the proxy that a backend was made for: that it is gone, stopped, or no longer on the network.
pub(super) async fn observe(engine: &Engine, proxy: &ExternalProxy) -> Result<Vec<FieldDrift>, ProviderError> {
    let Some(seen) = inspect_container(engine, &proxy.container).await? else {
        return Ok(vec![field_drift("proxy.container", proxy.container.as_str(), "absent")]);
    };
    if !container::is_running(&seen) {
        return Ok(vec![field_drift("proxy.container", proxy.container.as_str(), "stopped")]);
    }
    let is_there = container::networks_of(&seen).contains(&proxy.network);
    let missing = || field_drift("proxy.network", proxy.network.as_str(), format!("`{}` is not on it", proxy.container));
    Ok((!is_there).then(missing).into_iter().collect())
}
