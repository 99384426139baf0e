//! Drift alone: what differs from what was last applied, whatever a manifest says.
//!
//! Must not do: read the manifest.

use super::Drift;
use crate::model::{Address, Data, Deviation, FieldPath, Phase, RunState, Snapshot};

/// What is known about drift in a project.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DriftReport {
    /// What differs.
    pub drift: Vec<Drift>,
    /// What could not be looked at.
    pub unknown: Vec<Address>,
}

/// Compares every backend with what was last applied.
pub fn drift(snapshot: &Snapshot) -> DriftReport {
    let mut report = DriftReport { drift: Vec::new(), unknown: Vec::new() };
    for backend in &snapshot.backends {
        let address = Address::backend(&backend.name);
        let observation = &backend.observation;
        if observation.state == RunState::Unknown {
            report.unknown.push(address);
            continue;
        }
        let mut deviations = observation.deviations.clone();
        if observation.data == Data::Missing && !deviations.iter().any(|deviation| deviation.path.as_str() == "data") {
            deviations.push(deviation("data", "present", "missing"));
        }
        if backend.phase != Phase::Ready && deviations.is_empty() {
            // What never got to its end is not as it was last applied either.
            deviations.push(deviation("phase", "ready", "unfinished"));
        }
        report.drift.extend(deviations.into_iter().map(|deviation| Drift::new(address.clone(), deviation)));
    }
    report
}

fn deviation(path: &str, recorded: &str, observed: &str) -> Deviation {
    Deviation { path: FieldPath::new(path), recorded: recorded.to_owned(), observed: observed.to_owned() }
}
