//! A host that serves: alone in its home, it takes up what was cut off, removes what has expired, and stops in order.
//!
//! Must not do: listen on a network; the server does.

use std::sync::Arc;
use std::time::Duration;

use super::Host;
use crate::api::ControlError;

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
        self.platform.lock_exclusive(address)?;
        // What a single row keeps from going on is in the log of the first sweep.
        self.resume_operations()?;
        let host = Arc::clone(self);
        let sweeper = tokio::spawn(async move {
            loop {
                tokio::time::sleep(super::SWEEP_INTERVAL).await;
                // What fails now is in the log, and is tried again the next time.
                let _ = host.sweep();
            }
        });
        Ok(Serving { host: Arc::clone(self), sweeper })
    }
}

impl Serving {
    /// Begins nothing more, and waits for what runs, at most so long. What has not ended by then stays open in the rows,
    /// and the next server takes it up. Returns how many operations are left open.
    pub async fn stop(self, grace: Duration) -> usize {
        self.sweeper.abort();
        let deadline = tokio::time::Instant::now() + grace;
        loop {
            let left = self.host.registry.running().len();
            if left == 0 || tokio::time::Instant::now() >= deadline {
                return left;
            }
            let _ = tokio::time::timeout_at(deadline, self.host.registry.wait_for_one()).await;
        }
    }
}
