//! A host that serves: alone in its home, it takes up what was cut off, removes what has expired, and stops in order.
//!
//! Must not do: listen on a network; the server does.

use std::sync::Arc;
use std::time::Duration;

use super::Host;
use super::registry::Cancellation;
use crate::api::ControlError;

/// How long an operation that is cancelled may take to end.
const CANCEL_TIMEOUT: Duration = Duration::from_secs(1);

/// Why a host cannot serve.
pub type ServingError = ControlError;

/// Says whether backends whose processes ended are started again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeepRunning {
    /// When the server starts, and whenever one has ended, with a pause that grows.
    Yes,
    /// Only when a request asks for it.
    No,
}

/// At which sweeps it is looked whether every backend runs.
const SWEEPS_PER_CHECK: u64 = 5;

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
    /// Another process writes in this home, or the store cannot be used.
    pub async fn serve(self: &Arc<Self>, address: &str) -> Result<Serving, ServingError> {
        self.serve_with(address, KeepRunning::Yes).await
    }

    /// Serves as [`Host::serve`] does, and starts backends whose processes ended only where that is asked for.
    ///
    /// # Errors
    /// As [`Host::serve`].
    pub async fn serve_with(self: &Arc<Self>, address: &str, keep: KeepRunning) -> Result<Serving, ServingError> {
        // On a full disk it starts, so that something can be removed.
        self.platform.release_reserve();
        self.platform.lock_exclusive(address)?;
        // What a single row keeps from going on is in the log of the first sweep.
        self.resume_operations()?;
        let host = Arc::clone(self);
        let sweeper = tokio::spawn(async move {
            for sweep in 0_u64.. {
                if keep == KeepRunning::Yes && sweep.is_multiple_of(SWEEPS_PER_CHECK) {
                    host.start_stopped().await;
                }
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
            if left == 0 {
                return left;
            }
            if tokio::time::Instant::now() >= deadline {
                // What it waits for is left where it is, so that the process can end.
                self.host.registry.cancel(None, Cancellation::Shutdown);
                let _ = tokio::time::timeout(CANCEL_TIMEOUT, self.host.registry.wait_for_one()).await;
                return left;
            }
            let _ = tokio::time::timeout_at(deadline, self.host.registry.wait_for_one()).await;
        }
    }
}
