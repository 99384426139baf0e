//! Drift alone: what differs from what was last applied, whatever a manifest says.
//!
//! Must not do: read the manifest.

use super::Drift;
use crate::model::{Address, Data, Deviation, FieldPath, Finding, Phase, Snapshot};

/// What is known about drift in a project.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DriftReport {
    /// What differs.
    pub drift: Vec<Drift>,
    /// What is being changed, or was left in the middle of a change: there is nothing to compare it with.
    pub unfinished: Vec<Address>,
    /// What could not be looked at.
    pub unknown: Vec<Unseen>,
}

/// A backend that could not be looked at.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Unseen {
    /// The backend.
    pub address: Address,
    /// Why.
    #[serde(flatten)]
    pub why: Finding,
}

/// Compares every backend with what was last applied.
pub fn drift(snapshot: &Snapshot) -> DriftReport {
    let mut report = DriftReport { drift: Vec::new(), unfinished: Vec::new(), unknown: Vec::new() };
    for backend in &snapshot.backends {
        let address = Address::backend(&backend.name);
        let observation = &backend.observation;
        if observation.data == Data::Missing {
            report.drift.push(Drift::new(address.clone(), data_missing()));
        }
        // A change that failed leaves a backend that was there before; one that is still under way, or never was
        // ready, has nothing yet that it could have drifted from.
        let comparable = match backend.phase {
            Phase::Ready => true,
            Phase::Failed => !observation.deviations.is_empty(),
            Phase::Creating | Phase::Updating | Phase::Removing => false,
        };
        if !comparable {
            report.unfinished.push(address);
        } else if let Some(why) = backend.unknown() {
            report.unknown.push(Unseen { address, why });
        } else {
            let drift = observation.deviations.iter().cloned().map(|deviation| Drift::new(address.clone(), deviation));
            report.drift.extend(drift);
        }
    }
    report
}

/// That data is gone which was there.
pub(super) fn data_missing() -> Deviation {
    Deviation { path: FieldPath::new("data"), recorded: "present".to_owned(), observed: "missing".to_owned() }
}
