//! Who may use whom: the table of arrows, drivers that do not know their siblings, folders without circles.

use std::collections::{BTreeMap, BTreeSet};

use super::sources::{Source, none, sources, without_comment, without_text};

/// What each module may use, besides itself and `failpoint`.
const ARROWS: &[(&str, &[&str])] = &[
    ("model", &[]),
    ("failpoint", &[]),
    // Files and children of this machine, within bounds.
    ("system", &[]),
    // Rules about data safety and specifications, for the plan and for the authority.
    ("policy", &["model"]),
    ("manifest", &["model", "convex", "policy"]),
    ("plan", &["model", "policy"]),
    // Its connections name the proxy in between.
    ("convex", &["system", "model"]),
    ("env_file", &["system", "model"]),
    ("store", &["model"]),
    ("api", &["system", "model"]),
    ("provider", &["system", "model", "convex"]),
    ("database", &["system", "model", "convex"]),
    ("s3", &["model", "convex"]),
    // Files of a backend that does not run, and chunks of them.
    ("snapshot", &["system", "model", "convex"]),
    ("authority", &["model", "policy", "convex", "api", "store", "provider"]),
    // It enters servers as the real backend does.
    ("simulator", &["system", "model", "convex", "database"]),
    // A shell over the authority: it plugs things together.
    ("host", &["system", "model", "policy", "api", "authority", "convex", "store", "provider", "database", "s3", "snapshot"]),
    ("server", &["model", "system", "api", "authority", "host"]),
    ("apply", &["model", "plan", "api"]),
    ("render", &["model", "manifest", "plan", "apply", "api", "snapshot"]),
    ("schema", &["manifest", "plan", "apply", "render", "server"]),
    // Use cases: a shell hands them a control plane.
    ("app", &["model", "policy", "manifest", "plan", "convex", "env_file", "api", "host", "apply", "render", "system"]),
    (
        "cli",
        &[
            "app",
            "system",
            "model",
            "manifest",
            "plan",
            "convex",
            "env_file",
            "api",
            "authority",
            "provider",
            "simulator",
            "host",
            "apply",
            "render",
            "schema",
            "server",
            "snapshot",
            "store",
        ],
    ),
    ("main", &["cli"]),
];

/// Arrows that are narrower than a whole module: only these names may be used.
const NARROW: &[(&str, &str, &[&str])] = &[
    // The scheduler and the events read a plan; they never make one.
    ("apply", "plan", &["Action", "Plan", "Reason", "Step", "StepId", "Summary", "Task"]),
    // Whose a project is, which release is newer, and what a removal takes; everything else is the plan's.
    (
        "app",
        "policy",
        &[
            "OtherOrigin",
            "other_repository",
            "build_day",
            "newest_known_release",
            "release_order",
            "removal_needs_destroy",
            "whole_template",
        ],
    ),
    // Who may: everything else of the authority is behind the host.
    ("server", "authority", &["AuthenticatedToken"]),
    // Only to say who holds a lease and what has happened.
    ("render", "api", &["LeaseHolder", "HistoryVerification", "HistoryEntry"]),
    ("authority", "provider", &["Provider", "Observation"]),
];

/// The modules that a line names through `crate::`, each with the first name behind it.
fn uses(line: &str) -> Vec<(String, String)> {
    let word = |text: &str| text.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect::<String>();
    let after = |text: &str| word(text.strip_prefix("::").unwrap_or_default().trim_start_matches('{'));
    let mut found = Vec::new();
    for (at, _) in line.match_indices("crate::") {
        let rest = &line[at + "crate::".len()..];
        match rest.strip_prefix('{') {
            // `crate::{a, b::C}`
            Some(list) => {
                for part in list.trim_end_matches(['}', ';']).split(',') {
                    let module = word(part.trim());
                    let name = after(part.trim().strip_prefix(module.as_str()).unwrap_or_default());
                    found.push((module, name));
                }
            }
            None => {
                let module = word(rest);
                let name = after(&rest[module.len()..]);
                found.push((module, name));
            }
        }
    }
    found.retain(|(module, _)| !module.is_empty());
    found
}

#[test]
fn modules_use_only_what_the_table_of_arrows_allows() {
    let mut broken = Vec::new();
    for source in sources().iter().filter(|source| source.path != "lib.rs") {
        let module = source.module();
        let Some((_, allowed)) = ARROWS.iter().find(|(name, _)| *name == module) else {
            broken.push(format!("src/{}: `{module}` is not in the table of arrows", source.path));
            continue;
        };
        for (number, line) in source.code_without_text() {
            for (used, name) in uses(&line) {
                let place = format!("src/{}:{number}: {module} → {used}", source.path);
                if used != module && used != "failpoint" && !allowed.contains(&used.as_str()) {
                    broken.push(place);
                } else if let Some((_, _, names)) = NARROW.iter().find(|(from, to, _)| *from == module && *to == used)
                    && !line.contains(&format!("{used}::{{"))
                    && !names.contains(&name.as_str())
                {
                    broken.push(format!("{place}::{name}, where only {} may be used", names.join(", ")));
                }
            }
        }
    }
    none(&broken);
}

#[test]
fn lists_of_names_keep_to_the_narrow_arrows() {
    let mut broken = Vec::new();
    for source in sources() {
        for (from, to, names) in NARROW.iter().filter(|(from, _, _)| *from == source.module()) {
            let code: String = source.code_without_text().into_iter().map(|(_, line)| line + "\n").collect();
            for (at, opening) in code.match_indices(&format!("crate::{to}::{{")) {
                let list = code[at + opening.len()..].split('}').next().unwrap();
                for name in list.split(',').map(str::trim).filter(|name| !name.is_empty() && !names.contains(name)) {
                    broken.push(format!(
                        "src/{}: {from} → {to}::{name}, where only {} may be used",
                        source.path,
                        names.join(", ")
                    ));
                }
            }
        }
    }
    none(&broken);
}

