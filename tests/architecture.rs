//! The architecture, read from the sources: who may use whom, what is pure, who prints, how long a file may be. What clippy
//! and visibility hold is not repeated here.
//!
//! These tests look at text. They see what a person would see in review, and say file, line and what is wrong.

#![allow(clippy::disallowed_methods, reason = "tests read the files that they wrote themselves")]
#![allow(clippy::unwrap_used, clippy::panic)]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

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
    ("snapshot", &["system", "model"]),
    ("authority", &["model", "policy", "convex", "api", "store", "provider"]),
    // It enters servers as the real backend does.
    ("simulator", &["system", "model", "convex", "database"]),
    // A shell over the authority: it plugs things together.
    ("host", &["system", "model", "policy", "api", "authority", "convex", "store", "provider", "database", "s3", "snapshot"]),
    ("server", &["model", "api", "authority", "host"]),
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
    // Whose a project is, and which release is newer; everything else is the plan's.
    ("app", "policy", &["OtherOrigin", "other_repository", "build_day", "newest_known_release", "release_order"]),
    // Who may: everything else of the authority is behind the host.
    ("server", "authority", &["AuthenticatedToken"]),
    // Only to say who holds a lease and what has happened.
    ("render", "api", &["LeaseHolder", "HistoryVerification", "HistoryEntry"]),
    ("authority", "provider", &["Provider", "Observation"]),
];

/// What must do no IO and know no time: a prefix of the path, and what is forbidden there.
const PURE: &[&str] = &[
    "model/",
    "manifest/",
    "plan/",
    "policy/",
    "render/",
    "apply/scheduler.rs",
    "apply/event.rs",
    "env_file/merge.rs",
    "env_file/parse.rs",
    "env_file/diff.rs",
    "convex/launch.rs",
    "convex/database_url.rs",
    "convex/environment.rs",
    "convex/key_payload.rs",
    "convex/image.rs",
    "convex/persistence/",
    "provider/fly/api_types.rs",
    "provider/fly/requests.rs",
    "provider/fly/config_diff.rs",
    "provider/fly/error.rs",
    "provider/fly/api_error.rs",
    "provider/fly/desired.rs",
];
const IMPURE: &[&str] = &[
    "std::fs",
    "TcpStream",
    "TcpListener",
    "UdpSocket",
    "ToSocketAddrs",
    "UnixStream",
    "std::process",
    "std::env",
    "std::thread",
    "tokio",
    "reqwest::",
    "rusqlite",
    "getrandom",
    "SystemTime",
    "Instant::now",
    "Timestamp::now",
    "File::",
    "println!",
    "eprintln!",
    "async fn",
];

/// What runs wherever requests can be sent, also where there are neither sockets nor clocks nor a runtime.
const PORTABLE: &str = "provider/fly/";
/// The one file below it that does not: the way out for a process of its own.
const NATIVE: &str = "provider/fly/reqwest_transport.rs";

/// Where providers are told apart: the kinds themselves and their descriptors, and each driver for itself.
const DESCRIPTORS: &[&str] = &["model/provider.rs", "model/descriptor/"];
/// Who else reads the settings of one provider, and why.
const SETTINGS_READERS: &[(&str, &str)] = &[
    ("model/fly.rs", "sizes and regions are Fly's own"),
    ("app/manifest.rs", "makes the path of an executable absolute, as all paths of a manifest"),
    ("app/session.rs", "looks whether an executable of this machine exists, which a plan cannot"),
    ("app/provision.rs", "compares the executable that was asked for with the declared one"),
    ("host/executor.rs", "an operator decides whether executables of clients run on the machine"),
    ("cli/command/forward.rs", "a backend on a server is reached by being forwarded"),
    ("cli/command/fork.rs", "a copy is run by the executable of its source"),
    ("cli/command/rollback.rs", "which release an executable of the user is, nothing says"),
    ("cli/command/import.rs", "writes the lines of a manifest that an external container lacks"),
];

/// Who may touch standard output or standard error.
const WRITERS: &[(&str, &str)] = &[
    ("cli/printer.rs", "the only writer"),
    ("cli/progress.rs", "draws on a terminal"),
    ("cli/mod.rs", "prints what clap says"),
    ("cli/error.rs", "asks how wide the terminal is"),
    ("cli/terminal.rs", "asks whether there is a terminal to ask on"),
    ("server/logging.rs", "the log of a server"),
    ("simulator/log.rs", "a backend's own log"),
    ("simulator/start.rs", "prints the key that was asked for, as the real binary does"),
    ("provider/process/daemonize.rs", "hands its standard error to the command that waits for it"),
];

