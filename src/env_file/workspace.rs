//! The packages of a repository, so that an env file lands where the Convex client looks for it.
//!
//! Workspaces of npm, yarn, bun (`package.json`), pnpm, lerna and nx are looked through, links are not followed, and the
//! search is bounded: the repository may be hostile.

use std::fs;
use std::path::Path;

use serde_json::Value;

use super::bounded::read_text;
use super::detect;

/// How many folders are looked at.
const MOST_FOLDERS: usize = 5_000;
/// How deep `**` goes.
const DEEPEST: usize = 5;
/// Where packages lie by custom, in nx and where no workspace is declared.
const CUSTOMARY: [&str; 5] = ["*", "apps/*", "packages/*", "libs/*", "services/*"];

/// One package.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Package {
    /// Its folder below the root, with `/`; empty for the root itself.
    pub folder: String,
    /// The text of its `package.json`.
    pub json: String,
    /// Whether it depends on `convex`.
    pub depends_on_convex: bool,
    /// Whether it has a folder of Convex functions.
    pub has_functions: bool,
}

/// What a repository has for Convex.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Workspace {
    /// The packages from which functions are pushed, the most likely one first.
    pub deployments: Vec<Package>,
    /// The other packages that depend on `convex` and hand variables to a browser.
    pub clients: Vec<Package>,
}

/// Looks a repository through from its root.
pub fn inspect_workspace(root: &Path) -> Workspace {
    let mut packages: Vec<Package> = package(root, "").into_iter().collect();
    let own = packages.first().is_some_and(|package| package.has_functions || package.depends_on_convex);
    let patterns = patterns(root, packages.first(), !own);
    let (excluded, included): (Vec<&String>, Vec<&String>) = patterns.iter().partition(|pattern| pattern.starts_with('!'));
    let mut excluded: Vec<Vec<&str>> = excluded.iter().map(|pattern| segments(pattern.trim_start_matches('!'))).collect();
    excluded.retain(|pattern| is_reasonable(pattern));
    let mut found = Vec::new();
    let mut budget = MOST_FOLDERS;
    for pattern in included.into_iter().map(|pattern| segments(pattern)).filter(|pattern| is_reasonable(pattern)) {
        expand(root, String::new(), &pattern, DEEPEST, &mut budget, &mut found);
    }
    found.sort();
    found.dedup();
    found.retain(|folder| !folder.is_empty() && !excluded.iter().any(|pattern| matches_path(pattern, &segments(folder))));
    packages.extend(found.iter().filter_map(|folder| package(&root.join(folder), folder)));

    let has_functions = packages.iter().any(|package| package.has_functions);
    let is_client = |package: &Package| !detect::client_prefix(&package.json).is_empty();
    let (deployments, others): (Vec<Package>, Vec<Package>) = packages
        .into_iter()
        .filter(|package| package.depends_on_convex || package.has_functions)
        .partition(|package| if has_functions { package.has_functions } else { true });
    Workspace { deployments, clients: others.into_iter().filter(is_client).collect() }
}

fn package(folder: &Path, name: &str) -> Option<Package> {
    let json = read_text(&folder.join("package.json"))?;
    let functions = read_text(&folder.join("convex.json"))
        .and_then(|text| serde_json::from_str::<Value>(&text).ok()?.get("functions")?.as_str().map(str::to_owned));
    let has_functions = folder.join(functions.as_deref().unwrap_or("convex")).is_dir();
    let depends_on_convex = detect::depends_on(&json, "convex");
    Some(Package { folder: name.to_owned(), json, depends_on_convex, has_functions })
}

