//! Networks of containers: the one of a project, and those that the manifest names.
//!
//! Networks are found by name in a list and not asked for by name: an old engine makes two of one name, and then answers no
//! question about it.

use std::collections::HashMap;

use bollard::models::{Network, NetworkCreateRequest};
use bollard::query_parameters::{ListContainersOptionsBuilder, ListNetworksOptionsBuilder};

use super::context::BackendContext;
use super::engine::{Engine, is_absent, is_conflict};
use super::external_proxy::ExternalProxy;
use super::inventory::label_filter;
use super::labels::{CONTROL_PLANE, PROJECT, ROLE};
use crate::failpoint;
use crate::model::{ProjectName, ResolvedBackend};
use crate::provider::ProviderError;

/// The role of a network, which belongs to a project instead of a backend.
const NETWORK_ROLE: &str = "network";

/// Lists all networks of one name.
pub(super) async fn networks_named(engine: &Engine, name: &str) -> Result<Vec<Network>, ProviderError> {
    let filters = HashMap::from([("name".to_owned(), vec![name.to_owned()])]);
    let options = ListNetworksOptionsBuilder::default().filters(&filters).build();
    let listed = engine.client.list_networks(Some(options)).await;
    let mut networks = listed.map_err(|error| engine.failed("list the networks", error))?;
    // The filter takes parts of names.
    networks.retain(|network| network.name.as_deref() == Some(name));
    networks.sort_by(|a, b| (&a.created, &a.id).cmp(&(&b.created, &b.id)));
    Ok(networks)
}

fn label<'a>(network: &'a Network, name: &str) -> Option<&'a str> {
    network.labels.as_ref()?.get(name).map(String::as_str)
}

/// Returns whether a network is the one of this project that this control plane made.
pub(super) fn is_owned(network: &Network, resolved: &ResolvedBackend, context: &BackendContext) -> bool {
    label(network, PROJECT) == Some(resolved.project.as_str())
        && label(network, CONTROL_PLANE) == Some(context.control_plane.as_str())
        && label(network, ROLE) == Some(NETWORK_ROLE)
}

/// Creates the project's network where it is missing, and checks those that the manifest names. Callers hold one lock for
/// all backends, because an old engine makes two of the same name.
pub(super) async fn ensure_networks(
    engine: &Engine,
    resolved: &ResolvedBackend,
    context: &BackendContext,
) -> Result<(), ProviderError> {
    if context.owns_network {
        ensure_own_network(engine, &context.network, resolved, context).await?;
    } else {
        check_named_network(engine, &context.network, resolved, context).await?;
    }
    let proxied = context.external_proxy.as_ref().map(ExternalProxy::network);
    for name in context.further_networks.iter().map(String::as_str).chain(proxied) {
        check_named_network(engine, name, resolved, context).await?;
    }
    Ok(())
}

async fn ensure_own_network(
    engine: &Engine,
    name: &str,
    resolved: &ResolvedBackend,
    context: &BackendContext,
) -> Result<(), ProviderError> {
    let mut networks = networks_named(engine, name).await?;
    if networks.is_empty() {
        create_network(engine, name, resolved, context).await?;
        networks = networks_named(engine, name).await?;
    }
    if networks.iter().any(|network| !is_owned(network, resolved, context)) {
        return Err(ProviderError::Unsupported(format!(
            "the network `{name}` was not made by this control plane, and its name is needed: remove it with\n    \
             docker network rm {name}"
        )));
    }
    remove_twins(engine, name, &networks).await
}

/// Removes all networks of one name but one: a command that was killed while its network was made leaves two of them with
/// an old engine. The one that containers are on stays.
async fn remove_twins(engine: &Engine, name: &str, networks: &[Network]) -> Result<(), ProviderError> {
    if networks.len() < 2 {
        return Ok(());
    }
    let mut unused = Vec::new();
    for network in networks {
        let id = network.id.as_deref().unwrap_or_default();
        if !is_used(engine, &[id]).await? {
            unused.push(id);
        }
    }
    // The oldest stays where none is used.
    let keep = usize::from(unused.len() == networks.len());
    for id in unused.into_iter().skip(keep) {
        remove_network(engine, id, name).await?;
    }
    Ok(())
}

