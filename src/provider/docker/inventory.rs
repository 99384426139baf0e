//! Inventory: everything that an engine has of one backend. A question that fails is an error, and never "there is none".

use std::collections::HashMap;

use bollard::models::{ContainerInspectResponse, Volume};
use bollard::query_parameters::{
    ContainerArchiveInfoOptionsBuilder, DownloadFromContainerOptionsBuilder, ListContainersOptionsBuilder,
    ListVolumesOptionsBuilder,
};
use futures_util::StreamExt;
use zeroize::Zeroizing;

use super::engine::{Engine, is_absent};
use super::labels::{ID, ROLE, ResourceNames, ResourceRole};
use super::launch_file::DATA;
use crate::model::{BackendId, DATA_VOLUME, ProviderState, ResolvedBackend};
use crate::provider::ProviderError;

/// The key under which the references hold a volume that was taken over and carries no labels of ours.
pub(super) const ADOPTED_VOLUME: &str = DATA_VOLUME;
/// The key under which the references hold a container that was started by something else and is to be taken over.
pub(super) const ADOPTED_CONTAINER: &str = "adopted_container";

/// Everything that an engine has of one backend.
#[derive(Debug, Clone, Default)]
pub(super) struct Inventory {
    containers: Vec<ContainerInspectResponse>,
    volumes: Vec<Volume>,
    /// The container that was started by something else and is taken over.
    pub(super) adopted: Option<ContainerInspectResponse>,
}

/// The filter for one label.
pub(super) fn label_filter(name: &str, value: &str) -> HashMap<String, Vec<String>> {
    HashMap::from([("label".to_owned(), vec![format!("{name}={value}")])])
}

/// Looks for everything that carries the backend's identity.
pub(super) async fn take_inventory(engine: &Engine, id: &BackendId, state: &ProviderState) -> Result<Inventory, ProviderError> {
    let filters = label_filter(ID, id.as_str());
    let containers = ListContainersOptionsBuilder::default().all(true).filters(&filters).build();
    let volumes = ListVolumesOptionsBuilder::default().filters(&filters).build();
    let (listed, volumes) =
        tokio::join!(engine.client.list_containers(Some(containers)), engine.client.list_volumes(Some(volumes)));
    let listed = listed.map_err(|error| engine.failed("list the containers", error))?;
    let mut volumes = volumes.map_err(|error| engine.failed("list the volumes", error))?.volumes.unwrap_or_default();
    let mut containers = Vec::new();
    for id in listed.iter().filter_map(|container| container.id.as_deref()) {
        containers.extend(inspect_container(engine, id).await?);
    }
    let adopted = match state.get(ADOPTED_CONTAINER) {
        Some(id) => inspect_container(engine, id).await?,
        None => None,
    };
    if let Some(name) = state.get(ADOPTED_VOLUME)
        && !volumes.iter().any(|volume| volume.name == *name)
    {
        volumes.extend(inspect_volume(engine, name).await?);
    }
    Ok(Inventory { containers, volumes, adopted })
}

/// One container; none when the engine says that there is none.
pub(super) async fn inspect_container(engine: &Engine, id: &str) -> Result<Option<ContainerInspectResponse>, ProviderError> {
    match engine.client.inspect_container(id, None).await {
        Ok(seen) => Ok(Some(seen)),
        Err(error) if is_absent(&error) => Ok(None),
        Err(error) => Err(engine.failed("look at a container", error)),
    }
}

/// One volume; none when the engine says that there is none.
pub(super) async fn inspect_volume(engine: &Engine, name: &str) -> Result<Option<Volume>, ProviderError> {
    match engine.client.inspect_volume(name).await {
        Ok(seen) => Ok(Some(seen)),
        Err(error) if is_absent(&error) => Ok(None),
        Err(error) => Err(engine.failed("look at a volume", error)),
    }
}

/// Whether a file is in a container; it need not run.
pub(super) async fn has_file(engine: &Engine, container: &str, path: &str) -> Result<bool, ProviderError> {
    let options = ContainerArchiveInfoOptionsBuilder::default().path(path).build();
    match engine.client.get_container_archive_info(container, Some(options)).await {
        Ok(_) => Ok(true),
        Err(error) if is_absent(&error) => Ok(false),
        Err(error) => Err(engine.failed("look for the data", error)),
    }
}

/// The beginning of a tar archive.
pub(super) struct ArchiveStart {
    pub(super) bytes: Zeroizing<Vec<u8>>,
    /// Whether it ended before the limit.
    pub(super) is_whole: bool,
}