/// The patterns of folders that may be packages.
fn patterns(root: &Path, package: Option<&Package>, guess: bool) -> Vec<String> {
    let parse = |text: &str| serde_json::from_str::<Value>(text.trim_start_matches('\u{feff}')).unwrap_or_default();
    let texts = |list: &Value| -> Vec<String> {
        list.as_array().into_iter().flatten().filter_map(|entry| entry.as_str().map(str::to_owned)).collect()
    };
    let mut patterns = Vec::new();
    if let Some(package) = package {
        let workspaces = &parse(&package.json)["workspaces"];
        patterns.extend(texts(workspaces));
        patterns.extend(texts(&workspaces["packages"]));
    }
    patterns.extend(read_text(&root.join("pnpm-workspace.yaml")).iter().flat_map(|text| pnpm_packages(text)));
    patterns.extend(read_text(&root.join("lerna.json")).iter().flat_map(|text| texts(&parse(text)["packages"])));
    let is_nx = root.join("nx.json").is_file();
    if is_nx || (guess && patterns.is_empty()) {
        patterns.extend(CUSTOMARY.map(str::to_owned));
    }
    patterns
}

/// The list `packages` of a `pnpm-workspace.yaml`: the one list of texts that matters is not worth a parser of YAML.
fn pnpm_packages(text: &str) -> Vec<String> {
    let plain = |entry: &str| {
        let entry = entry.split(" #").next().unwrap_or_default().trim();
        entry.trim_matches(['"', '\'']).to_owned()
    };
    let mut packages = Vec::new();
    let mut inside = false;
    for line in text.lines() {
        let content = line.trim();
        if content.is_empty() || content.starts_with('#') {
            continue;
        }
        if let Some(rest) = line.strip_prefix("packages:") {
            inside = true;
            let inline = rest.split(" #").next().unwrap_or_default().trim();
            if let Some(list) = inline.strip_prefix('[').and_then(|list| list.strip_suffix(']')) {
                packages.extend(list.split(',').map(plain));
            }
        } else if let Some(entry) = content.strip_prefix("- ").filter(|_| inside) {
            packages.push(plain(entry));
        } else if !line.starts_with([' ', '\t']) {
            inside = false;
        }
    }
    packages.retain(|entry| !entry.is_empty());
    packages
}

fn segments(pattern: &str) -> Vec<&str> {
    pattern.split('/').filter(|segment| !segment.is_empty() && *segment != ".").collect()
}

/// Whether a pattern is one that a person writes: matching others could take for ever.
fn is_reasonable(pattern: &[&str]) -> bool {
    pattern.len() <= 12 && pattern.iter().filter(|segment| **segment == "**").count() <= 3
}

/// Finds the folders that a pattern means.
fn expand(root: &Path, below: String, pattern: &[&str], depth: usize, budget: &mut usize, found: &mut Vec<String>) {
    let Some((first, rest)) = pattern.split_first() else { return found.push(below) };
    if *first == ".." || depth == 0 && *first == "**" {
        return;
    }
    if *first == "**" {
        expand(root, below.clone(), rest, depth, budget, found);
    }
    let joined = |name: &str| if below.is_empty() { name.to_owned() } else { format!("{below}/{name}") };
    for name in folders(&root.join(&below), budget) {
        if *first == "**" {
            expand(root, joined(&name), pattern, depth - 1, budget, found);
        } else if matches_segment(first, &name) {
            expand(root, joined(&name), rest, depth, budget, found);
        }
    }
}

/// The folders in a folder, but for those of tools.
fn folders(folder: &Path, budget: &mut usize) -> Vec<String> {
    let mut names = Vec::new();
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        if *budget == 0 {
            break;
        }
        *budget -= 1;
        let name = entry.file_name().to_string_lossy().into_owned();
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) && !name.starts_with('.') && name != "node_modules" {
            names.push(name);
        }
    }
    names
}

fn matches_path(pattern: &[&str], path: &[&str]) -> bool {
    match (pattern.split_first(), path.split_first()) {
        (None, None) => true,
        (Some((&"**", rest)), _) => {
            matches_path(rest, path) || path.split_first().is_some_and(|(_, below)| matches_path(pattern, below))
        }
        (Some((first, rest)), Some((name, below))) => matches_segment(first, name) && matches_path(rest, below),
        _ => false,
    }
}

