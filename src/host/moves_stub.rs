//! Moves where a control plane reaches no database.
//!
//! Must not do: claim that anything was copied.

use super::Host;
use crate::api::ProgressFn;
use crate::authority::{DataMove, EffectFailure, EffectResult, MoveStep};
use crate::model::{Diagnostic, ResolvedBackend};

fn unavailable() -> Diagnostic {
    Diagnostic::new("move.unavailable", "this control plane reaches no database, so it moves no rows")
        .with_help("use a control plane of `convexinfra serve`, or `npx convex export`")
}

impl Host {
    /// Performs nothing.
    pub(super) async fn run_move(&self, _: MoveStep, _: &DataMove, _: ProgressFn<'_>) -> EffectResult {
        EffectResult::failed(unavailable())
    }

    /// Deletes nothing.
    #[allow(clippy::unused_self, reason = "there are no files here")]
    pub(super) fn forget_moves(&self, _: &ResolvedBackend) {}

    /// Releases nothing.
    pub(super) async fn release_move_lock(&self, _: &ResolvedBackend) -> Result<(), EffectFailure> {
        Err(unavailable().into())
    }
}
