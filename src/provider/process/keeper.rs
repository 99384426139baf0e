//! The three verbs for a backend that is a process of this machine: observe, ensure, remove.
//!
//! Must not do: choose what to run, or start anything where data has been lost.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::launch::Launch;
use super::look::{Sighting, look};
use super::place::{Place, exists};
use super::record::Record;
use super::start::{Start, start};
use super::stop::stop;
use super::turn::Turn;
use super::{POLL, log, port};
use crate::convex::deployment::{Connections, Readiness, ready};
use crate::model::{BackendId, Data, Deviation, FieldPath, Observation, Placement, RunState};
use crate::provider::{LogChunk, LogPosition, ProviderError};

/// How long a backend has to end by itself before it is killed.
const GRACE: Duration = Duration::from_secs(10);
/// A healthy backend answers within milliseconds; a suspended one never does, and `status` waits for it.
const PATIENCE: Duration = Duration::from_secs(3);
/// How long a process of ours that has ended may take to let go of its ports.
const LET_GO: Duration = Duration::from_secs(2);
/// How long to wait for another command that works on the same backend.
const TURN: Duration = Duration::from_secs(60);

/// Looks after the processes of all backends below one home directory.
#[derive(Debug, Clone)]
pub struct Keeper {
    home: PathBuf,
    executable: PathBuf,
    grace: Duration,
    connections: Connections,
}

impl Keeper {
    /// A keeper of the processes below `home`; `executable` is convexinfra itself, which starts them detached.
    pub fn new(home: PathBuf, executable: PathBuf) -> Self {
        Self { home, executable, grace: GRACE, connections: Connections::default() }
    }

    /// Gives processes another time to end by themselves.
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
    pub fn place(&self, id: &BackendId) -> Result<Place, ProviderError> {
        Place::new(&self.home, id)
    }

    /// Looks at a backend. `data` are the paths without which its data is gone. Without a launch (a secret that it
    /// needs may not be at hand where somebody only looks) the process is not compared with one.
    ///
    /// # Errors
    /// [`ProviderError`] when the look itself fails.
    pub async fn observe(
        &self,
        placement: &Placement,
        launch: Option<&Launch>,
        data: &[PathBuf],
    ) -> Result<Observation, ProviderError> {
        let place = self.place(&placement.id)?;
        let data = data_state(placement, data)?;
        let mut deviations = Vec::new();
        let record = match look(&place).await? {
            Sighting::Idle if !place.exists()? => {
                return Ok(Observation { state: RunState::Absent, data, deviations, notes: Vec::new() });
            }
            Sighting::Idle => {
                deviations.push(deviation("process", "running", "stopped"));
                return Ok(Observation { state: RunState::Stopped, data, deviations, notes: Vec::new() });
            }
            Sighting::Running(_, record) => Some(record),
            Sighting::Unrecorded(_) => None,
        };
        if let Some(launch) = launch {
            compare(record.as_ref(), launch, &mut deviations);
        }
        let state = self.answers(placement, &mut deviations).await;
        Ok(Observation { state, data, deviations, notes: Vec::new() })
    }

    async fn answers(&self, placement: &Placement, deviations: &mut Vec<Deviation>) -> RunState {
        let port = placement.ports.api;
        let expected = placement.instance_name.as_str();
        let url = format!("http://127.0.0.1:{port}");
        let asked = ready(&self.connections, &url, expected, &placement.admin_key);
        deviations.push(match tokio::time::timeout(PATIENCE, asked).await {
            Ok(Readiness::Ready) => return RunState::Running,
            Ok(Readiness::OtherInstance { name }) => deviation("instance_name", expected, &name),
            Ok(Readiness::KeyRefused) => deviation("admin_key", "accepted", "refused"),
            Ok(Readiness::NotListening) => {
                deviation("port", &format!("listening on {port}"), &format!("not listening on {port}"))
            }
            Ok(Readiness::Failing(error)) => deviation("port", &format!("answering on {port}"), &error.to_string()),
            Err(_) => deviation("port", &format!("answering on {port}"), &format!("no answer on {port}")),
        });
        RunState::Unready
    }

    /// Whether a backend that was ready before takes connections and does not answer. One that does not listen is
    /// starting, or ends by itself.
    async fn hangs(&self, placement: &Placement) -> bool {
        let mut deviations = Vec::new();
        placement.has_been_ready
            && self.answers(placement, &mut deviations).await == RunState::Unready
            && port::listens(placement.ports.api).await
    }

