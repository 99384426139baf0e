//! The janitor of a host that serves: at each sweep it resumes interrupted operations, removes expired backends, and prunes
//! old records.
//!
//! Must not do: wait for a lock, or let one failure stop the rest of a sweep.

use std::collections::BTreeSet;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::registry::{BackendKey, Cancellation, SweepErrors, error_code};
use super::{Host, HostAuthority, lock};
use crate::api::ControlError;
use crate::authority::{Resumption, Transition};
use crate::store::UnreadableRow;

/// The interval of sweeps.
pub const SWEEP_INTERVAL: Duration = Duration::from_secs(1);
/// At which sweeps what old operations said is forgotten: about once an hour, because it is a write.
const SWEEPS_PER_PRUNE: u64 = 3600;
/// How long what an operation said is kept after its end.
const NOTICE_RETENTION_MS: i64 = 24 * 60 * 60 * 1000;

impl Host {
    /// Resumes interrupted operations, begins to remove expired backends, and prunes old records now and then. A host that
    /// serves calls this periodically. A failure is logged once for as long as it lasts.
    ///
    /// # Errors
    /// The first thing that could not be done; the others were tried all the same.
    pub fn sweep(self: &Arc<Self>) -> Result<(), ControlError> {
        let mut failed: Vec<(Option<BackendKey>, ControlError)> = Vec::new();
        match self.resume_operations() {
            Ok(left) => failed.extend(left.into_iter().map(|(place, error)| (Some(place), error))),
            Err(error) => failed.push((None, error)),
        }
        if let Err(error) = self.remove_expired(&mut failed) {
            failed.push((None, error));
        }
        if self.registry.sweeps.fetch_add(1, Ordering::Relaxed).is_multiple_of(SWEEPS_PER_PRUNE) {
            match self.damaged_rows() {
                Ok(rows) => Self::log_unreadable(&self.registry.damaged, rows),
                Err(error) => failed.push((None, error)),
            }
            let before = self.now().plus_milliseconds(-NOTICE_RETENTION_MS);
            let now = self.now();
            let prune = |authority: &HostAuthority| {
                authority.prune_notices(before)?;
                authority.prune_operations(now)?;
                authority.prune_histories()
            };
            if let Err(error) = self.write_rows(prune) {
                failed.push((None, error));
            }
        }
        self.log_sweep_errors(failed.iter().map(|(place, error)| (place.clone(), error_code(error))).collect());
        failed.into_iter().next().map_or(Ok(()), |(_, error)| Err(error))
    }

    /// Resumes open operations that do not run here. Returns those that cannot be resumed, and why.
    pub(super) fn resume_operations(self: &Arc<Self>) -> Result<Vec<(BackendKey, ControlError)>, ControlError> {
        let busy = self.registry.running();
        let Resumption { resumed, failed, unreadable } = self.write_rows(|authority| authority.resume(&busy, self.now()))?;
        let mut left: Vec<(BackendKey, ControlError)> =
            failed.into_iter().map(|(place, error)| (place, error.into())).collect();
        for (place, operation, next) in resumed {
            // Another operation on this backend supersedes it, or leaves it for the next sweep.
            let Ok(turn) = self.registry.backend_lock(&place).try_lock_owned() else { continue };
            match self.write_rows(|authority| authority.begin_attempt(&operation, self.now())) {
                Ok(None) => self.execute(place, operation, next, turn),
                Ok(Some(outcome)) => self.record_outcome(&place, &outcome),
                Err(ControlError::LeaseLost { .. }) => {}
                Err(error) => left.push((place, error)),
            }
        }
        Self::log_unreadable(&self.registry.unreadable, unreadable);
        Ok(left)
    }

    /// Names the rows that cannot be read in the log, once for as long as they are there.
    fn log_unreadable(known: &Mutex<BTreeSet<String>>, rows: Vec<UnreadableRow>) {
        let mut known = lock(known);
        let now: BTreeSet<String> = rows.iter().map(ToString::to_string).collect();
        for row in now.difference(&known) {
            tracing::error!(row, "a row of the store cannot be read and is passed over; restore it, or delete it");
        }
        *known = now;
    }

    /// Begins to remove expired backends. One with an operation, or whose project has a held lease, is left for the next
    /// sweep.
    fn remove_expired(self: &Arc<Self>, failed: &mut Vec<(Option<BackendKey>, ControlError)>) -> Result<(), ControlError> {
        for place in self.read_rows(|authority| authority.expired(self.now()))?.unwrap_or_default() {
            let Ok(turn) = self.registry.backend_lock(&place).try_lock_owned() else {
                // Its time is over, so what is done to it is not wanted any more.
                self.registry.cancel(Some(&place), Cancellation::Removal);
                continue;
            };
            let (project, backend) = &place;
            let holder = self.platform.own_holder();
            match self.write_rows(|authority| authority.expire(project, backend, &holder, self.now())) {
                Ok(Some((Some(operation), next))) => self.execute(place, operation, next, turn),
                Ok(Some((None, Transition::Ended(outcome)))) => self.record_outcome(&place, &outcome),
                Ok(_) | Err(ControlError::LeaseHeld { .. }) => {}
                Err(error) => failed.push((Some(place), error)),
            }
        }
        Ok(())
    }

    /// Says in the log what this sweep could not do and the one before it did not say.
    fn log_sweep_errors(&self, troubles: SweepErrors) {
        let mut known = lock(&self.registry.sweep_errors);
        for (place, code) in troubles.difference(&known) {
            match place {
                Some((project, backend)) => {
                    tracing::warn!(%project, %backend, code, "what is to be done at a backend could not begin");
                }
                None => tracing::warn!(code, "a sweep could not do everything"),
            }
        }
        *known = troubles;
    }

    /// Returns whether the last sweep did all that there was to do.
    pub(super) fn has_sweep_errors(&self) -> bool {
        !lock(&self.registry.sweep_errors).is_empty()
    }
}
