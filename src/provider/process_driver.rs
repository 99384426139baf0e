//! Implements [`Provider`] for the drivers that run processes on this machine: they say what runs, the supervisor does the rest.

use std::path::PathBuf;

use super::kit::data_place::{DataPlace, DatabasePlace, StagingPlace, unfinished_restore};
use super::launch_spec::require_own_data;
use super::process::Supervisor;
use super::{FoundBackend, LogChunk, LogPosition, ProgressFn, Provider, ProviderError, async_trait};
use crate::model::{
    BackendName, BackendSpec, Observation, ProjectName, ProviderKind, ProviderState, ResolvedBackend, SnapshotId,
};

/// A driver of processes on this machine.
#[async_trait]
pub(super) trait ProcessDriver: Send + Sync {
    const KIND: ProviderKind;

    fn supervisor(&self) -> &Supervisor;

    /// [`Provider::observe`].
    async fn observe_process(&self, placement: &ResolvedBackend) -> Result<Observation, ProviderError>;

    /// [`Provider::ensure`].
    async fn ensure_process(&self, placement: &ResolvedBackend, notice: ProgressFn<'_>)
    -> Result<ProviderState, ProviderError>;
}

#[async_trait]
impl<D: ProcessDriver> Provider for D {
    fn kind(&self) -> ProviderKind {
        D::KIND
    }

    async fn find(
        &self,
        project: &ProjectName,
        name: &BackendName,
        _: &BackendSpec,
    ) -> Result<Vec<FoundBackend>, ProviderError> {
        self.supervisor().find_aside(D::KIND, project, name)
    }

    async fn observe(&self, placement: &ResolvedBackend) -> Result<Observation, ProviderError> {
        self.observe_process(placement).await
    }

    async fn ensure(&self, placement: &ResolvedBackend, notice: ProgressFn<'_>) -> Result<ProviderState, ProviderError> {
        self.ensure_process(placement, notice).await
    }

    async fn stop(&self, placement: &ResolvedBackend) -> Result<(), ProviderError> {
        if self.supervisor().has_files(&placement.id)? { self.supervisor().stop(&placement.id).await } else { Ok(()) }
    }

    async fn set_aside(&self, placement: &ResolvedBackend, notice: ProgressFn<'_>) -> Result<(), ProviderError> {
        let place = self.supervisor().set_aside(placement).await?;
        notice(format!("its data stays in {}", place.display()));
        Ok(())
    }

    async fn remove(&self, placement: &ResolvedBackend, _: ProgressFn<'_>) -> Result<(), ProviderError> {
        // Whether it listens may have changed since it was started, so the disk decides, not the specification.
        if placement.spec.is_record_only() && !self.supervisor().has_files(&placement.id)? {
            return Ok(());
        }
        self.supervisor().remove(placement).await
    }

    async fn remove_keeping_data(&self, placement: &ResolvedBackend, _: ProgressFn<'_>) -> Result<(), ProviderError> {
        self.supervisor().remove_keeping_data(placement).await
    }

    fn database_place(&self, placement: &ResolvedBackend) -> Option<DatabasePlace> {
        self.supervisor().backend_dir(&placement.id).ok().map(|place| DatabasePlace::File(place.database()))
    }

    fn files_folder(&self, placement: &ResolvedBackend) -> Option<PathBuf> {
        self.supervisor().backend_dir(&placement.id).ok().map(|place| place.storage())
    }

    fn data_place(&self, placement: &ResolvedBackend) -> Result<DataPlace, ProviderError> {
        require_own_data(placement)?;
        Ok(DataPlace::Folder(self.supervisor().backend_dir(&placement.id)?.data()))
    }

    fn staging_place(&self, placement: &ResolvedBackend, snapshot: &SnapshotId) -> Result<StagingPlace, ProviderError> {
        require_own_data(placement)?;
        let folder = self.supervisor().staging_folder(&placement.id, snapshot)?;
        Ok(folder.map_or(StagingPlace::Switched, StagingPlace::Folder))
    }

    // The renames are the record of a switch.

    async fn switch_data(&self, placement: &ResolvedBackend, snapshot: &SnapshotId) -> Result<ProviderState, ProviderError> {
        require_own_data(placement)?;
        self.supervisor().switch_data(&placement.id, snapshot).await?;
        Ok(placement.provider_state.clone())
    }

    async fn drop_previous(&self, placement: &ResolvedBackend) -> Result<ProviderState, ProviderError> {
        require_own_data(placement)?;
        if self.supervisor().drop_previous(&placement.id).await? {
            return Ok(placement.provider_state.clone());
        }
        Err(unfinished_restore(placement))
    }

    async fn confirm_data(&self, placement: &ResolvedBackend, snapshot: &SnapshotId) -> Result<ProviderState, ProviderError> {
        self.supervisor().confirm_data(&placement.id, snapshot)?;
        Ok(placement.provider_state.clone())
    }

    async fn revert_data(&self, placement: &ResolvedBackend, snapshot: &SnapshotId) -> Result<ProviderState, ProviderError> {
        require_own_data(placement)?;
        self.supervisor().revert_data(&placement.id, snapshot).await?;
        Ok(placement.provider_state.clone())
    }

    async fn logs(&self, placement: &ResolvedBackend, from: LogPosition) -> Result<LogChunk, ProviderError> {
        self.supervisor().logs(&placement.id, from)
    }
}
