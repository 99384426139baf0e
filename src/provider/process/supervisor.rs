//! Supervises backends that are processes of this machine, as a watchdog does: observe, ensure, stop, remove. Nothing is started
//! where data has been lost.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::identity::{self, BackendIdentity};
use super::layout::{BackendDir, exists, write_private_file};
use super::lock::FileLock;
use super::probe::{ProcessState, probe};
use super::process_record::ProcessRecord;
use super::process_spec::ProcessSpec;
use super::start::{StartOutcome, start};
use super::stop::stop;
use super::{POLL_INTERVAL, log, port};
use crate::convex::deployment::DeploymentClient;
use crate::convex::launch::locked_database;
use crate::model::{
    BackendId, BackendName, DataState, FieldDrift, MOVE_LOCK, Observation, ProjectName, ProviderKind, ResolvedBackend,
    RunState, SnapshotId,
};
use crate::provider::kit::readiness;
use crate::provider::{FoundBackend, LogChunk, LogPosition, ProviderError};

/// How long a backend has to end by itself before it is killed.
const STOP_GRACE: Duration = Duration::from_secs(10);
/// How long a process of ours that has ended may take to let go of its ports.
const PORT_RELEASE_TIMEOUT: Duration = Duration::from_secs(2);
/// How long to wait for another command that works on the same backend.
const LOCK_TIMEOUT: Duration = Duration::from_secs(60);

/// Supervises the processes of all backends below one home directory.
#[derive(Debug, Clone)]
pub struct Supervisor {
    home: PathBuf,
    executable: PathBuf,
    grace: Duration,
    connections: DeploymentClient,
}

impl Supervisor {
    /// Supervises the processes below `home`; `executable` is convexinfra itself, which starts them detached.
    pub fn new(home: PathBuf, executable: PathBuf) -> Self {
        Self { home, executable, grace: STOP_GRACE, connections: DeploymentClient::default() }
    }

    /// Sets how long processes have to end by themselves.
    #[must_use]
    pub fn with_grace(self, grace: Duration) -> Self {
        Self { grace, ..self }
    }

    /// Convexinfra itself.
    pub fn executable(&self) -> &Path {
        &self.executable
    }

    /// The directory of a backend.
    ///
    /// # Errors
    /// [`ProviderError::Unsupported`] when its id cannot be a directory's name.
    pub fn backend_dir(&self, id: &BackendId) -> Result<BackendDir, ProviderError> {
        BackendDir::new(&self.home, id)
    }

    /// Observes a backend. `data` are the paths without which its data is gone. Without a specification (a secret that
    /// it needs may not be available to a reader) the process is not compared with one.
    ///
    /// # Errors
    /// [`ProviderError`] when the observation itself fails.
    pub async fn observe(
        &self,
        placement: &ResolvedBackend,
        launch: Option<&ProcessSpec>,
        data: &[PathBuf],
    ) -> Result<Observation, ProviderError> {
        let place = self.backend_dir(&placement.id)?;
        let mut deviations = Vec::new();
        if place.is_set_aside()? {
            // A forget that was cut off; the next start takes it back.
            deviations.push(FieldDrift::new("process", "running", "stopped"));
            let data = DataState::Present;
            return Ok(Observation { state: RunState::Stopped, data, drift: deviations, notes: Vec::new() });
        }
        let mut data = data_state(placement, data)?;
        if data == DataState::Missing && (place.pending_data()?.is_some() || is_moving(placement, &place)?) {
            // The next start puts it into its place, and a move that was cut off goes on or gives it back.
            data = DataState::Present;
        }
        let record = match probe(&place).await? {
            ProcessState::NotRunning if !place.exists()? => {
                return Ok(Observation { state: RunState::Absent, data, drift: deviations, notes: Vec::new() });
            }
            ProcessState::NotRunning => {
                deviations.push(FieldDrift::new("process", "running", "stopped"));
                return Ok(Observation { state: RunState::Stopped, data, drift: deviations, notes: Vec::new() });
            }
            ProcessState::Running(_, record) => Some(record),
            ProcessState::Unrecorded(_) => None,
        };
        if let Some(launch) = launch {
            diff_record(record.as_ref(), launch, &mut deviations);
        }
        let state = self.probe_readiness(placement, &mut deviations).await;
        Ok(Observation { state, data, drift: deviations, notes: Vec::new() })
    }

