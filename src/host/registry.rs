//! The registry of operations that run in this process, the lock of each backend, and what sweeps remember.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, Weak};

use tokio::sync::{OwnedMutexGuard, watch};

use super::lock;
use crate::api::{ControlError, OperationOutcome};
use crate::authority::Operation;
use crate::model::{BackendName, OperationId, ProjectName};

pub(super) type BackendKey = (ProjectName, BackendName);
pub(super) type BackendLock = OwnedMutexGuard<()>;

/// What a sweep could not do: the backend, where it was about one, and the code of the error.
pub(super) type SweepErrors = BTreeSet<(Option<BackendKey>, String)>;

/// Returns the code of an error, which is what the log may say of it.
pub(super) fn error_code(error: &ControlError) -> String {
    error.report().errors.into_iter().next().map(|finding| finding.code).unwrap_or_default()
}

/// Counts the starts of a backend, and says when the next one may be.
#[cfg(feature = "native")]
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Restarts {
    pub(super) count: u32,
    pub(super) not_before: i64,
}

/// Lists the operations that run in this process, and locks backends.
#[derive(Default)]
pub(super) struct OperationRegistry {
    /// The lock of each backend with an operation.
    pub(super) locks: Mutex<BTreeMap<BackendKey, Weak<tokio::sync::Mutex<()>>>>,
    /// Every operation that runs here.
    pub(super) running: Mutex<BTreeMap<OperationId, RunningOperation>>,
    /// How many have ended well here, and how many have not.
    pub(super) done: AtomicU64,
    pub(super) failed: AtomicU64,
    /// How often this host has swept.
    pub(super) sweeps: AtomicU64,
    /// How often backends were started here because they did not run.
    #[cfg(feature = "native")]
    pub(super) restarts: Mutex<BTreeMap<BackendKey, Restarts>>,
    /// The rows that the last sweep could not read.
    pub(super) unreadable: Mutex<BTreeSet<String>>,
    /// The rows of all projects that cannot be read, as they were named in the log.
    pub(super) damaged: Mutex<BTreeSet<String>>,
    /// What the last sweep could not do.
    pub(super) sweep_errors: Mutex<SweepErrors>,
}

/// Holds an operation that runs here.
pub(super) struct RunningOperation {
    pub(super) key: BackendKey,
    /// Whether it takes its backend away, which nothing else is a reason to end.
    pub(super) removes: bool,
    /// The number of the last thing it said.
    pub(super) notices: watch::Sender<u64>,
    /// Whether it is to end before its step has.
    pub(super) cancel: watch::Sender<Option<Cancellation>>,
}

/// Says why a step is cancelled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Cancellation {
    /// The backend is to be removed.
    Removal,
    /// The server stops.
    #[cfg_attr(not(feature = "native"), allow(dead_code))]
    Shutdown,
}

/// Counts the operations of a host since it was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Activity {
    /// How many operations run now.
    pub running: u64,
    /// How many have ended well.
    pub done: u64,
    /// How many could not be done.
    pub failed: u64,
}

/// Removes an operation from the registry, however its task ends.
pub(super) struct RunningGuard<'a> {
    pub(super) registry: &'a OperationRegistry,
    pub(super) id: OperationId,
}

impl Drop for RunningGuard<'_> {
    fn drop(&mut self) {
        // Listeners see the channel close, and read the row.
        lock(&self.registry.running).remove(&self.id);
    }
}

impl OperationRegistry {
    pub(super) fn backend_lock(&self, place: &BackendKey) -> Arc<tokio::sync::Mutex<()>> {
        let mut turns = lock(&self.locks);
        turns.retain(|_, turn| turn.strong_count() > 0);
        if let Some(turn) = turns.get(place).and_then(Weak::upgrade) {
            return turn;
        }
        let turn = Arc::new(tokio::sync::Mutex::new(()));
        turns.insert(place.clone(), Arc::downgrade(&turn));
        turn
    }

    pub(super) fn register(&self, operation: &Operation, key: &BackendKey) -> watch::Receiver<Option<Cancellation>> {
        let (cancel, cancelled) = watch::channel(None);
        let removes = operation.is_removal();
        let running = RunningOperation { key: key.clone(), removes, notices: watch::Sender::new(0), cancel };
        lock(&self.running).insert(operation.id().clone(), running);
        cancelled
    }

    /// Ends what the operations on one backend, or all of them, wait for.
    pub(super) fn cancel(&self, only: Option<&BackendKey>, why: Cancellation) {
        let is_meant = |running: &&RunningOperation| {
            only.is_none_or(|key| running.key == *key) && (why == Cancellation::Shutdown || !running.removes)
        };
        for running in lock(&self.running).values().filter(is_meant) {
            running.cancel.send_replace(Some(why));
        }
    }

    /// Waits until something that runs here has ended.
    #[cfg(feature = "native")]
    pub(super) async fn wait_for_one(&self) {
        let listening = lock(&self.running).values().next().map(|running| running.notices.subscribe());
        if let Some(mut news) = listening {
            // It ends by closing; what it says before that is not meant.
            while news.changed().await.is_ok() {}
        }
    }

    pub(super) fn count_outcome(&self, outcome: &OperationOutcome) {
        let count = match outcome {
            OperationOutcome::Done { .. } => &self.done,
            OperationOutcome::Failed { .. } => &self.failed,
        };
        count.fetch_add(1, Ordering::Relaxed);
    }

    /// Returns what runs here now.
    pub(super) fn running(&self) -> BTreeSet<OperationId> {
        lock(&self.running).keys().cloned().collect()
    }
}

/// Waits until an operation is cancelled; for ever where it cannot be. A removal waits until an operation is undone, and does
/// not cancel that: it would begin again and again.
pub(super) async fn cancellation(
    cancelled: &mut Option<watch::Receiver<Option<Cancellation>>>,
    is_being_undone: bool,
) -> Cancellation {
    let counts = |why: &Option<Cancellation>| match why {
        Some(Cancellation::Removal) => !is_being_undone,
        Some(Cancellation::Shutdown) => true,
        None => false,
    };
    if let Some(receiver) = cancelled
        && let Ok(why) = receiver.wait_for(counts).await
        && let Some(why) = *why
    {
        return why;
    }
    std::future::pending().await
}
