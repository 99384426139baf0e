//! Where diagnostics stand in a text, for people.

use crate::model::{Diagnostic, Span};

/// Returns the diagnostics with the name of their file and with lines and columns, in the order given.
pub fn located(diagnostics: &[Diagnostic], text: &str, file: &str) -> Vec<Diagnostic> {
    let mut positions = Positions::new(text);
    let mut located = diagnostics.to_vec();
    for diagnostic in &mut located {
        for span in diagnostic.span.iter_mut().chain(&mut diagnostic.related) {
            let (line, column) = positions.of(span.start);
            *span = Span { file: file.to_owned(), line, column, ..span.clone() };
        }
    }
    located
}

/// Turns byte offsets into lines and columns. Ascending offsets cost one pass over the text altogether.
#[derive(Debug)]
struct Positions<'t> {
    text: &'t str,
    byte: usize,
    line: usize,
    column: usize,
}

impl<'t> Positions<'t> {
    /// Creates the positions inside `text`.
    fn new(text: &'t str) -> Self {
        Self { text, byte: Self::first(text), line: 1, column: 1 }
    }

    /// A byte order mark is not visible.
    fn first(text: &str) -> usize {
        if text.starts_with('\u{feff}') { 3 } else { 0 }
    }

    /// Returns line and column, both from 1, the column in characters.
    fn of(&mut self, byte: usize) -> (usize, usize) {
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