#[test]
fn providers_do_not_know_their_siblings() {
    let kinds = ["simulated", "local", "docker", "fly", "kubernetes"];
    let mut broken = Vec::new();
    for source in sources().iter().filter(|source| source.module() == "provider") {
        let own = source.path.split('/').nth(1).unwrap().trim_end_matches(".rs").to_owned();
        for (number, line) in source.code_without_text().iter().filter(|_| kinds.contains(&own.as_str())) {
            for sibling in kinds.iter().filter(|kind| **kind != own) {
                if line.contains(&format!("provider::{sibling}::")) || line.contains(&format!("super::{sibling}::")) {
                    broken.push(format!("src/{}:{number}: {own} → {sibling}", source.path));
                }
            }
        }
    }
    none(&broken);
}

/// The names that a text reaches through a path, such as `a` and `b` in `super::{a::C, b}`.
fn names_behind(text: &str, prefix: &str) -> Vec<String> {
    let word = |text: &str| text.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect::<String>();
    let mut found = Vec::new();
    for (at, _) in text.match_indices(prefix) {
        if text[..at].ends_with("super::") {
            continue;
        }
        let rest = &text[at + prefix.len()..];
        let Some(list) = rest.strip_prefix('{') else {
            found.push(word(rest));
            continue;
        };
        let (mut depth, mut start) = (0, true);
        for (index, character) in list.char_indices() {
            match character {
                '{' => depth += 1,
                '}' if depth == 0 => break,
                '}' => depth -= 1,
                ',' if depth == 0 => start = true,
                c if start && !c.is_whitespace() => {
                    start = false;
                    found.push(word(&list[index..]));
                }
                _ => {}
            }
        }
    }
    found
}

/// Inside each folder the files and subfolders have no circles: each can be read after those that it uses. A folder's own
/// `mod.rs` and the files below it belong together.
#[test]
fn folders_are_graphs_without_cycles() {
    let sources = sources();
    let module = |source: &Source| {
        let path = source.path.trim_end_matches(".rs");
        path.strip_suffix("/mod").unwrap_or(path).split('/').map(str::to_owned).collect::<Vec<_>>()
    };
    let mut folders: BTreeMap<Vec<String>, BTreeMap<(String, String), String>> = BTreeMap::new();
    let modules: Vec<Vec<String>> = sources.iter().map(module).collect();
    for (source, own) in sources.iter().zip(&modules) {
        let lines: Vec<String> = source.code_without_text().into_iter().map(|(_, line)| line).collect();
        let text = lines.join(" ");
        for depth in 1..own.len() {
            let folder = &own[..depth];
            let is_entry = |name: &String| {
                modules.iter().any(|other| other.len() > depth && other[..depth] == *folder && other[depth] == *name)
            };
            let prefixes = ["super::".repeat(own.len() - depth), format!("crate::{}::", folder.join("::"))];
            for used in prefixes.iter().flat_map(|prefix| names_behind(&text, prefix)).filter(is_entry) {
                if used != own[depth] {
                    let arrow = (own[depth].clone(), used);
                    folders.entry(folder.to_vec()).or_default().entry(arrow).or_insert_with(|| source.path.clone());
                }
            }
        }
    }
    assert!(folders.values().map(BTreeMap::len).sum::<usize>() > 300, "the arrows are not where they should be");
    let mut broken = Vec::new();
    for (folder, arrows) in &folders {
        let names: BTreeSet<&str> = arrows.keys().flat_map(|(from, to)| [from.as_str(), to.as_str()]).collect();
        let mut graph = petgraph::graph::DiGraph::<&str, ()>::new();
        let nodes: BTreeMap<&str, _> = names.into_iter().map(|name| (name, graph.add_node(name))).collect();
        for (from, to) in arrows.keys() {
            graph.add_edge(nodes[from.as_str()], nodes[to.as_str()], ());
        }
        for circle in petgraph::algo::tarjan_scc(&graph).into_iter().filter(|component| component.len() > 1) {
            let circle: Vec<&str> = circle.into_iter().map(|node| graph[node]).collect();
            let ties: Vec<String> = arrows
                .iter()
                .filter(|((from, to), _)| circle.contains(&from.as_str()) && circle.contains(&to.as_str()))
                .map(|((from, to), path)| format!("{from} → {to} (src/{path})"))
                .collect();
            broken.push(format!("src/{}: {}", folder.join("/"), ties.join(", ")));
        }
    }
    none(&broken);
}

#[test]
fn paths_are_read_out_of_lists_texts_and_comments() {
    let found = |line: &str| uses(line).into_iter().map(|(module, name)| format!("{module}:{name}")).collect::<Vec<_>>();
    assert_eq!(found("use crate::plan::{Action, Plan};"), ["plan:Action"]);
    assert_eq!(found("    let x = crate::model::Exit::Done + crate::cli::main();"), ["model:Exit", "cli:main"]);
    assert_eq!(found("use crate::{cli, plan::Plan};"), ["cli:", "plan:Plan"]);
    assert_eq!(found("use crate::fault;"), ["fault:"]);
    assert_eq!(without_text(r#"a("crate::cli \" x", b)"#), "a(, b)");
    assert_eq!(without_comment("let url = \"https://a\"; // says where"), "let url = \"https://a\";");
}
