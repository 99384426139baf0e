//! What differs from what was last applied, for people.

use std::fmt::Write as _;

use super::style::Style;
use super::words::counted;
use crate::plan::Plan;

/// The drift of a plan, or that there is none.
pub fn drift(plan: &Plan, backends: usize, style: Style) -> String {
    let mut text = String::new();
    if plan.drift.is_empty() {
        let _ = writeln!(text, "no drift: {} of `{}` as last applied", counted(backends, "backend"), plan.project);
        return text;
    }
    let _ = writeln!(text, "{}", style.warning(&format!("drift in `{}`:", plan.project)));
    for drift in &plan.drift {
        let _ = writeln!(text, "  {} {}: applied {}, seen {}", drift.address, drift.path, drift.recorded, drift.observed);
    }
    text
}
