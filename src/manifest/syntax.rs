//! From text to a TOML tree with every mistake of syntax, said once and in words that help.

use std::ops::{Range, RangeInclusive};

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::model::Diagnostic;

/// A tree, as far as it could be recovered, and what was wrong.
pub(super) struct Syntax<'t> {
    pub(super) tree: DeTable<'t>,
    pub(super) problems: Vec<Diagnostic>,
    /// Where everything after it is unreliable, because a bracket was never closed.
    pub(super) reliable_until: usize,
}

/// Reads a text.
pub(super) fn read(text: &str) -> Syntax<'_> {
    let (tree, errors) = DeTable::parse_recoverable(text);
    let tree = tree.into_inner();
    let mut mistakes: Vec<(Range<usize>, String)> = errors
        .into_iter()
        .map(|error| (on_characters(text, error.span().unwrap_or(0..0)), error.message().to_owned()))
        .collect();
    mistakes.sort_by_key(|(span, _)| (span.start, span.end));
    let mut problems = Vec::new();
    let mut reliable_until = text.len();
    if mistakes
        .iter()
        .any(|(_, message)| message.starts_with("unclosed array,") || message.starts_with("unclosed inline table"))
        && let Some(open) = first_unclosed(text, &tree)
    {
        mistakes.retain(|(span, _)| span.start < open);
        reliable_until = open;
        problems.push(unclosed(text, open));
    }
    // One cause, one message: the first mistake of a line, and not what a repeated header drags along.
    let lines = Lines::new(text);
    let mut last_line = usize::MAX;
    let mut repeated_until = 0;
    for (span, message) in mistakes {
        let line = lines.start(span.start);
        let duplicate = message == "duplicate key" || message.contains("with a dotted key");
        if line == last_line || (duplicate && span.start < repeated_until) {
            continue;
        }
        last_line = line;
        if duplicate && text[line..].trim_start().starts_with('[') {
            repeated_until = text[span.end..].find("\n[").map_or(text.len(), |offset| span.end + offset);
        }
        problems.push(problem(text, &span, &message));
    }
    Syntax { tree, problems, reliable_until }
}

/// Where the lines of a text start.
pub(super) struct Lines(Vec<usize>);

impl Lines {
    pub(super) fn new(text: &str) -> Self {
        Self(std::iter::once(0).chain(text.match_indices('\n').map(|(newline, _)| newline + 1)).collect())
    }

    /// The number of the line that a byte is in.
    fn number(&self, byte: usize) -> usize {
        self.0.partition_point(|start| *start <= byte).saturating_sub(1)
    }

    /// The start of the line that a byte is in.
    fn start(&self, byte: usize) -> usize {
        self.0.get(self.number(byte)).copied().unwrap_or_default()
    }

    /// The numbers of the lines that a span touches.
    pub(super) fn of(&self, span: &Range<usize>) -> RangeInclusive<usize> {
        self.number(span.start)..=self.number(span.end.max(span.start))
    }
}

/// The nearest range whose ends are character boundaries.
fn on_characters(text: &str, span: Range<usize>) -> Range<usize> {
    let mut start = span.start.min(text.len());
    while !text.is_char_boundary(start) {
        start -= 1;
    }
    let mut end = span.end.clamp(start, text.len());
    while !text.is_char_boundary(end) {
        end += 1;
    }
    start..end
}

/// The first array or inline table without its closing bracket.
fn first_unclosed(text: &str, table: &DeTable<'_>) -> Option<usize> {
    let mut first: Option<usize> = None;
    let mut waiting: Vec<&Spanned<DeValue<'_>>> = table.values().collect();
    while let Some(value) = waiting.pop() {
        let span = value.span();
        let written = text.get(span.clone()).unwrap_or_default();
        let before = waiting.len();
        let (open, close) = match value.get_ref() {
            DeValue::Array(array) => {
                waiting.extend(array.iter());
                (written.starts_with('[') && !written.starts_with("[["), ']')
            }
            DeValue::Table(table) => {
                waiting.extend(table.values());
                (written.starts_with('{'), '}')
            }
            _ => (false, ' '),
        };
        // A bracket at the end may be that of the last element.
        let closed =
            written.len() > 1 && written.ends_with(close) && waiting[before..].iter().all(|inner| inner.span().end < span.end);
        if open && !closed {
            first = Some(first.map_or(span.start, |least: usize| least.min(span.start)));
        }
    }
    first
}

fn unclosed(text: &str, open: usize) -> Diagnostic {
    let (opened, closing) = if text[open..].starts_with('[') { ('[', ']') } else { ('{', '}') };
    Diagnostic::at(
        "manifest.syntax",
        &(open..open + 1),
        format!("this `{opened}` is never closed, so what follows cannot be read"),
    )
    .with_help(format!("put the missing `{closing}` where the value ends"))
    .with_label(format!("no `{closing}` for this one"))
    .with_allowed([closing.to_string()])
}

