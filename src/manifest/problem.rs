//! One mistake in a manifest, as data, and where it stands for people.
//!
//! Must not do: printing, colours, reading files. Rendering belongs to `render`.

use std::ops::Range;

use crate::model::{Diagnostic, Edit, Span};

/// How much a problem weighs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Severity {
    /// The manifest cannot be used.
    Error,
    /// The manifest can be used, and this is worth a thought.
    Warning,
}

/// One thing that is wrong with a manifest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// How much it weighs.
    pub severity: Severity,
    /// A stable name, such as `manifest.unknown_engine`.
    pub code: &'static str,
    /// What is wrong and why that matters. It never contains what may be a secret.
    pub message: String,
    /// What to do about it.
    pub help: Option<String>,
    /// The bytes that it is about, on character boundaries of the manifest.
    pub span: Range<usize>,
    /// A few words to put beside the span.
    pub label: Option<String>,
    /// The repair, when one edit does it.
    pub edit: Option<Edit>,
    /// What could stand there instead.
    pub allowed: Vec<String>,
    /// Whether the span holds what may be a secret, so that its text must not be shown.
    pub conceal: bool,
}

impl Problem {
    /// An error with a code, a place and a message, to be filled in further.
    pub(super) fn new(code: &'static str, span: &Range<usize>, message: impl Into<String>) -> Self {
        Self {
            severity: Severity::Error,
            code,
            message: message.into(),
            help: None,
            span: span.clone(),
            label: None,
            edit: None,
            allowed: Vec::new(),
            conceal: false,
        }
    }

    pub(super) fn warning(mut self) -> Self {
        self.severity = Severity::Warning;
        self
    }

    pub(super) fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }

    pub(super) fn label(mut self, label: impl Into<String>) -> Self {
        self.label = Some(label.into());
        self
    }

    pub(super) fn concealed(mut self) -> Self {
        self.conceal = true;
        self
    }

    pub(super) fn allow<T: Into<String>>(mut self, allowed: impl IntoIterator<Item = T>) -> Self {
        self.allowed = allowed.into_iter().map(Into::into).collect();
        self
    }

    /// The repair: put `replacement` where `range` is.
    pub(super) fn edit(mut self, range: &Range<usize>, replacement: impl Into<String>) -> Self {
        self.edit = Some(Edit { start: range.start, end: range.end, replacement: replacement.into() });
        self
    }

    /// What the outside gets to see; `positions` belongs to the text that the problem was found in.
    pub fn finding(&self, file: &str, positions: &mut Positions<'_>) -> Diagnostic {
        let (line, column) = positions.of(self.span.start);
        Diagnostic {
            code: self.code.to_owned(),
            message: self.message.clone(),
            help: self.help.clone(),
            allowed: self.allowed.clone(),
            span: Some(Span { file: file.to_owned(), start: self.span.start, end: self.span.end, line, column }),
            edit: self.edit.clone(),
        }
    }
}

/// Every problem as a finding about `file`, in the order given.
pub fn findings(problems: &[Problem], text: &str, file: &str) -> Vec<Diagnostic> {
    let mut positions = Positions::new(text);
    problems.iter().map(|problem| problem.finding(file, &mut positions)).collect()
}

/// Turns byte offsets into lines and columns. Ascending offsets cost one pass over the text altogether.
#[derive(Debug)]
pub struct Positions<'t> {
    text: &'t str,
    byte: usize,
    line: usize,
    column: usize,
}

impl<'t> Positions<'t> {
    /// Positions inside `text`.
    pub fn new(text: &'t str) -> Self {
        Self { text, byte: Self::first(text), line: 1, column: 1 }
    }

    /// A byte order mark is no character that anybody sees.
    fn first(text: &str) -> usize {
        if text.starts_with('\u{feff}') { 3 } else { 0 }
    }

    /// Line and column, both from 1, the column in characters.
    pub fn of(&mut self, byte: usize) -> (usize, usize) {
        if byte < self.byte {
            (self.byte, self.line, self.column) = (Self::first(self.text), 1, 1);
        }
        let rest = self.text.get(self.byte..).unwrap_or_default();
        for (offset, character) in rest.char_indices() {
            if self.byte + offset >= byte {
                self.byte += offset;
                return (self.line, self.column);
            }
            if character == '\n' {
                self.line += 1;
                self.column = 1;
            } else {
                self.column += 1;
            }
        }
        self.byte = self.text.len();
        (self.line, self.column)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_count_characters_and_may_go_back() {
        let text = "\u{feff}a = \"é\"\nbé = 1\n";
        let mut positions = Positions::new(text);
        let of = |needle: &str, positions: &mut Positions<'_>| positions.of(text.find(needle).unwrap());
        assert_eq!(of("a", &mut positions), (1, 1));
        assert_eq!(of("= 1", &mut positions), (2, 4));
        assert_eq!(of("\"\n", &mut positions), (1, 7));
        assert_eq!(positions.of(text.len()), (3, 1));
        assert_eq!(positions.of(text.len() + 9), (3, 1));
    }
}
