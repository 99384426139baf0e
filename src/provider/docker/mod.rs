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
mod build_order;
mod check;
mod container_diff;
mod container_ops;
mod context;
mod dashboard;
mod database;
mod database_archive;
mod desired;
mod diff;
mod engine;
mod external_proxy;
mod forward;
mod half_made;
mod hardening;
mod image;
mod images;
mod import;
mod inventory;
mod labels;
mod launch_file;
mod limits;
mod logs;
mod neighbour;
mod network;
mod observe;
mod options;
mod own_engine;
mod probe;
mod proxy;
mod readiness;
mod reconcile;
mod recovery;
mod redact;
mod registry;
mod remove;
mod repair;
mod rollout;
mod servers;
mod sidecar;
mod ssh;
mod staging;
mod volume;
mod volume_reader;
mod volume_users;
mod written_data;

use std::time::Duration;

pub use self::allow_list::AllowList;
pub use self::check::{ServerCheck, ServerFacts};
use self::context::BackendContext;
use self::engine::Engine;
pub use self::engine::EngineSource;
pub use self::forward::{ForwardPart, ServerForward};
pub use self::import::{ExternalContainer, missing_lines};
use self::inventory::{Inventory, take_inventory};
pub use self::labels::ControlPlaneId;
use self::own_engine::OwnEngine;
pub use self::proxy::{PortHolder, ProxyError, ProxyProduct};
pub use self::recovery::{Orphan, RecoveredBackend};
use self::rollout::Fallback;
use self::servers::Servers;
pub use self::ssh::{SshError, SshFailure};
use super::kit::data_place::{DataPlace, DataVolume, DatabasePlace, StagedVolume, StagingPlace, VolumeAccess};
use super::kit::keyed_lock::KeyedLock;
use super::{
    FoundBackend, LogChunk, LogPosition, PlaceFindings, ProgressFn, Provider, ProviderError, StateJournal, async_trait,
};
use crate::convex::deployment::DeploymentClient;
use crate::convex::release::COMMITS;
use crate::model::{
    BackendId, BackendName, BackendSpec, Diagnostic, Observation, ProjectName, ProviderKind, ProviderState, ResolvedBackend,
    SnapshotId, VolumeReclaim, error_chain,
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
    engine: OwnEngine,
    servers: Servers,
    allowed: AllowList,
    /// One command works on a backend at a time.
    locks: KeyedLock<BackendId>,
    /// The networks are shared by all backends of a project.
    network_lock: tokio::sync::Mutex<()>,
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
            engine: OwnEngine::default(),
            servers: Servers::default(),
            allowed: AllowList::default(),
            locks: KeyedLock::default(),
            network_lock: tokio::sync::Mutex::default(),
        }
    }

    async fn engine(&self) -> Result<&Engine, ProviderError> {
        self.engine.get(&self.source).await
    }

    /// Returns the engine that a backend is to run on: the one of its server, or the one that Docker's own tools would use.
    async fn engine_of(&self, spec: &BackendSpec) -> Result<Engine, ProviderError> {
        match &spec.settings.docker.server {
            Some(server) => self.servers.engine(server).await,
            None => self.engine().await.cloned(),
        }
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

    async fn context(
        &self,
        resolved: &ResolvedBackend,
        engine: &Engine,
        inventory: &Inventory,
    ) -> Result<BackendContext, ProviderError> {
        let grace_s = i64::try_from(self.grace.as_secs()).unwrap_or(i64::MAX);
        let tunnel = self.tunnel(resolved, engine).await?;
        BackendContext::new(resolved, engine, inventory, &self.control_plane, &self.allowed, grace_s, tunnel)
    }

    /// Returns the URL on this machine that leads to a backend on a server.
    async fn tunnel(&self, resolved: &ResolvedBackend, engine: &Engine) -> Result<Option<String>, ProviderError> {
        let port = resolved.spec.settings.docker.api_port.unwrap_or(resolved.ports.api);
        engine.tunnel(&labels::ResourceNames::of(resolved).backend(), port).await
    }
}

