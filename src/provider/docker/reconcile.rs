//! One reconciliation of a backend: images, networks, routes, volumes and containers, in this order.

use super::engine::Engine;
use super::external_proxy::ExternalProxy;
use super::image::ImagePin;
use super::labels::ResourceRole;
use super::readiness::ReadinessProbe;
use super::rollout::{Fallback, Rollout};
use super::{Docker, build_order, dashboard, database, image, limits, network, proxy, sidecar, volume};
use crate::failpoint;
use crate::model::{DATA_KEYS, INTERNAL_URL, ProviderState, RELEASE_CREATED, ResolvedBackend};
use crate::provider::{ProgressFn, ProviderError};

impl Docker {
    /// Brings everything of a backend to its desired state, and returns what is recorded of it.
    pub(super) async fn reconcile(
        &self,
        resolved: &ResolvedBackend,
        fallback: Fallback,
        progress: ProgressFn<'_>,
    ) -> Result<ProviderState, ProviderError> {
        let engine = &self.engine_of(&resolved.spec).await?;
        let _lock = self.locks.lock(&resolved.id).await;
        limits::validate_limits(&resolved.spec.resources, engine.capabilities, engine.capacity)?;
        let inventory = self.inventory(engine, resolved).await?;
        let resolved = &image::resolve_commit(resolved.clone(), &self.commits).await;
        let context = &mut self.context(resolved, engine, &inventory).await?;
        context.external_proxy = self.discover_proxy(engine, resolved).await?;
        let images = self.resolve_images(engine, resolved, &inventory, context, progress).await?;
        build_order::refuse_older(resolved, &images.backend)?;
        {
            let _lock = self.network_lock.lock().await;
            network::ensure_networks(engine, resolved, context).await?;
            match &images.proxy {
                Some(image) => proxy::ensure_route(engine, resolved, context, image).await?,
                None => proxy::remove_route(engine, &context.names).await?,
            }
        }
        if let Some(image) = &images.database {
            volume::ensure_volume(engine, resolved, &inventory, ResourceRole::DatabaseData, image, context).await?;
            let spec = database::container_spec(resolved, image, context);
            let server = sidecar::ensure_sidecar(engine, &inventory, &spec).await?;
            sidecar::wait_until_healthy(engine, &server).await?;
            failpoint::hit("provider.docker.database_ready");
        }
        volume::ensure_volume(engine, resolved, &inventory, ResourceRole::Data, &images.backend, context).await?;
        let url = context.internal_url(resolved.ports.api);
        let probe = self.probe(engine, resolved, &url);
        let rollout = Rollout { engine, resolved, context, wanted: &images.spec, probe, fallback, progress };
        rollout.run().await?;
        let mut state = ProviderState::new();
        engine.identity.record(engine.url(), &mut state);
        ImagePin::BACKEND.record(&images.backend, &mut state);
        image::copy_commit_pin(resolved, &mut state);
        if let Some(created) = &images.backend.created {
            state.insert(RELEASE_CREATED.to_owned(), created.clone());
        }
        // A tunnel lasts no longer than this process.
        if !context.is_on_server() {
            state.insert(INTERNAL_URL.to_owned(), url);
        }
        for key in DATA_KEYS {
            state.extend(resolved.provider_state.get(key).map(|value| (key.to_owned(), value.clone())));
        }
        if let Some(image) = &images.database {
            ImagePin::DATABASE.record(image, &mut state);
        }
        if let Some(image) = &images.proxy {
            ImagePin::PROXY.record(image, &mut state);
        }
        if let Some(proxy) = &context.external_proxy {
            proxy.record(&mut state);
        }
        match &images.dashboard {
            Some(image) => dashboard::ensure(engine, resolved, &inventory, context, image, &mut state).await?,
            None => sidecar::remove_sidecars(engine, &inventory, ResourceRole::Dashboard).await?,
        }
        Ok(state)
    }

    /// Finds the proxy of other software that is to lead a backend's routes to it, on a network that may be joined.
    pub(super) async fn discover_proxy(
        &self,
        engine: &Engine,
        resolved: &ResolvedBackend,
    ) -> Result<Option<ExternalProxy>, ProviderError> {
        let found = proxy::discover(engine, resolved).await?;
        found.iter().try_for_each(|proxy| self.allowed.check_network(proxy.network()))?;
        Ok(found)
    }

    /// Returns what waits for the backend to answer at `url`.
    pub(super) fn probe<'a>(&'a self, engine: &'a Engine, resolved: &'a ResolvedBackend, url: &'a str) -> ReadinessProbe<'a> {
        let (ready_within, watched_for) = (self.ready_within, self.watched_for);
        ReadinessProbe { engine, resolved, connections: &self.connections, url, ready_within, watched_for }
    }
}
