//! The data of a backend replaced as a whole: by another volume, which its next container mounts.
//!
//! Which volume is its own is in the provider state, so a switch is one write of its record. The volume from before stays, until
//! the next switch; one that was taken over and carries no labels stays for good.

use std::io;

use bollard::models::VolumeCreateRequest;
use futures_util::stream::BoxStream;

use super::Docker;
use super::engine::Engine;
use super::inventory::{ADOPTED_VOLUME, Inventory, has_file, id_of, inspect_volume, volume_at};
use super::labels::{ControlPlaneId, ID, ROLE, ResourceNames, ResourceRole, owner_labels};
use super::launch_file::{DATA, FileOwner, SecretFiles};
use super::probe::{self, ProbeMount};
use super::volume_reader::{probe_image, require_own_volume};
use super::volume_users::remove_volume;
use crate::failpoint;
use crate::model::{Digest, ProviderState, RELEASE_CREATED, ResolvedBackend, SWITCHED_TO, SnapshotId, VOLUME_BEFORE};
use crate::provider::kit::data_place::{StagedVolume, StagingPlace, unfinished_restore};
use crate::provider::{ProviderError, async_trait};

/// The last that is written into a staged volume.
const MARKER: &str = "credentials/staged";

/// Returns where the data of a snapshot is staged.
pub(super) fn staging_place(resolved: &ResolvedBackend, id: &SnapshotId) -> Result<StagingPlace, ProviderError> {
    require_own_volume(resolved)?;
    Ok(if is_switched(resolved, id) { StagingPlace::Switched } else { StagingPlace::Volume })
}

fn is_switched(resolved: &ResolvedBackend, id: &SnapshotId) -> bool {
    resolved.provider_state.get(SWITCHED_TO).is_some_and(|switched| switched == id.as_str())
}

/// Returns the name of the volume that replaces another one with the data of a snapshot.
fn staged_name(resolved: &ResolvedBackend, current: &str, id: &SnapshotId) -> String {
    let digest = Digest::of(format!("{current}\n{id}").as_bytes());
    let short: String = digest.as_str().trim_start_matches("sha256:").chars().take(12).collect();
    format!("{}-{short}", ResourceNames::of(resolved).volume(ResourceRole::RestoredData))
}

fn current_volume(resolved: &ResolvedBackend, seen: &Inventory) -> Result<String, ProviderError> {
    let volume = seen.volume(ResourceRole::Data, resolved).map(|volume| volume.name.clone());
    volume.ok_or_else(|| missing(resolved, &ResourceNames::of(resolved).volume(ResourceRole::Data)))
}

fn missing(resolved: &ResolvedBackend, volume: &str) -> ProviderError {
    ProviderError::DataMissing { instance: resolved.instance_name.to_string(), place: format!("volume {volume}") }
}

impl Docker {
    /// Opens the volume into which the data of a snapshot is written.
    pub(super) async fn open_staged(
        &self,
        resolved: &ResolvedBackend,
        id: &SnapshotId,
    ) -> Result<Box<dyn StagedVolume>, ProviderError> {
        require_own_volume(resolved)?;
        let engine = self.engine_of(&resolved.spec).await?;
        let seen = self.inventory(&engine, resolved).await?;
        let name = staged_name(resolved, &current_volume(resolved, &seen)?, id);
        let image = probe_image(resolved, &seen)?;
        let owner = engine.image_user(&image).await?;
        let control_plane = self.control_plane.clone();
        Ok(Box::new(OpenStaging { engine, resolved: resolved.clone(), name, image, owner, control_plane }))
    }

    /// Stops a backend, and returns the state in which its data is that of a snapshot.
    pub(super) async fn switch_volume(
        &self,
        resolved: &ResolvedBackend,
        id: &SnapshotId,
    ) -> Result<ProviderState, ProviderError> {
        require_own_volume(resolved)?;
        let mut state = resolved.provider_state.clone();
        let engine = self.engine_of(&resolved.spec).await?;
        let _lock = self.locks.lock(&resolved.id).await;
        let seen = self.inventory(&engine, resolved).await?;
        for container in seen.with_role(ResourceRole::Backend).chain(&seen.adopted) {
            engine.stop_container(container).await?;
        }
        if is_switched(resolved, id) {
            return Ok(state);
        }
        let current = current_volume(resolved, &seen)?;
        let staged = staged_name(resolved, &current, id);
        if inspect_volume(&engine, &staged).await?.is_none() {
            return Err(missing(resolved, &staged));
        }
        // One way back is kept, the last.
        remove_other_volumes(&engine, resolved, &seen, &[&current, &staged]).await?;
        state.insert(ADOPTED_VOLUME.to_owned(), staged);
        state.insert(VOLUME_BEFORE.to_owned(), current);
        state.insert(SWITCHED_TO.to_owned(), id.to_string());
        // Which build may run on it is for the authority to say, which knows the snapshot.
        state.remove(RELEASE_CREATED);
        failpoint::hit("provider.docker.volume_switched");
        Ok(state)
    }

