//! Runs the simulated backend out of this executable, or keeps nothing but a record. What it cannot do is refused.

use std::path::PathBuf;
use std::time::Duration;

use super::launch_spec::{ExecutableSpec, data_paths, launch_spec};
use super::process::{ProcessSpec, Supervisor};
use super::process_driver::ProcessDriver;
use super::{ProgressFn, ProviderError, async_trait};
use crate::convex::launch::SecretDelivery;
use crate::model::{DataState, Observation, ProviderKind, ProviderState, ResolvedBackend, RunState};

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
impl ProcessDriver for Simulated {
    const KIND: ProviderKind = ProviderKind::Simulated;

    fn supervisor(&self) -> &Supervisor {
        &self.supervisor
    }

    async fn observe_process(&self, placement: &ResolvedBackend) -> Result<Observation, ProviderError> {
        if placement.spec.is_record_only() {
            return Ok(Observation { state: RunState::Recorded, data: DataState::None, drift: Vec::new(), notes: Vec::new() });
        }
        let data = data_paths(placement, &self.supervisor.backend_dir(&placement.id)?);
        self.supervisor.observe(placement, self.process_spec(placement).ok().as_ref(), &data).await
    }

    async fn ensure_process(&self, placement: &ResolvedBackend, _: ProgressFn<'_>) -> Result<ProviderState, ProviderError> {
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
}
