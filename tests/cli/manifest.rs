//! Manifests from end to end: broken ones, examples, the schema, and texts that nobody would write.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use convexinfra::manifest::{ParsedManifest, located, parse, redacted, schema};
use convexinfra::model::Diagnostic;
use proptest::prelude::*;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Every broken manifest with its name.
fn broken() -> Vec<(String, String)> {
    let mut all: Vec<(String, String)> = fs::read_dir(root().join("tests/cli/manifest/broken"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .map(|path| (path.file_stem().unwrap().to_string_lossy().into_owned(), fs::read_to_string(path).unwrap()))
        .collect();
    all.sort();
    all
}

/// Every example's manifest.
fn examples() -> Vec<(PathBuf, String)> {
    let mut all: Vec<(PathBuf, String)> = fs::read_dir(root().join("examples"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .map(|folder| folder.join("convex.toml"))
        .filter(|path| path.is_file())
        .map(|path| (path.clone(), fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))))
        .collect();
    all.sort();
    all
}

/// The problems of a text, whether they stop it or not.
fn problems(text: &str) -> Vec<Diagnostic> {
    parse(text, None).map_or_else(|errors| errors, |ParsedManifest { warnings, .. }| warnings)
}

fn expected(text: &str) -> BTreeSet<String> {
    text.lines().filter_map(|line| line.strip_prefix("# expect: ")).map(str::to_owned).collect()
}

fn json(text: &str) -> Option<serde_json::Value> {
    toml::from_str::<toml::Table>(text).ok().map(|table| serde_json::to_value(table).unwrap())
}

#[test]
fn broken_manifests_have_exactly_the_findings_in_their_headers() {
    let mut wrong = String::new();
    let all = broken();
    assert!(all.len() >= 45);
    for (name, text) in &all {
        let found = problems(text);
        let list = located(&found, text, "convex.toml");
        let seen: BTreeSet<String> = list
            .iter()
            .map(|finding| {
                let span = finding.span.as_ref().unwrap();
                format!("{} {}:{}", finding.code, span.line, span.column)
            })
            .collect();
        assert_eq!(seen.len(), found.len(), "{name}: the same thing is said twice");
        assert!(
            found.iter().zip(&found[1.min(found.len())..]).all(|(a, b)| a.bytes().start <= b.bytes().start),
            "{name}: by position"
        );
        if seen != expected(text) {
            wrong.push_str(&format!("{name}:\n  expected {:#?}\n  found {:#?}\n", expected(text), list));
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
}

#[test]
fn every_edit_repairs_its_problem() {
    let mut edits = 0;
    for (name, text) in broken() {
        for problem in problems(&text) {
            let Some(edit) = &problem.edit else { continue };
            edits += 1;
            let repaired = format!("{}{}{}", &text[..edit.start], edit.replacement, &text[edit.end..]);
            let left = problems(&repaired);
            let again = left.iter().any(|other| other.code == problem.code && other.bytes().start == problem.bytes().start);
            assert!(!again, "{name}: {problem:#?}\nis still there in\n{repaired}");
            // It may bring to light what was hidden behind it, and it must not break the syntax.
            let syntax = |list: &[Diagnostic]| list.iter().filter(|p| p.code == "manifest.syntax").count();
            assert!(syntax(&left) <= syntax(&problems(&text)), "{name}: {problem:#?}\n{repaired}");
        }
    }
    assert!(edits >= 40, "{edits} edits only");
}

#[test]
fn every_message_keeps_to_the_style() {
    for (name, text) in broken() {
        for problem in problems(&text) {
            let first = problem.message.chars().next().unwrap();
            assert!(!first.is_uppercase() || problem.message.starts_with("Convex"), "{name}: {}", problem.message);
            assert!(!problem.message.ends_with('.'), "{name}: {}", problem.message);
            for word in ["simply", "please", "invalid"] {
                let said = format!("{} {}", problem.message, problem.help.clone().unwrap_or_default()).to_lowercase();
                assert!(!said.contains(word), "{name}: {said}");
            }
            assert!(
                problem.help.is_some() || problem.code == "manifest.syntax" || !problem.allowed.is_empty(),
                "{name}: {problem:#?}"
            );
        }
    }
}

#[test]
fn examples_are_clean() {
    let all = examples();
    assert!(all.len() >= 8);
    for (path, text) in all {
        let parsed = parse(&text, None).unwrap_or_else(|problems| panic!("{}: {problems:#?}", path.display()));
        assert_eq!(parsed.warnings, [], "{}", path.display());
        assert!(text.starts_with("#:schema ../../schema/convex.schema.json\n"), "{}", path.display());
    }
}

#[test]
fn the_schema_accepts_examples_and_refuses_broken_manifests() {
    let validator = jsonschema::validator_for(&schema()).unwrap();
    for (path, text) in examples() {
        let errors: Vec<String> = validator.iter_errors(&json(&text).unwrap()).map(|error| error.to_string()).collect();
        assert!(errors.is_empty(), "{}: {errors:#?}", path.display());
    }
    let mut wrong = Vec::new();
    for (name, text) in broken() {
        // What is no TOML at all never reaches a schema.
        let Some(value) = json(&text) else { continue };
        let only_rules = text.lines().any(|line| line.starts_with("# only rules know: "));
        if validator.is_valid(&value) != only_rules {
            wrong.push(format!("{name}: the schema {} it", if only_rules { "refuses" } else { "accepts" }));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn the_schema_accepts_every_manifest_that_parses() {
    let validator = jsonschema::validator_for(&schema()).unwrap();
    let texts: Vec<String> = examples().into_iter().map(|(_, text)| text).collect();
    let mut dice = Dice(0x2545_f491_4f6c_dd1d);
    let mut accepted = 0;
    for round in 0..3_000 {
        let text = mutate(&texts[round % texts.len()], &mut dice);
        if parse(&text, None).is_ok() {
            accepted += 1;
            let errors: Vec<String> = validator.iter_errors(&json(&text).unwrap()).map(|error| error.to_string()).collect();
            assert!(errors.is_empty(), "{errors:#?}\n{text}");
        }
    }
    assert!(accepted > 300, "{accepted} mutations only were still manifests");
}

#[test]
fn the_schema_file_is_fresh() {
    let path = root().join("schema/convex.schema.json");
    let fresh = format!("{}\n", serde_json::to_string_pretty(&schema()).unwrap());
    if std::env::var_os("CONVEXINFRA_UPDATE").is_some() {
        fs::write(&path, &fresh).unwrap();
    }
    let there = fs::read_to_string(&path).unwrap_or_default();
    assert!(there == fresh, "schema/convex.schema.json is stale; run `CONVEXINFRA_UPDATE=1 cargo test`");
}

/// What must hold for every text whatsoever.
fn holds(text: &str) {
    let found = problems(text);
    let list = located(&found, text, "convex.toml");
    for (problem, finding) in found.iter().zip(&list) {
        assert!(text.get(problem.bytes()).is_some(), "{problem:?} is not about characters of {text:?}");
        let span = finding.span.as_ref().unwrap();
        assert!(span.line >= 1 && span.column >= 1);
        if let Some(edit) = &problem.edit {
            assert!(text.get(edit.start..edit.end).is_some(), "{problem:?} edits no characters of {text:?}");
        }
    }
    assert_eq!(redacted(text, &found).len(), text.len());
}

/// A small generator of its own, so that ten thousand mutations cost no more than the parsing.
struct Dice(u64);

impl Dice {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % (limit.max(1) as u64)).unwrap()
    }
}

const MORSELS: [&str; 24] = [
    "\"",
    "'",
    "\"\"\"",
    "[",
    "]",
    "[[",
    "]]",
    "{",
    "}",
    "=",
    ".",
    ",",
    "\n",
    "\r\n",
    "\\",
    "#",
    "é",
    "\u{feff}",
    "\u{0}",
    "1e999",
    "[backends.dev]\n",
    "depends_on = [\"dev\"]\n",
    "true",
    "://u:p@",
];

fn mutate(text: &str, dice: &mut Dice) -> String {
    let mut bytes = text.as_bytes().to_vec();
    for _ in 0..=dice.below(4) {
        let at = dice.below(bytes.len());
        let length = dice.below(12).min(bytes.len() - at);
        match dice.below(6) {
            0 => drop(bytes.drain(at..at + length)),
            1 => {
                let copy = bytes[at..at + length].to_vec();
                let to = dice.below(bytes.len());
                bytes.splice(to..to, copy);
            }
            2 => drop(bytes.splice(at..at, MORSELS[dice.below(MORSELS.len())].bytes())),
            3 => bytes[at] = u8::try_from(dice.below(256)).unwrap(),
            4 => bytes.truncate(at.max(1)),
            _ => {
                let mut lines: Vec<&[u8]> = bytes.split(|byte| *byte == b'\n').collect();
                let (one, other) = (dice.below(lines.len()), dice.below(lines.len()));
                lines.swap(one, other);
                bytes = lines.join(&b'\n');
            }
        }
        if bytes.is_empty() {
            bytes.push(b'a');
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[test]
fn ten_thousand_mutations_end_in_findings_with_places() {
    let mut texts: Vec<String> = examples().into_iter().map(|(_, text)| text).collect();
    texts.extend(broken().into_iter().map(|(_, text)| text).filter(|text| text.len() < 2_000));
    let mut dice = Dice(0x9e37_79b9_7f4a_7c15);
    for _ in 0..10_000 {
        let index = dice.below(texts.len());
        let text = mutate(&texts[index], &mut dice);
        holds(&text);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_text_ends_in_findings_with_places(text in "\\PC{0,200}") {
        holds(&text);
    }

    #[test]
    fn anything_toml_like_ends_in_findings_with_places(
        text in r#"((project|backends|env|storage|[a-z]{1,3})(\.[a-z]{1,2})? ?= ?("[^"\n]{0,8}"|[0-9]{1,3}|\{[a-z =1]{0,8}\}|\[[a-z",]{0,8}\])\n|\[(backends|defaults)(\.[a-z]{1,3}){0,2}\]\n){0,12}"#
    ) {
        holds(&text);
    }
}