    /// Deletes the volumes of data that is not that of a backend any more, and returns the state in which there are none.
    pub(super) async fn drop_previous_volume(&self, resolved: &ResolvedBackend) -> Result<ProviderState, ProviderError> {
        require_own_volume(resolved)?;
        let mut state = resolved.provider_state.clone();
        if state.contains_key(SWITCHED_TO) {
            return Err(unfinished_restore(resolved));
        }
        let engine = self.engine_of(&resolved.spec).await?;
        let _lock = self.locks.lock(&resolved.id).await;
        let seen = self.inventory(&engine, resolved).await?;
        let current = current_volume(resolved, &seen)?;
        remove_other_volumes(&engine, resolved, &seen, &[&current]).await?;
        state.remove(VOLUME_BEFORE);
        Ok(state)
    }

    /// Stops what runs on data that did not come up, and returns the state in which the data is that of before.
    pub(super) async fn revert_volume(
        &self,
        resolved: &ResolvedBackend,
        id: &SnapshotId,
    ) -> Result<ProviderState, ProviderError> {
        require_own_volume(resolved)?;
        let mut state = resolved.provider_state.clone();
        let engine = self.engine_of(&resolved.spec).await?;
        let _lock = self.locks.lock(&resolved.id).await;
        let seen = self.inventory(&engine, resolved).await?;
        let current = current_volume(resolved, &seen)?;
        if !is_switched(resolved, id) {
            remove_volume(&engine, &staged_name(resolved, &current, id)).await?;
            return Ok(state);
        }
        for container in seen.with_role(ResourceRole::Backend).filter(|container| volume_at(container, DATA) == Some(&current))
        {
            engine.stop_container(container).await?;
            engine.remove_container(id_of(container), true).await?;
        }
        remove_volume(&engine, &current).await?;
        failpoint::hit("provider.docker.volume_reverted");
        state.remove(SWITCHED_TO);
        if let Some(before) = state.remove(VOLUME_BEFORE) {
            state.insert(ADOPTED_VOLUME.to_owned(), before);
        }
        Ok(state)
    }
}

/// Removes the volumes with data of a backend, but for those that are named and those without its labels.
async fn remove_other_volumes(
    engine: &Engine,
    resolved: &ResolvedBackend,
    seen: &Inventory,
    kept: &[&str],
) -> Result<(), ProviderError> {
    let is_data = |role: &str| role == ResourceRole::Data.as_str() || role == ResourceRole::RestoredData.as_str();
    for volume in seen.volumes().iter().filter(|volume| !kept.contains(&volume.name.as_str())) {
        let is_own = volume.labels.get(ID).map(String::as_str) == Some(resolved.id.as_str());
        if is_own && volume.labels.get(ROLE).is_some_and(|role| is_data(role)) {
            remove_volume(engine, &volume.name).await?;
        }
    }
    Ok(())
}

/// Returns the state in which the data that was switched to is a backend's own for good.
pub(super) fn confirmed(resolved: &ResolvedBackend) -> ProviderState {
    let mut state = resolved.provider_state.clone();
    state.remove(SWITCHED_TO);
    state
}

/// A volume beside that of a backend.
struct OpenStaging {
    engine: Engine,
    resolved: ResolvedBackend,
    name: String,
    image: String,
    owner: FileOwner,
    control_plane: ControlPlaneId,
}

impl OpenStaging {
    async fn probe(&self, mount: ProbeMount) -> Result<String, ProviderError> {
        probe::create(&self.engine, &self.resolved, &self.name, mount, &self.image, &self.control_plane).await
    }

    /// Writes an archive into the empty volume, and marks it as whole.
    async fn fill(&self, probe: &str, archive: BoxStream<'static, io::Result<Vec<u8>>>) -> Result<(), ProviderError> {
        // The volume's own folder gets its owner as well, which it would not from an archive of what is in it.
        self.engine.unpack(probe, "/", archive, "write the data into the volume").await?;
        failpoint::hit("provider.docker.volume_filled");
        let mut marker = SecretFiles::new(probe::TARGET, self.owner);
        marker.add(MARKER, b"");
        self.engine.upload_files(probe, &marker).await
    }
}

#[async_trait]
impl StagedVolume for OpenStaging {
    fn root(&self) -> &'static str {
        probe::TARGET.trim_start_matches('/')
    }

    fn owner(&self) -> (u64, u64) {
        (self.owner.user, self.owner.group)
    }

    async fn is_whole(&self) -> Result<bool, ProviderError> {
        if inspect_volume(&self.engine, &self.name).await?.is_none() {
            return Ok(false);
        }
        let probe = self.probe(ProbeMount::ReadOnly).await?;
        let found = has_file(&self.engine, &probe, &format!("{}/{MARKER}", probe::TARGET)).await;
        self.engine.remove_container(&probe, true).await?;
        found
    }

    async fn write(&self, archive: BoxStream<'static, io::Result<Vec<u8>>>) -> Result<(), ProviderError> {
        probe::remove_left(&self.engine, &self.resolved).await?;
        remove_volume(&self.engine, &self.name).await?;
        let request = VolumeCreateRequest {
            name: Some(self.name.clone()),
            driver: Some("local".to_owned()),
            labels: Some(owner_labels(&self.resolved, ResourceRole::RestoredData, &self.control_plane).into_iter().collect()),
            ..VolumeCreateRequest::default()
        };
        self.engine.client.create_volume(request).await.map_err(|error| self.engine.failed("make a volume", error))?;
        failpoint::hit("provider.docker.staging_made");
        let probe = self.probe(ProbeMount::Writable).await?;
        let filled = self.fill(&probe, archive).await;
        self.engine.remove_container(&probe, true).await?;
        if filled.is_err() {
            remove_volume(&self.engine, &self.name).await?;
        }
        filled
    }
}
