//! The networks of the proxy: it is on the one of every backend that it leads to, and known there by the backend's public names.

use std::collections::{BTreeMap, BTreeSet};

use bollard::models::{ContainerInspectResponse, EndpointSettings, NetworkConnectRequest, NetworkDisconnectRequest};
use bollard::query_parameters::ListNetworksOptions;

use super::super::engine::{Engine, is_absent};
use super::super::inventory::id_of;
use super::configuration::Configuration;
use super::container::{NETWORK, networks_of};
use super::holder::PROXY;
use crate::provider::ProviderError;

/// Returns the files of sites whose network is gone, and with it their backend.
pub(super) async fn stale_sites(engine: &Engine, seen: &Configuration, own: &str) -> Result<Vec<String>, ProviderError> {
    let others: Vec<(&str, String)> =
        seen.headers().filter(|(file, _)| *file != own).map(|(file, header)| (file, header.network)).collect();
    if others.is_empty() {
        return Ok(Vec::new());
    }
    let listed = engine.client.list_networks(None::<ListNetworksOptions>).await;
    let listed = listed.map_err(|error| engine.failed("list the networks", error))?;
    let names: BTreeSet<String> = listed.into_iter().filter_map(|network| network.name).collect();
    Ok(others.into_iter().filter(|(_, network)| !names.contains(network)).map(|(file, _)| file.to_owned()).collect())
}

/// Returns the names of a container in a network that are hosts.
fn hosts_in(container: &ContainerInspectResponse, network: &str) -> Option<BTreeSet<String>> {
    let endpoint = container.network_settings.as_ref()?.networks.as_ref()?.get(network)?;
    let aliases = endpoint.aliases.iter().flatten().chain(endpoint.dns_names.iter().flatten());
    // An engine adds the container's name and a part of its id.
    let id = id_of(container);
    Some(aliases.filter(|alias| *alias != PROXY && !id.starts_with(alias.as_str())).cloned().collect())
}

/// Returns whether the proxy is on a network under these names.
pub(super) fn is_attached(proxy: &ContainerInspectResponse, network: &str, hosts: &BTreeSet<String>) -> bool {
    hosts_in(proxy, network).is_some_and(|seen| hosts.is_subset(&seen))
}

/// Puts the proxy on the networks of all sites, under their hosts, and on no other. Where nothing differs nothing is touched:
/// connections of other projects go on.
pub(super) async fn attach(
    engine: &Engine,
    proxy: &ContainerInspectResponse,
    sites: &Configuration,
) -> Result<(), ProviderError> {
    let mut wanted: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for (_, header) in sites.headers() {
        wanted.entry(header.network).or_default().extend(header.hosts);
    }
    let id = id_of(proxy);
    for network in networks_of(proxy) {
        let is_kept =
            network == NETWORK || wanted.get(&network).is_some_and(|hosts| hosts_in(proxy, &network).as_ref() == Some(hosts));
        if is_kept {
            wanted.remove(&network);
            continue;
        }
        let request = NetworkDisconnectRequest { container: id.to_owned(), force: Some(true) };
        match engine.client.disconnect_network(&network, request).await {
            Ok(()) => {}
            Err(error) if is_absent(&error) => {}
            Err(error) => return Err(engine.failed("take the proxy off a network", error)),
        }
    }
    for (network, hosts) in wanted {
        let aliases = std::iter::once(PROXY.to_owned()).chain(hosts).collect();
        let endpoint = EndpointSettings { aliases: Some(aliases), ..EndpointSettings::default() };
        let request = NetworkConnectRequest { container: id.to_owned(), endpoint_config: Some(endpoint) };
        let connected = engine.client.connect_network(&network, request).await;
        connected.map_err(|error| engine.failed(&format!("put the proxy on the network `{network}`"), error))?;
    }
    Ok(())
}
