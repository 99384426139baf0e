//! What a host that serves does by itself, again and again: taking up what was cut off, removing what has expired, and
//! forgetting what nobody asks for any more.
//!
//! Must not do: wait for anybody, or let one thing that cannot be done keep it from the others.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::drive::Place;
use super::{Host, lock};
use crate::authority::{Next, Resumption};
use crate::control::ControlError;

/// How often a host that serves looks for what expired and for what was left open.
pub const SWEEP_EVERY: Duration = Duration::from_secs(1);
/// At which sweeps what old operations said is forgotten: about once an hour, because it is a write.
const FORGET_EVERY: u64 = 3600;
/// How long what an operation said is kept after its end.
const NOTICES_KEPT_MS: i64 = 24 * 60 * 60 * 1000;

/// What a sweep could not do: at which backend, where it was at one, and the code of the reason.
pub(super) type Troubles = BTreeSet<(Option<Place>, String)>;

impl Host {
    /// Takes up every operation that was cut off, begins the removal of what has expired, and forgets, now and then, what
    /// nobody asks for any more. Whoever serves does this again and again. What cannot be done is in the log, once for as
    /// long as it lasts.
    ///
    /// # Errors
    /// The first thing that could not be done; the others were tried all the same.
    pub fn sweep(self: &Arc<Self>) -> Result<(), ControlError> {
        let mut failed: Vec<(Option<Place>, ControlError)> = Vec::new();
        match self.take_up() {
            Ok(left) => failed.extend(left.into_iter().map(|(place, error)| (Some(place), error))),
            Err(error) => failed.push((None, error)),
        }
        if let Err(error) = self.remove_expired(&mut failed) {
            failed.push((None, error));
        }
        if self.drivers.sweeps.fetch_add(1, Ordering::Relaxed).is_multiple_of(FORGET_EVERY) {
            let before = self.now().plus_milliseconds(-NOTICES_KEPT_MS);
            if let Err(error) = self.tell(|authority| authority.forget_notices(before)) {
                failed.push((None, error));
            }
        }
        self.report(failed.iter().map(|(place, error)| (place.clone(), code_of(error))).collect());
        failed.into_iter().next().map_or(Ok(()), |(_, error)| Err(error))
    }

    /// Begins again whatever is open and does not run here. Returns what could not be begun, and why.
    pub(super) fn take_up(self: &Arc<Self>) -> Result<Vec<(Place, ControlError)>, ControlError> {
        let busy = self.drivers.running();
        let Resumption { resumed, failed } = self.tell(|authority| authority.resume(&busy, self.now()))?;
        for (place, operation, next) in resumed {
            // Somebody who is at this backend now takes its place, or leaves it for the next sweep.
            if let Ok(turn) = self.drivers.turn(&place).try_lock_owned() {
                self.drive(place, operation, next, turn);
            }
        }
        Ok(failed.into_iter().map(|(place, error)| (place, error.into())).collect())
    }

    /// Begins to remove the backends whose time is over. One that somebody is at, or whose project somebody is changing,
    /// is left for the next time.
    fn remove_expired(self: &Arc<Self>, failed: &mut Vec<(Option<Place>, ControlError)>) -> Result<(), ControlError> {
        for place in self.ask(|authority| authority.expired(self.now()))?.unwrap_or_default() {
            let Ok(turn) = self.drivers.turn(&place).try_lock_owned() else { continue };
            let (project, backend) = &place;
            let holder = self.platform.here();
            match self.tell(|authority| authority.expire(project, backend, &holder, self.now())) {
                Ok(Some((Some(operation), next))) => self.drive(place, operation, next, turn),
                Ok(Some((None, Next::Ended(outcome)))) => self.ended(&place, &outcome),
                Ok(_) | Err(ControlError::LeaseHeld { .. }) => {}
                Err(error) => failed.push((Some(place), error)),
            }
        }
        Ok(())
    }

    /// Says in the log what this sweep could not do and the one before it did not say.
    fn report(&self, troubles: Troubles) {
        let mut known = lock(&self.drivers.troubles);
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

    /// Whether the last sweep did all that there was to do.
    pub(super) fn has_troubles(&self) -> bool {
        !lock(&self.drivers.troubles).is_empty()
    }
}

/// The code of what went wrong: what the log may say of it.
pub(super) fn code_of(error: &ControlError) -> String {
    error.report().errors.into_iter().next().map(|finding| finding.code).unwrap_or_default()
}
