//! Volumes of a backend: made once, and never a second time where data was before.

use bollard::models::VolumeCreateRequest;

use super::backend::data_path;
use super::context::BackendContext;
use super::engine::Engine;
use super::half_made::remove_half_made;
use super::image::Image;
use super::inventory::{Inventory, inspect_volume};
use super::labels::{ID, ROLE, ResourceRole, owner_labels};
use crate::failpoint;
use crate::model::ResolvedBackend;
use crate::provider::ProviderError;

/// Returns the name of a volume that is there, or would be made.
pub(super) fn volume_name(role: ResourceRole, context: &BackendContext) -> String {
    match role {
        ResourceRole::Data => context.data_volume.clone(),
        other => context.names.volume(other),
    }
}

/// Creates a volume that is missing.
///
/// # Errors
/// [`ProviderError::DataMissing`] where the backend's data was in it.
pub(super) async fn ensure_volume(
    engine: &Engine,
    resolved: &ResolvedBackend,
    inventory: &Inventory,
    role: ResourceRole,
    image: &Image,
    context: &BackendContext,
) -> Result<(), ProviderError> {
    if inventory.volume(role, resolved).is_some() {
        return Ok(());
    }
    let name = volume_name(role, context);
    let found = inspect_volume(engine, &name).await?;
    if resolved.has_been_ready && (role != ResourceRole::Data || data_path(resolved).is_some()) {
        let place = if found.is_some() {
            format!(
                "volume {name}, of which there is one without the label {ID}={}\n{}",
                resolved.id,
                take_up(&name, role, resolved)
            )
        } else {
            format!("volume {name}, which carried the labels {ID}={} and {ROLE}={}", resolved.id, role.as_str())
        };
        return Err(ProviderError::DataMissing { instance: resolved.instance_name.to_string(), place });
    }
    if let Some(found) = found
        && !remove_half_made(engine, resolved, &found, &image.id, &context.control_plane).await?
    {
        return Err(ProviderError::Unsupported(format!(
            "the volume `{name}` was not made by this control plane, and its name is needed; it may hold data, so it is left \
             alone: remove it with\n    docker volume rm {name}"
        )));
    }
    let request = VolumeCreateRequest {
        name: Some(name),
        driver: Some("local".to_owned()),
        labels: Some(owner_labels(resolved, role, &context.control_plane).into_iter().collect()),
        ..VolumeCreateRequest::default()
    };
    engine.client.create_volume(request).await.map_err(|error| engine.failed("make a volume", error))?;
    failpoint::hit("provider.docker.volume_made");
    Ok(())
}

/// Says how a volume without our labels, such as one that was restored from a backup, is taken up: an engine adds no labels
/// to a volume, so its content goes into one that has them.
pub(super) fn take_up(name: &str, role: ResourceRole, resolved: &ResolvedBackend) -> String {
    format!(
        "if `{name}` was restored from a backup, it is taken up under any name that carries the labels\n    docker volume create \
         --label {ID}={} --label {ROLE}={} {name}-restored\n    docker run --rm -v {name}:/from:ro -v {name}-restored:/to busybox \
         cp -a /from/. /to\nand apply again",
        resolved.id,
        role.as_str()
    )
}

/// Says it for the data of a backend, where a volume of its name is there and its own is not.
pub(super) async fn restored_volume(
    engine: &Engine,
    resolved: &ResolvedBackend,
    inventory: &Inventory,
    context: &BackendContext,
) -> Result<Option<String>, ProviderError> {
    if inventory.volume(ResourceRole::Data, resolved).is_some() {
        return Ok(None);
    }
    let name = volume_name(ResourceRole::Data, context);
    let is_there = inspect_volume(engine, &name).await?.is_some();
    Ok(is_there.then(|| {
        let why = format!("there is a volume `{name}` without the labels of this backend");
        format!("{why}; {}", take_up(&name, ResourceRole::Data, resolved))
    }))
}