/// Whether a name fits a pattern in which `*` stands for any letters.
fn matches_segment(pattern: &str, name: &str) -> bool {
    let mut parts = pattern.split('*');
    let Some(rest) = parts.next().and_then(|start| name.strip_prefix(start)) else { return false };
    if !pattern.contains('*') {
        return rest.is_empty();
    }
    let mut rest = rest;
    let mut parts = parts.peekable();
    while let Some(part) = parts.next() {
        if parts.peek().is_none() {
            return rest.ends_with(part);
        }
        match rest.find(part) {
            Some(at) => rest = &rest[at + part.len()..],
            None => return false,
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    fn repository(files: &[(&str, &str)]) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        for (path, content) in files {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, content).unwrap();
        }
        root
    }

    fn found(files: &[(&str, &str)]) -> (Vec<String>, Vec<String>) {
        let root = repository(files);
        let Workspace { deployments, clients } = inspect_workspace(root.path());
        let folders = |packages: Vec<Package>| packages.into_iter().map(|package| package.folder).collect();
        (folders(deployments), folders(clients))
    }

    const CONVEX: &str = r#"{"dependencies":{"convex":"^1.29.3"}}"#;
    const NEXT: &str = r#"{"dependencies":{"convex":"^1.29.3","next":"15"}}"#;

    fn split(backend: &[&str], clients: &[&str]) -> (Vec<String>, Vec<String>) {
        let owned = |list: &[&str]| list.iter().map(|&text| text.to_owned()).collect();
        (owned(backend), owned(clients))
    }

    #[test]
    fn the_package_of_functions_is_found_in_a_workspace_of_each_kind() {
        let packages = [
            ("packages/backend/package.json", CONVEX),
            ("packages/backend/convex/a.ts", ""),
            ("packages/ui/package.json", "{}"),
            ("apps/web/package.json", NEXT),
            ("apps/web/node_modules/x/package.json", CONVEX),
        ];
        for declared in [
            ("package.json", r#"{"workspaces":["apps/*","packages/*"]}"#),
            ("package.json", r#"{"workspaces":{"packages":["apps/**","./packages/*/"]}}"#),
            (
                "pnpm-workspace.yaml",
                "catalog: x\npackages: # all\n  - \"apps/*\"\n  - 'packages/*' # own\nother:\n  - nowhere\n",
            ),
            ("pnpm-workspace.yaml", "packages: [\"apps/*\", 'packages/*']\n"),
            ("lerna.json", r#"{"packages":["packages/b*d","apps/web"]}"#),
            ("nx.json", "{}"),
            ("README.md", "no workspace at all"),
        ] {
            let files = [&packages[..], &[declared]].concat();
            assert_eq!(found(&files), split(&["packages/backend"], &["apps/web"]), "{declared:?}");
        }
    }

    #[test]
    fn one_package_alone_is_the_root() {
        assert_eq!(found(&[("package.json", NEXT), ("convex/a.ts", "")]), split(&[""], &[]));
        assert_eq!(found(&[("package.json", NEXT)]), split(&[""], &[]));
        assert_eq!(found(&[("package.json", "{}")]), split(&[], &[]));
        assert_eq!(found(&[]), split(&[], &[]));
    }

    #[test]
    fn excluded_folders_and_a_functions_folder_of_another_name() {
        let files = [
            ("package.json", r#"{"workspaces":["packages/**","!packages/**/test/**","!packages/old"]}"#),
            ("packages/a/package.json", CONVEX),
            ("packages/a/convex.json", r#"{"functions":"src/convex/"}"#),
            ("packages/a/src/convex/a.ts", ""),
            ("packages/a/test/fixture/package.json", CONVEX),
            ("packages/a/test/fixture/convex/a.ts", ""),
            ("packages/old/package.json", CONVEX),
            ("packages/old/convex/a.ts", ""),
        ];
        assert_eq!(found(&files), split(&["packages/a"], &[]));
    }

    #[test]
    fn a_repository_that_was_made_to_be_deep_or_wide_is_searched_in_bounds() {
        let root = repository(&[("package.json", r#"{"workspaces":["**/**/**/**/**/x","../../*"]}"#)]);
        for number in 0..200 {
            fs::create_dir_all(root.path().join(format!("a/b{number}/c/d/e/f/g"))).unwrap();
        }
        assert_eq!(inspect_workspace(root.path()), Workspace::default());
    }
}
