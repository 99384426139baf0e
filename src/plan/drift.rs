//! Drift alone: what differs from what was last applied, apart from any manifest.

use super::DriftItem;
use crate::model::{Address, DataState, Diagnostic, FieldDrift, Phase, Snapshot};

/// What is known about drift in a project.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DriftReport {
    /// What differs.
    pub drift: Vec<DriftItem>,
    /// What is being changed, or was left in the middle of a change: there is nothing to compare it with.
    pub unfinished: Vec<Address>,
    /// What could not be looked at.
    pub unknown: Vec<UnobservedBackend>,
}

/// A backend that could not be looked at.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, schemars::JsonSchema)]
pub struct UnobservedBackend {
    /// The backend.
    pub address: Address,
    /// Why.
    #[serde(flatten)]
    pub why: Diagnostic,
}

/// Compares every backend with what was last applied.
pub fn detect_drift(snapshot: &Snapshot) -> DriftReport {
    let mut report = DriftReport { drift: Vec::new(), unfinished: Vec::new(), unknown: Vec::new() };
    for backend in &snapshot.backends {
        let address = Address::backend(&backend.name);
        let observation = &backend.observation;
        if observation.data == DataState::Missing {
            report.drift.push(DriftItem::new(address.clone(), data_missing()));
        }
        // A change that failed leaves a backend that was there before; one that is still under way, or never was
        // ready, has nothing yet that it could have drifted from.
        let comparable = match backend.phase {
            Phase::Ready => true,
            Phase::Failed => !observation.drift.is_empty(),
            Phase::Creating | Phase::Updating | Phase::Removing => false,
        };
        if !comparable {
            report.unfinished.push(address);
        } else if let Some(why) = backend.observe_failure() {
            report.unknown.push(UnobservedBackend { address, why });
        } else {
            let drift = observation.drift.iter().cloned().map(|deviation| DriftItem::new(address.clone(), deviation));
            report.drift.extend(drift);
        }
    }
    report
}

/// That data is gone which was there.
pub(super) fn data_missing() -> FieldDrift {
    FieldDrift::new("data", "present", "missing")
}