    async fn probe_readiness(&self, placement: &ResolvedBackend, drift: &mut Vec<FieldDrift>) -> RunState {
        let url = format!("http://127.0.0.1:{}", placement.ports.api);
        readiness::observe(&self.connections, &url, placement, drift).await
    }

    /// Returns whether a backend that was ready before accepts connections and does not answer. One that does not listen
    /// is starting, or ends by itself.
    async fn is_unresponsive(&self, placement: &ResolvedBackend) -> bool {
        let mut deviations = Vec::new();
        placement.has_been_ready
            && self.probe_readiness(placement, &mut deviations).await == RunState::Unready
            && port::is_listening(placement.ports.api).await
    }

    /// Ensures that a backend runs as its specification says.
    ///
    /// # Errors
    /// [`ProviderError`] says what stands in the way; nothing is started where data is missing.
    pub async fn ensure(
        &self,
        placement: &ResolvedBackend,
        launch: &ProcessSpec,
        data: &[PathBuf],
    ) -> Result<(), ProviderError> {
        let place = self.backend_dir(&placement.id)?;
        place.create_parent()?;
        let _turn = lock_backend(&place).await?;
        place.take_back()?;
        place.complete_switch()?;
        if data_state(placement, data)? == DataState::Missing {
            let place = data.iter().find(|path| !exists(path).unwrap_or(true)).map_or(place.root(), PathBuf::as_path);
            return Err(ProviderError::DataMissing {
                instance: placement.instance_name.to_string(),
                place: place.display().to_string(),
            });
        }
        // A process that a killed command has left in the middle of its start may get the lock before ours. It is then
        // probed like any other, so the second round ends this.
        for _ in 0..4 {
            match probe(&place).await? {
                ProcessState::Running(_, record) if record.matches(launch) && !self.is_unresponsive(placement).await => {
                    BackendIdentity::of(placement).write(&place)?;
                    return log::rotate(&place.log_path(), log::LogWriter::Running);
                }
                // Without a record it is still the holder of our lock, so it is ours, and a restart repairs it.
                ProcessState::Running(..) | ProcessState::Unrecorded(_) => stop(&place, self.grace).await?,
                ProcessState::NotRunning => {}
            }
            place.create()?;
            BackendIdentity::of(placement).write(&place)?;
            for (path, content) in &launch.files {
                write_private_file(path, content.as_bytes())?;
            }
            if !ports_available(&place, launch, placement.has_been_ready).await? {
                continue;
            }
            if start(&place, &self.executable, launch).await? == StartOutcome::Running {
                return Ok(());
            }
        }
        Err(ProviderError::Unreachable(format!(
            "another process keeps taking the lock of `{}` while it is being started",
            placement.instance_name
        )))
    }

    /// Returns whether anything of a backend is on the disk.
    ///
    /// # Errors
    /// [`ProviderError::File`] when that cannot be told.
    pub fn has_files(&self, id: &BackendId) -> Result<bool, ProviderError> {
        let place = self.backend_dir(id)?;
        Ok(place.exists()? || exists(&place.lock_path())?)
    }

    /// Stops a backend and keeps its data.
    ///
    /// # Errors
    /// [`ProviderError`] when it does not stop.
    pub async fn stop(&self, id: &BackendId) -> Result<(), ProviderError> {
        let place = self.backend_dir(id)?;
        let _turn = lock_backend(&place).await?;
        stop(&place, self.grace).await
    }