    /// Brings a backend to what its launch says.
    ///
    /// # Errors
    /// [`ProviderError`] says what stands in the way; nothing is started where data is missing.
    pub async fn ensure(&self, placement: &Placement, launch: &Launch, data: &[PathBuf]) -> Result<(), ProviderError> {
        let place = self.place(&placement.id)?;
        place.create_parent()?;
        let _turn = take_turn(&place).await?;
        if data_state(placement, data)? == Data::Missing {
            let place = data.iter().find(|path| !exists(path).unwrap_or(true)).map_or(place.root(), PathBuf::as_path);
            return Err(ProviderError::DataMissing {
                instance: placement.instance_name.to_string(),
                place: place.display().to_string(),
            });
        }
        // A process that a killed command has left in the middle of its start may get the lock before ours. It
        // then is looked at like any other, so the second round ends this.
        for _ in 0..4 {
            match look(&place).await? {
                Sighting::Running(_, record) if record.is_of(launch) && !self.hangs(placement).await => {
                    return log::rotate(&place.log(), log::Writer::Running);
                }
                // Without a record it is still the holder of our lock, so it is ours, and starting anew repairs it.
                Sighting::Running(..) | Sighting::Unrecorded(_) => stop(&place, self.grace).await?,
                Sighting::Idle => {}
            }
            place.create()?;
            if !ports_are_free(&place, launch, placement.has_been_ready).await? {
                continue;
            }
            if start(&place, &self.executable, launch).await? == Start::Running {
                return Ok(());
            }
        }
        Err(ProviderError::Unreachable(format!(
            "another process keeps taking the lock of `{}` while it is being started",
            placement.instance_name
        )))
    }

    /// Whether anything of a backend is on the disk.
    ///
    /// # Errors
    /// [`ProviderError::File`] when that cannot be told.
    pub fn has_trace(&self, id: &BackendId) -> Result<bool, ProviderError> {
        let place = self.place(id)?;
        Ok(place.exists()? || exists(&place.turn())?)
    }

    /// Stops a backend and keeps all that it has.
    ///
    /// # Errors
    /// [`ProviderError`] when it does not stop.
    pub async fn halt(&self, id: &BackendId) -> Result<(), ProviderError> {
        let place = self.place(id)?;
        let _turn = take_turn(&place).await?;
        stop(&place, self.grace).await
    }

    /// Stops a backend and deletes all that it has.
    ///
    /// # Errors
    /// [`ProviderError`] when it does not stop or cannot be deleted.
    pub async fn remove(&self, placement: &Placement) -> Result<(), ProviderError> {
        let place = self.place(&placement.id)?;
        if !exists(&self.home.join("backends"))? {
            return Ok(());
        }
        let turn = take_turn(&place).await?;
        stop(&place, self.grace).await?;
        place.bury()?;
        for tombstone in place.tombstones()? {
            // A detacher that took the lock right before the directory was renamed is found here.
            stop(&tombstone, self.grace).await?;
            tokio::task::spawn_blocking(move || tombstone.delete())
                .await
                .map_err(|error| ProviderError::Unreachable(format!("deleting was interrupted: {error}")))??;
        }
        turn.end_with_file()
    }

    /// Reads a backend's log.
    ///
    /// # Errors
    /// [`ProviderError::File`] when it cannot be read.
    pub fn logs(&self, id: &BackendId, from: LogPosition) -> Result<LogChunk, ProviderError> {
        log::read(&self.place(id)?.log(), from)
    }
}

/// Whether the process can be started on its ports; if not, one of ours has come up on them meanwhile.
///
/// A process that ends lets go of its lock before it lets go of its ports, and one that a killed command has left in
/// the middle of its start takes both at any moment. So a port that is known to be this backend's is waited for.
async fn ports_are_free(place: &Place, launch: &Launch, are_known: bool) -> Result<bool, ProviderError> {
    let deadline = Instant::now() + if are_known { LET_GO } else { Duration::ZERO };
    loop {
        match port::require_free(launch.ports).await {
            Ok(()) => return Ok(true),
            Err(_) if !matches!(look(place).await?, Sighting::Idle) => return Ok(false),
            Err(taken) if Instant::now() >= deadline => return Err(taken),
            Err(_) => tokio::time::sleep(POLL).await,
        }
    }
}

async fn take_turn(place: &Place) -> Result<Turn, ProviderError> {
    Turn::take(&place.turn(), TURN).await?.ok_or_else(|| {
        ProviderError::Unreachable(format!(
            "another command has been working on `{}` for more than {} s: wait for it or end it",
            place.root().display(),
            TURN.as_secs()
        ))
    })
}

fn data_state(placement: &Placement, data: &[PathBuf]) -> Result<Data, ProviderError> {
    for path in data {
        if !exists(path)? {
            return Ok(if placement.has_been_ready { Data::Missing } else { Data::None });
        }
    }
    Ok(if data.is_empty() && !placement.has_been_ready { Data::None } else { Data::Present })
}

fn compare(record: Option<&Record>, launch: &Launch, deviations: &mut Vec<Deviation>) {
    let Some(record) = record else {
        deviations.push(deviation("launch", &shown(launch.digest().as_str()), "unknown: the record of the process is gone"));
        return;
    };
    if record.launch != launch.digest() {
        deviations.push(deviation("launch", &shown(launch.digest().as_str()), &shown(record.launch.as_str())));
    }
    if let (Some(now), Some(then)) = (&launch.program_digest, &record.program_digest)
        && now != then
    {
        deviations.push(deviation("binary", &shown(then), &shown(now)));
    }
}

/// Enough of a digest to tell two apart.
fn shown(digest: &str) -> String {
    digest.chars().take("sha256:".len() + 12).collect()
}

fn deviation(path: &str, recorded: &str, observed: &str) -> Deviation {
    Deviation { path: FieldPath::new(path), recorded: recorded.to_owned(), observed: observed.to_owned() }
}
