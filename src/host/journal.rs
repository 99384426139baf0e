//! The parts of a provider state that a verb records while it runs, in the row of its backend.

use super::Host;
use crate::authority::Operation;
use crate::provider::StateJournal;

/// Records into the row of the backend that an operation is about.
pub(super) struct OperationJournal<'a> {
    host: &'a Host,
    operation: &'a Operation,
}

impl<'a> OperationJournal<'a> {
    pub(super) fn new(host: &'a Host, operation: &'a Operation) -> Self {
        Self { host, operation }
    }
}

impl StateJournal for OperationJournal<'_> {
    fn record(&self, key: &str, value: Option<&str>) {
        // Who lost the operation records nothing any more, and is told so at its next step.
        let _ = self.host.write_rows(|authority| authority.record_state(self.operation, key, value));
    }
}
