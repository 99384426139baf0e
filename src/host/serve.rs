//! A host that serves: alone in its home, it takes up what was cut off, removes what has expired, and stops in order.
//!
//! Must not do: listen on a network; the server does.

use std::sync::Arc;
use std::time::Duration;

use super::occupancy::{Precedence, occupied};
use super::{Host, now};
use crate::authority::Liveness;
use crate::control::ControlError;

/// How often a serving host looks for what expired and for what was left open.
pub(super) const SWEEP_EVERY: Duration = Duration::from_secs(1);
/// After how many looks what old operations said is forgotten: once an hour, because it is a write.
const FORGET_EVERY: u64 = 3600;
/// How long what an operation said is kept after its end.
const NOTICES_KEPT_MS: i64 = 24 * 60 * 60 * 1000;

/// Why a host cannot serve.
pub type ServingError = ControlError;

/// A host that serves, until it is told to stop.
pub struct Serving {
    host: Arc<Host>,
    sweeper: tokio::task::JoinHandle<()>,
}

impl Host {
    /// Takes this home for itself, takes up every operation that was cut off, and goes on doing so. `address` is what
    /// others are told when they want to write here.
    ///
    /// # Errors
    /// Somebody else writes in this home, or the store cannot be used.
    pub async fn serve(self: &Arc<Self>, address: &str) -> Result<Serving, ServingError> {
        self.home.create()?;
        let (occupancy, precedence) = self.home.occupy(address)?;
        let alive = |holder: &crate::control::Holder| match super::process::liveness(holder) {
            Liveness::Alive => Liveness::Alive,
            Liveness::Dead | Liveness::Unknown => Liveness::Dead,
        };
        let working = self.ask(|authority| authority.holders(now(), alive))?.unwrap_or_default();
        if let (Precedence::First, Some((project, holder))) = (precedence, working.first()) {
            let message = format!("process {} of {} is changing `{project}` in this home", holder.process, holder.user);
            return Err(occupied(&message));
        }
        let _ = self.occupancy.set(occupancy);
        self.take_up().await?;
        let host = Arc::clone(self);
        let sweeper = tokio::spawn(async move {
            for round in 1_u64.. {
                tokio::time::sleep(SWEEP_EVERY).await;
                // What fails now is tried again the next time; readiness tells whether the store can be used.
                let _ = host.take_up().await;
                let _ = host.remove_expired().await;
                if round.is_multiple_of(FORGET_EVERY) {
                    let _ = host.tell(|authority| authority.forget_notices(now().plus_milliseconds(-NOTICES_KEPT_MS)));
                }
            }
        });
        Ok(Serving { host: Arc::clone(self), sweeper })
    }

    /// Whether the store answers.
    pub fn check(&self) -> Result<(), ControlError> {
        self.ask(|authority| authority.projects().map(drop)).map(drop)
    }
}

impl Serving {
    /// Begins nothing more, and waits for what runs, at most so long. What has not ended by then stays open in the rows,
    /// and the next server takes it up. Returns how many operations are left open.
    pub async fn stop(self, grace: Duration) -> usize {
        self.sweeper.abort();
        let deadline = tokio::time::Instant::now() + grace;
        loop {
            let left = self.host.drivers.running().len();
            if left == 0 || tokio::time::Instant::now() >= deadline {
                return left;
            }
            self.host.drivers.until_less_runs(deadline).await;
        }
    }
}
