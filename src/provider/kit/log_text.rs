//! Text of backends' logs as it is shown: without terminal sequences, and the last lines of it.

use std::borrow::Cow;

/// Removes terminal control sequences (ECMA-48: CSI, OSC and two-byte escapes) from a text. What is left over of a
/// sequence that was cut off at the end goes as well.
pub fn strip_terminal_sequences(text: &str) -> Cow<'_, str> {
    const ESCAPE: char = '\u{1b}';
    if !text.contains([ESCAPE, '\u{9b}']) {
        return Cow::Borrowed(text);
    }
    let mut plain = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find([ESCAPE, '\u{9b}']) {
        plain.push_str(&rest[..at]);
        rest = &rest[at..];
        rest = &rest[sequence_length(rest)..];
    }
    plain.push_str(rest);
    Cow::Owned(plain)
}

/// Returns how many bytes the sequence takes that a text begins with.
fn sequence_length(text: &str) -> usize {
    let mut characters = text.char_indices();
    let introducer = match characters.next() {
        Some((_, '\u{9b}')) => '[',
        _ => match characters.next() {
            Some((_, second)) => second,
            None => return text.len(),
        },
    };
    let end = |at: usize, character: char| at + character.len_utf8();
    match introducer {
        // Parameters and intermediates, then one final byte.
        '[' => {
            for (at, character) in characters {
                match character {
                    ' '..='?' => {}
                    '@'..='~' => return end(at, character),
                    // No sequence after all: what follows is text.
                    _ => return at,
                }
            }
            text.len()
        }
        // A string that BEL or ST ends; one that never ends stays within its line.
        ']' | 'P' | '^' | '_' => {
            let mut escaped = false;
            for (at, character) in characters {
                match character {
                    '\u{7}' => return end(at, character),
                    '\\' if escaped => return end(at, character),
                    '\n' => return at,
                    _ => escaped = character == '\u{1b}',
                }
            }
            text.len()
        }
        // Intermediates, then one final byte, as in `ESC ( B`.
        ' '..='/' => match characters.find(|(_, character)| !matches!(character, ' '..='/')) {
            Some((at, '\n')) => at,
            Some((at, character)) => end(at, character),
            None => text.len(),
        },
        '\n' => 1,
        other => 1 + other.len_utf8(),
    }
}

/// Returns the last lines of a text, at most so many.
pub fn last_lines(text: &str, count: usize) -> Vec<String> {
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(count)..].iter().map(|line| (*line).to_owned()).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn terminal_sequences_go_and_text_stays() {
        for (text, plain) in [
            ("plain é\n", "plain é\n"),
            ("\u{1b}[2m2026\u{1b}[0m \u{1b}[32m INFO\u{1b}[0m convex: up\n", "2026  INFO convex: up\n"),
            ("\u{1b}[1;38;5;9merror\u{1b}[m", "error"),
            ("a\u{9b}31mb", "ab"),
            ("\u{1b}]0;title\u{7}text", "text"),
            ("\u{1b}]8;;http://x\u{1b}\\link", "link"),
            ("\u{1b}]never ends\nnext", "\nnext"),
            ("\u{1b}(Bx", "x"),
            ("cut \u{1b}[3", "cut "),
            ("cut \u{1b}", "cut "),
            ("\u{1b}[é", "é"),
            ("\u{1b}\nnext", "\nnext"),
        ] {
            assert_eq!(strip_terminal_sequences(text), plain, "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn nothing_is_left_of_any_sequence(text in "(\u{1b}|\u{9b}|\\[|\\]|[0-9;m\u{7}\\\\\né]){0,40}") {
            let plain = strip_terminal_sequences(&text);
            let is_left = plain.contains(['\u{1b}', '\u{9b}']);
            prop_assert!(!is_left, "something is left");
            prop_assert_eq!(strip_terminal_sequences(&plain).into_owned(), plain.to_string());
        }
    }

    #[test]
    fn the_last_lines_are_the_last_ones() {
        assert_eq!(last_lines("a\nb\nc\n", 2), ["b", "c"]);
        assert_eq!(last_lines("a", 2), ["a"]);
        assert!(last_lines("", 2).is_empty());
    }
}
