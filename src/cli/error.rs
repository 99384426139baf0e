//! Shows the error that ends a command.

use crate::app::AppError;
use crate::render::{Style, problems, report_text};

/// Renders an error for people.
pub(crate) fn error_text(error: &AppError, style: Style) -> String {
    match error {
        AppError::Manifest { problems: found, text, file } => problems(found, text, file, terminal_width(), style),
        AppError::Report(report) => report_text(report, style),
    }
}

/// Returns the width of the terminal in columns.
pub(crate) fn terminal_width() -> usize {
    rustix::termios::tcgetwinsize(std::io::stderr())
        .map(|size| usize::from(size.ws_col))
        .ok()
        .filter(|width| *width >= 40)
        .unwrap_or(100)
        .min(120)
}
