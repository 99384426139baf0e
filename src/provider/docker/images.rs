//! The images of all containers of a backend, resolved before anything is touched.

use super::container_diff::diff_container;
use super::context::BackendContext;
use super::desired::ContainerSpec;
use super::diff::RepairKind;
use super::engine::Engine;
use super::image::{self, Image, ImagePin, ImageStore, database_image};
use super::inventory::Inventory;
use super::{Docker, backend, database, proxy};
use crate::model::ResolvedBackend;
use crate::provider::{ProgressFn, ProviderError};

/// What a backend's containers are made from.
pub(super) struct ResolvedImages {
    pub(super) backend: Image,
    /// The backend's container made from it.
    pub(super) spec: ContainerSpec,
    pub(super) dashboard: Option<Image>,
    pub(super) database: Option<Image>,
    pub(super) proxy: Option<Image>,
}

impl Docker {
    /// Resolves all images, and with them the backend's container. What has to be fetched is fetched before anything is touched.
    pub(super) async fn resolve_images(
        &self,
        engine: &Engine,
        resolved: &ResolvedBackend,
        inventory: &Inventory,
        context: &BackendContext,
        progress: ProgressFn<'_>,
    ) -> Result<ResolvedImages, ProviderError> {
        database::require_supported(resolved)?;
        let images = ImageStore { engine, source: &self.source, policy: resolved.spec.settings.docker.pull };
        let state = &resolved.provider_state;
        let reference = image::backend_reference(resolved)?;
        let mut backend = images.resolve(&reference, &ImagePin::BACKEND, state, progress).await?;
        let mut spec = backend::container_spec(resolved, &backend, context)?;
        if images.refreshes() && needs_replacement(inventory, context, &spec) {
            backend = images.refresh(backend, progress).await?;
            spec = backend::container_spec(resolved, &backend, context)?;
        }
        let dashboard = match resolved.spec.dashboard {
            true => {
                let reference = image::dashboard_reference(resolved, &backend)?;
                Some(images.resolve(&reference, &ImagePin::DASHBOARD, state, progress).await?)
            }
            false => None,
        };
        let database = match database::is_managed(resolved) {
            true => {
                let reference = database_image(&resolved.spec.settings.docker);
                Some(images.resolve(reference, &ImagePin::DATABASE, state, progress).await?)
            }
            false => None,
        };
        let proxy = match proxy::is_routed(resolved) && context.external_proxy.is_none() {
            true => Some(images.resolve(proxy::image_reference(resolved), &ImagePin::PROXY, state, progress).await?),
            false => None,
        };
        Ok(ResolvedImages { backend, spec, dashboard, database, proxy })
    }
}

/// Returns whether the backend's container is going to be replaced, even with the same image.
fn needs_replacement(inventory: &Inventory, context: &BackendContext, spec: &ContainerSpec) -> bool {
    inventory.current(&context.names).is_none_or(|current| {
        diff_container("", Some(spec), current).iter().any(|difference| difference.repair == RepairKind::Replace)
    })
}