    /// Stops a backend and sets its directory aside, and returns where it lies then.
    ///
    /// # Errors
    /// [`ProviderError`] when it does not stop, or its directory cannot be moved.
    pub async fn set_aside(&self, placement: &ResolvedBackend) -> Result<PathBuf, ProviderError> {
        let place = self.backend_dir(&placement.id)?;
        place.create_parent()?;
        let turn = lock_backend(&place).await?;
        stop(&place, self.grace).await?;
        if place.exists()? {
            BackendIdentity::of(placement).write(&place)?;
            place.move_aside()?;
        }
        turn.release_and_remove()?;
        Ok(place.aside().to_owned())
    }

    /// Finds the backends of one name that were set aside.
    ///
    /// # Errors
    /// [`ProviderError::File`] when that cannot be told.
    pub fn find_aside(
        &self,
        kind: ProviderKind,
        project: &ProjectName,
        name: &BackendName,
    ) -> Result<Vec<FoundBackend>, ProviderError> {
        let found = identity::find_aside(&self.home, project)?.into_iter();
        let found = found.filter(|(identity, _)| identity.provider == kind && identity.name == *name);
        let thing = |path: PathBuf| format!("the folder `{}`", path.display());
        Ok(found.map(|(identity, path)| FoundBackend { id: identity.id, thing: thing(path) }).collect())
    }

    /// Stops a backend and puts staged data into the place of its own.
    ///
    /// # Errors
    /// [`ProviderError`] when it does not stop, nothing is staged, or a folder cannot be renamed.
    pub async fn switch_data(&self, id: &BackendId, snapshot: &SnapshotId) -> Result<(), ProviderError> {
        let place = self.backend_dir(id)?;
        let _turn = lock_backend(&place).await?;
        stop(&place, self.grace).await?;
        place.switch_data(snapshot)
    }

    /// Deletes the data from before the last switch; false where that switch has not come to its end.
    ///
    /// # Errors
    /// [`ProviderError`] when something else works on the backend, or a folder cannot be deleted.
    pub async fn drop_previous(&self, id: &BackendId) -> Result<bool, ProviderError> {
        let place = self.backend_dir(id)?;
        let _turn = lock_backend(&place).await?;
        place.drop_previous()
    }

    /// Stops a backend and puts its data from before into its place again.
    ///
    /// # Errors
    /// [`ProviderError`] when it does not stop, or a folder cannot be renamed.
    pub async fn revert_data(&self, id: &BackendId, snapshot: &SnapshotId) -> Result<(), ProviderError> {
        let place = self.backend_dir(id)?;
        let _turn = lock_backend(&place).await?;
        // What has come up, or was never switched, runs on.
        if place.is_unconfirmed(snapshot)? {
            stop(&place, self.grace).await?;
        }
        place.revert_data(snapshot)
    }

    /// Notes that the data that was switched to has come up.
    ///
    /// # Errors
    /// [`ProviderError::File`] when that is not possible.
    pub fn confirm_data(&self, id: &BackendId, snapshot: &SnapshotId) -> Result<(), ProviderError> {
        self.backend_dir(id)?.confirm_data(snapshot)
    }

    /// Returns the folder into which data is written that is to replace a backend's own; none once it was switched to.
    ///
    /// # Errors
    /// [`ProviderError`] when that cannot be told.
    pub fn staging_folder(&self, id: &BackendId, snapshot: &SnapshotId) -> Result<Option<PathBuf>, ProviderError> {
        let place = self.backend_dir(id)?;
        Ok(if place.is_unconfirmed(snapshot)? { None } else { Some(place.next_data(snapshot)) })
    }

    /// Stops a backend and deletes all but its data, which the next process with its identity takes up.
    ///
    /// # Errors
    /// [`ProviderError`] when it does not stop, or its lock and log cannot be deleted.
    pub async fn remove_keeping_data(&self, placement: &ResolvedBackend) -> Result<(), ProviderError> {
        let place = self.backend_dir(&placement.id)?;
        if !place.exists()? {
            return Ok(());
        }
        let turn = lock_backend(&place).await?;
        stop(&place, self.grace).await?;
        place.delete_all_but_data()?;
        turn.release_and_remove()
    }

