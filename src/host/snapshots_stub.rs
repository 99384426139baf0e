//! Snapshots where a control plane has no disk.
//!
//! Must not do: claim that anything was copied.

use super::Host;
use crate::api::{ControlError, ProgressFn, Work};
use crate::authority::{Effect, EffectFailure, EffectResult};
use crate::model::{BackendName, Diagnostic, ProjectName, ResolvedBackend, Snapshot};

fn unavailable() -> Diagnostic {
    Diagnostic::new("snapshot.unavailable", "this control plane has no disk, so it keeps no snapshots")
        .with_help("use a control plane of `convexinfra serve`, or `npx convex export`")
}

impl Host {
    /// Refuses snapshots and restores.
    pub(super) fn check_data_work(&self, _: &ProjectName, _: &BackendName, work: &Work) -> Result<(), ControlError> {
        match work {
            Work::Snapshot { .. }
            | Work::Restore { .. }
            | Work::DropPrevious {}
            | Work::Remove { final_snapshot: true, .. } => Err(ControlError::Unsupported(unavailable())),
            _ => Ok(()),
        }
    }

    /// Looks at nothing.
    #[expect(clippy::unused_async, reason = "the other one waits for its provider")]
    pub(super) async fn check_data_version(&self, _: &ResolvedBackend) -> Result<(), EffectFailure> {
        Ok(())
    }

    /// Measures nothing.
    pub(super) fn measure_data(&self, _: &ProjectName, _: &[(usize, ResolvedBackend)], _: &mut Snapshot) {}

    /// Performs nothing.
    pub(super) async fn run_data_effect(&self, _: Effect, _: ProgressFn<'_>) -> EffectResult {
        EffectResult::failed(unavailable())
    }
}
