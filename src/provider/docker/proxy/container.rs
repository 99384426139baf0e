//! The container of the proxy: one for each engine, with a label that says in which format it was made.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use bollard::models::{ContainerInspectResponse, NetworkCreateRequest, VolumeCreateRequest};
use bollard::query_parameters::{RemoveVolumeOptions, RestartContainerOptionsBuilder};

use super::super::desired::{ContainerLimits, ContainerSpec, ExtraMount, PortProtocol, PublishedPort};
use super::super::engine::{Engine, is_absent, is_conflict};
use super::super::image::Image;
use super::super::inventory::{Inventory, id_of, inspect_container, label_of};
use super::super::labels::{ROLE, ResourceRole};
use super::super::network::{networks_named, remove_network};
use super::super::sidecar::ensure_sidecar;
use super::configuration::{self, MAIN_FILE, ROOT, main_file};
use super::error::ProxyError;
use super::holder::{self, PROXY};
use crate::provider::ProviderError;

/// The network on which its ports are published. Its name comes before those of projects, by which engines choose.
pub(super) const NETWORK: &str = "convexinfra";
const CONFIGURATION_VOLUME: &str = "convexinfra-proxy-configuration";
/// Certificates and accounts, which stay when the proxy goes: authorities give out only a few a week.
const CERTIFICATES_VOLUME: &str = "convexinfra-proxy-certificates";
/// The format of container and configuration. Releases that know another one only leave each other's alone.
const FORMAT: &str = "1";
const FORMAT_LABEL: &str = "convexinfra.proxy.format";
/// How long requests have to end when the container is stopped, in seconds.
const GRACE_S: i64 = 10;

/// Finds the proxy.
///
/// # Errors
/// [`ProxyError`] where something else has its name, or a later release made it.
pub(super) async fn find(engine: &Engine) -> Result<Option<ContainerInspectResponse>, ProviderError> {
    let Some(found) = inspect_container(engine, PROXY).await? else { return Ok(None) };
    if label_of(&found, ROLE) != Some(ResourceRole::Proxy.as_str()) {
        return Err(ProxyError::NameTaken { kind: "container", name: PROXY }.into());
    }
    match label_of(&found, FORMAT_LABEL) {
        Some(format) if format.parse::<u32>().is_ok_and(|format| format > 1) => {
            Err(ProxyError::Newer { found: format.to_owned() }.into())
        }
        _ => Ok(Some(found)),
    }
}

/// Returns the networks that a container is on.
pub(super) fn networks_of(container: &ContainerInspectResponse) -> BTreeSet<String> {
    let networks = container.network_settings.as_ref().and_then(|settings| settings.networks.as_ref());
    networks.into_iter().flat_map(HashMap::keys).cloned().collect()
}

/// Returns whether a container runs.
pub(super) fn is_running(container: &ContainerInspectResponse) -> bool {
    container.state.as_ref().and_then(|state| state.running).unwrap_or(false)
}

/// Returns whether a container ends again and again.
pub(super) fn is_restarting(container: &ContainerInspectResponse) -> bool {
    container.state.as_ref().and_then(|state| state.restarting).unwrap_or(false)
}

/// Restarts a container at once.
pub(super) async fn restart(engine: &Engine, id: &str) -> Result<(), ProviderError> {
    let options = RestartContainerOptionsBuilder::default().t(1).build();
    engine.client.restart_container(id, Some(options)).await.map_err(|error| engine.failed("restart the proxy", error))
}

/// Returns the desired container. The networks of projects are attached one by one, so those that it has are as good as any.
pub(super) fn spec(engine: &Engine, image: &Image, attached: &BTreeSet<String>) -> ContainerSpec {
    let mut files = configuration::files();
    files.add(MAIN_FILE, main_file().as_bytes());
    let others = attached.iter().filter(|name| *name != NETWORK).cloned();
    let port = |outside, transport| PublishedPort { inside: outside, transport, address: String::new(), outside };
    let words = ["run", "--adapter", "caddyfile", "--config", "/etc/caddy/conf/Caddyfile"];
    let variables = [("XDG_DATA_HOME", "/data"), ("XDG_CONFIG_HOME", "/config")];
    ContainerSpec {
        role: ResourceRole::Proxy,
        name: PROXY.to_owned(),
        image: image.clone(),
        entry_point: Some(vec!["caddy".to_owned()]),
        command: Some(words.map(str::to_owned).to_vec()),
        environment: variables.map(|(name, value)| (name.to_owned(), value.to_owned())).into(),
        volume: Some((CONFIGURATION_VOLUME.to_owned(), ROOT)),
        scratch: vec!["/config", "/run", "/tmp"],
        is_read_only: true,
        capabilities: vec!["NET_BIND_SERVICE"],
        ports: vec![port(80, PortProtocol::Tcp), port(443, PortProtocol::Tcp), port(443, PortProtocol::Udp)],
        networks: std::iter::once(NETWORK.to_owned()).chain(others).collect(),
        aliases: vec![PROXY.to_owned()],
        hosts: Vec::new(),
        dns: Vec::new(),
        mounts: vec![ExtraMount { source: CERTIFICATES_VOLUME.to_owned(), target: "/data".to_owned(), is_read_only: false }],
        shm_size: None,
        // Whether a route works depends on its backend, which the engine looks after.
        health: vec!["NONE".to_owned()],
        limits: ContainerLimits::processes(engine.capabilities),
        grace_s: GRACE_S,
        labels: BTreeMap::from([(ROLE.to_owned(), ResourceRole::Proxy.as_str().to_owned())]),
        extra_labels: BTreeMap::from([(FORMAT_LABEL.to_owned(), FORMAT.to_owned())]),
        files: Some(files),
    }
}

