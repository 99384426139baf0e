//! Runs the simulated backend out of this executable, or keeps nothing but a record. What it cannot do is refused.

use std::path::PathBuf;
use std::time::Duration;

use super::launch_spec::{ExecutableSpec, data_paths, launch_spec, require_own_data};
use super::process::{ProcessSpec, Supervisor};
use super::{FoundBackend, LogChunk, LogPosition, ProgressFn, Provider, ProviderError, async_trait};
use crate::convex::launch::SecretDelivery;
use crate::model::{
    BackendName, BackendSpec, DataState, Observation, ProjectName, ProviderKind, ProviderState, ResolvedBackend, RunState,
    SnapshotId,
};

/// Runs simulated backends.
#[derive(Debug, Clone)]
pub struct Simulated {
    supervisor: Supervisor,
}

impl Simulated {
    /// Backends below `home`, run by `executable`, which is convexinfra itself.
    pub fn new(home: PathBuf, executable: PathBuf) -> Self {
        Self { supervisor: Supervisor::new(home, executable) }
    }

    /// Sets how long processes have to end by themselves, instead of ten seconds.
    #[must_use]
    pub fn with_grace(self, grace: Duration) -> Self {
        Self { supervisor: self.supervisor.with_grace(grace) }
    }

    fn process_spec(&self, placement: &ResolvedBackend) -> Result<ProcessSpec, ProviderError> {
        let program = ExecutableSpec {
            path: self.supervisor.executable().to_owned(),
            sha256: None,
            sub_command: Some("simulate-backend"),
            secret: SecretDelivery::Variable,
            release: placement.spec.release.clone(),
        };
        launch_spec(placement, &self.supervisor.backend_dir(&placement.id)?, program)
    }
}

#[async_trait]
impl Provider for Simulated {
    fn kind(&self) -> ProviderKind {
        ProviderKind::Simulated
    }

    async fn find(
        &self,
        project: &ProjectName,
        name: &BackendName,
        _: &BackendSpec,
    ) -> Result<Vec<FoundBackend>, ProviderError> {
        self.supervisor.find_aside(self.kind(), project, name)
    }

    async fn observe(&self, placement: &ResolvedBackend) -> Result<Observation, ProviderError> {
        if placement.spec.is_record_only() {
            return Ok(Observation { state: RunState::Recorded, data: DataState::None, drift: Vec::new(), notes: Vec::new() });
        }
        let data = data_paths(placement, &self.supervisor.backend_dir(&placement.id)?);
        self.supervisor.observe(placement, self.process_spec(placement).ok().as_ref(), &data).await
    }

    async fn ensure(&self, placement: &ResolvedBackend, _: ProgressFn<'_>) -> Result<ProviderState, ProviderError> {
        if placement.spec.is_record_only() {
            // It may have listened until now.
            if self.supervisor.has_files(&placement.id)? {
                self.supervisor.stop(&placement.id).await?;
            }
        } else {
            let data = data_paths(placement, &self.supervisor.backend_dir(&placement.id)?);
            self.supervisor.ensure(placement, &self.process_spec(placement)?, &data).await?;
        }
        Ok(ProviderState::new())
    }

    async fn stop(&self, placement: &ResolvedBackend) -> Result<(), ProviderError> {
        if self.supervisor.has_files(&placement.id)? { self.supervisor.stop(&placement.id).await } else { Ok(()) }
    }

    async fn set_aside(&self, placement: &ResolvedBackend, notice: ProgressFn<'_>) -> Result<(), ProviderError> {
        let place = self.supervisor.set_aside(placement).await?;
        notice(format!("its data stays in {}", place.display()));
        Ok(())
    }

    async fn remove(&self, placement: &ResolvedBackend, _: ProgressFn<'_>) -> Result<(), ProviderError> {
        // Whether it listens may have changed since it was started, so the disk decides, not the specification.
        if placement.spec.is_record_only() && !self.supervisor.has_files(&placement.id)? {
            return Ok(());
        }
        self.supervisor.remove(placement).await
    }

    async fn remove_keeping_data(&self, placement: &ResolvedBackend, _: ProgressFn<'_>) -> Result<(), ProviderError> {
        self.supervisor.remove_keeping_data(placement).await
    }

    fn files_folder(&self, placement: &ResolvedBackend) -> Option<PathBuf> {
        self.supervisor.backend_dir(&placement.id).ok().map(|place| place.storage())
    }

    fn data_folder(&self, placement: &ResolvedBackend) -> Result<PathBuf, ProviderError> {
        require_own_data(placement)?;
        Ok(self.supervisor.backend_dir(&placement.id)?.data())
    }

    fn staging_folder(&self, placement: &ResolvedBackend, snapshot: &SnapshotId) -> Result<Option<PathBuf>, ProviderError> {
        require_own_data(placement)?;
        self.supervisor.staging_folder(&placement.id, snapshot)
    }

    async fn switch_data(&self, placement: &ResolvedBackend, snapshot: &SnapshotId) -> Result<(), ProviderError> {
        require_own_data(placement)?;
        self.supervisor.switch_data(&placement.id, snapshot).await
    }

    async fn confirm_data(&self, placement: &ResolvedBackend, snapshot: &SnapshotId) -> Result<(), ProviderError> {
        self.supervisor.confirm_data(&placement.id, snapshot)
    }

    async fn revert_data(&self, placement: &ResolvedBackend, snapshot: &SnapshotId) -> Result<(), ProviderError> {
        require_own_data(placement)?;
        self.supervisor.revert_data(&placement.id, snapshot).await
    }

    async fn logs(&self, placement: &ResolvedBackend, from: LogPosition) -> Result<LogChunk, ProviderError> {
        self.supervisor.logs(&placement.id, from)
    }
}
