//! What a backend's container needs around it: a network, volumes, and the containers beside it.
//!
//! Must not do: touch the container of the backend itself.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use bollard::models::{HealthStatusEnum, NetworkCreateRequest, NetworkInspect, VolumeCreateRequest};
use bollard::query_parameters::{ListContainersOptionsBuilder, ListNetworksOptionsBuilder};

use super::backend::{BackendContext, data_path};
use super::container_ops::CreateOutcome;
use super::desired::ContainerSpec;
use super::diff::diff_container;
use super::engine::{Engine, is_absent, is_conflict};
use super::inventory::{Inventory, id_of, inspect_container, inspect_volume, label_filter, name_of};
use super::labels::{CONTROL_PLANE, ID, PROJECT, ROLE, ResourceRole, owner_labels};
use super::logs::last_lines;
use super::repair::{Attempts, RepairAction, choose_repair};
use crate::failpoint;
use crate::model::ResolvedBackend;
use crate::provider::ProviderError;

/// The role of a network, which belongs to a project instead of a backend.
const NETWORK_ROLE: &str = "network";
/// How long a database server may take until it is ready: the first start makes its files.
const DATABASE_READY: Duration = Duration::from_secs(120);
const POLL: Duration = Duration::from_millis(200);

/// The network of a setting; none when the engine says that there is none.
pub(super) async fn inspect_network(
    engine: &Engine,
    setting: &BackendContext,
) -> Result<Option<NetworkInspect>, ProviderError> {
    match engine.client.inspect_network(&setting.network, None).await {
        Ok(seen) => Ok(Some(seen)),
        Err(error) if is_absent(&error) => Ok(None),
        Err(error) => Err(engine.failed("look at a network", error)),
    }
}

/// Whether a network is the one of this project that this control plane made.
pub(super) fn is_owned(network: &NetworkInspect, placement: &ResolvedBackend, setting: &BackendContext) -> bool {
    let label = |name: &str| network.labels.as_ref().and_then(|labels| labels.get(name)).map(String::as_str);
    label(PROJECT) == Some(placement.project.as_str())
        && label(CONTROL_PLANE) == Some(setting.control_plane.as_str())
        && label(ROLE) == Some(NETWORK_ROLE)
}

