//! Backends as containers on a Docker engine: one container, one named volume and one network alias for each.
//!
//! What belongs to a backend is known by its labels, which carry an identity that only the control plane knows; names are
//! for people. Secrets reach a container as files in its volume, so `docker inspect` shows none; who may run commands on
//! the engine can read the volume and the process's arguments all the same. Must not do: touch what does not carry the
//! labels, except what was taken over by name and noted in the references.

mod backend;
mod container_ops;
mod dashboard;
mod database;
mod desired;
mod diff;
mod engine;
mod hardening;
mod image;
mod import;
mod inventory;
mod labels;
mod launch_file;
mod limits;
mod logs;
mod observe;
mod readiness;
mod redact;
mod registry;
mod repair;
mod rollout;
mod sidecar;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bollard::query_parameters::RemoveVolumeOptions;
use futures_util::future::BoxFuture;
use tokio::sync::OnceCell;

use self::backend::BackendContext;
use self::desired::ContainerSpec;
use self::diff::{RepairKind, diff_container};
use self::engine::Engine;
pub use self::engine::EngineSource;
use self::image::{Image, ImagePin, ImageStore, POSTGRES_IMAGE};
pub use self::import::{ExternalContainer, ExternalStorage};
use self::inventory::{Inventory, take_inventory};
pub use self::labels::ControlPlaneId;
use self::labels::ResourceRole;
use self::redact::Redactor;
use self::rollout::Rollout;
use super::{LogChunk, LogPosition, ProgressFn, Provider, ProviderError};
use crate::convex::deployment::DeploymentClient;
use crate::convex::release::COMMITS;
use crate::failpoint;
use crate::model::{BackendId, BackendSpec, INTERNAL_URL, Observation, ProviderKind, ProviderState, ResolvedBackend};

/// How long a container has to end by itself: what Convex's own compose file gives it.
const GRACE: Duration = Duration::from_secs(10);
/// How long a replacement may take until it answers. Large databases are known to need more than 30 s.
const READY_WITHIN: Duration = Duration::from_secs(300);
/// How long a first container is watched for an early end: most that cannot work end at once.
const WATCHED_FOR: Duration = Duration::from_millis(1500);

/// Runs backends as containers.
pub struct Docker {
    source: EngineSource,
    control_plane: ControlPlaneId,
    grace: Duration,
    ready_within: Duration,
    watched_for: Duration,
    connections: DeploymentClient,
    commits: String,
    engine: OnceCell<Engine>,
    /// One command works on a backend at a time.
    locks: Mutex<HashMap<BackendId, Arc<tokio::sync::Mutex<()>>>>,
    /// The networks are shared by all backends of a project.
    network_lock: tokio::sync::Mutex<()>,
}

/// What a backend's containers are made from.
struct ResolvedImages {
    setting: BackendContext,
    backend: Image,
    dashboard: Option<Image>,
    database: Option<Image>,
}

impl Docker {
    /// Containers on the engine that `source` says, for this control plane. Nothing is connected to yet.
    pub fn new(source: EngineSource, control_plane: ControlPlaneId) -> Self {
        Self {
            source,
            control_plane,
            grace: GRACE,
            ready_within: READY_WITHIN,
            watched_for: WATCHED_FOR,
            connections: DeploymentClient::default(),
            commits: COMMITS.to_owned(),
            engine: OnceCell::new(),
            locks: Mutex::default(),
            network_lock: tokio::sync::Mutex::default(),
        }
    }

    /// Gives containers another time to end by themselves than ten seconds.
    #[must_use]
    pub fn with_grace(self, grace: Duration) -> Self {
        Self { grace, ..self }
    }

    /// Gives a replacement another time to answer than five minutes.
    #[must_use]
    pub fn with_ready_within(self, ready_within: Duration) -> Self {
        Self { ready_within, ..self }
    }

    /// Watches a first container for an early end longer or shorter than a second and a half, unless it answers before.
    #[must_use]
    pub fn with_watched_for(self, watched_for: Duration) -> Self {
        Self { watched_for, ..self }
    }

    /// Asks another server than the official one for the commit of a `precompiled-…` tag.
    #[must_use]
    pub fn with_commits(self, commits: String) -> Self {
        Self { commits, ..self }
    }

    async fn engine(&self) -> Result<&Engine, ProviderError> {
        self.engine.get_or_try_init(|| Engine::connect(&self.source)).await
    }

