//! Origins that change hands within a plan: the backend that has one gives it up before another one claims it.

use std::collections::{BTreeMap, BTreeSet};

use petgraph::algo::tarjan_scc;

use super::{Step, Task, graph};
use crate::model::{BackendName, Diagnostic, Snapshot};
use crate::policy::{self, UrlAuthority};

/// One step that claims an origin, and the step that gives it up, by their positions.
struct Handover {
    claims: usize,
    releases: usize,
}

/// Makes steps that claim an origin wait for those that give it up; with a refusal where no step does, and where two would
/// wait for each other.
pub(super) fn order_claims(mut steps: Vec<Step>, snapshot: &Snapshot) -> (Vec<Step>, Vec<Diagnostic>) {
    let (handovers, mut refusals) = handovers(&steps, snapshot);
    if handovers.is_empty() {
        return (steps, refusals);
    }
    let before: Vec<_> = steps.iter().map(|step| step.after.clone()).collect();
    for Handover { claims, releases } in &handovers {
        let id = steps[*releases].id.clone();
        let all: BTreeSet<_> = steps[*claims].after.drain(..).chain([id]).collect();
        steps[*claims].after = all.into_iter().collect();
    }
    for circle in tarjan_scc(&graph::dependencies(&steps)).into_iter().filter(|circle| circle.len() > 1) {
        let circle: BTreeSet<usize> = circle.into_iter().map(|node| node.index()).collect();
        for index in &circle {
            steps[*index].after.clone_from(&before[*index]);
        }
        let names: Vec<String> = circle.iter().map(|index| format!("`{}`", steps[*index].address)).collect();
        refusals.push(exchanged(&names.join(", ")));
    }
    (graph::topological_order(steps), refusals)
}

fn handovers(steps: &[Step], snapshot: &Snapshot) -> (Vec<Handover>, Vec<Diagnostic>) {
    let (mut handovers, mut refusals) = (Vec::new(), Vec::new());
    let recorded = snapshot.by_name();
    let mut holders: BTreeMap<UrlAuthority, BTreeSet<&BackendName>> = BTreeMap::new();
    for backend in &snapshot.backends {
        for (_, place) in policy::claimed_origins(&backend.recorded) {
            holders.entry(place).or_default().insert(&backend.name);
        }
    }
    let steps_on: BTreeMap<&BackendName, usize> =
        steps.iter().enumerate().filter_map(|(index, step)| Some((recorded_name(step)?, index))).collect();
    for (index, step) in steps.iter().enumerate() {
        let (Some(Task::Put { spec, .. }), Some(own)) = (&step.task, recorded_name(step)) else { continue };
        let mut refused = BTreeSet::new();
        for (text, place) in policy::newly_claimed_origins(spec, recorded.get(own).map(|backend| &backend.recorded)) {
            for holder in holders.get(&place).into_iter().flatten().filter(|holder| **holder != own) {
                match steps_on.get(holder).filter(|release| releases(&steps[**release], &place)) {
                    Some(release) => handovers.push(Handover { claims: index, releases: *release }),
                    None if refused.insert(*holder) => refusals.push(Diagnostic {
                        address: Some(step.address.clone()),
                        ..policy::shared_origin(text, holder.as_str()).into()
                    }),
                    None => {}
                }
            }
        }
    }
    (handovers, refusals)
}

/// Returns the name under which the backend of a step is recorded.
fn recorded_name(step: &Step) -> Option<&BackendName> {
    match step.task.as_ref()? {
        Task::Put { backend, renamed_from, .. } => Some(renamed_from.as_ref().unwrap_or(backend)),
        Task::Remove { backend, .. } => Some(backend),
        Task::WriteEnvFile { .. } | Task::ClearEnvFile { .. } => None,
    }
}

fn releases(step: &Step, place: &UrlAuthority) -> bool {
    match &step.task {
        Some(Task::Put { spec, .. }) => !policy::claims(spec, place),
        task => matches!(task, Some(Task::Remove { .. })),
    }
}

fn exchanged(steps: &str) -> Diagnostic {
    let message = format!(
        "{steps} wait for each other: one claims an origin that another gives up only afterwards, and a URL leads to one \
         backend only"
    );
    let help = "apply in two steps: give one of them a host that is free, or no `origins`, and then the one it is to have";
    Diagnostic::new("plan.exchanged_origins", message).with_help(help)
}

#[cfg(test)]
#[path = "origin_claims_tests.rs"]
mod tests;
