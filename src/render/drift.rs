//! What differs from what was last applied, for people.

use std::fmt::Write as _;

use super::error::inline_finding;
use super::plural::counted;
use super::sanitize::sanitize_line as harmless;
use super::style::Style;
use crate::model::{Address, FieldPath, Snapshot};
use crate::plan::{DriftReport, UnobservedBackend};

/// The drift of a project, or that there is none.
pub fn drift(report: &DriftReport, snapshot: &Snapshot, style: Style) -> String {
    let mut text = String::new();
    let project = &snapshot.project;
    if report.drift.is_empty() && report.unknown.is_empty() && report.unfinished.is_empty() {
        let _ = writeln!(text, "no drift: {} of `{project}` as last applied", counted(snapshot.backends.len(), "backend"));
    }
    // First: what was cut off may be why the rest differs.
    if !report.unfinished.is_empty() {
        let _ = writeln!(text, "{}", style.warning(&format!("unfinished in `{project}`, finish it with `convexinfra apply`:")));
    }
    for address in &report.unfinished {
        let _ = writeln!(text, "  {address}: its last change did not finish, so there is nothing to compare it with");
    }
    if !report.drift.is_empty() {
        let _ = writeln!(text, "{}", style.warning(&format!("drift in `{project}`:")));
    }
    for drift in &report.drift {
        let _ = writeln!(text, "  {}", drift_line(&drift.address, &drift.path, &drift.recorded, &drift.observed));
    }
    for UnobservedBackend { address, why } in &report.unknown {
        let _ = writeln!(text, "  {address}: nothing is known: {}", inline_finding(why, 4));
    }
    for backend in snapshot.backends.iter().filter(|backend| !backend.unmanaged_env.is_empty()) {
        let names: Vec<&str> = backend.unmanaged_env.iter().map(String::as_str).collect();
        let address = Address::backend(&backend.name);
        let _ = writeln!(text, "  {address}: not drift, but not from here: variables {}", harmless(&names.join(", ")));
    }
    text
}

/// One difference.
pub(super) fn drift_line(address: &Address, path: &FieldPath, recorded: &str, observed: &str) -> String {
    format!("{address} {}: applied {}, seen {}", harmless(path.as_str()), harmless(recorded), harmless(observed))
}