/// How many lines a file may have before its tests.
const LONGEST: usize = 430;
/// Files that may be longer, each with its limit and why.
const LONGER: &[(&str, usize, &str)] = &[];
/// How many lines a function may have.
const LONGEST_FUNCTION: usize = 80;
/// Functions that may be longer.
const LONGER_FUNCTIONS: &[&str] = &["inspect_for_import"];

struct Source {
    /// Below `src/`, with `/`.
    path: String,
    text: String,
}

impl Source {
    /// The top module that the file belongs to.
    fn module(&self) -> &str {
        self.path.split(['/', '.']).next().unwrap()
    }

    /// Whether the whole file is tests.
    fn is_tests(&self) -> bool {
        self.path.ends_with("tests.rs")
    }

    /// The lines before the tests at its end, without comments, each with its number.
    fn code(&self) -> Vec<(usize, String)> {
        if self.is_tests() {
            return Vec::new();
        }
        let lines = self.text.lines().take_while(|line| !line.starts_with("#[cfg(test)]"));
        lines.map(without_comment).enumerate().map(|(index, line)| (index + 1, line)).collect()
    }

    /// Its code, and what stands in quotes is left out too.
    fn code_without_text(&self) -> Vec<(usize, String)> {
        self.code().into_iter().map(|(number, line)| (number, without_text(&line))).collect()
    }
}

/// A comment starts at two slashes that are not part of a text such as `"https://…"`.
fn without_comment(line: &str) -> String {
    if line.trim_start().starts_with("//") {
        return String::new();
    }
    line.split(" // ").next().unwrap().to_owned()
}

fn without_text(line: &str) -> String {
    let mut kept = String::new();
    let (mut inside, mut escaped) = (false, false);
    for character in line.chars() {
        match character {
            '"' if !escaped => inside = !inside,
            _ if !inside => kept.push(character),
            _ => {}
        }
        escaped = character == '\\' && !escaped;
    }
    kept
}

fn files(folder: &Path, all: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files(&path, all);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            all.push(path);
        }
    }
}

/// The sources of the library and its command.
fn sources() -> Vec<Source> {
    let all = below("src");
    assert!(all.len() > 50, "the sources are not where they should be");
    all
}

/// The sources with those of the Worker, a package of its own.
fn every_source() -> Vec<Source> {
    let worker = below("src/../worker/src");
    assert!(worker.len() > 5, "the Worker is not where it should be");
    let name = |source: Source| Source { path: format!("../worker/src/{}", source.path), ..source };
    sources().into_iter().chain(worker.into_iter().map(name)).collect()
}

fn below(folder: &str) -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join(folder);
    let mut all = Vec::new();
    files(&root, &mut all);
    all.sort();
    all.iter()
        .map(|path| Source {
            path: path.strip_prefix(&root).unwrap().to_string_lossy().replace('\\', "/"),
            text: fs::read_to_string(path).unwrap(),
        })
        .collect()
}

fn none(broken: &[String]) {
    assert!(broken.is_empty(), "{} against the architecture:\n{}", broken.len(), broken.join("\n"));
}

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

/// What depends on the provider is data of its descriptor, so that a new one is a descriptor and a driver.
#[test]
fn providers_are_told_apart_in_their_descriptors_only() {
    let kinds = ["simulated", "local", "docker", "fly", "kubernetes"];
    let variants = ["Simulated", "Local", "Docker", "Fly", "Kubernetes"];
    let mut broken = Vec::new();
    for source in sources().iter().filter(|source| !DESCRIPTORS.iter().any(|place| source.path.starts_with(place))) {
        let driver = source.path.strip_prefix("provider/").and_then(|path| path.split(['/', '.']).next());
        for (number, line) in source.code_without_text() {
            for (kind, variant) in kinds.iter().zip(variants) {
                let is_own = driver == Some(kind);
                if line.contains(&format!("Kind::{variant}")) && !is_own {
                    broken.push(format!("src/{}:{number}: tells `{kind}` from others; ask its descriptor", source.path));
                }
                let reads = line.contains(&format!("settings.{kind}.")) || line.contains(&format!("settings.{kind};"));
                if reads && !is_own && !SETTINGS_READERS.iter().any(|(path, _)| *path == source.path) {
                    broken.push(format!("src/{}:{number}: reads the settings of `{kind}`", source.path));
                }
            }
        }
    }
    none(&broken);
}

