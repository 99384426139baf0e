//! Text that came from outside, as a terminal may have it: what would move the cursor, change the window or turn the
//! direction of reading is shown as an escape, such as `\u{1b}`.

use std::borrow::Cow;
use std::fmt::Write as _;

/// What a screen obeys instead of showing it: control characters, and the controls of bidirectional text and of lines.
fn is_control(character: char) -> bool {
    character.is_control()
        || matches!(
            character,
            '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}' | '\u{2029}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}'
        )
}

fn escaped(text: &str, stays: impl Fn(char) -> bool) -> Cow<'_, str> {
    let escapes = |character: char| is_control(character) && !stays(character);
    if !text.chars().any(escapes) {
        return Cow::Borrowed(text);
    }
    let mut shown = String::with_capacity(text.len() + 16);
    for character in text.chars() {
        if escapes(character) {
            let _ = write!(shown, "{}", character.escape_unicode());
        } else {
            shown.push(character);
        }
    }
    Cow::Owned(shown)
}

/// Sanitizes a value for one line, so that it stays in it.
pub(super) fn sanitize_line(text: &str) -> Cow<'_, str> {
    escaped(text, |_| false)
}

/// Sentences that may have several lines. What follows the first one is indented so far, so that it is not taken for
/// something else.
pub(super) fn sanitize_block(text: &str, indent: usize) -> String {
    escaped(text, |character| character == '\n').replace('\n', &format!("\n{}", " ".repeat(indent)))
}

/// Escapes what a screen would obey in a JSON document, which then reads as the same document.
pub fn sanitize_json(document: &str) -> Cow<'_, str> {
    if !document.chars().any(is_control) {
        return Cow::Borrowed(document);
    }
    let mut shown = String::with_capacity(document.len() + 64);
    for character in document.chars() {
        if is_control(character) {
            // All of them are in the basic plane, so that one escape is enough; they stand in texts only.
            let _ = write!(shown, "\\u{:04x}", u32::from(character));
        } else {
            shown.push(character);
        }
    }
    Cow::Owned(shown)
}

/// Sanitizes everything that goes to a screen: lines and tabs stay, and colours where there are some.
pub fn sanitize_terminal(text: &str, coloured: bool) -> Cow<'_, str> {
    let plain = |character: char| matches!(character, '\n' | '\t');
    if !text.chars().any(|character| is_control(character) && !plain(character)) {
        return Cow::Borrowed(text);
    }
    let mut shown = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find(|character: char| is_control(character) && !plain(character)) {
        let (before, from) = rest.split_at(at);
        shown.push_str(before);
        let length =
            if coloured { color_sequence_length(from) } else { None }.or_else(|| from.starts_with("\r\n").then_some(2));
        let length = length.unwrap_or_else(|| {
            let mut characters = from.chars();
            shown.extend(characters.next().into_iter().flat_map(char::escape_unicode));
            rest = characters.as_str();
            0
        });
        if length > 0 {
            shown.push_str(&from[..length]);
            rest = &from[length..];
        }
    }
    shown.push_str(rest);
    Cow::Owned(shown)
}

