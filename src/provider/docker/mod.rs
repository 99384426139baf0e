//! Backends as containers on a Docker engine: one container, one named volume and one network alias for each.
//!
//! What belongs to a backend is known by its labels, which carry an identity that only the control plane knows; names are
//! for people. Secrets reach a container as files in its volume, so `docker inspect` shows none; who may run commands on
//! the engine can read the volume and the process's arguments all the same. Must not do: touch what does not carry the
//! labels, except what was taken over by name and noted in the references.

mod adopt;
mod backend;
mod bring_up;
mod compare;
mod confinement;
mod dashboard;
mod database;
mod discreet;
mod engine;
mod hands;
mod image;
mod launch_file;
mod limits;
mod logs;
mod look;
mod mend;
mod names;
mod observe;
mod registry;
mod surroundings;
mod wait;
mod wanted;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bollard::query_parameters::RemoveVolumeOptions;
use futures_util::future::BoxFuture;
use tokio::sync::OnceCell;

pub use self::adopt::{Foreign, ForeignStorage};
use self::backend::Setting;
use self::bring_up::Work;
use self::compare::{Repair, differences};
use self::discreet::Secrets;
use self::engine::Engine;
pub use self::engine::EngineSource;
use self::image::{Image, Images, Noted, POSTGRES_IMAGE};
use self::look::{Seen, look};
pub use self::names::ControlPlaneId;
use self::names::Role;
use self::wanted::Wanted;
use super::{LogChunk, LogPosition, Notice, Provider, ProviderError};
use crate::convex::deployment::Connections;
use crate::convex::release::COMMITS;
use crate::fault;
use crate::model::{BackendId, BackendSpec, Observation, Placement, ProviderKind, REACH, References};

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
    connections: Connections,
    commits: String,
    engine: OnceCell<Engine>,
    /// One command works on a backend at a time.
    turns: Mutex<HashMap<BackendId, Arc<tokio::sync::Mutex<()>>>>,
    /// The networks are shared by all backends of a project.
    network_turn: tokio::sync::Mutex<()>,
}

/// What a backend's containers are made from.
struct Parts {
    setting: Setting,
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
            connections: Connections::default(),
            commits: COMMITS.to_owned(),
            engine: OnceCell::new(),
            turns: Mutex::default(),
            network_turn: tokio::sync::Mutex::default(),
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

    fn setting(&self, placement: &Placement, engine: &Engine) -> Result<Setting, ProviderError> {
        let grace_s = i64::try_from(self.grace.as_secs()).unwrap_or(i64::MAX);
        Setting::new(placement, engine, &self.control_plane, grace_s)
    }

    fn turn(&self, id: &BackendId) -> Arc<tokio::sync::Mutex<()>> {
        let mut turns = self.turns.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(turns.entry(id.clone()).or_default())
    }

    /// Everything that has to be fetched is fetched before anything is touched.
    async fn parts(
        &self,
        engine: &Engine,
        placement: &Placement,
        seen: &Seen,
        notice: Notice<'_>,
    ) -> Result<Parts, ProviderError> {
        let setting = self.setting(placement, engine)?;
        database::require_supported(placement)?;
        let images = Images { engine, source: &self.source, policy: placement.spec.settings.docker.pull };
        let references = &placement.references;
        let reference = image::backend_reference(placement)?;
        let mut backend = images.get(&reference, &Noted::BACKEND, references, notice).await?;
        if self.is_made_anew(placement, &backend, &setting, seen) {
            backend = images.renewed(backend, notice).await?;
        }
        let dashboard = match placement.spec.dashboard {
            true => {
                let reference = image::dashboard_reference(placement, &backend)?;
                Some(images.get(&reference, &Noted::DASHBOARD, references, notice).await?)
            }
            false => None,
        };
        let database = match database::is_managed(placement) {
            true => {
                let reference = placement.spec.settings.docker.database_image.as_deref().unwrap_or(POSTGRES_IMAGE);
                Some(images.get(reference, &Noted::DATABASE, references, notice).await?)
            }
            false => None,
        };
        Ok(Parts { setting, backend, dashboard, database })
    }

    /// Whether the container is going to be another one, whatever image it has.
    fn is_made_anew(&self, placement: &Placement, image: &Image, setting: &Setting, seen: &Seen) -> bool {
        let Ok(wanted) = backend::wanted(placement, image, setting) else { return false };
        seen.current(&setting.names).is_none_or(|current| {
            differences("", Some(&wanted), current).iter().any(|difference| difference.repair == Repair::Replace)
        })
    }

