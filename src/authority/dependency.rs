//! Dependencies between backends: refuses a cycle.
//!
//! Walked by hand and not by `petgraph`: a neighbour is a row, which is read only when the walk reaches it.

use std::collections::BTreeSet;

use super::AuthorityError;
use crate::api::ControlError;
use crate::model::{BackendName, BackendSpec, Diagnostic, ProjectName};
use crate::store::{BackendRow, Rows};

/// Refuses what would have a backend wait for itself: no order would be left in which anything could be done. Only what
/// it newly depends on is followed, so an ordinary change asks for nothing.
pub(super) fn refuse_cycle(
    rows: &dyn Rows,
    project: &ProjectName,
    name: &BackendName,
    existing: Option<&BackendRow>,
    spec: &BackendSpec,
) -> Result<(), AuthorityError> {
    let is_new = |other: &&BackendName| existing.is_none_or(|row| !row.spec.depends_on.contains(*other));
    let mut seen = BTreeSet::new();
    let mut left: Vec<BackendName> = spec.depends_on.iter().filter(is_new).cloned().collect();
    while let Some(next) = left.pop() {
        if next == *name {
            let message = format!("`{name}` depends on itself, through what it depends on");
            return Err(ControlError::Refused(Diagnostic::new("control.dependency_cycle", message)).into());
        }
        if !seen.insert(next.clone()) {
            continue;
        }
        // Under its old name a backend that is being renamed is this one.
        if let Some(row) = rows.backend(project, &next)?.filter(|row| existing.is_none_or(|existing| existing.id != row.id)) {
            left.extend(row.spec.depends_on);
        }
    }
    Ok(())
}