#[async_trait]
impl Provider for Docker {
    fn kind(&self) -> ProviderKind {
        ProviderKind::Docker
    }

    async fn authorize(&self, spec: &BackendSpec) -> Result<(), ProviderError> {
        self.allowed.check(spec)
    }

    async fn validate(&self, spec: &BackendSpec) -> Result<(), ProviderError> {
        let engine = self.engine_of(spec).await?;
        limits::validate_limits(&spec.resources, engine.capabilities, engine.capacity)
    }

    async fn preflight(&self, resolved: &ResolvedBackend) -> PlaceFindings {
        let look = async {
            let engine = &self.engine_of(&resolved.spec).await?;
            let external = self.discover_proxy(engine, resolved).await?;
            if external.is_none() {
                proxy::preflight(engine, resolved).await?;
            }
            Ok((external, build_order::look_up(engine, &self.source, resolved).await?))
        };
        let mut findings = PlaceFindings::default();
        match look.await {
            Ok((external, order)) => {
                findings.release_order = order;
                let note = external.map(|proxy| Diagnostic::new("docker.external_proxy", proxy.description(resolved)));
                findings.notes.extend(note);
            }
            Err(ProviderError::Proxy(error)) => {
                findings.refusals.push(Diagnostic::new(error.code(), error.to_string()).with_help(error.help()));
            }
            Err(error @ ProviderError::Downgrade { .. }) => {
                findings.refusals.push(Diagnostic::new("plan.downgrade", error.to_string()));
            }
            Err(error) => {
                let message = format!("what the engine says to it is not known before it is made: {}", error_chain(&error));
                findings.notes.push(Diagnostic::new("docker.unseen", message));
            }
        }
        findings
    }

    async fn find(
        &self,
        project: &ProjectName,
        name: &BackendName,
        spec: &BackendSpec,
    ) -> Result<Vec<FoundBackend>, ProviderError> {
        recovery::find(&self.engine_of(spec).await?, project, name).await
    }

    async fn check_place(
        &self,
        id: &BackendId,
        name: &BackendName,
        spec: &BackendSpec,
        state: &ProviderState,
    ) -> Result<(), ProviderError> {
        let engine = &self.engine_of(spec).await?;
        match engine.identity.differs_from(state) {
            Some(_) => self.inventory_of(engine, id, name, state).await.map(drop),
            None => Ok(()),
        }
    }

    async fn observe(&self, resolved: &ResolvedBackend) -> Result<Observation, ProviderError> {
        self.observe_redacted(resolved).await
    }

    async fn ensure(&self, resolved: &ResolvedBackend, progress: ProgressFn<'_>) -> Result<ProviderState, ProviderError> {
        let done = self.reconcile(resolved, Fallback::Predecessor, progress).await;
        done.map_err(|error| redact::redactor_of(resolved).redact_error(error))
    }

    async fn start_release(
        &self,
        resolved: &ResolvedBackend,
        progress: ProgressFn<'_>,
        _: &dyn StateJournal,
    ) -> Result<ProviderState, ProviderError> {
        let done = self.reconcile(resolved, Fallback::Stopped, progress).await;
        done.map_err(|error| redact::redactor_of(resolved).redact_error(error))
    }

    async fn remove(&self, resolved: &ResolvedBackend, _: ProgressFn<'_>) -> Result<(), ProviderError> {
        self.destroy(resolved, VolumeReclaim::Delete).await
    }

    async fn remove_keeping_data(&self, resolved: &ResolvedBackend, _: ProgressFn<'_>) -> Result<(), ProviderError> {
        self.destroy(resolved, VolumeReclaim::Retain).await
    }

    async fn address_of(&self, resolved: &ResolvedBackend, host: &str) -> Result<Option<std::net::IpAddr>, ProviderError> {
        if !neighbour::is_looked_for(resolved, host) {
            return Ok(None);
        }
        neighbour::address_of(&self.engine_of(&resolved.spec).await?, resolved, host).await
    }

