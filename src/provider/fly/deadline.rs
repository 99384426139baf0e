//! The deadline of a request with its retries.

use std::time::Duration;

/// A moment at which retries end: a start, by the clock of the transport, and how long they may take.
#[derive(Debug, Clone, Copy)]
pub(super) struct Deadline {
    pub(super) start_ms: i64,
    pub(super) budget: Duration,
}
