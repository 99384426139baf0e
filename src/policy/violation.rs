//! The rule that a specification breaks.

use std::ops::Range;

use crate::model::Diagnostic;

/// Says which rule a specification breaks, and how to repair that.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Violation {
    /// The code of the problem, such as `manifest.bad_origin`.
    pub(crate) code: &'static str,
    /// What is wrong.
    pub(crate) message: String,
    /// What to write instead.
    pub(crate) help: String,
}

impl Violation {
    pub(super) fn new(code: &'static str, message: String, help: impl Into<String>) -> Self {
        Self { code, message, help: help.into() }
    }

    /// Returns it at its place in a manifest.
    pub(crate) fn at(self, bytes: &Range<usize>) -> Diagnostic {
        Diagnostic::at(self.code, bytes, self.message).with_help(self.help)
    }
}
