//! Starts backends again whose processes ended: after a reboot of the machine, and after a crash with a growing pause.
//!
//! Only what runs as a process of this machine: an engine or a platform restarts what it runs by itself.

use std::sync::Arc;

use futures_util::StreamExt;

use super::registry::{BackendKey, Restarts, error_code};
use super::{Host, lock};
use crate::api::ControlError;
use crate::authority::Transition;
use crate::model::{Location, Phase, ResolvedBackend, RunState, Timestamp};

/// How many backends are looked at at the same time.
const CHECK_CONCURRENCY: usize = 8;
/// How long is waited before a backend that ended again is started, in milliseconds: twice as long each time, up to the longest.
const FIRST_BACKOFF_MS: i64 = 1_000;
const MAX_BACKOFF_MS: i64 = 300_000;

impl Restarts {
    /// Returns what is known after one more start at this moment. A backend that ran longer than the longest pause begins anew.
    fn after_start(self, now: Timestamp) -> Self {
        let count = if now.0.saturating_sub(self.not_before) > MAX_BACKOFF_MS { 0 } else { self.count };
        let backoff = (FIRST_BACKOFF_MS << count.min(16)).min(MAX_BACKOFF_MS);
        Self { count: count.saturating_add(1), not_before: now.0.saturating_add(backoff) }
    }
}

impl Host {
    /// Starts every backend that should run as a process here and does not. What cannot be started now is tried again later.
    pub(super) async fn start_stopped(self: &Arc<Self>) {
        let mut checks = Vec::new();
        for project in self.projects().unwrap_or_default() {
            let Ok(Some(view)) = self.read_rows(|authority| authority.view(&project)) else { continue };
            for (index, resolved) in view.to_observe {
                let is_ours = resolved.spec.provider.descriptor().location == Location::Process;
                let should_run = view.backends.get(index).is_some_and(|row| row.phase == Phase::Ready && !row.stopped);
                let key = (project.clone(), resolved.name.clone());
                if is_ours && should_run && self.may_restart(&key) {
                    checks.push(async move { (self.is_stopped(&resolved).await, key) });
                }
            }
        }
        let stopped: Vec<(bool, BackendKey)> =
            futures_util::stream::iter(checks).buffer_unordered(CHECK_CONCURRENCY).collect().await;
        for (_, key) in stopped.into_iter().filter(|(is_stopped, _)| *is_stopped) {
            self.start_one(key);
        }
    }

    fn may_restart(&self, key: &BackendKey) -> bool {
        lock(&self.registry.restarts).get(key).is_none_or(|restarts| restarts.not_before <= self.now().0)
    }

    /// Returns whether a backend has data and no process. A look that fails says nothing.
    async fn is_stopped(&self, resolved: &ResolvedBackend) -> bool {
        let Ok(provider) = self.provider(resolved.spec.provider) else { return false };
        matches!(provider.observe(resolved).await, Ok(seen) if seen.state == RunState::Stopped)
    }

    fn start_one(self: &Arc<Self>, key: BackendKey) {
        let Ok(turn) = self.registry.backend_lock(&key).try_lock_owned() else { return };
        let (project, backend) = &key;
        let holder = self.platform.own_holder();
        let begun = self.write_rows(|authority| authority.restart(project, backend, &holder, self.now()));
        {
            let mut restarts = lock(&self.registry.restarts);
            let known = restarts.get(&key).copied().unwrap_or_default();
            restarts.insert(key.clone(), known.after_start(self.now()));
        }
        match begun {
            Ok(Some((Some(operation), next))) => {
                tracing::info!(%project, %backend, "a backend did not run and is started");
                self.execute(key, operation, next, turn);
            }
            Ok(Some((None, Transition::Ended(outcome)))) => self.record_outcome(&key, &outcome),
            Ok(_) | Err(ControlError::LeaseHeld { .. }) => {}
            Err(error) => {
                let code = error_code(&error);
                tracing::warn!(%project, %backend, code, "a backend that does not run could not be started");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pause_grows_and_a_long_life_resets_it() {
        let (mut restarts, mut now, mut pauses) = (Restarts::default(), 1_800_000_000_000, Vec::new());
        for _ in 0..12 {
            restarts = restarts.after_start(Timestamp(now));
            pauses.push(restarts.not_before - now);
            now = restarts.not_before;
        }
        assert_eq!(pauses[..4], [1_000, 2_000, 4_000, 8_000]);
        assert_eq!(pauses[11], MAX_BACKOFF_MS);
        let later = restarts.after_start(Timestamp(now + MAX_BACKOFF_MS + 1));
        assert_eq!(later.not_before - (now + MAX_BACKOFF_MS + 1), FIRST_BACKOFF_MS);
    }
}
