//! A container that never runs, by which the engine reads a volume.

use bollard::models::{ContainerCreateBody, HostConfig, Mount, MountType, MountVolumeOptions};
use bollard::query_parameters::CreateContainerOptionsBuilder;

use super::engine::Engine;
use super::inventory::{id_of, inspect_container, label_of};
use super::labels::{ControlPlaneId, ID, ROLE, ResourceNames, ResourceRole, owner_labels};
use crate::failpoint;
use crate::model::ResolvedBackend;
use crate::provider::ProviderError;

/// Where the volume is mounted; no image has anything there.
pub(super) const TARGET: &str = "/convexinfra-probe";

/// Says whether the engine may write to a volume through its probe.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ProbeMount {
    ReadOnly,
    Writable,
}

/// Removes the probe that a command that was killed may have left.
pub(super) async fn remove_left(engine: &Engine, resolved: &ResolvedBackend) -> Result<(), ProviderError> {
    let name = ResourceNames::of(resolved).container(ResourceRole::Probe);
    if let Some(left) = inspect_container(engine, &name).await?
        && label_of(&left, ID) == Some(resolved.id.as_str())
        && label_of(&left, ROLE) == Some(ResourceRole::Probe.as_str())
    {
        engine.remove_container(id_of(&left), true).await?;
    }
    Ok(())
}

/// Creates the probe of a backend on a volume, and returns its id. Any image does: nothing of it runs.
pub(super) async fn create(
    engine: &Engine,
    resolved: &ResolvedBackend,
    volume: &str,
    mount: ProbeMount,
    image: &str,
    control_plane: &ControlPlaneId,
) -> Result<String, ProviderError> {
    remove_left(engine, resolved).await?;
    let name = ResourceNames::of(resolved).container(ResourceRole::Probe);
    let mount = Mount {
        typ: Some(MountType::VOLUME),
        source: Some(volume.to_owned()),
        target: Some(TARGET.to_owned()),
        read_only: Some(mount == ProbeMount::ReadOnly),
        volume_options: Some(MountVolumeOptions { no_copy: Some(true), ..MountVolumeOptions::default() }),
        ..Mount::default()
    };
    let body = ContainerCreateBody {
        image: Some(image.to_owned()),
        cmd: Some(vec!["/never-started".to_owned()]),
        labels: Some(owner_labels(resolved, ResourceRole::Probe, control_plane).into_iter().collect()),
        host_config: Some(HostConfig {
            mounts: Some(vec![mount]),
            network_mode: Some("none".to_owned()),
            ..HostConfig::default()
        }),
        ..ContainerCreateBody::default()
    };
    let options = CreateContainerOptionsBuilder::default().name(&name).build();
    let made = engine.client.create_container(Some(options), body).await;
    let id = made.map_err(|error| engine.failed("look into a volume", error))?.id;
    failpoint::hit("provider.docker.probe_made");
    Ok(id)
}
