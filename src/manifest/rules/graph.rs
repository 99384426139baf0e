//! The graphs of a manifest: dependencies and renames, and their cycles.
//!
//! Walked by hand and without recursion: `petgraph` finds components, and a message names the path of each cycle in the order of
//! the file.

use std::collections::{HashMap, HashSet};
use std::ops::Range;

use super::super::formats;
use super::super::suggest::quoted;
use super::super::tree::Entry;
use super::{ManifestView, unknown_backend};
use crate::model::Diagnostic;

/// How many cycles are reported.
const MOST_CYCLES: usize = 20;
/// A path that is longer is shortened in the middle.
const LONGEST_PATH: usize = 10;

/// What `depends_on` must be.
pub(super) fn dependencies(document: &ManifestView<'_, '_>, problems: &mut Vec<Diagnostic>) {
    let mut budget = 50;
    let mut edges: Vec<Vec<(usize, &Range<usize>)>> = Vec::with_capacity(document.backends.len());
    for (index, backend) in document.backends.iter().enumerate() {
        let mut own = Vec::new();
        let mut seen = HashSet::new();
        let list = backend.view.get("depends_on").map(|entry| entry.list()).unwrap_or_default();
        for entry in list {
            let Some(name) = entry.text() else { continue };
            if !seen.insert(name) {
                let message = format!("`{}` depends on {} twice", backend.name, quoted(name));
                problems.push(
                    Diagnostic::at("manifest.duplicate_dependency", &entry.span, message)
                        .with_help("name it once")
                        .with_edit(&element(document.text, &entry.span), ""),
                );
                continue;
            }
            match document.names.get(name) {
                None => problems.push(unknown_backend("manifest.unknown_backend", document, &entry.span, name, &mut budget)),
                Some(Some(other)) if *other == index => problems.push(
                    Diagnostic::at(
                        "manifest.self_dependency",
                        &entry.span,
                        format!("`{name}` depends on itself, so it could never start"),
                    )
                    .with_help("remove it from its own `depends_on`")
                    .with_edit(&element(document.text, &entry.span), ""),
                ),
                Some(_) if !(formats::NAME.matches)(name) => problems.push(bad_name(&entry.span, name)),
                Some(Some(other)) => own.push((*other, &entry.span)),
                // Its block is broken, which has been said.
                Some(None) => {}
            }
        }
        edges.push(own);
    }
    cycles(document, &edges, problems);
}

/// A place that names a backend whose name has to change.
fn bad_name(span: &Range<usize>, name: &str) -> Diagnostic {
    let problem = Diagnostic::at(formats::NAME.code, span, format!("{} is not a name for a backend", quoted(name)))
        .with_help(formats::NAME.allowed);
    match formats::NAME.repaired(name) {
        Some(repaired) => problem.with_edit(span, format!("\"{repaired}\"")),
        None => problem,
    }
}

/// An element of a list with the comma that goes with it.
fn element(text: &str, span: &Range<usize>) -> Range<usize> {
    let after = &text[span.end..];
    let blank = after.len() - after.trim_start().len();
    if let Some(rest) = after.trim_start().strip_prefix(',') {
        let more = rest.len() - rest.trim_start_matches([' ', '\t']).len();
        return span.start..span.end + blank + 1 + more;
    }
    let before = text[..span.start].trim_end();
    if before.ends_with(',') { before.len() - 1..span.end } else { span.clone() }
}

/// Walks the graph in the order of the file, without recursion; an edge back to the way here closes a cycle.
fn cycles(document: &ManifestView<'_, '_>, edges: &[Vec<(usize, &Range<usize>)>], problems: &mut Vec<Diagnostic>) {
    let mut done = vec![false; edges.len()];
    let mut place: Vec<Option<usize>> = vec![None; edges.len()];
    let mut found = 0;
    for start in 0..edges.len() {
        if done[start] {
            continue;
        }
        let mut way: Vec<(usize, usize)> = vec![(start, 0)];
        place[start] = Some(0);
        while let Some((node, next)) = way.last_mut() {
            let Some((to, span)) = edges[*node].get(*next) else {
                done[*node] = true;
                place[*node] = None;
                way.pop();
                continue;
            };
            *next += 1;
            if let Some(from) = place[*to] {
                found += 1;
                if found > MOST_CYCLES {
                    return;
                }
                let names: Vec<&str> = way[from..].iter().map(|(node, _)| document.backends[*node].name).collect();
                problems.push(cycle(&names, span));
            } else if !done[*to] {
                place[*to] = Some(way.len());
                way.push((*to, 0));
            }
        }
    }
}