#[test]
fn pure_modules_do_no_io() {
    let mut broken = Vec::new();
    for source in sources().iter().filter(|source| PURE.iter().any(|pure| source.path.starts_with(pure))) {
        for (number, line) in source.code_without_text() {
            for word in IMPURE.iter().filter(|word| line.contains(**word)) {
                broken.push(format!("src/{}:{number}: `{word}` in what must stay pure", source.path));
            }
        }
    }
    none(&broken);
}

#[test]
fn the_portable_driver_names_no_runtime() {
    let mut broken = Vec::new();
    for source in sources().iter().filter(|source| source.path.starts_with(PORTABLE) && source.path != NATIVE) {
        for (number, line) in source.code_without_text() {
            let line = line.replace("reqwest_transport", "");
            for word in IMPURE.iter().filter(|word| **word != "async fn" && line.contains(**word)) {
                broken.push(format!("src/{}:{number}: `{word}` in what must run anywhere", source.path));
            }
        }
    }
    none(&broken);
}

#[test]
fn only_writers_touch_the_standard_streams() {
    let mut broken = Vec::new();
    for source in every_source() {
        let may = WRITERS.iter().any(|(path, _)| *path == source.path);
        for (number, line) in source.code_without_text() {
            if !may && ["stdout()", "stderr()"].iter().any(|stream| line.contains(stream)) {
                broken.push(format!("src/{}:{number}: prints beside the printer", source.path));
            }
        }
    }
    none(&broken);
}

