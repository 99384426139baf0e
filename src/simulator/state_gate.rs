//! Keeps a passing state until it was read once.
//!
//! The real backend takes some milliseconds to read an upload or to write an export. Here these take none, so a
//! client that polls would never see the states in between, and no test could count on them. A job therefore
//! waits until its state was looked at once, or for a second without a reader.

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;

const MAX_WAIT: Duration = Duration::from_secs(1);

/// Says which passing states have been seen.
#[derive(Debug, Default)]
pub(super) struct StateGate {
    seen: Mutex<BTreeSet<(String, &'static str)>>,
    notify: Notify,
}

impl StateGate {
    /// Records that a job was read in this state.
    pub(super) fn mark_seen(&self, job: &str, state: &'static str) {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).insert((job.to_owned(), state));
        self.notify.notify_waiters();
    }

    /// Waits until the state was read, or for a second.
    pub(super) async fn wait_until_seen(&self, job: &str, state: &'static str) {
        let key = (job.to_owned(), state);
        let seen = async {
            loop {
                let notified = self.notify.notified();
                tokio::pin!(notified);
                notified.as_mut().enable();
                if self.seen.lock().unwrap_or_else(PoisonError::into_inner).remove(&key) {
                    return;
                }
                notified.await;
            }
        };
        let _ = tokio::time::timeout(MAX_WAIT, seen).await;
    }
}