    fn setting(&self, placement: &ResolvedBackend, engine: &Engine) -> Result<BackendContext, ProviderError> {
        let grace_s = i64::try_from(self.grace.as_secs()).unwrap_or(i64::MAX);
        BackendContext::new(placement, engine, &self.control_plane, grace_s)
    }

    fn backend_lock(&self, id: &BackendId) -> Arc<tokio::sync::Mutex<()>> {
        let mut turns = self.locks.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(turns.entry(id.clone()).or_default())
    }

    /// Everything that has to be fetched is fetched before anything is touched.
    async fn parts(
        &self,
        engine: &Engine,
        placement: &ResolvedBackend,
        seen: &Inventory,
        notice: ProgressFn<'_>,
    ) -> Result<ResolvedImages, ProviderError> {
        let setting = self.setting(placement, engine)?;
        database::require_supported(placement)?;
        let images = ImageStore { engine, source: &self.source, policy: placement.spec.settings.docker.pull };
        let references = &placement.provider_state;
        let reference = image::backend_reference(placement)?;
        let mut backend = images.resolve(&reference, &ImagePin::BACKEND, references, notice).await?;
        if self.is_made_anew(placement, &backend, &setting, seen) {
            backend = images.refresh(backend, notice).await?;
        }
        let dashboard = match placement.spec.dashboard {
            true => {
                let reference = image::dashboard_reference(placement, &backend)?;
                Some(images.resolve(&reference, &ImagePin::DASHBOARD, references, notice).await?)
            }
            false => None,
        };
        let database = match database::is_managed(placement) {
            true => {
                let reference = placement.spec.settings.docker.database_image.as_deref().unwrap_or(POSTGRES_IMAGE);
                Some(images.resolve(reference, &ImagePin::DATABASE, references, notice).await?)
            }
            false => None,
        };
        Ok(ResolvedImages { setting, backend, dashboard, database })
    }

    /// Whether the container is going to be another one, whatever image it has.
    fn is_made_anew(&self, placement: &ResolvedBackend, image: &Image, setting: &BackendContext, seen: &Inventory) -> bool {
        let Ok(wanted) = backend::container_spec(placement, image, setting) else { return false };
        seen.current(&setting.names).is_none_or(|current| {
            diff_container("", Some(&wanted), current).iter().any(|difference| difference.repair == RepairKind::Replace)
        })
    }

    async fn reconcile(&self, placement: &ResolvedBackend, notice: ProgressFn<'_>) -> Result<ProviderState, ProviderError> {
        let engine = self.engine().await?;
        let turn = self.backend_lock(&placement.id);
        let _turn = turn.lock().await;
        limits::validate_limits(&placement.spec.resources, engine.capabilities, engine.capacity)?;
        let seen = take_inventory(engine, placement).await?;
        let placement = &image::resolve_commit(placement.clone(), &self.commits).await;
        let parts = self.parts(engine, placement, &seen, notice).await?;
        let setting = &parts.setting;
        let wanted = backend::container_spec(placement, &parts.backend, setting)?;
        {
            let _turn = self.network_lock.lock().await;
            sidecar::ensure_network(engine, placement, setting).await?;
        }
        if let Some(image) = &parts.database {
            sidecar::ensure_volume(engine, placement, &seen, ResourceRole::DatabaseData, setting).await?;
            let server = sidecar::ensure_sidecar(engine, &seen, &database::container_spec(placement, image, setting)).await?;
            sidecar::wait_until_healthy(engine, &server).await?;
            failpoint::hit("provider.docker.database_ready");
        }
        sidecar::ensure_volume(engine, placement, &seen, ResourceRole::Data, setting).await?;
        let work = Rollout {
            engine,
            placement,
            setting,
            wanted: &wanted,
            connections: &self.connections,
            ready_within: self.ready_within,
            watched_for: self.watched_for,
            notice,
        };
        work.run().await?;
        let mut references = ProviderState::new();
        ImagePin::BACKEND.record(&parts.backend, &mut references);
        image::copy_commit_pin(placement, &mut references);
        references.insert(INTERNAL_URL.to_owned(), setting.internal_url(placement.ports.api));
        if let Some(volume) = placement.provider_state.get(inventory::ADOPTED_VOLUME) {
            references.insert(inventory::ADOPTED_VOLUME.to_owned(), volume.clone());
        }
        if let Some(image) = &parts.database {
            ImagePin::DATABASE.record(image, &mut references);
        }
        match &parts.dashboard {
            Some(image) => self.ensure_dashboard(engine, placement, &seen, setting, image, &mut references).await?,
            None => sidecar::remove_sidecars(engine, &seen, ResourceRole::Dashboard).await?,
        }
        Ok(references)
    }