async fn create_network(
    engine: &Engine,
    name: &str,
    resolved: &ResolvedBackend,
    context: &BackendContext,
) -> Result<(), ProviderError> {
    let label = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    let labels = HashMap::from([
        label(PROJECT, resolved.project.as_str()),
        label(CONTROL_PLANE, context.control_plane.as_str()),
        label(ROLE, NETWORK_ROLE),
    ]);
    let request = NetworkCreateRequest {
        name: name.to_owned(),
        driver: Some("bridge".to_owned()),
        labels: Some(labels),
        ..NetworkCreateRequest::default()
    };
    match engine.client.create_network(request).await {
        Ok(_) => {}
        Err(error) if is_conflict(&error) => {}
        Err(error) => return Err(engine.failed("make the network", error)),
    }
    failpoint::hit("provider.docker.network_made");
    Ok(())
}

/// Checks a network that the manifest names: it is there, and it is not the one of another project.
async fn check_named_network(
    engine: &Engine,
    name: &str,
    resolved: &ResolvedBackend,
    context: &BackendContext,
) -> Result<(), ProviderError> {
    let networks = networks_named(engine, name).await?;
    if networks.is_empty() {
        return Err(ProviderError::Unsupported(format!(
            "there is no network `{name}`, which `docker.network` names: make it with\n    docker network create {name}"
        )));
    }
    let owner = networks.iter().find_map(|network| label(network, PROJECT).filter(|_| !is_owned(network, resolved, context)));
    match owner {
        Some(project) => Err(ProviderError::Unsupported(format!(
            "the network `{name}` belongs to the project `{project}`, whose databases and backends would be reachable from \
             here: name a network of your own in `docker.network`, or leave it out"
        ))),
        None => Ok(()),
    }
}

/// Returns the networks of a list that no other project of any control plane has.
pub(super) async fn without_foreign(
    engine: &Engine,
    names: Vec<String>,
    project: &ProjectName,
) -> Result<Vec<String>, ProviderError> {
    let mut kept = Vec::new();
    for name in names {
        let networks = networks_named(engine, &name).await?;
        if !networks.iter().any(|network| label(network, PROJECT).is_some_and(|owner| owner != project.as_str())) {
            kept.push(name);
        }
    }
    Ok(kept)
}

async fn is_used(engine: &Engine, names: &[&str]) -> Result<bool, ProviderError> {
    // A stopped container is not among those that a network knows of, and could not start without it. One that never ran
    // knows the name only.
    let filters = HashMap::from([("network".to_owned(), names.iter().map(|name| (*name).to_owned()).collect())]);
    let options = ListContainersOptionsBuilder::default().all(true).filters(&filters).build();
    let users = engine.client.list_containers(Some(options)).await;
    Ok(!users.map_err(|error| engine.failed("list the containers", error))?.is_empty())
}

pub(super) async fn remove_network(engine: &Engine, id: &str, name: &str) -> Result<(), ProviderError> {
    match engine.client.remove_network(id).await {
        Ok(()) => {}
        Err(error) if is_absent(&error) => {}
        // A container was attached a moment ago; the removal of that one removes the network too.
        Err(error) if error.to_string().contains("active endpoints") => {}
        Err(error) => return Err(engine.failed(&format!("remove the network `{name}`"), error)),
    }
    failpoint::hit("provider.docker.network_removed");
    Ok(())
}

/// Removes every network of the project that nothing is on any more: its own, and those from before its control plane had
/// another home. Another control plane makes its own again when it needs it.
pub(super) async fn remove_networks(engine: &Engine, resolved: &ResolvedBackend) -> Result<(), ProviderError> {
    let mut filters = label_filter(PROJECT, resolved.project.as_str());
    filters.entry("label".to_owned()).or_default().push(format!("{ROLE}={NETWORK_ROLE}"));
    let options = ListNetworksOptionsBuilder::default().filters(&filters).build();
    let networks = engine.client.list_networks(Some(options)).await;
    for network in networks.map_err(|error| engine.failed("list the networks", error))? {
        let (Some(id), Some(name)) = (network.id, network.name) else { continue };
        if !is_used(engine, &[&id, &name]).await? {
            remove_network(engine, &id, &name).await?;
        }
    }
    Ok(())
}
