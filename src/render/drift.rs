//! What differs from what was last applied, for people.

use std::fmt::Write as _;

use super::error::inline_finding;
use super::plural::counted;
use super::sanitize::sanitize_line as harmless;
use super::style::Style;
use crate::model::{Address, Diagnostic, FieldPath, Snapshot};
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
    for (addresses, why) in by_reason(&report.unknown) {
        let _ = writeln!(text, "  {addresses}: nothing is known: {}", inline_finding(why, 4));
    }
    for backend in snapshot.backends.iter().filter(|backend| !backend.unmanaged_env.is_empty()) {
        let names: Vec<&str> = backend.unmanaged_env.iter().map(String::as_str).collect();
        let address = Address::backend(&backend.name);
        let _ = writeln!(text, "  {address}: not drift, but not from here: variables {}", harmless(&names.join(", ")));
    }
    text
}

/// Groups backends by the reason for which nothing is known of them: one outage is told once.
fn by_reason(unknown: &[UnobservedBackend]) -> Vec<(String, &Diagnostic)> {
    let mut groups: Vec<(String, &Diagnostic)> = Vec::new();
    for UnobservedBackend { address, why } in unknown {
        match groups.iter_mut().find(|(_, known)| (&known.code, &known.message) == (&why.code, &why.message)) {
            Some((addresses, _)) => {
                let _ = write!(addresses, ", {address}");
            }
            None => groups.push((address.to_string(), why)),
        }
    }
    groups
}

/// One difference.
pub(super) fn drift_line(address: &Address, path: &FieldPath, recorded: &str, observed: &str) -> String {
    format!("{address} {}: applied {}, seen {}", harmless(path.as_str()), harmless(recorded), harmless(observed))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::BackendName;

    #[test]
    fn one_outage_is_told_once() {
        let unseen = |name: &str, message: &str| UnobservedBackend {
            address: Address::backend(&BackendName::parse(name).unwrap()),
            why: Diagnostic::new("provider.unreachable", message),
        };
        let unknown = [unseen("a", "the engine is away"), unseen("b", "no token"), unseen("c", "the engine is away")];
        let groups = by_reason(&unknown);
        let said: Vec<(&str, &str)> = groups.iter().map(|(names, why)| (names.as_str(), why.message.as_str())).collect();
        assert_eq!(said, [("backend.a, backend.c", "the engine is away"), ("backend.b", "no token")]);
    }
}