    /// Brings the dashboard about, on the port that it has, or on the first that is free.
    async fn ensure_dashboard(
        &self,
        engine: &Engine,
        placement: &ResolvedBackend,
        seen: &Inventory,
        setting: &BackendContext,
        image: &Image,
        references: &mut ProviderState,
    ) -> Result<(), ProviderError> {
        ImagePin::DASHBOARD.record(image, references);
        let known = dashboard::known_port(placement, seen);
        let ports: Vec<u16> = known.map_or_else(|| dashboard::PORTS.collect(), |port| vec![port]);
        let mut taken = ports.first().copied().unwrap_or_default();
        for port in ports {
            let wanted = dashboard::container_spec(placement, image, setting, port);
            match sidecar::ensure_sidecar(engine, seen, &wanted).await {
                Ok(_) => {
                    dashboard::note(setting, port, references);
                    return Ok(());
                }
                Err(ProviderError::PortTaken { port, .. }) => taken = port,
                Err(error) => return Err(error),
            }
        }
        Err(ProviderError::PortTaken { port: taken, holder: None })
    }

    async fn destroy(&self, placement: &ResolvedBackend) -> Result<(), ProviderError> {
        let engine = self.engine().await?;
        let turn = self.backend_lock(&placement.id);
        let _turn = turn.lock().await;
        let seen = take_inventory(engine, placement).await?;
        for container in seen.containers().iter().chain(&seen.adopted) {
            engine.stop_container(container).await?;
            engine.remove_container(inventory::id_of(container), true).await?;
        }
        for volume in seen.volumes() {
            match engine.client.remove_volume(&volume.name, None::<RemoveVolumeOptions>).await {
                Ok(()) => {}
                Err(error) if engine::is_absent(&error) => {}
                Err(error) => return Err(engine.failed(&format!("remove the volume `{}`", volume.name), error)),
            }
            failpoint::hit("provider.docker.volume_removed");
        }
        let _turn = self.network_lock.lock().await;
        sidecar::remove_networks(engine, placement).await
    }
}

impl Provider for Docker {
    fn kind(&self) -> ProviderKind {
        ProviderKind::Docker
    }

    fn validate<'a>(&'a self, spec: &'a BackendSpec) -> BoxFuture<'a, Result<(), ProviderError>> {
        Box::pin(async move {
            let engine = self.engine().await?;
            limits::validate_limits(&spec.resources, engine.capabilities, engine.capacity)
        })
    }

    fn observe<'a>(&'a self, placement: &'a ResolvedBackend) -> BoxFuture<'a, Result<Observation, ProviderError>> {
        Box::pin(self.observe_redacted(placement))
    }

    fn ensure<'a>(
        &'a self,
        placement: &'a ResolvedBackend,
        notice: ProgressFn<'a>,
    ) -> BoxFuture<'a, Result<ProviderState, ProviderError>> {
        Box::pin(async move {
            let done = self.reconcile(placement, notice).await;
            done.map_err(|error| Redactor::of(placement).redact_error(error))
        })
    }

    fn remove<'a>(&'a self, placement: &'a ResolvedBackend, _: ProgressFn<'a>) -> BoxFuture<'a, Result<(), ProviderError>> {
        Box::pin(self.destroy(placement))
    }

    fn logs<'a>(&'a self, placement: &'a ResolvedBackend, from: LogPosition) -> BoxFuture<'a, Result<LogChunk, ProviderError>> {
        Box::pin(async move {
            let engine = self.engine().await?;
            let seen = take_inventory(engine, placement).await?;
            match seen.current(&labels::ResourceNames::of(placement)).or(seen.adopted.as_ref()) {
                Some(container) => logs::read(engine, inventory::id_of(container), from).await,
                None => Ok(LogChunk { text: String::new(), next: if let LogPosition::Byte(next) = from { next } else { 0 } }),
            }
        })
    }
}

impl Docker {
    /// The containers as they should be, as far as everything for that is at hand.
    fn wanted(&self, placement: &ResolvedBackend, setting: &BackendContext, image: &Image) -> Option<ContainerSpec> {
        backend::container_spec(placement, image, setting).ok()
    }
}
