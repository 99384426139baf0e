//! Assignments that were turned off to make room for a block, so that taking the block out gives them back.
//!
//! An assignment that is turned off stands as a comment below a notice that says so; the notice counts its lines.

use super::parse::{Document, without_break};

/// The variable that the Convex client refuses beside the URL and the key of a self-hosted deployment.
pub(super) const CLOUD_DEPLOYMENT: &str = "CONVEX_DEPLOYMENT";
/// What a notice says after its count.
const REASONS: [&str; 2] =
    ["the client refuses it beside CONVEX_SELF_HOSTED_URL", "the block of convexinfra sets this variable"];
const BEGIN: &str = "# convexinfra: the next ";
/// What is before every line of an assignment that is off.
const COMMENT: &[u8] = b"# ";
/// A note that earlier releases left in the place of a line.
const MOVED: &str = "# convexinfra: a variable stood here that is in the block of convexinfra now";

/// One assignment that is off.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Note {
    /// The line of the notice.
    pub(super) line: usize,
    /// How many lines of comment follow it.
    pub(super) count: usize,
    /// The variable.
    pub(super) name: String,
    /// The value that it had.
    pub(super) value: String,
}

/// Returns the notice for an assignment of so many lines, without a line break.
pub(super) fn notice(name: &str, lines: usize) -> String {
    let reason = REASONS[usize::from(name != CLOUD_DEPLOYMENT)];
    if lines == 1 { format!("{BEGIN}assignment is off, {reason}") } else { format!("{BEGIN}{lines} lines are off, {reason}") }
}

/// Turns one line of an assignment off.
pub(super) fn off(line: &[u8]) -> Vec<u8> {
    [COMMENT, line].concat()
}

/// Returns a line as it was before it was turned off.
pub(super) fn on(line: &[u8]) -> &[u8] {
    line.strip_prefix(COMMENT).unwrap_or(line)
}

/// How many lines a notice says are off; none when the line is no notice.
fn counted(line: &str) -> Option<usize> {
    let rest = line.strip_prefix(BEGIN)?;
    let (what, reason) = rest.split_once(" off, ")?;
    if !REASONS.contains(&reason) {
        return None;
    }
    match what {
        "assignment is" => Some(1),
        lines => lines.strip_suffix(" lines are")?.parse().ok().filter(|count| (2..1_000_000).contains(count)),
    }
}

/// Whether a line is a notice or note of ours, which holds nothing of anyone else.
pub(super) fn is_note(line: &str) -> bool {
    let quotes_only = |rest: &str| rest.chars().all(|character| " '\"`.".contains(character));
    counted(line).is_some() || line.strip_prefix(MOVED).is_some_and(quotes_only)
}

/// Finds the assignments that are off. A notice over anything else is a comment like any other.
pub(super) fn notes(document: &Document<'_>) -> Vec<Note> {
    let lines: Vec<&[u8]> = document.lines().collect();
    let mut notes = Vec::new();
    let mut free_from = 0;
    for (line, text) in lines.iter().enumerate() {
        let Some(count) = std::str::from_utf8(without_break(text)).ok().and_then(counted).filter(|_| line >= free_from) else {
            continue;
        };
        let Some(below) = lines.get(line + 1..line + 1 + count) else { continue };
        if !below.iter().all(|line| line.starts_with(COMMENT)) {
            continue;
        }
        let before: Vec<u8> = below.iter().flat_map(|line| on(line).to_vec()).collect();
        let before = Document::parse(&before);
        if let [assignment] = before.assignments()
            && assignment.lines == (0..count)
        {
            notes.push(Note { line, count, name: assignment.name.clone(), value: assignment.value.clone() });
            free_from = line + 1 + count;
        }
    }
    notes
}
