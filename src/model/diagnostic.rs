//! Diagnostics: the one shape for what is wrong and for what is worth a look, wherever it was found.
//!
//! A manifest's mistakes, a plan's refusals and lints, an operation's errors and a command's failures are all diagnostics.

use std::ops::Range;

use serde::{Deserialize, Serialize};

use super::address::Address;
use super::exit::Exit;

/// A place in a text: bytes for programs, line and column (from 1, in characters) for people.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Span {
    /// The file, as it was named.
    pub file: String,
    /// First byte.
    pub start: usize,
    /// The byte after the last.
    pub end: usize,
    /// The line of the first byte, from 1.
    pub line: usize,
    /// The column of the first byte in characters, from 1.
    pub column: usize,
    /// A few words to draw beside the place.
    #[serde(skip)]
    pub label: Option<String>,
    /// Whether the text there may be a secret, so that it must not be shown.
    #[serde(skip)]
    pub sensitive: bool,
}

impl Span {
    /// Returns the place of these bytes in a text that is not named yet.
    pub fn of(bytes: &Range<usize>) -> Self {
        Self { start: bytes.start, end: bytes.end, ..Self::default() }
    }

    /// Returns the bytes.
    pub fn bytes(&self) -> Range<usize> {
        self.start..self.end
    }
}

/// A repair as data: replace these bytes by this text.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Edit {
    /// First byte to replace.
    pub start: usize,
    /// The byte after the last one to replace; equal to `start` for an insertion.
    pub end: usize,
    /// What to put there.
    pub replacement: String,
}

/// How much a diagnostic weighs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// An obstacle.
    #[default]
    Error,
    /// It is worth a look and blocks nothing.
    Warning,
}

impl Severity {
    fn is_error(&self) -> bool {
        *self == Self::Error
    }
}

/// One thing that is wrong, or worth a look.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Diagnostic {
    /// How much it weighs; an error when left out.
    #[serde(skip_serializing_if = "Severity::is_error", default)]
    pub severity: Severity,
    /// A stable name for the situation, such as `manifest.unknown_engine`.
    pub code: String,
    /// What it is about, where it is about one thing of a plan.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub address: Option<Address>,
    /// What happened and why it matters. It never contains what may be a secret.
    pub message: String,
    /// What to do about it.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub help: Option<String>,
    /// What could stand there instead, when that is a list.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub allowed: Vec<String>,
    /// Where, when it is about a text.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub span: Option<Span>,
    /// The other places that it is about.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub related: Vec<Span>,
    /// The repair, when one edit of the text does it.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub edit: Option<Edit>,
}

impl Diagnostic {
    /// Creates an error with a code and a message, to be filled in further.
    pub fn new(code: impl Into<String>, message: impl Into<String>) -> Self {
        Self {
            severity: Severity::Error,
            code: code.into(),
            address: None,
            message: message.into(),
            help: None,
            allowed: Vec::new(),
            span: None,
            related: Vec::new(),
            edit: None,
        }
    }

    /// Creates a warning with a code and a message, to be filled in further.
    pub fn warning(code: impl Into<String>, message: impl Into<String>) -> Self {
        Self::new(code, message).as_warning()
    }

    /// Creates an error about these bytes of a text.
    pub fn at(code: impl Into<String>, bytes: &Range<usize>, message: impl Into<String>) -> Self {
        Self { span: Some(Span::of(bytes)), ..Self::new(code, message) }
    }

    /// Makes it a warning.
    #[must_use]
    pub fn as_warning(mut self) -> Self {
        self.severity = Severity::Warning;
        self
    }

    /// Adds what it is about.
    #[must_use]
    pub fn about(mut self, address: Address) -> Self {
        self.address = Some(address);
        self
    }