/// Reads a path of a container, which need not run, as a tar archive up to a limit; none where the path is not there.
pub(super) async fn read_archive(
    engine: &Engine,
    container: &str,
    path: &str,
    limit: usize,
) -> Result<Option<ArchiveStart>, ProviderError> {
    let options = DownloadFromContainerOptionsBuilder::default().path(path).build();
    let mut stream = engine.client.download_from_container(container, Some(options)).boxed();
    let mut bytes = Zeroizing::new(Vec::new());
    while let Some(piece) = stream.next().await {
        match piece {
            Ok(piece) => bytes.extend_from_slice(&piece),
            Err(error) if is_absent(&error) => return Ok(None),
            Err(error) => return Err(engine.failed(&format!("read `{path}` of a container"), error)),
        }
        if bytes.len() > limit {
            return Ok(Some(ArchiveStart { bytes, is_whole: false }));
        }
    }
    Ok(Some(ArchiveStart { bytes, is_whole: true }))
}

/// The value of one of a container's labels.
pub(super) fn label_of<'a>(seen: &'a ContainerInspectResponse, name: &str) -> Option<&'a str> {
    seen.config.as_ref()?.labels.as_ref()?.get(name).map(String::as_str)
}

/// The id of a container.
pub(super) fn id_of(container: &ContainerInspectResponse) -> &str {
    container.id.as_deref().unwrap_or_default()
}

/// Returns the variables of a container, as `NAME=VALUE`.
pub(super) fn environment_of(container: &ContainerInspectResponse) -> impl Iterator<Item = &str> {
    container.config.as_ref().and_then(|config| config.env.as_deref()).unwrap_or_default().iter().map(String::as_str)
}

/// Returns the volume that a container mounts at a path.
pub(super) fn volume_at<'a>(container: &'a ContainerInspectResponse, path: &str) -> Option<&'a str> {
    let mounts = container.mounts.as_deref().unwrap_or_default();
    let mount = mounts.iter().find(|mount| mount.destination.as_deref() == Some(path))?;
    mount.name.as_deref().or(mount.source.as_deref())
}

/// The name of a container.
pub(super) fn name_of(container: &ContainerInspectResponse) -> &str {
    container.name.as_deref().unwrap_or_default().trim_start_matches('/')
}

impl Inventory {
    /// Returns an inventory of these containers alone.
    pub(super) fn of_containers(containers: Vec<ContainerInspectResponse>) -> Self {
        Self { containers, ..Self::default() }
    }

    /// All containers of one kind.
    pub(super) fn with_role(&self, role: ResourceRole) -> impl Iterator<Item = &ContainerInspectResponse> {
        self.containers.iter().filter(move |container| label_of(container, ROLE) == Some(role.as_str()))
    }

    /// All containers, for any purpose.
    pub(super) fn containers(&self) -> &[ContainerInspectResponse] {
        &self.containers
    }

    /// Returns whether the engine has nothing of the backend.
    pub(super) fn is_empty(&self) -> bool {
        self.containers.is_empty() && self.volumes.is_empty() && self.adopted.is_none()
    }

    /// Returns the ids of all containers.
    pub(super) fn container_ids(&self) -> Vec<&str> {
        self.containers.iter().chain(&self.adopted).map(id_of).collect()
    }

    /// The container that is the backend: the one of that name, else one that was renamed.
    pub(super) fn current(&self, names: &ResourceNames) -> Option<&ContainerInspectResponse> {
        let named = self.with_role(ResourceRole::Backend).find(|container| name_of(container) == names.backend());
        named.or_else(|| self.with_role(ResourceRole::Backend).find(|container| name_of(container) != names.previous()))
    }

    /// The container from before, while a replacement is not proven.
    pub(super) fn previous(&self, names: &ResourceNames) -> Option<&ContainerInspectResponse> {
        self.with_role(ResourceRole::Backend).find(|container| name_of(container) == names.previous())
    }

    /// Containers that carry our labels and have no part to play, such as a copy that was made by hand.
    pub(super) fn duplicates(&self, names: &ResourceNames) -> Vec<&ContainerInspectResponse> {
        let current = self.current(names).map(id_of);
        self.with_role(ResourceRole::Backend)
            .filter(|container| Some(id_of(container)) != current && name_of(container) != names.previous())
            .collect()
    }

    /// The volume of one kind: the one that carries our labels, or the one that was taken over or switched to. Where neither is
    /// recorded, as after the loss of a record, the one that its container mounts.
    pub(super) fn volume(&self, role: ResourceRole, resolved: &ResolvedBackend) -> Option<&Volume> {
        let named = |name: &str| self.volumes.iter().find(|volume| volume.name == name);
        let labelled = || self.volumes.iter().find(|volume| volume.labels.get(ROLE).map(String::as_str) == Some(role.as_str()));
        if role != ResourceRole::Data {
            return labelled();
        }
        match resolved.provider_state.get(ADOPTED_VOLUME) {
            Some(name) => named(name),
            None => {
                let current = self.current(&ResourceNames::of(resolved));
                current.and_then(|container| volume_at(container, DATA)).and_then(named).or_else(labelled)
            }
        }
    }

    /// All volumes.
    pub(super) fn volumes(&self) -> &[Volume] {
        &self.volumes
    }
}
