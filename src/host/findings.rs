//! The findings of a preflight.

use crate::api::Preflight;
use crate::model::{Address, Diagnostic, ResolvedBackend};

/// Collects what a preflight finds.
#[derive(Debug, Default)]
pub(super) struct Findings {
    pub(super) preflight: Preflight,
}

impl Findings {
    pub(super) fn refuse(&mut self, placement: &ResolvedBackend, finding: Diagnostic) {
        self.preflight.refusals.push(finding.about(Address::backend(&placement.name)));
    }

    pub(super) fn note(&mut self, placement: &ResolvedBackend, finding: Diagnostic) {
        self.preflight.notes.push(finding.as_warning().about(Address::backend(&placement.name)));
    }
}