    async fn bring_about(&self, placement: &Placement, notice: Notice<'_>) -> Result<References, ProviderError> {
        let engine = self.engine().await?;
        let turn = self.turn(&placement.id);
        let _turn = turn.lock().await;
        limits::require_possible(&placement.spec.resources, engine.enforces, engine.capacity)?;
        let seen = look(engine, placement).await?;
        let placement = &image::with_commit(placement.clone(), &self.commits).await;
        let parts = self.parts(engine, placement, &seen, notice).await?;
        let setting = &parts.setting;
        let wanted = backend::wanted(placement, &parts.backend, setting)?;
        {
            let _turn = self.network_turn.lock().await;
            surroundings::ensure_network(engine, placement, setting).await?;
        }
        if let Some(image) = &parts.database {
            surroundings::ensure_volume(engine, placement, &seen, Role::DatabaseData, setting).await?;
            let server = surroundings::ensure_beside(engine, &seen, &database::wanted(placement, image, setting)).await?;
            surroundings::until_healthy(engine, &server).await?;
            fault::point("provider.docker.database_ready");
        }
        surroundings::ensure_volume(engine, placement, &seen, Role::Data, setting).await?;
        let work = Work {
            engine,
            placement,
            setting,
            wanted: &wanted,
            connections: &self.connections,
            ready_within: self.ready_within,
            watched_for: self.watched_for,
            notice,
        };
        work.bring_up().await?;
        let mut references = References::new();
        Noted::BACKEND.write(&parts.backend, &mut references);
        image::keep_commit(placement, &mut references);
        references.insert(REACH.to_owned(), setting.reach(placement.ports.api));
        if let Some(volume) = placement.references.get(look::VOLUME) {
            references.insert(look::VOLUME.to_owned(), volume.clone());
        }
        if let Some(image) = &parts.database {
            Noted::DATABASE.write(image, &mut references);
        }
        match &parts.dashboard {
            Some(image) => self.show_dashboard(engine, placement, &seen, setting, image, &mut references).await?,
            None => surroundings::remove_beside(engine, &seen, Role::Dashboard).await?,
        }
        Ok(references)
    }

    /// Brings the dashboard about, on the port that it has, or on the first that is free.
    async fn show_dashboard(
        &self,
        engine: &Engine,
        placement: &Placement,
        seen: &Seen,
        setting: &Setting,
        image: &Image,
        references: &mut References,
    ) -> Result<(), ProviderError> {
        Noted::DASHBOARD.write(image, references);
        let known = dashboard::known_port(placement, seen);
        let ports: Vec<u16> = known.map_or_else(|| dashboard::PORTS.collect(), |port| vec![port]);
        let mut taken = ports.first().copied().unwrap_or_default();
        for port in ports {
            let wanted = dashboard::wanted(placement, image, setting, port);
            match surroundings::ensure_beside(engine, seen, &wanted).await {
                Ok(_) => {
                    dashboard::note(setting, port, references);
                    return Ok(());
                }
                Err(ProviderError::PortTaken { port }) => taken = port,
                Err(error) => return Err(error),
            }
        }
        Err(ProviderError::PortTaken { port: taken })
    }

    async fn take_away(&self, placement: &Placement) -> Result<(), ProviderError> {
        let engine = self.engine().await?;
        let turn = self.turn(&placement.id);
        let _turn = turn.lock().await;
        let seen = look(engine, placement).await?;
        for container in seen.containers().iter().chain(&seen.adopted) {
            engine.stop(container).await?;
            engine.remove(look::id_of(container), true).await?;
        }
        for volume in seen.volumes() {
            match engine.client.remove_volume(&volume.name, None::<RemoveVolumeOptions>).await {
                Ok(()) => {}
                Err(error) if engine::is_absent(&error) => {}
                Err(error) => return Err(engine.failed(&format!("remove the volume `{}`", volume.name), error)),
            }
            fault::point("provider.docker.volume_removed");
        }
        let _turn = self.network_turn.lock().await;
        surroundings::remove_networks(engine, placement).await
    }
}

impl Provider for Docker {
    fn kind(&self) -> ProviderKind {
        ProviderKind::Docker
    }

    fn require_possible<'a>(&'a self, spec: &'a BackendSpec) -> BoxFuture<'a, Result<(), ProviderError>> {
        Box::pin(async move {
            let engine = self.engine().await?;
            limits::require_possible(&spec.resources, engine.enforces, engine.capacity)
        })
    }

    fn observe<'a>(&'a self, placement: &'a Placement) -> BoxFuture<'a, Result<Observation, ProviderError>> {
        Box::pin(self.look_at(placement))
    }

    fn ensure<'a>(&'a self, placement: &'a Placement, notice: Notice<'a>) -> BoxFuture<'a, Result<References, ProviderError>> {
        Box::pin(async move {
            let done = self.bring_about(placement, notice).await;
            done.map_err(|error| Secrets::of(placement).hide_in_error(error))
        })
    }

    fn remove<'a>(&'a self, placement: &'a Placement, _: Notice<'a>) -> BoxFuture<'a, Result<(), ProviderError>> {
        Box::pin(self.take_away(placement))
    }

    fn logs<'a>(&'a self, placement: &'a Placement, from: LogPosition) -> BoxFuture<'a, Result<LogChunk, ProviderError>> {
        Box::pin(async move {
            let engine = self.engine().await?;
            let seen = look(engine, placement).await?;
            match seen.current(&names::Names::of(placement)).or(seen.adopted.as_ref()) {
                Some(container) => logs::read(engine, look::id_of(container), from).await,
                None => Ok(LogChunk { text: String::new(), next: if let LogPosition::Byte(next) = from { next } else { 0 } }),
            }
        })
    }
}

impl Docker {
    /// The containers as they should be, as far as everything for that is at hand.
    fn wanted(&self, placement: &Placement, setting: &Setting, image: &Image) -> Option<Wanted> {
        backend::wanted(placement, image, setting).ok()
    }
}