/// Returns the diagnostic for a mistake of syntax, in words of our own where they help more.
fn problem(text: &str, span: &Range<usize>, message: &str) -> Diagnostic {
    let written = &text[span.clone()];
    let (what, expected) = message.split_once(", expected ").unwrap_or((message, ""));
    let found = |message: &str| Diagnostic::at("manifest.syntax", span, message);
    match what {
        "duplicate key" => {
            Diagnostic::at("manifest.duplicate_key", span, format!("{} is there twice", super::suggest::quoted(written)))
                .with_help("keep one of the two; tables of the same name are written as one")
                .with_label("the second time")
        }
        _ if what.starts_with("cannot extend value of type") => Diagnostic::at(
            "manifest.duplicate_key",
            span,
            format!("{} already has a value, so it cannot be a table as well", super::suggest::quoted(written)),
        )
        .with_help("keep one of the two"),
        "string values must be quoted" if written.is_empty() => {
            found("a value is missing after the `=`").with_help("write the value, or remove the key")
        }
        "string values must be quoted" => missing_quotes(span, written),
        "invalid unquoted key" | "key with no value" if colon(text, span.start).is_some() => colon_for_equals(text, span),
        "unexpected key or value" if text[span.start..].starts_with(',') && text[..span.start].trim_end().ends_with('=') => {
            found("a value is missing after the `=`").with_help("write the value, or remove the key")
        }
        "unexpected key or value" if text[span.start..].starts_with(',') => comma_after_value(text, span.start),
        "invalid boolean" => {
            let problem = found("`true` and `false` are written in small letters").with_allowed(["true", "false"]);
            match written.to_ascii_lowercase().as_str() {
                word @ ("true" | "false") => problem.with_edit(span, word),
                _ => problem,
            }
        }
        "invalid basic string"
        | "invalid literal string"
        | "invalid multi-line basic string"
        | "invalid multi-line literal string"
            if expected.contains('"') || expected.contains('\'') =>
        {
            let quote = if expected.contains('"') { '"' } else { '\'' };
            found("this text has no closing quote")
                .with_help(format!("put `{quote}` where it ends"))
                .with_label("expected a quote here")
        }
        _ if what.starts_with("cannot recurse") || what == "recursion limit" => {
            found("this is nested too deeply; a manifest needs four levels").with_help("flatten it")
        }
        _ => {
            let what = what.replace("invalid ", "not a proper ");
            let problem = found(&format!("this is not TOML: {what}"));
            if expected.is_empty() || expected == "nothing" {
                problem
            } else {
                problem.with_help(format!("expected here: {expected}"))
            }
        }
    }
}

fn missing_quotes(span: &Range<usize>, written: &str) -> Diagnostic {
    let problem = Diagnostic::at("manifest.syntax", span, "a text needs quotes")
        .with_label("no quotes")
        .with_help("put `\"` on both sides");
    let bare = written.trim();
    if bare.contains(['"', '\\', '\'']) || bare.chars().any(char::is_control) {
        return problem;
    }
    problem.with_edit(span, format!("\"{bare}\""))
}

fn colon_for_equals(text: &str, span: &Range<usize>) -> Diagnostic {
    let colon = colon(text, span.start).unwrap_or_else(|| span.clone());
    let problem = Diagnostic::at("manifest.syntax", &colon, "a key and its value are joined by `=`, not by `:`")
        .with_help("write `key = value`");
    match joined(text, &colon) {
        Some((range, replacement)) => problem.with_edit(&range, replacement),
        None => problem,
    }
}

fn comma_after_value(text: &str, start: usize) -> Diagnostic {
    let comma = start..start + 1;
    let problem =
        Diagnostic::at("manifest.syntax", &comma, "a line of a table ends without a comma").with_help("remove the comma");
    let ends = text[comma.end..].split('\n').next().is_some_and(|rest| rest.trim().is_empty() || rest.trim().starts_with('#'));
    if ends {
        problem.with_edit(&comma, "")
    } else {
        problem.with_help("write one key on each line, or all of them between `{` and `}`")
    }
}

/// The colon behind the key of a line.
fn colon(text: &str, byte: usize) -> Option<Range<usize>> {
    let start = text[..byte].rfind('\n').map_or(0, |newline| newline + 1);
    let line = text[start..].split('\n').next()?;
    let is_key = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | ' ' | '"');
    let (key, _) = line.split_once(':').filter(|(key, _)| !key.trim().is_empty() && key.chars().all(is_key))?;
    Some(start + key.len()..start + key.len() + 1)
}

/// `key: value` as `key = value`, when the rest of the line is a value, or a word that lacks its quotes.
fn joined(text: &str, colon: &Range<usize>) -> Option<(Range<usize>, String)> {
    let rest = text[colon.end..].split(['\n', '#']).next()?.trim();
    if !rest.is_empty() && DeTable::parse(&format!("x = {rest}")).is_ok() {
        return Some((colon.clone(), " =".to_owned()));
    }
    let is_word = !rest.is_empty() && rest.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | '/'));
    let start = colon.end + text[colon.end..].find(rest)?;
    is_word.then(|| (colon.start..start + rest.len(), format!(" = \"{rest}\"")))
}
