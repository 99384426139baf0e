//! Makes the edits that the problems of a manifest suggest.

use std::path::Path;

use super::manifest::read_text;
use super::{AppError, provision};
use crate::model::{Edit, ProjectName};

/// How often a manifest is parsed again after edits; an edit may reveal the next problem.
const MAX_ROUNDS: usize = 20;

/// Returns how many edits were made and the text that they lead to; no text where there is nothing to edit.
///
/// # Errors
/// The file cannot be read.
pub(crate) fn fix(path: &Path, project: Option<&ProjectName>) -> Result<(usize, Option<String>), AppError> {
    let read = read_text(path)?;
    let mut text = read.clone();
    let mut made = 0;
    for _ in 0..MAX_ROUNDS {
        let problems = match crate::manifest::parse(&text, project) {
            Ok(parsed) => parsed.warnings,
            Err(problems) => problems,
        };
        let edits: Vec<Edit> = problems.into_iter().filter_map(|problem| problem.edit).collect();
        let (next, count) = apply_edits(&text, edits);
        if count == 0 || next == text {
            break;
        }
        made += count;
        text = next;
    }
    Ok((made, (text != read).then_some(text)))
}

/// Applies edits from the end to the beginning; of two that overlap, the first one.
fn apply_edits(text: &str, mut edits: Vec<Edit>) -> (String, usize) {
    edits.sort_by_key(|edit| (edit.start, edit.end));
    let mut kept: Vec<Edit> = Vec::new();
    for edit in edits {
        let is_valid = edit.start <= edit.end && text.is_char_boundary(edit.start) && text.is_char_boundary(edit.end);
        if is_valid && kept.last().is_none_or(|before| before.end <= edit.start && *before != edit) {
            kept.push(edit);
        }
    }
    let mut edited = text.to_owned();
    for edit in kept.iter().rev() {
        edited.replace_range(edit.start..edit.end, &edit.replacement);
    }
    (edited, kept.len())
}

/// Writes a text to the manifest at a path, whole or not at all.
///
/// # Errors
/// The file cannot be written.
pub(crate) fn write(path: &Path, text: &str) -> Result<(), AppError> {
    provision::replace_file(path, text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn edits_are_made_until_nothing_is_left_to_edit() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("convex.toml");
        std::fs::write(&path, "project = \"shop\"\n\n[backends.dev]\nprovder = \"simulatd\"\n").unwrap();
        let (made, text) = fix(&path, None).unwrap();
        let text = text.unwrap();
        assert_eq!(text, "project = \"shop\"\n\n[backends.dev]\nprovider = \"simulated\"\n");
        assert!(made >= 1);
        write(&path, &text).unwrap();
        assert_eq!(fix(&path, None).unwrap(), (0, None));
    }

    #[test]
    fn of_edits_that_overlap_the_first_is_made() {
        let edit = |start, end, replacement: &str| Edit { start, end, replacement: replacement.to_owned() };
        let edits = vec![edit(4, 5, "E"), edit(0, 3, "x"), edit(1, 2, "y"), edit(99, 100, "z")];
        assert_eq!(apply_edits("abcdef", edits), ("xdEf".to_owned(), 2));
    }
}
