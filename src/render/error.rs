//! Errors for people and for programs: the one place where both are made.
//!
//! Must not do: print, or word what went wrong; whoever found it did.

use std::fmt::Write as _;

use serde::Serialize;

use super::harmless;
use super::style::Style;
use crate::model::{Exit, Finding, Report};

/// The error document.
#[derive(Debug, Serialize, schemars::JsonSchema)]
pub struct ErrorDocument<'a> {
    /// Always `convexinfra.error/1`.
    format: &'static str,
    /// The exit code.
    exit: Exit,
    /// At least one error.
    errors: &'a [Finding],
}

/// The report as the document that `--json` prints.
pub fn error_document(report: &Report) -> ErrorDocument<'_> {
    ErrorDocument { format: "convexinfra.error/1", exit: report.exit, errors: &report.errors }
}

/// A finding in the middle of something else: what happened, and below it, so far to the right, what to do.
pub(super) fn reason(finding: &Finding, indent: usize) -> String {
    let line = format!("\n{}", " ".repeat(indent));
    let shown = |text: &str| harmless::sentences(text, indent);
    let help = finding.help.as_ref().map(|help| format!("{line}help: {}", shown(help))).unwrap_or_default();
    format!("{} [{}]{help}", shown(&finding.message), harmless::line(&finding.code))
}

/// The report for people.
pub fn report_text(report: &Report, style: Style) -> String {
    let mut text = String::new();
    for finding in &report.errors {
        let place = finding
            .span
            .as_ref()
            .map(|span| format!("{}:{}:{}: ", harmless::line(&span.file), span.line, span.column))
            .unwrap_or_default();
        let code = style.quiet(&format!("[{}]", harmless::line(&finding.code)));
        let message = harmless::sentences(&finding.message, 2);
        let _ = writeln!(text, "{}", style.wrap(&format!("{} {place}{message} {code}", style.error("error:")), 2));
        if let Some(help) = &finding.help {
            let _ =
                writeln!(text, "{}", style.wrap(&format!("  {} {}", style.strong("help:"), harmless::sentences(help, 2)), 4));
        }
    }
    text
}
