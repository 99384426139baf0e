//! Differences between what should be and what is: each by its path, and with what repairs it.
//!
//! What is shown of an observed value is only what may be shown: set by hand, it may hold a secret.

use std::collections::BTreeSet;

use super::redact::redact_untrusted;
use crate::model::{FieldDrift, FieldPath};

/// What repairs a difference, from the mildest to the gravest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum RepairKind {
    /// Another name, while it runs.
    Rename,
    /// Other limits or another restart policy, while it runs.
    Update,
    /// Other networks, while it runs.
    Reconnect,
    /// Its files are put into its volume again, and it is started again.
    Refill,
    /// It has to run.
    Start,
    /// Another container.
    Replace,
}

/// One difference.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ContainerDifference {
    pub(super) drift: FieldDrift,
    pub(super) repair: RepairKind,
}

/// A difference of some path below a container.
pub(super) fn field_drift(path: &str, recorded: impl Into<String>, observed: impl Into<String>) -> FieldDrift {
    FieldDrift { path: FieldPath::new(path), recorded: recorded.into(), observed: observed.into() }
}

/// What was found so far.
pub(super) struct DiffBuilder {
    prefix: &'static str,
    all: Vec<ContainerDifference>,
}

impl DiffBuilder {
    /// Starts a diff whose paths begin with a prefix.
    pub(super) fn new(prefix: &'static str) -> Self {
        Self { prefix, all: Vec::new() }
    }

    /// Returns whether anything found so far needs another container.
    pub(super) fn needs_replacement(&self) -> bool {
        self.all.iter().any(|difference| difference.repair == RepairKind::Replace)
    }

    /// Returns everything that was found.
    pub(super) fn finish(self) -> Vec<ContainerDifference> {
        self.all
    }

    /// Notes a difference, and shows of what was observed only what may be shown.
    pub(super) fn add(&mut self, path: &str, recorded: impl Into<String>, observed: impl Into<String>, repair: RepairKind) {
        let (path, recorded, observed) = (format!("{}{path}", self.prefix), recorded.into(), observed.into());
        let observed = redact_untrusted(&observed, &recorded);
        self.all.push(ContainerDifference { drift: field_drift(&path, recorded, observed), repair });
    }

    /// Notes a difference where there is one.
    pub(super) fn compare(&mut self, path: &str, recorded: impl Into<String>, observed: impl Into<String>, repair: RepairKind) {
        let (recorded, observed) = (recorded.into(), observed.into());
        if recorded != observed {
            self.add(path, recorded, observed, repair);
        }
    }
}

/// Words in order, or that there are none.
pub(super) fn list(items: &BTreeSet<String>) -> String {
    if items.is_empty() { "none".to_owned() } else { items.iter().cloned().collect::<Vec<_>>().join("; ") }
}
