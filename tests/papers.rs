//! The papers of the repository: their links lead somewhere, their generated sections are fresh, and their examples are valid.

#![allow(clippy::disallowed_methods, reason = "tests read the files that they wrote themselves")]
#![allow(clippy::unwrap_used, clippy::panic)]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use convexinfra::{cli, manifest};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Every Markdown file of the repository that people read: path from the root, text.
fn papers() -> Vec<(PathBuf, String)> {
    fn collect(folder: &Path, found: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                collect(&path, found);
            } else if path.extension().is_some_and(|extension| extension == "md") {
                found.push(path);
            }
        }
    }
    let mut found = Vec::new();
    for folder in ["docs", "examples", "skills", ".github"] {
        collect(&root().join(folder), &mut found);
    }
    for entry in fs::read_dir(root()).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "md") {
            found.push(path);
        }
    }
    found.sort();
    assert!(found.len() > 15, "the papers are not where they should be: {found:?}");
    let read = |path: PathBuf| (path.strip_prefix(root()).unwrap().to_owned(), fs::read_to_string(path).unwrap());
    found.into_iter().map(read).collect()
}

fn paper(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// The lines outside of fenced blocks, with inline code left out.
fn prose(text: &str) -> String {
    let mut inside = false;
    let mut prose = String::new();
    for line in text.lines() {
        if line.trim_start().starts_with("```") {
            inside = !inside;
        } else if !inside {
            prose.extend(line.split('`').step_by(2));
            prose.push('\n');
        }
    }
    prose
}

/// The targets of `[text](target)`.
fn links(text: &str) -> Vec<String> {
    prose(text).split("](").skip(1).filter_map(|rest| Some(rest.split_once(')')?.0.to_owned())).collect()
}

/// The anchors that GitHub gives to the headings of a paper.
fn anchors(text: &str) -> BTreeSet<String> {
    let mut inside = false;
    let mut found = BTreeSet::new();
    for line in text.lines() {
        inside ^= line.trim_start().starts_with("```");
        let Some(heading) = line.strip_prefix('#').filter(|_| !inside) else { continue };
        let heading = heading.trim_start_matches('#').trim().to_lowercase();
        let kept = heading.chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
        found.insert(kept.map(|c| if c == ' ' { '-' } else { c }).collect());
    }
    found
}

#[test]
fn links_between_papers_lead_somewhere() {
    let mut broken = Vec::new();
    for (path, text) in papers() {
        for link in links(&text).iter().filter(|link| !link.contains("://") && !link.starts_with("mailto:")) {
            let (file, anchor) = link.split_once('#').unwrap_or((link, ""));
            let target = match file {
                "" => root().join(&path),
                file => root().join(path.parent().unwrap()).join(file),
            };
            if !target.exists() {
                broken.push(format!("{}: no file {link}", path.display()));
            } else if !anchor.is_empty() && !anchors(&fs::read_to_string(&target).unwrap()).contains(anchor) {
                broken.push(format!("{}: no heading {link}", path.display()));
            }
        }
    }
    assert!(broken.is_empty(), "{broken:#?}");
}

#[test]
fn files_that_the_papers_name_exist() {
    let mut missing = Vec::new();
    for path in ["ARCHITECTURE.md", "CONTRIBUTING.md"] {
        for name in paper(path).split('`').filter(|text| text.starts_with("src/") || text.starts_with("tests/")) {
            if !root().join(name).exists() {
                missing.push(format!("{path}: {name}"));
            }
        }
    }
    assert!(missing.is_empty(), "{missing:#?}");
}

#[test]
fn every_paper_is_reachable_from_the_readme() {
    let mut reached = BTreeSet::from([PathBuf::from("README.md")]);
    let mut open = vec![PathBuf::from("README.md")];
    while let Some(path) = open.pop() {
        for link in links(&paper(path.to_str().unwrap())) {
            let file = link.split('#').next().unwrap();
            let Ok(target) = root().join(path.parent().unwrap()).join(file).canonicalize() else { continue };
            let Ok(target) = target.strip_prefix(root().canonicalize().unwrap()).map(Path::to_owned) else { continue };
            if target.extension().is_some_and(|extension| extension == "md") && reached.insert(target.clone()) {
                open.push(target);
            }
        }
    }
    let alone: Vec<PathBuf> =
        papers().into_iter().map(|(path, _)| path).filter(|path| path.starts_with("docs") && !reached.contains(path)).collect();
    assert!(alone.is_empty(), "no link leads to {alone:?}");
}

#[test]
fn the_readme_is_an_overview() {
    let lines = paper("README.md").lines().count();
    assert!(lines <= 150, "{lines} lines: move what is reference or manual to docs/");
}

/// Compares the generated section number `index` (from 0) of a paper, or rewrites it where `UPDATE` is set.
fn check_generated(path: &str, index: usize, fresh: &str) {
    let text = paper(path);
    let start =
        text.match_indices("<!-- generated from ").nth(index).unwrap_or_else(|| panic!("{path} has no section {index}")).0;
    let start = start + text[start..].find("-->\n").unwrap() + "-->\n".len();
    let end = start + text[start..].find("<!-- end -->").unwrap();
    let section = format!("\n{}\n", fresh.trim_end_matches('\n').to_owned() + "\n");
    if std::env::var_os("UPDATE").is_some() {
        fs::write(root().join(path), format!("{}{section}{}", &text[..start], &text[end..])).unwrap();
    } else {
        assert!(text[start..end] == section, "{path} is stale; run `UPDATE=1 cargo test --test papers`");
    }
}

#[test]
fn generated_sections_are_fresh() {
    check_generated("docs/manifest.md", 0, &manifest::reference());
    check_generated("docs/reference/exit-codes.md", 0, &cli::reference::exit_codes());
    check_generated("docs/reference/variables.md", 0, &cli::reference::flag_variables());
    check_generated("docs/reference/variables.md", 1, &cli::reference::other_variables());
}

/// The names of variables of ours in a text.
fn variables(text: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for (at, prefix) in text.match_indices("CONVEXINFRA_") {
        let rest = &text[at + prefix.len()..];
        let name: String = rest.chars().take_while(|c| c.is_ascii_uppercase() || c.is_ascii_digit() || *c == '_').collect();
        if !name.is_empty() && !text[..at].ends_with(|c: char| c.is_ascii_alphanumeric() || c == '_') {
            found.insert(format!("{prefix}{name}"));
        }
    }
    found
}

#[test]
fn every_variable_in_the_code_is_documented() {
    fn collect(folder: &Path, found: &mut BTreeSet<String>) {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                collect(&path, found);
            } else if path.extension().is_some_and(|extension| extension == "rs") && !path.ends_with("failpoint.rs") {
                let text = fs::read_to_string(&path).unwrap();
                let quoted = text
                    .lines()
                    .filter(|line| !line.trim_start().starts_with("//"))
                    .flat_map(|line| line.split('"').skip(1).step_by(2));
                found.extend(quoted.filter(|text| variables(text).contains(*text)).map(str::to_owned));
            }
        }
    }
    let mut used = BTreeSet::new();
    for folder in ["src", "worker/src"] {
        collect(&root().join(folder), &mut used);
    }
    let documented = variables(&(paper("docs/reference/variables.md") + &paper("docs/worker.md")));
    // Handed to the launcher inside of a container, and the name of a secret of a Fly app: never set by people.
    let internal = BTreeSet::from(["CONVEXINFRA_LAUNCH".to_owned(), "CONVEXINFRA_RETAINED".to_owned()]);
    let missing: Vec<_> = used.iter().filter(|name| !documented.contains(*name) && !internal.contains(*name)).collect();
    assert!(used.len() > 30 && missing.is_empty(), "not in docs/reference/variables.md or docs/worker.md: {missing:?}");
}

