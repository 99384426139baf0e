//! Hosts that only the networks of containers know, such as the service `postgres` of a compose file.

use std::collections::HashMap;
use std::net::IpAddr;

use bollard::models::EndpointSettings;
use bollard::query_parameters::ListContainersOptionsBuilder;

use super::engine::Engine;
use super::inventory::{inspect_container, name_of};
use super::network;
use super::volume_users::{compose_in, name_in};
use crate::model::ResolvedBackend;
use crate::provider::ProviderError;

/// A container that has a host name in a network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Neighbour {
    /// The name of the container.
    pub(super) container: String,
    /// Its address in that network, which the machine of its engine reaches; none while it does not run.
    pub(super) address: Option<IpAddr>,
}

/// Whether a host may be a name of a container network. Names with a dot are names of the internet, and those of this machine
/// are rewritten.
pub(super) fn may_be_neighbour(host: &str) -> bool {
    !host.is_empty() && !host.contains('.') && host != "localhost" && host.parse::<IpAddr>().is_err()
}

/// Returns whether a host may be a name in the networks of a backend.
pub(super) fn is_looked_for(resolved: &ResolvedBackend, host: &str) -> bool {
    networks_of(resolved).next().is_some() && may_be_neighbour(host)
}

/// Returns the networks that a backend names.
fn networks_of(resolved: &ResolvedBackend) -> impl Iterator<Item = &String> {
    let docker = &resolved.spec.settings.docker;
    docker.network.iter().chain(&docker.networks)
}

/// Returns the address of a host in the networks of a backend; none where this machine does not reach them. A network that its
/// project may not join is not looked into either.
pub(super) async fn address_of(
    engine: &Engine,
    resolved: &ResolvedBackend,
    host: &str,
) -> Result<Option<IpAddr>, ProviderError> {
    if engine.is_remote() {
        return Ok(None);
    }
    let networks = networks_of(resolved).cloned().collect();
    let networks = network::without_foreign(engine, networks, &resolved.project).await?;
    Ok(find(engine, &networks, host).await?.and_then(|found| found.address))
}

/// Finds the container that has a host name in one of some networks. One that the networks' own names lead to comes first; a
/// service of a compose file is known by its label while its container does not run.
pub(super) async fn find(engine: &Engine, networks: &[String], host: &str) -> Result<Option<Neighbour>, ProviderError> {
    if networks.is_empty() || !may_be_neighbour(host) {
        return Ok(None);
    }
    let filters = HashMap::from([("network".to_owned(), networks.to_vec())]);
    let options = ListContainersOptionsBuilder::default().all(true).filters(&filters).build();
    let listed = engine.client.list_containers(Some(options)).await;
    let listed = listed.map_err(|error| engine.failed("list the containers of a network", error))?;
    let mut found = Vec::new();
    for summary in &listed {
        // A list says nothing of aliases.
        let Some(seen) = inspect_container(engine, summary.id.as_deref().unwrap_or_default()).await? else { continue };
        let endpoints = seen.network_settings.as_ref().and_then(|settings| settings.networks.clone()).unwrap_or_default();
        let in_networks = || endpoints.iter().filter(|(name, _)| networks.contains(name)).map(|(_, endpoint)| endpoint);
        let is_alias = |endpoint: &&EndpointSettings| endpoint.aliases.iter().flatten().any(|alias| alias == host);
        let has_name = name_in(summary) == host || name_of(&seen) == host;
        let resolved = in_networks().filter(|endpoint| has_name || is_alias(endpoint)).find_map(address);
        let is_service = || compose_in(summary).is_some_and(|(service, _)| service == host);
        if resolved.is_some() || has_name || is_service() || in_networks().any(|endpoint| is_alias(&endpoint)) {
            found.push(Neighbour { container: name_in(summary), address: resolved });
        }
    }
    // Of several that have the name, the same one every time.
    found.sort_by(|one, other| (one.address.is_none(), &one.container).cmp(&(other.address.is_none(), &other.container)));
    Ok(found.into_iter().next())
}

fn address(endpoint: &EndpointSettings) -> Option<IpAddr> {
    endpoint.ip_address.as_deref()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_the_internet_and_addresses_are_no_neighbours() {
        assert!(may_be_neighbour("postgres") && may_be_neighbour("db-1"));
        for host in ["db.example.com", "localhost", "127.0.0.1", "::1", ""] {
            assert!(!may_be_neighbour(host), "{host}");
        }
    }
}
