//! Why a use case did not end well, as data.

use crate::api::ControlError;
use crate::manifest::located;
use crate::model::{Diagnostic, Exit, Report};

/// Why a use case did not end well.
#[derive(Debug)]
pub(crate) enum AppError {
    /// The manifest has problems.
    Manifest {
        /// Every one of them.
        problems: Vec<Diagnostic>,
        /// The text of the manifest.
        text: String,
        /// The path of the manifest.
        file: String,
    },
    /// Anything else.
    Report(Report),
}

impl From<Report> for AppError {
    fn from(report: Report) -> Self {
        Self::Report(report)
    }
}

impl From<ControlError> for AppError {
    fn from(error: ControlError) -> Self {
        Self::Report(error.report())
    }
}

impl AppError {
    /// Returns an error with one diagnostic.
    pub(crate) fn new(exit: Exit, diagnostic: Diagnostic) -> Self {
        Self::Report(Report::one(exit, diagnostic))
    }

    /// Returns the exit code that follows.
    pub(crate) fn exit(&self) -> Exit {
        match self {
            Self::Manifest { .. } => Exit::Manifest,
            Self::Report(report) => report.exit,
        }
    }

    /// Returns the error as data.
    pub(crate) fn report(&self) -> Report {
        match self {
            Self::Manifest { problems, text, file } => Report { exit: Exit::Manifest, errors: located(problems, text, file) },
            Self::Report(report) => report.clone(),
        }
    }
}
