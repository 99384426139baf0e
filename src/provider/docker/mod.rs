//! Backends as containers on a Docker engine: one container, one named volume and one network alias for each.
//!
//! What belongs to a backend is known by its labels, which carry an identity that only the control plane knows; names are
//! for people. Secrets reach a container as files in its volume, so `docker inspect` shows none; who may run commands on
//! the engine can read the volume and the process's arguments all the same. What does not carry the labels is not touched,
//! except what was taken over by name and recorded in the provider state.
//!
//! Every reconciliation is one pass: `inventory` (what is there), `desired` (what should be), `diff` (how they
//! differ), `repair` and `rollout` (what is done about it, by `container_ops`).

mod allow_list;
mod backend;
mod container_diff;
mod container_ops;
mod context;
mod dashboard;
mod database;
mod desired;
mod diff;
mod engine;
mod half_made;
mod hardening;
mod image;
mod import;
mod inventory;
mod labels;
mod launch_file;
mod limits;
mod logs;
mod neighbour;
mod network;
mod observe;
mod readiness;
mod recovery;
mod redact;
mod registry;
mod repair;
mod rollout;
mod sidecar;
mod volume;
mod volume_users;

use std::time::Duration;

use bollard::query_parameters::RemoveVolumeOptions;
use tokio::sync::OnceCell;

pub use self::allow_list::AllowList;
use self::container_diff::diff_container;
use self::context::BackendContext;
use self::desired::ContainerSpec;
use self::diff::RepairKind;
use self::engine::Engine;
pub use self::engine::EngineSource;
use self::image::{Image, ImagePin, ImageStore, database_image};
pub use self::import::{ExternalContainer, ExternalFiles, ExternalStorage, ImportConflict, ImportedSpec, missing_lines};
use self::inventory::{Inventory, take_inventory};
pub use self::labels::ControlPlaneId;
use self::labels::ResourceRole;
use self::readiness::ReadinessProbe;
pub use self::recovery::{Orphan, RecoveredBackend};
use self::rollout::Rollout;
use super::kit::keyed_lock::KeyedLock;
use super::{FoundBackend, LogChunk, LogPosition, ProgressFn, Provider, ProviderError, async_trait};
use crate::convex::deployment::DeploymentClient;
use crate::convex::release::COMMITS;
use crate::failpoint;
use crate::model::{
    BackendId, BackendName, BackendSpec, INTERNAL_URL, Observation, ProjectName, ProviderKind, ProviderState, RELEASE_CREATED,
    ResolvedBackend, VolumeReclaim,
};

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
    allowed: AllowList,
    /// One command works on a backend at a time.
    locks: KeyedLock<BackendId>,
    /// The networks are shared by all backends of a project.
    network_lock: tokio::sync::Mutex<()>,
}

/// What a backend's containers are made from.
struct ResolvedImages {
    backend: Image,
    /// The backend's container made from it.
    spec: ContainerSpec,
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
            allowed: AllowList::default(),
            locks: KeyedLock::default(),
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

    /// Allows only what is listed.
    #[must_use]
    pub fn with_allow_list(self, allowed: AllowList) -> Self {
        Self { allowed, ..self }
    }

    async fn engine(&self) -> Result<&Engine, ProviderError> {
        self.engine.get_or_try_init(|| Engine::connect(&self.source)).await
    }

    async fn inventory(&self, engine: &Engine, resolved: &ResolvedBackend) -> Result<Inventory, ProviderError> {
        self.inventory_of(engine, &resolved.id, &resolved.name, &resolved.provider_state).await
    }

    /// Looks at everything that the engine has of a backend. An engine that has nothing of it, and is not the one that it was
    /// made on, is no answer.
    async fn inventory_of(
        &self,
        engine: &Engine,
        id: &BackendId,
        name: &BackendName,
        state: &ProviderState,
    ) -> Result<Inventory, ProviderError> {
        let inventory = take_inventory(engine, id, state).await?;
        match engine.identity.differs_from(state) {
            Some(recorded) if inventory.is_empty() => {
                Err(ProviderError::OtherEngine { name: name.to_string(), recorded, found: engine.url().to_owned() })
            }
            _ => Ok(inventory),
        }
    }

    fn context(
        &self,
        resolved: &ResolvedBackend,
        engine: &Engine,
        inventory: &Inventory,
    ) -> Result<BackendContext, ProviderError> {
        let grace_s = i64::try_from(self.grace.as_secs()).unwrap_or(i64::MAX);
        BackendContext::new(resolved, engine, inventory, &self.control_plane, &self.allowed, grace_s)
    }

