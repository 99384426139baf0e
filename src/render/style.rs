//! Roles that text can have, and how they look. Everything reads as well without them.
//!
//! Must not do: say with colour what the words do not say.

/// Whether and how text is decorated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Style {
    coloured: bool,
}

impl Style {
    /// Text as it is.
    pub const PLAIN: Self = Self { coloured: false };
    /// Text with colours.
    pub const COLOURED: Self = Self { coloured: true };

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
    pub fn quiet(self, text: &str) -> String {
        self.paint("2", text)
    }

    /// Something that matters more.
    pub fn strong(self, text: &str) -> String {
        self.paint("1", text)
    }
}
