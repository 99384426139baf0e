//! How long files and functions may be, and which words are used.

use super::sources::{every_source, none, tests};

/// How many lines a file may have before its tests, and one of tests altogether.
const LONGEST: usize = 430;

/// Files that may be longer, each with its limit and why.
const LONGER: &[(&str, usize, &str)] = &[];

/// How many lines a function may have.
const LONGEST_FUNCTION: usize = 80;

/// Functions that may be longer.
const LONGER_FUNCTIONS: &[&str] = &["inspect_for_import"];

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
    for source in tests() {
        let lines = source.text.lines().count();
        if lines > LONGEST {
            broken.push(format!("tests/{}: {lines} lines, more than {LONGEST}", source.path));
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
