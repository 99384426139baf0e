//! Places to run backends, behind one small trait.
//!
//! A provider knows how to look at one backend, bring it to what a [`ResolvedBackend`] says, and take it away.
//!
//! Drivers know neither plans nor the store nor one another; what they share is in [`kit`].

#[cfg(feature = "native")]
pub mod docker;
mod error;
pub mod fly;
pub mod kit;
#[cfg(feature = "native")]
pub mod kubernetes;
#[cfg(feature = "native")]
mod launch_spec;
#[cfg(feature = "native")]
pub mod local;
#[cfg(feature = "native")]
pub mod process;
#[cfg(feature = "native")]
mod process_driver;
#[cfg(feature = "native")]
pub mod simulated;

pub use async_trait::async_trait;
pub use error::ProviderError;
use kit::data_place::{DataPlace, DataVolume, DatabasePlace, StagedVolume, StagingPlace, VolumeAccess};

use crate::model::{
    BackendId, BackendName, BackendSpec, Diagnostic, Observation, ProjectName, ProviderKind, ProviderState, ReleaseOrder,
    ResolvedBackend, RoomClaim, SnapshotId,
};

/// A backend that is at its place, and that its provider cannot know to be recorded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FoundBackend {
    /// Its identity.
    pub id: BackendId,
    /// What was found of it, such as its container by name.
    pub thing: String,
}

/// What the place of a backend would say to it, asked beforehand.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PlaceFindings {
    /// Why it could not be brought up.
    pub refusals: Vec<Diagnostic>,
    /// What is worth a look.
    pub notes: Vec<Diagnostic>,
    /// The order of the build that would run and the one that last ran on the data, where the builds themselves say it.
    pub release_order: Option<ReleaseOrder>,
    /// What it takes of what its place has only so much of.
    pub room: Vec<RoomClaim>,
}

/// One kind of place where backends run. Every verb may be repeated at any time and ends in the same state.
#[async_trait]
pub trait Provider: Send + Sync {
    /// Which kind this is.
    fn kind(&self) -> ProviderKind;

    /// Authorizes what a specification names against the allow-lists of the operator. It comes before anything is looked up,
    /// connected to or run in the name of the specification.
    ///
    /// # Errors
    /// [`ProviderError::Unsupported`] with what would allow it.
    async fn authorize(&self, _: &BackendSpec) -> Result<(), ProviderError> {
        Ok(())
    }

    /// Validates what is asked for before anything of it is recorded.
    ///
    /// # Errors
    /// [`ProviderError::Unsupported`] for what could never be done here. Any other error says nothing about that: only the
    /// attempt can tell.
    async fn validate(&self, _: &BackendSpec) -> Result<(), ProviderError> {
        Ok(())
    }

    /// Asks the place of a backend what it would refuse, before anything of it is made or replaced. Changes nothing; drivers
    /// that have an answer say so in their descriptor (`looks_ahead`). What cannot be asked is a note.
    async fn preflight(&self, _: &ResolvedBackend) -> PlaceFindings {
        PlaceFindings::default()
    }

    /// Finds backends of a project and name at the place that a specification names. One that is not recorded would be lost
    /// beside a new one.
    async fn find(&self, _: &ProjectName, _: &BackendName, _: &BackendSpec) -> Result<Vec<FoundBackend>, ProviderError> {
        Ok(Vec::new())
    }

    /// Checks that a recorded backend is at the place that the provider reaches now.
    ///
    /// # Errors
    /// [`ProviderError::OtherEngine`] where it is known to be at another one.
    async fn check_place(
        &self,
        _: &BackendId,
        _: &BackendName,
        _: &BackendSpec,
        _: &ProviderState,
    ) -> Result<(), ProviderError> {
        Ok(())
    }

    /// Looks, and changes nothing. A lookup that fails is an error or [`Observation::unknown`], never "absent".
    async fn observe(&self, placement: &ResolvedBackend) -> Result<Observation, ProviderError>;

