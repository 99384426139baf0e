//! The architecture, read from the sources: who may use whom, what is pure, who prints, how long a file may be. What clippy
//! and visibility hold is not repeated here.
//!
//! These tests look at text. They see what a person would see in review, and say file, line and what is wrong.

#![allow(clippy::disallowed_methods, reason = "tests read the files that they wrote themselves")]
#![allow(clippy::unwrap_used, clippy::panic)]

mod imports;
mod purity;
mod sources;
mod style;

use std::fs;
use std::path::Path;

use sources::none;

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
