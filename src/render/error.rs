//! Errors for people and for programs: the one place where both are made.

use std::fmt::Write as _;

use serde::Serialize;

use super::sanitize;
use super::style::Style;
use crate::model::{Diagnostic, Exit, Report, Severity};

/// The error document.
#[derive(Debug, Serialize, schemars::JsonSchema)]
pub struct ErrorDocument<'a> {
    /// Always `convexinfra.error/1`.
    format: &'static str,
    /// The exit code.
    exit: Exit,
    /// At least one error.
    errors: &'a [Diagnostic],
}

/// The report as the document that `--json` prints.
pub fn error_document(report: &Report) -> ErrorDocument<'_> {
    ErrorDocument { format: "convexinfra.error/1", exit: report.exit, errors: &report.errors }
}

/// A finding in the middle of something else: what happened, and below it, so far to the right, what to do.
pub(super) fn inline_finding(finding: &Diagnostic, indent: usize) -> String {
    let line = format!("\n{}", " ".repeat(indent));
    let shown = |text: &str| sanitize::sanitize_block(text, indent);
    let help = finding.help.as_ref().map(|help| format!("{line}help: {}", shown(help))).unwrap_or_default();
    format!("{} [{}]{help}", shown(&finding.message), sanitize::sanitize_line(&finding.code))
}

/// The report for people.
pub fn report_text(report: &Report, style: Style) -> String {
    let mut text = String::new();
    for finding in &report.errors {
        let place = finding
            .span
            .as_ref()
            .map(|span| format!("{}:{}:{}: ", sanitize::sanitize_line(&span.file), span.line, span.column))
            .unwrap_or_default();
        let code = style.dim(&format!("[{}]", sanitize::sanitize_line(&finding.code)));
        let message = sanitize::sanitize_block(&finding.message, 2);
        let severity = match finding.severity {
            Severity::Error => style.error("error:"),
            Severity::Warning => style.warning("warning:"),
        };
        let _ = writeln!(text, "{}", style.wrap(&format!("{severity} {place}{message} {code}"), 2));
        if let Some(help) = &finding.help {
            let _ = writeln!(
                text,
                "{}",
                style.wrap(&format!("  {} {}", style.bold("help:"), sanitize::sanitize_block(help, 2)), 4)
            );
        }
    }
    text
}