#[test]
fn papers_name_only_variables_that_exist() {
    let known = variables(
        &(paper("docs/reference/variables.md") + &paper("docs/worker.md") + &paper("CONTRIBUTING.md") + &paper("CHANGELOG.md")),
    );
    for (path, text) in papers() {
        let unknown: Vec<String> = variables(&text).into_iter().filter(|name| !known.contains(name)).collect();
        assert!(unknown.is_empty(), "{}: {unknown:?}", path.display());
    }
}

/// The fenced blocks of one language in all papers.
fn blocks(language: &str) -> Vec<(PathBuf, String)> {
    let mut found = Vec::new();
    for (path, text) in papers() {
        for rest in text.split(&format!("\n```{language}\n")).skip(1) {
            found.push((path.clone(), rest.split("\n```").next().unwrap().to_owned()));
        }
    }
    found
}

#[test]
fn manifests_in_the_papers_are_valid() {
    let manifests = blocks("toml");
    assert!(manifests.len() >= 6, "{}", manifests.len());
    for (path, text) in manifests {
        let mut whole = text.clone();
        if !text.contains("provider = ") {
            whole = format!("[defaults]\nprovider = \"local\"\n{whole}");
        }
        if !text.contains("project = ") {
            whole = format!("project = \"papers\"\n{whole}");
        }
        if let Err(problems) = manifest::parse(&whole, None) {
            panic!("{}: {problems:#?}\n{whole}", path.display());
        }
    }
}

#[test]
fn the_readme_lists_every_command_of_the_help() {
    let help = Command::new(env!("CARGO_BIN_EXE_convexinfra")).arg("--help").output().unwrap();
    let help = String::from_utf8(help.stdout).unwrap();
    let commands = help.split("\nCommands:").nth(1).unwrap().lines().skip(1).take_while(|line| !line.is_empty());
    let readme = paper("README.md");
    // A line that begins further right continues the one above.
    for line in commands.filter(|line| !line.starts_with("   ")) {
        let command = line.split_whitespace().next().unwrap();
        assert!(command == "help" || readme.contains(&format!("`{command}")), "the README does not list `{command}`");
    }
}

#[test]
fn the_readme_has_the_two_commands_that_ci_runs() {
    let readme = paper("README.md");
    let block = readme.split("<!-- the two commands -->\n```\n").nth(1).unwrap().split("\n```").next().unwrap();
    let commands: Vec<&str> = block.lines().collect();
    assert_eq!(commands.len(), 2, "{block}");
    assert!(commands[0].starts_with("cargo run --release -- apply ") && commands[1].starts_with("cargo test"), "{block}");
}
