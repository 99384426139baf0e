//! Finds renames that no `[[moved]]` declares: one backend goes, and an alike one comes.

use std::collections::BTreeMap;

use super::{Action, Reason, Step, Task};
use crate::model::{ActualBackend, BackendName, BackendSpec};

/// Returns the old and the new name of each backend that may have been renamed. A guess between several is no guess.
pub(super) fn undeclared<'a>(
    steps: &'a [Step],
    existing: &BTreeMap<&BackendName, &'a ActualBackend>,
) -> Vec<(&'a BackendName, &'a BackendName)> {
    let gone: Vec<(&BackendName, &BackendSpec)> = steps
        .iter()
        .filter(|step| step.action == Action::Destroy && step.reason == Reason::RemovedFromManifest && step.destroys_data)
        .filter_map(|step| Some((&step.address.backend, &existing.get(&step.address.backend)?.recorded)))
        .collect();
    let new: Vec<(&BackendName, &BackendSpec)> = steps
        .iter()
        .filter(|step| step.action == Action::Create && step.reason == Reason::New)
        .filter_map(|step| match &step.task {
            Some(Task::Put { spec, .. }) => Some((&step.address.backend, spec.as_ref())),
            _ => None,
        })
        .collect();
    if let ([(old, before)], [(name, after)]) = (gone.as_slice(), new.as_slice()) {
        return if keeps_its_place(before, after) { vec![(*old, *name)] } else { Vec::new() };
    }
    let only = |found: Vec<&'a BackendName>| match found.as_slice() {
        [one] => Some(*one),
        _ => None,
    };
    let same = |all: &[(&'a BackendName, &'a BackendSpec)], spec: &BackendSpec| {
        only(all.iter().filter(|(_, other)| *other == spec).map(|(name, _)| *name).collect())
    };
    gone.iter()
        .filter_map(|(old, before)| {
            let name = same(&new, before)?;
            (same(&gone, before) == Some(*old)).then_some((*old, name))
        })
        .collect()
}

/// Returns whether a backend of the one specification can become one of the other with its data where it is.
fn keeps_its_place(before: &BackendSpec, after: &BackendSpec) -> bool {
    before.provider == after.provider && before.region == after.region && before.storage.engine() == after.storage.engine()
}
