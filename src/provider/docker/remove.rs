//! Removal of a backend: its containers, its volumes unless they are retained, and networks that nothing else needs.

use super::volume_users::remove_volume;
use super::{Docker, half_made, inventory, labels, network, proxy};
use crate::failpoint;
use crate::model::{ResolvedBackend, VolumeReclaim};
use crate::provider::ProviderError;

impl Docker {
    /// Removes a backend.
    pub(super) async fn destroy(&self, resolved: &ResolvedBackend, reclaim: VolumeReclaim) -> Result<(), ProviderError> {
        let engine = &self.engine_of(&resolved.spec).await?;
        let _lock = self.locks.lock(&resolved.id).await;
        let seen = self.inventory(engine, resolved).await?;
        let with_volumes = reclaim == VolumeReclaim::Delete;
        for container in seen.containers().iter().chain(&seen.adopted) {
            engine.stop_container(container).await?;
            engine.remove_container(inventory::id_of(container), with_volumes).await?;
        }
        // A volume that stays keeps its labels, by which the next container with this identity finds it.
        for volume in seen.volumes().iter().filter(|_| with_volumes) {
            remove_volume(engine, &volume.name).await?;
            failpoint::hit("provider.docker.volume_removed");
        }
        if with_volumes {
            half_made::remove_all_half_made(engine, resolved, &seen, &self.control_plane).await?;
        }
        let _lock = self.network_lock.lock().await;
        proxy::remove_route(engine, &labels::ResourceNames::of(resolved)).await?;
        network::remove_networks(engine, resolved).await
    }
}
