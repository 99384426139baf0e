//! The graph of steps: predecessors, and a topological order in which all steps could run one by one.

use std::collections::{BTreeMap, BTreeSet};

use petgraph::Direction;
use petgraph::graph::{DiGraph, NodeIndex};

use super::{Action, Step, StepId, Task};
use crate::model::{AddressKind, BackendName, BackendSpec};

/// Fills in what every step waits for, and puts the steps into an order that respects it.
///
/// A backend waits for the backends that it depends on; a backend that goes waits for those that depended on it and
/// for its env file to be cleared (an apply that is cut off in between can still tell that the lines there are ours);
/// an env file that is written waits for its backend. Between steps that do not wait for each other the address decides. What waits for room under a
/// quota is [`super::room`]'s.
pub(super) fn connect_dependencies(mut steps: Vec<Step>, recorded: &BTreeMap<&BackendName, &BackendSpec>) -> Vec<Step> {
    steps.sort_by(|a, b| a.address.cmp(&b.address));
    let by_backend: BTreeMap<BackendName, StepId> = steps
        .iter()
        .filter(|step| step.address.kind == AddressKind::Backend)
        .map(|step| (step.address.backend.clone(), step.id.clone()))
        .collect();
    let destroyed: BTreeSet<BackendName> =
        steps.iter().filter(|step| step.action == Action::Destroy).map(|step| step.address.backend.clone()).collect();

    let mut waits: BTreeMap<StepId, BTreeSet<StepId>> = BTreeMap::new();
    for step in &steps {
        let own = by_backend.get(&step.address.backend);
        match &step.task {
            Some(Task::Put { spec, .. }) => {
                for dependency in &spec.depends_on {
                    if let Some(id) = by_backend.get(dependency).filter(|_| !destroyed.contains(dependency)) {
                        waits.entry(step.id.clone()).or_default().insert(id.clone());
                    }
                }
            }
            Some(Task::Remove { backend, .. }) => {
                let dependencies = recorded.get(backend).map(|spec| &spec.depends_on);
                for dependency in dependencies.into_iter().flatten().filter(|name| destroyed.contains(*name)) {
                    if let Some(id) = by_backend.get(dependency) {
                        waits.entry(id.clone()).or_default().insert(step.id.clone());
                    }
                }
            }
            Some(Task::ClearEnvFile { .. }) => {
                if let Some(id) = own {
                    waits.entry(id.clone()).or_default().insert(step.id.clone());
                }
            }
            Some(Task::WriteEnvFile { .. }) | None => {
                if let Some(id) = own.filter(|id| **id != step.id) {
                    waits.entry(step.id.clone()).or_default().insert(id.clone());
                }
            }
        }
    }
    for step in &mut steps {
        step.after = waits.remove(&step.id).map(|ids| ids.into_iter().collect()).unwrap_or_default();
    }
    topological_order(steps)
}

/// Returns what waits for what, by the positions of the steps.
pub(super) fn dependencies(steps: &[Step]) -> DiGraph<(), ()> {
    let positions: BTreeMap<&StepId, usize> = steps.iter().enumerate().map(|(index, step)| (&step.id, index)).collect();
    let mut graph = DiGraph::with_capacity(steps.len(), steps.len());
    for _ in steps {
        graph.add_node(());
    }
    for (index, step) in steps.iter().enumerate() {
        for before in step.after.iter().filter_map(|id| positions.get(id)) {
            graph.add_edge(NodeIndex::new(*before), NodeIndex::new(index), ());
        }
    }
    graph
}

/// Returns the steps in a topological order, by address wherever the graph leaves a choice: `petgraph::algo::toposort` leaves
/// the choice to chance. What takes part in a cycle comes last, where [`super::validate()`] reports it.
pub(super) fn topological_order(mut steps: Vec<Step>) -> Vec<Step> {
    steps.sort_by(|a, b| a.address.cmp(&b.address));
    let graph = dependencies(&steps);
    let mut missing: Vec<usize> =
        graph.node_indices().map(|node| graph.edges_directed(node, Direction::Incoming).count()).collect();
    let mut ready: BTreeSet<usize> = (0..steps.len()).filter(|index| missing[*index] == 0).collect();
    let mut order = Vec::with_capacity(steps.len());
    while let Some(index) = ready.pop_first() {
        order.push(index);
        for node in graph.neighbors_directed(NodeIndex::new(index), Direction::Outgoing) {
            missing[node.index()] -= 1;
            if missing[node.index()] == 0 {
                ready.insert(node.index());
            }
        }
    }
    let mut slots: Vec<Option<Step>> = steps.into_iter().map(Some).collect();
    let mut ordered: Vec<Step> = order.into_iter().filter_map(|index| slots[index].take()).collect();
    ordered.extend(slots.into_iter().flatten());
    ordered
}