    /// Brings the backend up as the placement says: adopts what is ours, restarts what differs, starts what is
    /// missing. Returns once it is started; whether it answers is for the caller to see. Only who replaces something
    /// that it can go back to waits for the answer itself, and goes back if there is none.
    async fn ensure(&self, placement: &ResolvedBackend, notice: ProgressFn<'_>) -> Result<ProviderState, ProviderError>;

    /// Brings the backend up as [`Provider::ensure`] does, and records in a journal on the way what a repetition goes on from
    /// that follows a kill. What was recorded comes back in the provider state of the placement.
    async fn ensure_recorded(
        &self,
        placement: &ResolvedBackend,
        notice: ProgressFn<'_>,
        _: &dyn StateJournal,
    ) -> Result<ProviderState, ProviderError> {
        self.ensure(placement, notice).await
    }

    /// Brings the backend up with another release, for which a snapshot is the way back: what ran before is not started again on
    /// data that the new release may have changed.
    async fn start_release(
        &self,
        placement: &ResolvedBackend,
        notice: ProgressFn<'_>,
        journal: &dyn StateJournal,
    ) -> Result<ProviderState, ProviderError> {
        self.ensure_recorded(placement, notice, journal).await
    }

    /// Stops the backend and leaves everything that belongs to it. Succeeds when it does not run.
    async fn stop(&self, placement: &ResolvedBackend) -> Result<(), ProviderError> {
        let message = format!("provider `{}` cannot stop `{}` and leave it where it is", self.kind(), placement.name);
        Err(ProviderError::Unsupported(message))
    }

    /// Stops the backend and sets aside what a new record takes up again, where its place goes with its record. What is
    /// elsewhere stays as it is.
    async fn set_aside(&self, _: &ResolvedBackend, _: ProgressFn<'_>) -> Result<(), ProviderError> {
        Ok(())
    }

    /// Takes the backend away with its data. Succeeds when there is nothing left to take away, and says what is left that
    /// it cannot take away.
    async fn remove(&self, placement: &ResolvedBackend, notice: ProgressFn<'_>) -> Result<(), ProviderError>;

    /// Takes the backend away and leaves its data, so that a later backend can take it up again.
    async fn remove_keeping_data(&self, placement: &ResolvedBackend, _: ProgressFn<'_>) -> Result<(), ProviderError> {
        let message = format!(
            "provider `{}` has no place for data without its backend: export `{}` with `npx convex export` and destroy it then",
            self.kind(),
            placement.name
        );
        Err(ProviderError::Unsupported(message))
    }

    /// Returns the address of a host that has its name only where the backend runs, such as in the networks of its container;
    /// none where the name means the same everywhere.
    async fn address_of(&self, _: &ResolvedBackend, _: &str) -> Result<Option<std::net::IpAddr>, ProviderError> {
        Ok(None)
    }

    /// The folder on this machine in which the backend keeps its files; none where they are elsewhere.
    fn files_folder(&self, _: &ResolvedBackend) -> Option<std::path::PathBuf> {
        None
    }

    /// Returns where a backend on SQLite has its database; none where only its provider reaches it. Makes no request.
    fn database_place(&self, _: &ResolvedBackend) -> Option<DatabasePlace> {
        None
    }

    /// Returns where the database and the files of a backend are, both. Makes no request.
    ///
    /// # Errors
    /// [`ProviderError::Unsupported`] where they are not in one place that can be read as a whole.
    fn data_place(&self, placement: &ResolvedBackend) -> Result<DataPlace, ProviderError> {
        let message =
            format!("snapshots of `{}` are not available: provider `{}` cannot read its data", placement.name, self.kind());
        Err(ProviderError::Unsupported(message))
    }

    /// Opens the volume of a backend whose data is in one.
    ///
    /// # Errors
    /// [`ProviderError::VolumeShared`] where it is to be exclusive and something runs on it.
    async fn open_volume(&self, placement: &ResolvedBackend, _: VolumeAccess) -> Result<Box<dyn DataVolume>, ProviderError> {
        let message = format!("provider `{}` keeps the data of `{}` in no volume", self.kind(), placement.name);
        Err(ProviderError::Unsupported(message))
    }

    /// Returns where the data is written that replaces that of a backend. Makes no request.
    ///
    /// # Errors
    /// [`ProviderError::Unsupported`] where data cannot be replaced.
    fn staging_place(&self, placement: &ResolvedBackend, _: &SnapshotId) -> Result<StagingPlace, ProviderError> {
        let message = format!("provider `{}` cannot replace the data of `{}`", self.kind(), placement.name);
        Err(ProviderError::Unsupported(message))
    }

    /// Opens the volume into which that data is written, where it is in one.
    async fn open_staging(&self, placement: &ResolvedBackend, _: &SnapshotId) -> Result<Box<dyn StagedVolume>, ProviderError> {
        let message = format!("provider `{}` keeps the data of `{}` in no volume", self.kind(), placement.name);
        Err(ProviderError::Unsupported(message))
    }

    /// Stops the backend and puts the staged data into the place of its own, which stays beside it. Succeeds when that is done
    /// already. Returns what is to be remembered of it: until that is recorded, its own data is in its place.
    async fn switch_data(&self, placement: &ResolvedBackend, snapshot: &SnapshotId) -> Result<ProviderState, ProviderError> {
        self.staging_place(placement, snapshot).map(|_| placement.provider_state.clone())
    }

    /// Notes that the data that was switched to has come up, so that it is not undone any more.
    async fn confirm_data(&self, placement: &ResolvedBackend, snapshot: &SnapshotId) -> Result<ProviderState, ProviderError> {
        self.staging_place(placement, snapshot).map(|_| placement.provider_state.clone())
    }

    /// Stops the backend and undoes [`Provider::switch_data`]. Succeeds when there is nothing to undo.
    async fn revert_data(&self, placement: &ResolvedBackend, snapshot: &SnapshotId) -> Result<ProviderState, ProviderError> {
        self.staging_place(placement, snapshot).map(|_| placement.provider_state.clone())
    }

    /// Deletes the data that a switch has put out of its place and that has stayed since. Succeeds when there is none.
    ///
    /// # Errors
    /// [`ProviderError::Unsupported`] where data cannot be replaced, or a switch has not come to its end: that data may be needed.
    async fn drop_previous(&self, placement: &ResolvedBackend) -> Result<ProviderState, ProviderError> {
        let message = format!("provider `{}` cannot replace the data of `{}`", self.kind(), placement.name);
        Err(ProviderError::Unsupported(message))
    }

    /// Names the place at which a backend's data stays when it is removed without it, for people.
    fn retained_place(&self, placement: &ResolvedBackend) -> Option<String> {
        self.files_folder(placement).map(|folder| format!("folder {}", folder.display()))
    }

    /// Returns why a backend that runs does not answer from here, where its provider knows; asked while nothing answers.
    async fn diagnose(&self, _: &ResolvedBackend) -> Option<ProviderError> {
        None
    }

    /// Opens a way from this process to the backend's API where it needs one, and returns the URL of it; none where its
    /// endpoints or what the provider noted lead there already.
    async fn reach(&self, _: &ResolvedBackend) -> Result<Option<String>, ProviderError> {
        Ok(None)
    }

    /// Reads from the backend's log.
    async fn logs(&self, placement: &ResolvedBackend, from: LogPosition) -> Result<LogChunk, ProviderError>;
}

/// Records parts of the provider state of one backend while a verb runs.
pub trait StateJournal: Send + Sync {
    /// Records a value under a key, or forgets it. What could not be recorded is what it is without a journal: the repetition
    /// has to find it out.
    fn record(&self, key: &str, value: Option<&str>);
}

/// Receives what a long verb has to say while it runs, such as the progress of a download.
pub type ProgressFn<'a> = &'a (dyn Fn(String) + Send + Sync);

/// Where to read a log from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogPosition {
    /// The last so many lines.
    Tail(usize),
    /// From this byte on, as [`LogChunk::next`] said.
    Byte(u64),
}

/// A piece of a log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogChunk {
    /// Whole lines, each ending in a line break except perhaps the last.
    pub text: String,
    /// Where to go on reading.
    pub next: u64,
}