/// Ensures that the proxy runs.
///
/// # Errors
/// [`ProxyError::PortPublished`] and [`ProxyError::PortTaken`] name who has the ports of the web.
pub(super) async fn ensure(engine: &Engine, image: &Image) -> Result<ContainerInspectResponse, ProviderError> {
    let found = find(engine).await?;
    require_ports(engine, found.as_ref()).await?;
    ensure_network(engine).await?;
    for name in [CONFIGURATION_VOLUME, CERTIFICATES_VOLUME] {
        let request = VolumeCreateRequest {
            name: Some(name.to_owned()),
            driver: Some("local".to_owned()),
            labels: Some(HashMap::from([(ROLE.to_owned(), ResourceRole::Proxy.as_str().to_owned())])),
            ..VolumeCreateRequest::default()
        };
        engine.client.create_volume(request).await.map_err(|error| engine.failed("make a volume", error))?;
    }
    let attached = found.as_ref().map(networks_of).unwrap_or_default();
    let wanted = spec(engine, image, &attached);
    let seen = Inventory::of_containers(found.into_iter().collect());
    let ensured = ensure_sidecar(engine, &seen, &wanted).await.map_err(|error| match error {
        // The backend could have other ports, and the proxy cannot.
        ProviderError::PortTaken { port, .. } => ProxyError::PortTaken { port }.into(),
        ProviderError::PortPublished { port, container } => {
            let holder = holder::PortHolder { container, product: holder::ProxyProduct::Other, network: None };
            ProxyError::PortPublished { port, holder }.into()
        }
        other => other,
    })?;
    let missing = || ProviderError::Engine { verb: "start the proxy".to_owned(), reason: "its container went away".to_owned() };
    inspect_container(engine, &ensured).await?.ok_or_else(missing)
}

/// Refuses to start the proxy where another container publishes one of its ports.
pub(super) async fn require_ports(engine: &Engine, proxy: Option<&ContainerInspectResponse>) -> Result<(), ProviderError> {
    if proxy.is_some_and(is_running) {
        return Ok(());
    }
    match holder::holder(engine).await? {
        Some((port, holder)) => Err(ProxyError::PortPublished { port, holder }.into()),
        None => Ok(()),
    }
}

async fn ensure_network(engine: &Engine) -> Result<(), ProviderError> {
    let found = networks_named(engine, NETWORK).await?;
    let role = |labels: Option<&HashMap<String, String>>| labels.and_then(|labels| labels.get(ROLE).cloned());
    match found.first() {
        Some(network) if role(network.labels.as_ref()).as_deref() == Some(ResourceRole::Proxy.as_str()) => return Ok(()),
        Some(_) => return Err(ProxyError::NameTaken { kind: "network", name: NETWORK }.into()),
        None => {}
    }
    let request = NetworkCreateRequest {
        name: NETWORK.to_owned(),
        driver: Some("bridge".to_owned()),
        labels: Some(HashMap::from([(ROLE.to_owned(), ResourceRole::Proxy.as_str().to_owned())])),
        ..NetworkCreateRequest::default()
    };
    match engine.client.create_network(request).await {
        Ok(_) => Ok(()),
        Err(error) if is_conflict(&error) => Ok(()),
        Err(error) => Err(engine.failed("make the network of the proxy", error)),
    }
}

/// Removes the proxy with its configuration and its network, and keeps its certificates.
pub(super) async fn remove(engine: &Engine, proxy: &ContainerInspectResponse) -> Result<(), ProviderError> {
    engine.stop_container(proxy).await?;
    engine.remove_container(id_of(proxy), true).await?;
    match engine.client.remove_volume(CONFIGURATION_VOLUME, None::<RemoveVolumeOptions>).await {
        Ok(()) => {}
        Err(error) if is_absent(&error) => {}
        Err(error) => return Err(engine.failed(&format!("remove the volume `{CONFIGURATION_VOLUME}`"), error)),
    }
    for id in networks_named(engine, NETWORK).await?.into_iter().filter_map(|network| network.id) {
        remove_network(engine, &id, NETWORK).await?;
    }
    Ok(())
}