/// How long the command is that this begins with, if it is one that only chooses colours.
fn color_sequence_length(text: &str) -> Option<usize> {
    let parameters = text.strip_prefix("\u{1b}[")?;
    let length = parameters.find(|character: char| !matches!(character, '0'..='9' | ';'))?;
    parameters[length..].starts_with('m').then_some(length + 3)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::model::{Diagnostic, Exit, Report, Timestamp};
    use crate::render::{Style, TokensDocument, log, plan, report_text, token_table};

    const HOSTILE: &str = "\u{1b}]0;pwned\u{7}\u{1b}[2J\u{1b}[32m\u{202e}\nerror: forged";

    /// Neither style lets anything through that does not come from us, and nothing begins a line that is not ours.
    fn is_tame(shown: impl Fn(Style) -> String, lines: usize) {
        for style in [Style::PLAIN, Style::COLOURED] {
            let shown = shown(style);
            for foreign in ["\u{1b}]", "\u{7}", "\u{1b}[2J", "\u{1b}[32m\u{202e}", "\u{202e}", "\nerror: forged"] {
                assert!(!shown.contains(foreign), "{foreign:?} in {shown:?}");
            }
            assert!(shown.contains(r"\u{1b}]0;pwned\u{7}\u{1b}[2J"), "{shown}");
            assert_eq!(shown.lines().count(), lines, "{shown}");
        }
    }

    #[test]
    fn untrusted_text_is_sanitized() {
        let finding = Diagnostic::new("some.code", HOSTILE).with_help(HOSTILE);
        is_tame(|style| report_text(&Report::one(Exit::Failed, finding.clone()), style), 4);
        let record = serde_json::json!({ "id": "t1", "project": null, "scope": "read", "note": HOSTILE, "created_at": 0 });
        let record = serde_json::from_value(record).unwrap();
        let tokens = vec![crate::render::TokenEntry::new(&record, Timestamp(0))];
        let document = TokensDocument { format: "convexinfra.tokens/1", tokens };
        is_tame(|style| token_table(&document, style), 2);
        let entry = crate::api::HistoryEntry {
            sequence: 1,
            at: Timestamp(0),
            kind: "origin_set".to_owned(),
            backend: Some(HOSTILE.to_owned()),
            detail: HOSTILE.to_owned(),
            actor: None,
            plan: None,
            hash: None,
        };
        let entries = || vec![crate::render::LogEntry::new(&entry)];
        let format = "convexinfra.log/1";
        is_tame(|_| log(&crate::render::LogDocument { format, project: None, entries: entries() }), 1);
    }

    #[test]
    fn values_of_a_plan_stay_in_their_lines() {
        let step = |change: serde_json::Value| {
            serde_json::json!({
                "id": "update:backend.dev", "address": "backend.dev", "action": "update", "reason": "the manifest changed",
                "changes": [change], "after": [], "destroys_data": false,
            })
        };
        let document = |change: serde_json::Value, lints: serde_json::Value| -> crate::plan::Plan {
            let digest = crate::model::Digest::of(b"");
            let summary = serde_json::json!({ "create": 0, "update": 1, "move": 0, "destroy": 0, "write": 0 });
            serde_json::from_value(serde_json::json!({
                "format": "convexinfra.plan/1", "project": "gremlin", "control_plane": "embedded", "base": 1, "manifest": digest,
                "digest": digest, "summary": summary, "steps": [step(change)], "drift": [], "refusals": [], "lints": lints,
            }))
            .unwrap()
        };
        let region = HOSTILE.replace('\n', "");
        let change = serde_json::json!({ "path": "region", "before": region, "after": "iad", "effect": "record" });
        let lint = serde_json::json!([{ "code": "plan.other_repository", "message": region }]);
        let hostile = document(change, lint);
        is_tame(|style| plan(&hostile, style), 9);
        is_tame(|_| crate::render::markdown(&hostile), 13);
    }

    #[test]
    fn terminal_control_sequences_are_escaped() {
        assert_eq!(sanitize_line("\u{1b}]0;pwned\u{7}\u{1b}[2J"), r"\u{1b}]0;pwned\u{7}\u{1b}[2J");
        assert_eq!(sanitize_line("iad\nlhr\u{202e}"), r"iad\u{a}lhr\u{202e}");
        assert_eq!(sanitize_line("\u{9b}2J"), r"\u{9b}2J");
        assert!(matches!(sanitize_line("Zürich → 東京 👩‍🚀"), Cow::Borrowed(_)));
        assert_eq!(sanitize_block("first\nsecond\u{1b}", 2), "first\n  second\\u{1b}");
    }

    #[test]
    fn of_everything_together_lines_and_our_own_colours_stay() {
        let text = "\u{1b}[1;31merror:\u{1b}[0m a\tb\r\n\u{1b}[2J\r";
        assert_eq!(sanitize_terminal(text, true), "\u{1b}[1;31merror:\u{1b}[0m a\tb\r\n\\u{1b}[2J\\u{d}");
        assert_eq!(sanitize_terminal(text, false), "\\u{1b}[1;31merror:\\u{1b}[0m a\tb\r\n\\u{1b}[2J\\u{d}");
        assert_eq!(sanitize_terminal("\u{1b}[31", true), r"\u{1b}[31");
        let document = serde_json::to_string("a\u{9b}31m\u{202e}\u{7f}\u{1b}é").unwrap();
        assert_eq!(sanitize_json(&document), "\"a\\u009b31m\\u202e\\u007f\\u001bé\"");
    }

    proptest! {
        #[test]
        fn nothing_is_left_that_a_screen_obeys(text in "(?s).{0,60}") {
            prop_assert!(!sanitize_line(&text).chars().any(is_control));
            prop_assert!(!sanitize_terminal(&text, false).replace("\r\n", "").chars().any(|left| is_control(left) && left != '\n' && left != '\t'));
            let title = sanitize_terminal(&text, true).contains("\u{1b}]");
            prop_assert!(!title);
        }
    }
}
