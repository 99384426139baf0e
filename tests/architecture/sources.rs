//! The sources as text.

use std::fs;
use std::path::{Path, PathBuf};

pub(super) struct Source {
    /// Below `src/`, with `/`.
    pub(super) path: String,
    pub(super) text: String,
}

impl Source {
    /// The top module that the file belongs to.
    pub(super) fn module(&self) -> &str {
        self.path.split(['/', '.']).next().unwrap()
    }

    /// Whether the whole file is tests.
    pub(super) fn is_tests(&self) -> bool {
        self.path.ends_with("tests.rs")
    }

    /// The lines before the tests at its end, without comments, each with its number.
    pub(super) fn code(&self) -> Vec<(usize, String)> {
        if self.is_tests() {
            return Vec::new();
        }
        let lines =
            self.text.lines().take_while(|line| !["#[cfg(test)]", "#[cfg(all(test,"].iter().any(|test| line.starts_with(test)));
        lines.map(without_comment).enumerate().map(|(index, line)| (index + 1, line)).collect()
    }

    /// Its code, and what stands in quotes is left out too.
    pub(super) fn code_without_text(&self) -> Vec<(usize, String)> {
        self.code().into_iter().map(|(number, line)| (number, without_text(&line))).collect()
    }
}

/// A comment starts at two slashes that are not part of a text such as `"https://…"`.
pub(super) fn without_comment(line: &str) -> String {
    if line.trim_start().starts_with("//") {
        return String::new();
    }
    line.split(" // ").next().unwrap().to_owned()
}

pub(super) fn without_text(line: &str) -> String {
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
pub(super) fn sources() -> Vec<Source> {
    let all = below("src");
    assert!(all.len() > 50, "the sources are not where they should be");
    all
}

/// The integration tests and what they share.
pub(super) fn tests() -> Vec<Source> {
    let all = below("tests");
    assert!(all.len() > 100, "the tests are not where they should be");
    all
}

/// The sources with those of the Worker, a package of its own.
pub(super) fn every_source() -> Vec<Source> {
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

pub(super) fn none(broken: &[String]) {
    assert!(broken.is_empty(), "{} against the architecture:\n{}", broken.len(), broken.join("\n"));
}
