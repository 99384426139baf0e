//! Roles that text can have, and how they look. Everything reads as well without them.

/// Whether and how text is decorated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Style {
    coloured: bool,
    /// How wide the screen is; none where there is no screen, and lines stay whole.
    columns: Option<usize>,
}

impl Style {
    /// Text as it is.
    pub const PLAIN: Self = Self { coloured: false, columns: None };
    /// Text with colours.
    pub const COLOURED: Self = Self { coloured: true, columns: None };

    /// The same for a screen of this width.
    #[must_use]
    pub fn with_columns(self, columns: Option<usize>) -> Self {
        Self { columns, ..self }
    }

    /// Breaks sentences between words, where there is a screen; what follows the first line is indented by `indent` columns, and
    /// at least as far as the line itself. A later line that starts with four blanks is a command to copy and stays whole.
    pub fn wrap(self, text: &str, indent: usize) -> String {
        let Some(columns) = self.columns else { return text.to_owned() };
        let lines = text.split('\n').enumerate().map(|(number, line)| {
            let blanks = line.len() - line.trim_start_matches(' ').len();
            let is_command = number > 0 && blanks >= 4;
            if is_command || textwrap::core::display_width(line) <= columns {
                return line.to_owned();
            }
            let indent = " ".repeat(indent.max(blanks));
            let options = textwrap::Options::new(columns).subsequent_indent(&indent).break_words(false);
            textwrap::fill(line, &options)
        });
        lines.collect::<Vec<_>>().join("\n")
    }

    /// Whether colours are used.
    pub fn is_coloured(self) -> bool {
        self.coloured
    }

    fn paint(self, code: &str, text: &str) -> String {
        if self.coloured { format!("\u{1b}[{code}m{text}\u{1b}[0m") } else { text.to_owned() }
    }

    /// Something that comes.
    pub fn added(self, text: &str) -> String {
        self.paint("32", text)
    }

    /// Something that goes.
    pub fn removed(self, text: &str) -> String {
        self.paint("31", text)
    }

    /// Something that changes.
    pub fn changed(self, text: &str) -> String {
        self.paint("33", text)
    }

    /// Something that went wrong.
    pub fn error(self, text: &str) -> String {
        self.paint("1;31", text)
    }

    /// Something worth a look.
    pub fn warning(self, text: &str) -> String {
        self.paint("1;33", text)
    }

    /// Something that matters less.
    pub fn dim(self, text: &str) -> String {
        self.paint("2", text)
    }

    /// Something that matters more.
    pub fn bold(self, text: &str) -> String {
        self.paint("1", text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sentences_break_between_words_and_commands_stay_whole() {
        let screen = Style::PLAIN.with_columns(Some(20));
        let text = "  one two three four five\n      convexinfra apply --allow-destroy dev";
        assert_eq!(screen.wrap(text, 4), "  one two three four\n    five\n      convexinfra apply --allow-destroy dev");
        assert_eq!(Style::PLAIN.wrap(text, 4), text);
        assert_eq!(
            screen.wrap("      phases  one two", 10),
            "      phases  one\n          two",
            "what comes first is no command"
        );
        assert_eq!(screen.wrap("one\n  two three four five", 0), "one\n  two three four\n  five");
        let coloured = Style::COLOURED.with_columns(Some(20));
        assert_eq!(coloured.wrap(&coloured.dim("one two three four"), 2), coloured.dim("one two three four"));
    }
}
