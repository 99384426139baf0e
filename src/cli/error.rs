//! What a command ends with when it does not end well.
//!
//! Must not do: word anything; it passes on what others found.

use crate::api::ControlError;
use crate::manifest::{Problem, findings};
use crate::model::{Diagnostic, Exit, Report};
use crate::render::{Style, problems, report_text};

/// What a command ends with when it does not end well.
#[derive(Debug)]
pub(crate) enum CliError {
    /// The manifest has problems, and this is its text.
    Manifest {
        /// Every one of them.
        problems: Vec<Problem>,
        /// The manifest.
        text: String,
        /// Its name.
        file: String,
    },
    /// Anything else.
    Report(Report),
}

impl From<Report> for CliError {
    fn from(report: Report) -> Self {
        Self::Report(report)
    }
}

impl From<ControlError> for CliError {
    fn from(error: ControlError) -> Self {
        Self::Report(error.report())
    }
}

impl CliError {
    /// A failure for one reason.
    pub(crate) fn new(exit: Exit, finding: Diagnostic) -> Self {
        Self::Report(Report::one(exit, finding))
    }

    /// The exit code that follows.
    pub(crate) fn exit(&self) -> Exit {
        match self {
            Self::Manifest { .. } => Exit::Manifest,
            Self::Report(report) => report.exit,
        }
    }

    /// The failure as data.
    pub(crate) fn report(&self) -> Report {
        match self {
            Self::Manifest { problems, text, file } => Report { exit: Exit::Manifest, errors: findings(problems, text, file) },
            Self::Report(report) => report.clone(),
        }
    }

    /// The failure for people.
    pub(crate) fn text(&self, style: Style) -> String {
        match self {
            Self::Manifest { problems: found, text, file } => problems(found, text, file, terminal_width(), style),
            Self::Report(report) => report_text(report, style),
        }
    }
}

/// How wide the terminal is.
pub(crate) fn terminal_width() -> usize {
    rustix::termios::tcgetwinsize(std::io::stderr())
        .map(|size| usize::from(size.ws_col))
        .ok()
        .filter(|width| *width >= 40)
        .unwrap_or(100)
        .min(120)
}