fn cycle(names: &[&str], span: &Range<usize>) -> Diagnostic {
    let (first, last) = (names.first().unwrap_or(&""), names.last().unwrap_or(&""));
    let path = if names.len() > LONGEST_PATH {
        let left_out = names.len() - LONGEST_PATH;
        format!(
            "{} → … {left_out} more … → {}",
            names[..LONGEST_PATH / 2].join(" → "),
            names[names.len() - LONGEST_PATH / 2..].join(" → ")
        )
    } else {
        names.join(" → ")
    };
    Diagnostic::at(
        "manifest.dependency_cycle",
        span,
        format!("backends wait for one another and none could start: {path} → {first}"),
    )
    .with_help(format!("break the circle, for example by removing `{first}` from `depends_on` of `{last}`"))
    .with_label("closes the circle")
}

/// What `[[moved]]` must be.
pub(super) fn moves(document: &ManifestView<'_, '_>, problems: &mut Vec<Diagnostic>) {
    let list = document.root.get("moved").map(Entry::list).unwrap_or_default();
    let unreadable = document.root.get("backends").is_some_and(|entry| entry.table().is_none());
    let mut budget = 50;
    let mut entries = Vec::new();
    for entry in list {
        let Some(node) = entry.table() else { continue };
        for key in ["from", "to"] {
            if node.get(key).is_none() {
                problems.push(
                    Diagnostic::at("manifest.missing_key", &entry.span, format!("this rename does not say `{key}`"))
                        .with_help("a rename is `from = \"old\"` and `to = \"new\"`")
                        .with_allowed([key]),
                );
            }
        }
        let (Some(from), Some(to)) = (node.get("from"), node.get("to")) else { continue };
        if let (Some(old), Some(new)) = (from.text(), to.text()) {
            entries.push((from, old, to, new));
        }
    }
    let sources: HashSet<&str> = entries.iter().map(|(_, old, _, _)| *old).collect();
    let mut from_seen = HashMap::new();
    let mut to_seen = HashMap::new();
    for (from, old, to, new) in entries {
        if old == new {
            problems.push(
                Diagnostic::at("manifest.moved_nowhere", &to.span, format!("`{old}` is renamed to itself"))
                    .with_help("write the new name, or remove the entry"),
            );
            continue;
        }
        if from_seen.insert(old, ()).is_some() {
            let message = format!("`{old}` is renamed twice, and it can have one new name only");
            problems.push(Diagnostic::at("manifest.moved_twice", &from.span, message).with_help("keep one of the entries"));
            continue;
        }
        if to_seen.insert(new, ()).is_some() {
            let message = format!("two backends are renamed to `{new}`, and only one can have the name");
            problems.push(Diagnostic::at("manifest.moved_twice", &to.span, message).with_help("keep one of the entries"));
            continue;
        }
        if sources.contains(new) {
            let message = format!("`{old}` is renamed to `{new}`, which is itself renamed");
            problems.push(
                Diagnostic::at("manifest.moved_chain", &to.span, message)
                    .with_help("name the last name directly: one entry from each old name to the name that it has now"),
            );
            continue;
        }
        if document.names.contains_key(old) {
            let message = format!("`{old}` is said to be renamed, and there is still a backend `{old}`");
            problems.push(
                Diagnostic::at("manifest.moved_source_exists", &from.span, message)
                    .with_help(format!("remove `[backends.{old}]`, or the entry")),
            );
        }
        if !unreadable && !document.names.contains_key(new) {
            problems.push(unknown_backend("manifest.moved_target_missing", document, &to.span, new, &mut budget));
        }
    }
}