    /// Adds what to do about it.
    #[must_use]
    pub fn with_help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }

    /// Adds a few words to draw beside its place.
    #[must_use]
    pub fn with_label(mut self, label: impl Into<String>) -> Self {
        if let Some(span) = &mut self.span {
            span.label = Some(label.into());
        }
        self
    }

    /// Adds another place that it is about.
    #[must_use]
    pub fn with_related(mut self, bytes: &Range<usize>, label: impl Into<String>) -> Self {
        self.related.push(Span { label: Some(label.into()), ..Span::of(bytes) });
        self
    }

    /// Marks its place as one that may hold a secret.
    #[must_use]
    pub fn sensitive(mut self) -> Self {
        if let Some(span) = &mut self.span {
            span.sensitive = true;
        }
        self
    }

    /// Adds what could stand there instead.
    #[must_use]
    pub fn with_allowed<T: Into<String>>(mut self, allowed: impl IntoIterator<Item = T>) -> Self {
        self.allowed = allowed.into_iter().map(Into::into).collect();
        self
    }

    /// Adds the repair: put `replacement` where `bytes` are.
    #[must_use]
    pub fn with_edit(mut self, bytes: &Range<usize>, replacement: impl Into<String>) -> Self {
        self.edit = Some(Edit { start: bytes.start, end: bytes.end, replacement: replacement.into() });
        self
    }

    /// Returns the bytes that it is about; none at the start where it is about no text.
    pub fn bytes(&self) -> Range<usize> {
        self.span.as_ref().map_or(0..0, Span::bytes)
    }

    /// Returns the exit code of a command for which this alone went wrong.
    pub fn exit(&self) -> Exit {
        match self.code.as_str() {
            "provider.unreachable" | "fly.unreachable" | "local.no_authorities" => Exit::Unreachable,
            "provider.downgrade" => Exit::Refused,
            "fly.token" | "fly.forbidden" => Exit::NotAuthorised,
            code if code.starts_with("auth.") => Exit::NotAuthorised,
            _ => Exit::Failed,
        }
    }

    /// Returns the exit code of a command that could not observe the actual state, for this reason.
    pub fn exit_unobserved(&self) -> Exit {
        if self.exit() == Exit::NotAuthorised { Exit::NotAuthorised } else { Exit::Unreachable }
    }

    /// Returns the exit code of a command for which all of these went wrong: theirs where they agree.
    pub fn exit_of<'a>(diagnostics: impl IntoIterator<Item = &'a Self>) -> Exit {
        let mut exits = diagnostics.into_iter().map(Self::exit);
        let first = exits.next().unwrap_or(Exit::Failed);
        if exits.all(|exit| exit == first) { first } else { Exit::Failed }
    }
}

/// What is said where this machine cannot check the certificate of any HTTPS server. That is a fault of this machine, which no
/// retry repairs.
pub const NO_AUTHORITIES: &str = "this machine has no certificates of authorities, without which no HTTPS server can be trusted: \
                                  install the package `ca-certificates`, or name a file that has them in `SSL_CERT_FILE`";

/// The failure of a command: everything that is wrong, and the exit code that follows.
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use = "an unread report hides a failure"]
pub struct Report {
    /// The exit code.
    pub exit: Exit,
    /// At least one diagnostic.
    pub errors: Vec<Diagnostic>,
}

impl Report {
    /// Creates a report of one diagnostic.
    pub fn one(exit: Exit, error: Diagnostic) -> Self {
        Self { exit, errors: vec![error] }
    }
}

/// An error with everything below it, in one line. What a text says already is not said again.
pub fn error_chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let words = cause.to_string();
        if !text.contains(&words) {
            text = format!("{text}: {words}");
        }
        source = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_prints_its_causes_once_each() {
        #[derive(Debug, thiserror::Error)]
        #[error("{words}")]
        struct Link {
            words: &'static str,
            source: Option<Box<Link>>,
        }
        let link = |words, source: Option<Link>| Link { words, source: source.map(Box::new) };
        let refused = || link("connection refused", None);
        assert_eq!(error_chain(&refused()), "connection refused");
        let deep = link("no answer", Some(link("connect", Some(refused()))));
        assert_eq!(error_chain(&deep), "no answer: connect: connection refused");
        let repeated = link("no answer", Some(link("connect: connection refused", Some(refused()))));
        assert_eq!(error_chain(&repeated), "no answer: connect: connection refused");
    }

    #[test]
    fn the_code_decides_the_exit_code() {
        let exit = |codes: &[&str]| {
            let findings: Vec<Diagnostic> = codes.iter().map(|code| Diagnostic::new(*code, "…")).collect();
            Diagnostic::exit_of(&findings)
        };
        for code in ["provider.unreachable", "fly.unreachable"] {
            assert_eq!(exit(&[code]), Exit::Unreachable, "{code}");
        }
        for code in ["fly.token", "fly.forbidden", "auth.scope", "auth.token_expired"] {
            assert_eq!(exit(&[code]), Exit::NotAuthorised, "{code}");
        }
        // A host of Fly's that is down is no way to Fly that is closed: there is nothing to try again soon.
        for code in ["fly.host_unreachable", "fly.full", "provider.unsupported", "authority"] {
            assert_eq!(exit(&[code]), Exit::Failed, "{code}");
        }
        assert_eq!(exit(&["fly.unreachable", "provider.unreachable"]), Exit::Unreachable);
        assert_eq!(exit(&["fly.unreachable", "fly.token"]), Exit::Failed);
        assert_eq!(exit(&[]), Exit::Failed);
        let unseen = |code: &str| Diagnostic::new(code, "…").exit_unobserved();
        assert_eq!((unseen("fly.token"), unseen("fly.unreadable")), (Exit::NotAuthorised, Exit::Unreachable));
    }
}
