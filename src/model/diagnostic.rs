//! What went wrong, as data: one shape for the manifest's problems and for every other error.
//!
//! Must not do: print, or know a terminal.

use serde::{Deserialize, Serialize};

use super::exit::Exit;

/// A place in a text: bytes for programs, line and column (from 1, in characters) for people.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, schemars::JsonSchema)]
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
}

/// A repair as data: replace these bytes by this text.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Edit {
    /// First byte to replace.
    pub start: usize,
    /// The byte after the last one to replace; equal to `start` for an insertion.
    pub end: usize,
    /// What to put there.
    pub replacement: String,
}

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Diagnostic {
    /// A stable name for the situation, such as `manifest.unknown_engine`.
    pub code: String,
    /// What happened and why it matters.
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
    /// The repair, when one edit of the text does it.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub edit: Option<Edit>,
}

impl Diagnostic {
    /// A finding with a code and a message, to be filled in further.
    pub fn new(code: impl Into<String>, message: impl Into<String>) -> Self {
        Self { code: code.into(), message: message.into(), help: None, allowed: Vec::new(), span: None, edit: None }
    }

    /// The same with what to do about it.
    #[must_use]
    pub fn with_help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }

    /// The exit code of a command for which this alone went wrong.
    pub fn exit(&self) -> Exit {
        match self.code.as_str() {
            "provider.unreachable" | "fly.unreachable" => Exit::Unreachable,
            "fly.token" | "fly.forbidden" => Exit::NotAuthorised,
            code if code.starts_with("auth.") => Exit::NotAuthorised,
            _ => Exit::Failed,
        }
    }

    /// The exit code of a command that could not see what there is, for this reason.
    pub fn exit_unobserved(&self) -> Exit {
        if self.exit() == Exit::NotAuthorised { Exit::NotAuthorised } else { Exit::Unreachable }
    }

    /// The exit code of a command for which all of these went wrong: theirs where they agree.
    pub fn exit_of<'a>(findings: impl IntoIterator<Item = &'a Self>) -> Exit {
        let mut exits = findings.into_iter().map(Self::exit);
        let first = exits.next().unwrap_or(Exit::Failed);
        if exits.all(|exit| exit == first) { first } else { Exit::Failed }
    }
}

/// Everything that is wrong, and the exit code that follows.
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use = "a report that nobody reads helps nobody"]
pub struct Report {
    /// The exit code.
    pub exit: Exit,
    /// At least one finding.
    pub errors: Vec<Diagnostic>,
}

impl Report {
    /// A report of one finding.
    pub fn one(exit: Exit, finding: Diagnostic) -> Self {
        Self { exit, errors: vec![finding] }
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
    fn an_error_is_told_to_its_bottom_and_nothing_twice() {
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
    fn what_went_wrong_says_with_what_a_command_ends() {
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