    /// Resolves all images, and with them the backend's container. Everything that has to be fetched is fetched before anything
    /// is touched.
    async fn resolve_images(
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
        Ok(ResolvedImages { backend, spec, dashboard, database })
    }

    async fn reconcile(&self, resolved: &ResolvedBackend, progress: ProgressFn<'_>) -> Result<ProviderState, ProviderError> {
        let engine = self.engine().await?;
        let _lock = self.locks.lock(&resolved.id).await;
        limits::validate_limits(&resolved.spec.resources, engine.capabilities, engine.capacity)?;
        let inventory = self.inventory(engine, resolved).await?;
        let resolved = &image::resolve_commit(resolved.clone(), &self.commits).await;
        let context = &self.context(resolved, engine, &inventory)?;
        let images = self.resolve_images(engine, resolved, &inventory, context, progress).await?;
        image::refuse_older(resolved, &images.backend)?;
        {
            let _lock = self.network_lock.lock().await;
            network::ensure_networks(engine, resolved, context).await?;
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
        let rollout = Rollout { engine, resolved, context, wanted: &images.spec, probe, progress };
        rollout.run().await?;
        let mut state = ProviderState::new();
        engine.identity.record(engine.url(), &mut state);
        ImagePin::BACKEND.record(&images.backend, &mut state);
        image::copy_commit_pin(resolved, &mut state);
        if let Some(created) = &images.backend.created {
            state.insert(RELEASE_CREATED.to_owned(), created.clone());
        }
        state.insert(INTERNAL_URL.to_owned(), url);
        if let Some(volume) = resolved.provider_state.get(inventory::ADOPTED_VOLUME) {
            state.insert(inventory::ADOPTED_VOLUME.to_owned(), volume.clone());
        }
        if let Some(image) = &images.database {
            ImagePin::DATABASE.record(image, &mut state);
        }
        match &images.dashboard {
            Some(image) => self.ensure_dashboard(engine, resolved, &inventory, context, image, &mut state).await?,
            None => sidecar::remove_sidecars(engine, &inventory, ResourceRole::Dashboard).await?,
        }
        Ok(state)
    }

    fn probe<'a>(&'a self, engine: &'a Engine, resolved: &'a ResolvedBackend, url: &'a str) -> ReadinessProbe<'a> {
        let (ready_within, watched_for) = (self.ready_within, self.watched_for);
        ReadinessProbe { engine, resolved, connections: &self.connections, url, ready_within, watched_for }
    }

    /// Ensures the dashboard, on the port that it has, or on the first that is free.
    async fn ensure_dashboard(
        &self,
        engine: &Engine,
        resolved: &ResolvedBackend,
        seen: &Inventory,
        context: &BackendContext,
        image: &Image,
        references: &mut ProviderState,
    ) -> Result<(), ProviderError> {
        ImagePin::DASHBOARD.record(image, references);
        let known = dashboard::known_port(resolved, seen);
        // No env file names a dashboard: it keeps its port where that is free, and moves where it is not.
        let ports: Vec<u16> = known.into_iter().chain(dashboard::PORTS.filter(|port| Some(*port) != known)).collect();
        let mut taken = ports.first().copied().unwrap_or_default();
        for port in ports {
            let wanted = dashboard::container_spec(resolved, image, context, port);
            match sidecar::ensure_sidecar(engine, seen, &wanted).await {
                Ok(_) => {
                    dashboard::note(context, port, references);
                    return Ok(());
                }
                Err(ProviderError::PortTaken { port, .. } | ProviderError::PortPublished { port, .. }) => taken = port,
                Err(error) => return Err(error),
            }
        }
        Err(ProviderError::PortTaken { port: taken, holder: None })
    }

    async fn destroy(&self, resolved: &ResolvedBackend, reclaim: VolumeReclaim) -> Result<(), ProviderError> {
        let engine = self.engine().await?;
        let _lock = self.locks.lock(&resolved.id).await;
        let seen = self.inventory(engine, resolved).await?;
        let with_volumes = reclaim == VolumeReclaim::Delete;
        for container in seen.containers().iter().chain(&seen.adopted) {
            engine.stop_container(container).await?;
            engine.remove_container(inventory::id_of(container), with_volumes).await?;
        }
        // A volume that stays keeps its labels, by which the next container with this identity finds it.
        for volume in seen.volumes().iter().filter(|_| with_volumes) {
            match engine.client.remove_volume(&volume.name, None::<RemoveVolumeOptions>).await {
                Ok(()) => {}
                Err(error) if engine::is_absent(&error) => {}
                Err(error) => return Err(engine.failed(&format!("remove the volume `{}`", volume.name), error)),
            }
            failpoint::hit("provider.docker.volume_removed");
        }
        if with_volumes {
            half_made::remove_all_half_made(engine, resolved, &seen, &self.control_plane).await?;
        }
        let _lock = self.network_lock.lock().await;
        network::remove_networks(engine, resolved).await
    }
}

#[async_trait]
impl Provider for Docker {
    fn kind(&self) -> ProviderKind {
        ProviderKind::Docker
    }

