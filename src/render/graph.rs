//! The graph of a plan as DOT or Mermaid.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use crate::model::{BackendName, Desired};
use crate::plan::{Plan, StepId};

/// How a graph is written down.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GraphFormat {
    /// For Graphviz.
    Dot,
    /// For Markdown that renders Mermaid.
    Mermaid,
}

/// One line of a graph: an address, what happens to it, and what it waits for.
struct GraphNode {
    name: String,
    label: String,
    after: Vec<String>,
}

/// The steps of a plan and what they wait for.
pub fn graph(plan: &Plan, format: GraphFormat) -> String {
    // Identifiers of their own, so that no name can break the syntax.
    let names: BTreeMap<&StepId, String> =
        plan.steps.iter().enumerate().map(|(index, step)| (&step.id, format!("s{index}"))).collect();
    let nodes: Vec<GraphNode> = plan
        .steps
        .iter()
        .map(|step| GraphNode {
            name: names.get(&step.id).cloned().unwrap_or_default(),
            label: format!("{} {}", step.action.as_str(), step.address),
            after: step.after.iter().filter_map(|id| names.get(id).cloned()).collect(),
        })
        .collect();
    draw(&nodes, format)
}

/// Draws the backends that a manifest declares and what they depend on, for a plan without steps.
pub fn declared_graph(desired: &Desired, format: GraphFormat) -> String {
    let names: BTreeMap<&BackendName, String> =
        desired.backends.keys().enumerate().map(|(index, name)| (name, format!("s{index}"))).collect();
    let nodes: Vec<GraphNode> = desired
        .backends
        .iter()
        .map(|(name, backend)| GraphNode {
            name: names.get(name).cloned().unwrap_or_default(),
            label: format!("{name} ({})", backend.spec.provider),
            after: backend.spec.depends_on.iter().filter_map(|name| names.get(name).cloned()).collect(),
        })
        .collect();
    draw(&nodes, format)
}

fn draw(nodes: &[GraphNode], format: GraphFormat) -> String {
    let mut text = String::new();
    match format {
        GraphFormat::Dot => {
            text.push_str("digraph plan {\n  rankdir = LR;\n  node [shape = box];\n");
            for node in nodes {
                let _ = writeln!(text, "  {} [label = \"{}\"];", node.name, node.label);
                for before in &node.after {
                    let _ = writeln!(text, "  {before} -> {};", node.name);
                }
            }
            text.push_str("}\n");
        }
        GraphFormat::Mermaid => {
            text.push_str("flowchart LR\n");
            for node in nodes {
                let _ = writeln!(text, "  {}[\"{}\"]", node.name, node.label);
                for before in &node.after {
                    let _ = writeln!(text, "  {before} --> {}", node.name);
                }
            }
        }
    }
    text
}
