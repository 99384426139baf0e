//! The stand-in backend where there are no processes: nothing but records.
//!
//! Must not do: pretend that something runs.

use convexinfra::model::{DataState, Observation, ProviderKind, ProviderState, ResolvedBackend, RunState};
use convexinfra::provider::{LogChunk, LogPosition, ProgressFn, Provider, ProviderError, async_trait};

/// Keeps simulated backends as records.
pub struct RecordOnly;

fn refused(placement: &ResolvedBackend) -> ProviderError {
    ProviderError::Unsupported(format!(
        "a simulated backend is a process, and a control plane on Workers has none: give `{}` the setting `listen = false`, \
         or another provider",
        placement.name
    ))
}

#[async_trait]
impl Provider for RecordOnly {
    fn kind(&self) -> ProviderKind {
        ProviderKind::Simulated
    }

    async fn observe(&self, placement: &ResolvedBackend) -> Result<Observation, ProviderError> {
        let state = if placement.spec.is_record_only() { RunState::Recorded } else { RunState::Absent };
        Ok(Observation { state, data: DataState::None, drift: Vec::new(), notes: Vec::new() })
    }

    async fn ensure(&self, placement: &ResolvedBackend, _: ProgressFn<'_>) -> Result<ProviderState, ProviderError> {
        if placement.spec.is_record_only() { Ok(ProviderState::new()) } else { Err(refused(placement)) }
    }

    async fn remove(&self, _: &ResolvedBackend, _: ProgressFn<'_>) -> Result<(), ProviderError> {
        Ok(())
    }

    async fn logs(&self, placement: &ResolvedBackend, _: LogPosition) -> Result<LogChunk, ProviderError> {
        match placement.spec.is_record_only() {
            true => Ok(LogChunk { text: String::new(), next: 0 }),
            false => Err(refused(placement)),
        }
    }
}
