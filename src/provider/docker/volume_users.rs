//! Who else uses a volume: two backends on one SQLite file destroy it.

use std::collections::HashMap;
use std::fmt;

use bollard::models::{ContainerSummary, ContainerSummaryStateEnum};
use bollard::query_parameters::{ListContainersOptionsBuilder, RemoveVolumeOptions};

use super::engine::{Engine, is_absent, is_conflict};
use super::launch_file::DATA;
use crate::provider::ProviderError;

/// A container that runs with a volume, and may write to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct VolumeUser {
    pub(super) name: String,
    /// The compose service and project that start it.
    pub(super) compose: Option<(String, String)>,
}

impl fmt::Display for VolumeUser {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the container `{}`", self.name)?;
        match &self.compose {
            Some((service, project)) => write!(f, " (service `{service}` of the compose project `{project}`)"),
            None => Ok(()),
        }
    }
}

/// Returns the containers that run as a backend on a volume, but for those with these ids. One that mounts the volume at
/// another place than a backend does, such as a backup, or read-only, is none.
pub(super) async fn writers(engine: &Engine, volume: &str, own: &[&str]) -> Result<Vec<VolumeUser>, ProviderError> {
    let listed = containers_with(engine, volume).await?;
    let mut writers: Vec<VolumeUser> = listed
        .iter()
        .filter(|container| !own.contains(&container.id.as_deref().unwrap_or_default()))
        .filter(|container| is_active(container) && is_backend_on(container, volume))
        .map(|container| VolumeUser { name: name_in(container), compose: compose_in(container) })
        .collect();
    writers.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(writers)
}

/// Returns the containers that have a volume, whether they run or not.
async fn containers_with(engine: &Engine, volume: &str) -> Result<Vec<ContainerSummary>, ProviderError> {
    let filters = HashMap::from([("volume".to_owned(), vec![volume.to_owned()])]);
    let options = ListContainersOptionsBuilder::default().all(true).filters(&filters).build();
    let listed = engine.client.list_containers(Some(options)).await;
    listed.map_err(|error| engine.failed("list the containers of a volume", error))
}

/// Removes a volume, which may be gone already.
///
/// # Errors
/// [`ProviderError::VolumeInUse`] names a container that has it.
pub(super) async fn remove_volume(engine: &Engine, name: &str) -> Result<(), ProviderError> {
    let error = match engine.client.remove_volume(name, None::<RemoveVolumeOptions>).await {
        Ok(()) => return Ok(()),
        Err(error) if is_absent(&error) => return Ok(()),
        Err(error) => error,
    };
    if is_conflict(&error)
        && let Some(user) = containers_with(engine, name).await?.first()
    {
        return Err(ProviderError::VolumeInUse { volume: name.to_owned(), container: name_in(user) });
    }
    Err(engine.failed(&format!("remove the volume `{name}`"), error))
}

fn is_active(container: &ContainerSummary) -> bool {
    use ContainerSummaryStateEnum as State;
    matches!(container.state, Some(State::RUNNING | State::PAUSED | State::RESTARTING))
}

fn is_backend_on(container: &ContainerSummary, volume: &str) -> bool {
    container.mounts.iter().flatten().any(|mount| {
        // Some engines name the volume only in the filter.
        mount.name.as_deref().is_none_or(|name| name == volume)
            && mount.destination.as_deref() == Some(DATA)
            && mount.rw != Some(false)
    })
}

pub(super) fn name_in(container: &ContainerSummary) -> String {
    let names = container.names.as_deref().unwrap_or_default();
    names.first().map_or("?", String::as_str).trim_start_matches('/').to_owned()
}

pub(super) fn compose_in(container: &ContainerSummary) -> Option<(String, String)> {
    let label = |name: &str| container.labels.as_ref()?.get(name).cloned();
    Some((label("com.docker.compose.service")?, label("com.docker.compose.project")?))
}