    /// Stops a backend and deletes its directory.
    ///
    /// # Errors
    /// [`ProviderError`] when it does not stop or cannot be deleted.
    pub async fn remove(&self, placement: &ResolvedBackend) -> Result<(), ProviderError> {
        let place = self.backend_dir(&placement.id)?;
        if !exists(&self.home.join("backends"))? {
            return Ok(());
        }
        let turn = lock_backend(&place).await?;
        stop(&place, self.grace).await?;
        place.move_to_trash()?;
        for tombstone in place.trashed()? {
            // A daemonizer that took the lock right before the directory was renamed is found here.
            stop(&tombstone, self.grace).await?;
            tokio::task::spawn_blocking(move || tombstone.delete())
                .await
                .map_err(|error| ProviderError::Unreachable(format!("deleting was interrupted: {error}")))??;
        }
        turn.release_and_remove()
    }

    /// Reads a backend's log.
    ///
    /// # Errors
    /// [`ProviderError::File`] when it cannot be read.
    pub fn logs(&self, id: &BackendId, from: LogPosition) -> Result<LogChunk, ProviderError> {
        log::read(&self.backend_dir(id)?.log_path(), from)
    }
}

/// Returns whether the process can be started on its ports; if not, one of ours has come up on them meanwhile.
///
/// A process that ends lets go of its lock before it lets go of its ports, and one that a killed command has left in
/// the middle of its start takes both at any moment. So a port that is known to be this backend's is waited for.
async fn ports_available(place: &BackendDir, launch: &ProcessSpec, are_known: bool) -> Result<bool, ProviderError> {
    let deadline = Instant::now() + if are_known { PORT_RELEASE_TIMEOUT } else { Duration::ZERO };
    loop {
        match port::require_free(launch.ports).await {
            Ok(()) => return Ok(true),
            Err(_) if !matches!(probe(place).await?, ProcessState::NotRunning) => return Ok(false),
            Err(taken) if Instant::now() >= deadline => return Err(taken),
            Err(_) => tokio::time::sleep(POLL_INTERVAL).await,
        }
    }
}

async fn lock_backend(place: &BackendDir) -> Result<FileLock, ProviderError> {
    FileLock::acquire(&place.lock_path(), LOCK_TIMEOUT).await?.ok_or_else(|| {
        ProviderError::Unreachable(format!(
            "another command has been working on `{}` for more than {} s: wait for it or end it",
            place.root().display(),
            LOCK_TIMEOUT.as_secs()
        ))
    })
}

fn data_state(placement: &ResolvedBackend, data: &[PathBuf]) -> Result<DataState, ProviderError> {
    for path in data {
        if !exists(path)? {
            return Ok(if placement.has_been_ready { DataState::Missing } else { DataState::None });
        }
    }
    Ok(if data.is_empty() && !placement.has_been_ready { DataState::None } else { DataState::Present })
}

/// Returns whether the database of a backend is locked in its place by a move that has not ended.
fn is_moving(placement: &ResolvedBackend, place: &BackendDir) -> Result<bool, ProviderError> {
    Ok(placement.provider_state.contains_key(MOVE_LOCK) && exists(&locked_database(&place.database()))?)
}

fn diff_record(record: Option<&ProcessRecord>, launch: &ProcessSpec, deviations: &mut Vec<FieldDrift>) {
    let Some(record) = record else {
        deviations.push(FieldDrift::new(
            "launch",
            short_digest(launch.digest().as_str()),
            "unknown: the record of the process is gone",
        ));
        return;
    };
    if record.launch != launch.digest() {
        deviations.push(FieldDrift::new(
            "launch",
            short_digest(launch.digest().as_str()),
            short_digest(record.launch.as_str()),
        ));
    }
    if let (Some(now), Some(then)) = (&launch.program_digest, &record.program_digest)
        && now != then
    {
        deviations.push(FieldDrift::new("binary", short_digest(then), short_digest(now)));
    }
}

/// Shortens a digest to what tells two apart.
fn short_digest(digest: &str) -> String {
    digest.chars().take("sha256:".len() + 12).collect()
}