    fn data_place(&self, resolved: &ResolvedBackend) -> Result<DataPlace, ProviderError> {
        volume_reader::require_own_volume(resolved).map(|()| DataPlace::Volume)
    }

    fn database_place(&self, resolved: &ResolvedBackend) -> Option<DatabasePlace> {
        volume_reader::require_whole_volume(resolved).ok().map(|()| DatabasePlace::Volume)
    }

    async fn open_volume(
        &self,
        resolved: &ResolvedBackend,
        access: VolumeAccess,
    ) -> Result<Box<dyn DataVolume>, ProviderError> {
        self.open_data(resolved, access).await
    }

    fn staging_place(&self, resolved: &ResolvedBackend, snapshot: &SnapshotId) -> Result<StagingPlace, ProviderError> {
        staging::staging_place(resolved, snapshot)
    }

    async fn open_staging(&self, resolved: &ResolvedBackend, id: &SnapshotId) -> Result<Box<dyn StagedVolume>, ProviderError> {
        self.open_staged(resolved, id).await
    }

    async fn switch_data(&self, resolved: &ResolvedBackend, snapshot: &SnapshotId) -> Result<ProviderState, ProviderError> {
        self.switch_volume(resolved, snapshot).await
    }

    async fn drop_previous(&self, resolved: &ResolvedBackend) -> Result<ProviderState, ProviderError> {
        self.drop_previous_volume(resolved).await
    }

    async fn confirm_data(&self, resolved: &ResolvedBackend, _: &SnapshotId) -> Result<ProviderState, ProviderError> {
        Ok(staging::confirmed(resolved))
    }

    async fn revert_data(&self, resolved: &ResolvedBackend, snapshot: &SnapshotId) -> Result<ProviderState, ProviderError> {
        self.revert_volume(resolved, snapshot).await
    }

    fn retained_place(&self, resolved: &ResolvedBackend) -> Option<String> {
        Some(format!("volume {}", labels::ResourceNames::of(resolved).volume(labels::ResourceRole::Data)))
    }

    async fn stop(&self, resolved: &ResolvedBackend) -> Result<(), ProviderError> {
        let _lock = self.locks.lock(&resolved.id).await;
        let engine = &self.engine_of(&resolved.spec).await?;
        let inventory = self.inventory(engine, resolved).await?;
        let context = self.context(resolved, engine, &inventory).await?;
        match inventory.current(&context.names) {
            Some(container) => engine.stop_container(container).await,
            None => Ok(()),
        }
    }

    async fn diagnose(&self, resolved: &ResolvedBackend) -> Option<ProviderError> {
        let engine = &self.engine_of(&resolved.spec).await.ok()?;
        let inventory = self.inventory(engine, resolved).await.ok()?;
        let context = self.context(resolved, engine, &inventory).await.ok()?;
        let url = context.internal_url(resolved.ports.api);
        let current = inventory.current(&context.names)?;
        self.probe(engine, resolved, &url).diagnose(inventory::id_of(current)).await
    }

    async fn reach(&self, resolved: &ResolvedBackend) -> Result<Option<String>, ProviderError> {
        if resolved.spec.settings.docker.server.is_none() {
            return Ok(None);
        }
        let engine = self.engine_of(&resolved.spec).await?;
        self.tunnel(resolved, &engine).await
    }

    async fn logs(&self, resolved: &ResolvedBackend, from: LogPosition) -> Result<LogChunk, ProviderError> {
        let engine = &self.engine_of(&resolved.spec).await?;
        let seen = self.inventory(engine, resolved).await?;
        match seen.current(&labels::ResourceNames::of(resolved)).or(seen.adopted.as_ref()) {
            Some(container) => logs::read(engine, inventory::id_of(container), from).await,
            None => Ok(LogChunk { text: String::new(), next: if let LogPosition::Byte(next) = from { next } else { 0 } }),
        }
    }
}