#[test]
fn every_file_opens_with_its_documentation() {
    let mut broken = Vec::new();
    for source in every_source() {
        if !source.text.starts_with("//!") {
            broken.push(format!("src/{}:1: does not open with `//!`", source.path));
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
fn files_stay_short() {
    let mut broken = Vec::new();
    let sources = every_source();
    for source in &sources {
        let lines = source.code().len();
        let limit = LONGER.iter().find(|(path, _, _)| *path == source.path).map_or(LONGEST, |(_, limit, _)| *limit);
        if lines > limit {
            broken.push(format!("src/{}: {lines} lines before its tests, more than {limit}", source.path));
        }
    }
    for (path, _, _) in LONGER {
        let length = sources.iter().find(|source| source.path == *path).map_or(0, |source| source.code().len());
        if length <= LONGEST {
            broken.push(format!("src/{path}: needs no exception any more"));
        }
    }
    none(&broken);
}

#[test]
fn functions_stay_short() {
    let mut broken = Vec::new();
    let mut seen = 0;
    for source in every_source() {
        let code = source.code();
        for (index, (number, line)) in code.iter().enumerate() {
            let text = line.trim_start();
            let indent = &line[..line.len() - text.len()];
            let declared = ["pub ", "pub(crate) ", "pub(super) ", "const ", "async "]
                .iter()
                .fold(text, |text, word| text.strip_prefix(word).unwrap_or(text));
            let Some(rest) = declared.strip_prefix("fn ") else { continue };
            let name: String = rest.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
            let closes =
                |line: &str| line.ends_with(';') && [")", "->"].iter().any(|mark| line.starts_with(&format!("{indent}{mark}")));
            let end = code[index..].iter().position(|(_, line)| *line == format!("{indent}}}") || closes(line));
            let Some(lines) = end.filter(|_| !text.ends_with(';')) else { continue };
            seen += 1;
            if lines + 1 > LONGEST_FUNCTION && !LONGER_FUNCTIONS.contains(&name.as_str()) {
                broken.push(format!(
                    "src/{}:{number}: `{name}` has {} lines, more than {LONGEST_FUNCTION}",
                    source.path,
                    lines + 1
                ));
            }
        }
    }
    assert!(seen > 1000, "the functions are not where they should be: {seen}");
    none(&broken);
}

/// Words of a private dialect, in comments.
#[test]
fn comments_use_the_words_of_the_field() {
    let words = ["somebody", "nobody", "whoever", "whomever", "whatever", "anybody", "the same, but", "what there is to"];
    let mut broken = Vec::new();
    // What the arguments say is a text for users.
    for source in every_source().iter().filter(|source| !source.is_tests() && !source.path.starts_with("cli/args")) {
        for (index, line) in source.text.lines().take_while(|line| !line.starts_with("#[cfg(test)]")).enumerate() {
            let Some((_, comment)) = line.split_once("//") else { continue };
            let comment = comment.to_lowercase();
            for word in words.iter().filter(|word| comment.contains(**word)) {
                broken.push(format!("src/{}:{}: `{word}`", source.path, index + 1));
            }
        }
    }
    none(&broken);
}

#[test]
fn no_name_is_empty_of_meaning() {
    let empty = ["util", "utils", "helper", "helpers", "common", "misc", "stuff"];
    let mut broken = Vec::new();
    for source in every_source() {
        if source.path.split(['/', '.']).any(|part| empty.contains(&part)) {
            broken.push(format!("src/{}: says nothing about what is in it", source.path));
        }
        for (number, line) in source.code_without_text() {
            let declared = ["mod ", "struct ", "enum ", "trait ", "fn "].iter().find_map(|word| Some((line.find(word)?, word)));
            let Some((at, word)) = declared else { continue };
            let name: String = line[at + word.len()..].chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
            if empty.contains(&name.as_str()) {
                broken.push(format!("src/{}:{number}: `{name}` says nothing about what it is", source.path));
            }
        }
    }
    none(&broken);
}

#[test]
fn nothing_is_marked_as_left_for_later() {
    let mut broken = Vec::new();
    for source in every_source() {
        for (index, line) in source.text.lines().enumerate() {
            if line.contains("TODO") || line.contains("FIXME") || line.contains("XXX") {
                broken.push(format!("src/{}:{}: left for later", source.path, index + 1));
            }
        }
    }
    none(&broken);
}

#[test]
fn messages_neither_beg_nor_belittle() {
    let mut broken = Vec::new();
    for source in every_source() {
        for (number, line) in source.code() {
            let words = line.to_lowercase();
            for word in ["please", "simply", "oops", "sorry", "whoops"] {
                if words.split(|c: char| !c.is_alphanumeric()).any(|found| found == word) {
                    broken.push(format!("src/{}:{number}: `{word}` in a message", source.path));
                }
            }
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

/// What others make and a release is built with: each is named by what it contains, and both locks are looked through.
#[test]
fn what_a_release_is_made_of_is_pinned_and_checked() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let read = |path: &str| fs::read_to_string(root.join(path)).unwrap();
    let mut broken = Vec::new();
    let mut actions = 0;
    for entry in fs::read_dir(root.join(".github/workflows")).unwrap() {
        let path = entry.unwrap().path();
        for line in fs::read_to_string(&path).unwrap().lines() {
            let Some((_, action)) = line.split_once("uses: ") else { continue };
            let commit = action.split(['@', ' ']).nth(1).unwrap_or_default();
            actions += 1;
            if commit.len() != 40 || !commit.chars().all(|digit| digit.is_ascii_hexdigit()) {
                broken.push(format!("{}: {action}: an action is named by its commit", path.display()));
            }
        }
    }
    assert!(actions > 3, "{actions}");
    let container = read("examples/server/Containerfile");
    let images = container.lines().filter(|line| line.starts_with("FROM "));
    broken.extend(
        images.filter(|line| !line.contains("@sha256:")).map(|line| format!("{line}: an image is named by its digest")),
    );
    let (run, advisories, release) =
        (read(".ci/run"), read(".github/workflows/advisories.yml"), read(".github/workflows/release.yml"));
    for (what, text, words) in [
        (".ci/run", &run, ["worker/Cargo.toml", "check licenses bans sources"]),
        ("the scheduled look at advisories", &advisories, ["worker/Cargo.toml", "schedule:"]),
        ("a release", &release, ["attest-build-provenance", "sha256sum"]),
    ] {
        broken.extend(words.iter().filter(|word| !text.contains(**word)).map(|word| format!("{what} lacks `{word}`")));
    }
    for text in [&run, &advisories] {
        let installs = text.lines().filter(|line| line.contains("cargo install"));
        broken.extend(installs.filter(|line| !line.contains("--locked")).map(|line| format!("{line}: without its lock")));
    }
    none(&broken);
}