    async fn validate(&self, spec: &BackendSpec) -> Result<(), ProviderError> {
        self.allowed.check(spec)?;
        let engine = self.engine().await?;
        limits::validate_limits(&spec.resources, engine.capabilities, engine.capacity)
    }

    async fn find(&self, project: &ProjectName, name: &BackendName) -> Result<Vec<FoundBackend>, ProviderError> {
        recovery::find(self.engine().await?, project, name).await
    }

    async fn check_place(&self, id: &BackendId, name: &BackendName, state: &ProviderState) -> Result<(), ProviderError> {
        let engine = self.engine().await?;
        match engine.identity.differs_from(state) {
            Some(_) => self.inventory_of(engine, id, name, state).await.map(drop),
            None => Ok(()),
        }
    }

    async fn observe(&self, resolved: &ResolvedBackend) -> Result<Observation, ProviderError> {
        self.observe_redacted(resolved).await
    }

    async fn ensure(&self, resolved: &ResolvedBackend, progress: ProgressFn<'_>) -> Result<ProviderState, ProviderError> {
        let done = self.reconcile(resolved, progress).await;
        done.map_err(|error| redact::redactor_of(resolved).redact_error(error))
    }

    async fn remove(&self, resolved: &ResolvedBackend, _: ProgressFn<'_>) -> Result<(), ProviderError> {
        self.destroy(resolved, VolumeReclaim::Delete).await
    }

    async fn remove_keeping_data(&self, resolved: &ResolvedBackend, _: ProgressFn<'_>) -> Result<(), ProviderError> {
        self.destroy(resolved, VolumeReclaim::Retain).await
    }

    async fn address_of(&self, resolved: &ResolvedBackend, host: &str) -> Result<Option<std::net::IpAddr>, ProviderError> {
        let docker = &resolved.spec.settings.docker;
        let networks: Vec<String> = docker.network.iter().chain(&docker.networks).cloned().collect();
        if networks.is_empty() || !neighbour::may_be_neighbour(host) {
            return Ok(None);
        }
        let engine = self.engine().await?;
        if engine.remote_host.is_some() {
            return Ok(None);
        }
        Ok(neighbour::find(engine, &networks, host).await?.and_then(|found| found.address))
    }

    fn retained_place(&self, resolved: &ResolvedBackend) -> Option<String> {
        Some(format!("volume {}", labels::ResourceNames::of(resolved).volume(labels::ResourceRole::Data)))
    }

    async fn stop(&self, resolved: &ResolvedBackend) -> Result<(), ProviderError> {
        let _lock = self.locks.lock(&resolved.id).await;
        let engine = self.engine().await?;
        let inventory = self.inventory(engine, resolved).await?;
        let context = self.context(resolved, engine, &inventory)?;
        match inventory.current(&context.names) {
            Some(container) => engine.stop_container(container).await,
            None => Ok(()),
        }
    }

    async fn diagnose(&self, resolved: &ResolvedBackend) -> Option<ProviderError> {
        let engine = self.engine().await.ok()?;
        let inventory = self.inventory(engine, resolved).await.ok()?;
        let context = self.context(resolved, engine, &inventory).ok()?;
        let url = context.internal_url(resolved.ports.api);
        let current = inventory.current(&context.names)?;
        self.probe(engine, resolved, &url).diagnose(inventory::id_of(current)).await
    }

    async fn logs(&self, resolved: &ResolvedBackend, from: LogPosition) -> Result<LogChunk, ProviderError> {
        let engine = self.engine().await?;
        let seen = self.inventory(engine, resolved).await?;
        match seen.current(&labels::ResourceNames::of(resolved)).or(seen.adopted.as_ref()) {
            Some(container) => logs::read(engine, inventory::id_of(container), from).await,
            None => Ok(LogChunk { text: String::new(), next: if let LogPosition::Byte(next) = from { next } else { 0 } }),
        }
    }
}

/// Returns whether the backend's container is going to be replaced, even with the same image.
fn needs_replacement(inventory: &Inventory, context: &BackendContext, spec: &ContainerSpec) -> bool {
    inventory.current(&context.names).is_none_or(|current| {
        diff_container("", Some(spec), current).iter().any(|difference| difference.repair == RepairKind::Replace)
    })
}
