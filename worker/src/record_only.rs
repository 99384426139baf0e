//! The stand-in backend where there are no processes: nothing but records.
//!
//! Must not do: pretend that something runs.

use convexinfra::model::{DataState, Observation, ProviderKind, ProviderState, ResolvedBackend, RunState};
use convexinfra::provider::{LogChunk, LogPosition, ProgressFn, Provider, ProviderError};
use futures_util::future::BoxFuture;

/// Keeps simulated backends as records.
pub struct RecordOnly;

fn refused(placement: &ResolvedBackend) -> ProviderError {
    ProviderError::Unsupported(format!(
        "a simulated backend is a process, and a control plane on Workers has none: give `{}` the setting `listen = false`, \
         or another provider",
        placement.name
    ))
}

impl Provider for RecordOnly {
    fn kind(&self) -> ProviderKind {
        ProviderKind::Simulated
    }

    fn observe<'a>(&'a self, placement: &'a ResolvedBackend) -> BoxFuture<'a, Result<Observation, ProviderError>> {
        let state = if placement.spec.is_record_only() { RunState::Recorded } else { RunState::Absent };
        Box::pin(async move { Ok(Observation { state, data: DataState::None, drift: Vec::new(), notes: Vec::new() }) })
    }

    fn ensure<'a>(
        &'a self,
        placement: &'a ResolvedBackend,
        _: ProgressFn<'a>,
    ) -> BoxFuture<'a, Result<ProviderState, ProviderError>> {
        Box::pin(
            async move { if placement.spec.is_record_only() { Ok(ProviderState::new()) } else { Err(refused(placement)) } },
        )
    }

    fn remove<'a>(&'a self, _: &'a ResolvedBackend, _: ProgressFn<'a>) -> BoxFuture<'a, Result<(), ProviderError>> {
        Box::pin(async move { Ok(()) })
    }

    fn logs<'a>(&'a self, placement: &'a ResolvedBackend, _: LogPosition) -> BoxFuture<'a, Result<LogChunk, ProviderError>> {
        Box::pin(async move {
            match placement.spec.is_record_only() {
                true => Ok(LogChunk { text: String::new(), next: 0 }),
                false => Err(refused(placement)),
            }
        })
    }
}