/// Sees to it that the network is there. Callers take turns: an old engine makes two of the same name.
pub(super) async fn ensure_network(
    engine: &Engine,
    placement: &ResolvedBackend,
    setting: &BackendContext,
) -> Result<(), ProviderError> {
    match inspect_network(engine, setting).await? {
        Some(seen) if setting.owns_network && !is_owned(&seen, placement, setting) => Err(ProviderError::Unsupported(format!(
            "the network `{}` was not made by this control plane, and its name is needed: remove it with\n    \
                 docker network rm {}",
            setting.network, setting.network
        ))),
        Some(_) => Ok(()),
        None if !setting.owns_network => Err(ProviderError::Unsupported(format!(
            "there is no network `{}`, which `docker.network` names: make it with\n    docker network create {}",
            setting.network, setting.network
        ))),
        None => {
            let label = |name: &str, value: &str| (name.to_owned(), value.to_owned());
            let labels = HashMap::from([
                label(PROJECT, placement.project.as_str()),
                label(CONTROL_PLANE, setting.control_plane.as_str()),
                label(ROLE, NETWORK_ROLE),
            ]);
            let request = NetworkCreateRequest {
                name: setting.network.clone(),
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
    }
}

/// Takes every network of the project away that nothing is on any more: its own, and those from before its control plane
/// had another home. Another control plane makes its own again when it needs it.
pub(super) async fn remove_networks(engine: &Engine, placement: &ResolvedBackend) -> Result<(), ProviderError> {
    let mut filters = label_filter(PROJECT, placement.project.as_str());
    filters.entry("label".to_owned()).or_default().push(format!("{ROLE}={NETWORK_ROLE}"));
    let options = ListNetworksOptionsBuilder::default().filters(&filters).build();
    let networks = engine.client.list_networks(Some(options)).await;
    for network in networks.map_err(|error| engine.failed("list the networks", error))? {
        let (Some(id), Some(name)) = (network.id, network.name) else { continue };
        // A stopped container is not among those that a network knows of, and could not start without it. One that never
        // ran knows the name only.
        let filters = HashMap::from([("network".to_owned(), vec![id.clone(), name.clone()])]);
        let options = ListContainersOptionsBuilder::default().all(true).filters(&filters).build();
        let users = engine.client.list_containers(Some(options)).await;
        if !users.map_err(|error| engine.failed("list the containers", error))?.is_empty() {
            continue;
        }
        match engine.client.remove_network(&id).await {
            Ok(()) => {}
            Err(error) if is_absent(&error) => {}
            // Something was put on it a moment ago; whoever takes that away takes the network with it.
            Err(error) if error.to_string().contains("active endpoints") => {}
            Err(error) => return Err(engine.failed(&format!("remove the network `{name}`"), error)),
        }
        failpoint::hit("provider.docker.network_removed");
    }
    Ok(())
}

/// Sees to it that a volume is there, and never makes one where data was before.
pub(super) async fn ensure_volume(
    engine: &Engine,
    placement: &ResolvedBackend,
    seen: &Inventory,
    role: ResourceRole,
    setting: &BackendContext,
) -> Result<(), ProviderError> {
    if seen.volume(role, placement).is_some() {
        return Ok(());
    }
    let name = match role {
        ResourceRole::Data => super::backend::volume_name(placement, &setting.names),
        other => setting.names.volume(other),
    };
    if placement.has_been_ready && (role != ResourceRole::Data || data_path(placement).is_some()) {
        let unlabelled = inspect_volume(engine, &name).await?.is_some();
        let place = if unlabelled {
            format!("volume {name}, of which there is one without the label {ID}={}", placement.id)
        } else {
            format!("volume {name}")
        };
        return Err(ProviderError::DataMissing { instance: placement.instance_name.to_string(), place });
    }
    if inspect_volume(engine, &name).await?.is_some() {
        return Err(ProviderError::Unsupported(format!(
            "the volume `{name}` was not made by this control plane, and its name is needed; it may hold data, so it is left \
             alone: remove it with\n    docker volume rm {name}"
        )));
    }
    let request = VolumeCreateRequest {
        name: Some(name),
        driver: Some("local".to_owned()),
        labels: Some(owner_labels(placement, role, &setting.control_plane).into_iter().collect()),
        ..VolumeCreateRequest::default()
    };
    engine.client.create_volume(request).await.map_err(|error| engine.failed("make a volume", error))?;
    failpoint::hit("provider.docker.volume_made");
    Ok(())
}

/// Brings a container beside the backend to what it should be. It may be replaced at any time.
pub(super) async fn ensure_sidecar(engine: &Engine, seen: &Inventory, wanted: &ContainerSpec) -> Result<String, ProviderError> {
    let mut all: Vec<_> = seen.with_role(wanted.role).collect();
    all.sort_by_key(|container| name_of(container) != wanted.name);
    for (place, container) in all.into_iter().enumerate() {
        if place == 0 && repair_in_place(engine, id_of(container), wanted).await? {
            return Ok(id_of(container).to_owned());
        }
        engine.stop_container(container).await?;
        engine.remove_container(id_of(container), true).await?;
    }
    let id = match engine.create_container(wanted).await? {
        CreateOutcome::Created(id) => id,
        CreateOutcome::NameTaken(reason) => {
            return Err(ProviderError::Unsupported(format!(
                "the container `{}` was not made by this control plane, and its name is needed: rename or remove it\n({reason})",
                wanted.name
            )));
        }
    };
    if let Err(error) = engine.start_container(&id, &wanted.ports).await {
        if !matches!(error, ProviderError::EngineUnreachable { .. }) {
            engine.remove_container(&id, true).await?;
        }
        return Err(error);
    }
    Ok(id)
}

/// Whether a container could be made what it should be without another one in its place.
async fn repair_in_place(engine: &Engine, id: &str, wanted: &ContainerSpec) -> Result<bool, ProviderError> {
    let mut tried = Attempts::default();
    loop {
        let Some(container) = inspect_container(engine, id).await? else { return Ok(false) };
        let found = diff_container("", Some(wanted), &container);
        let (done, is_last) = match choose_repair(&found, tried) {
            RepairAction::Keep => return Ok(true),
            RepairAction::Replace => return Ok(false),
            RepairAction::UpdateInPlace => (engine.update_in_place(&container, wanted, &found).await, false),
            RepairAction::Start => (engine.resume_or_start(&container, wanted).await, true),
        };
        match done {
            Ok(()) if is_last => return Ok(true),
            Ok(()) => tried.in_place = true,
            Err(error @ ProviderError::EngineUnreachable { .. }) => return Err(error),
            Err(_) => return Ok(false),
        }
    }
}

/// Takes the containers of one kind away.
pub(super) async fn remove_sidecars(engine: &Engine, seen: &Inventory, role: ResourceRole) -> Result<(), ProviderError> {
    for container in seen.with_role(role) {
        engine.stop_container(container).await?;
        engine.remove_container(id_of(container), true).await?;
    }
    Ok(())
}

/// Waits until the engine finds a container healthy.
pub(super) async fn wait_until_healthy(engine: &Engine, id: &str) -> Result<(), ProviderError> {
    let deadline = Instant::now() + DATABASE_READY;
    loop {
        let state = inspect_container(engine, id).await?.and_then(|seen| seen.state).unwrap_or_default();
        let health = state.health.and_then(|health| health.status);
        if health == Some(HealthStatusEnum::HEALTHY) {
            return Ok(());
        }
        let ended = state.running != Some(true) || state.restarting == Some(true);
        if ended || Instant::now() >= deadline {
            let status = match ended {
                true => format!("its database server ended with exit code {}", state.exit_code.unwrap_or_default()),
                false => format!("its database server was not ready within {} s", DATABASE_READY.as_secs()),
            };
            return Err(ProviderError::Exited { status, log: last_lines(engine, id).await });
        }
        tokio::time::sleep(POLL).await;
    }
}
