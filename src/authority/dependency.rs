//! Which backends need which others.
//!
//! Must not do: ask whether a dependency is there; it may come later, or have gone before.

use std::collections::{BTreeMap, BTreeSet};

use super::AuthorityError;
use crate::control::ControlError;
use crate::model::{BackendName, BackendSpec, Finding, ProjectName};
use crate::store::{BackendRow, Rows};

/// Refuses what would have a backend wait for itself: no order would be left in which anything could be done.
pub(super) fn check(
    rows: &dyn Rows,
    project: &ProjectName,
    name: &BackendName,
    existing: Option<&BackendRow>,
    spec: &BackendSpec,
) -> Result<(), AuthorityError> {
    if spec.depends_on.is_empty() {
        return Ok(());
    }
    let others = rows.backends(project)?.into_iter().filter(|row| existing.is_none_or(|existing| existing.id != row.id));
    let needed: BTreeMap<BackendName, BTreeSet<BackendName>> =
        others.map(|row| (row.name, row.spec.depends_on)).filter(|(other, _)| other != name).collect();
    let mut seen = BTreeSet::new();
    let mut left: Vec<&BackendName> = spec.depends_on.iter().collect();
    while let Some(next) = left.pop() {
        if next == name {
            let message = format!("`{name}` would wait for itself: what it depends on depends on it");
            return Err(ControlError::Refused(Finding::new("control.dependency_cycle", message)).into());
        }
        if seen.insert(next) {
            left.extend(needed.get(next).into_iter().flatten());
        }
    }
    Ok(())
}
