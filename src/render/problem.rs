//! The diagnostics of a manifest, each with the lines that it is about.

use miette::{GraphicalReportHandler, GraphicalTheme, LabeledSpan, MietteDiagnostic, NamedSource, Report};

use super::plural::counted;
use super::style::Style;
use crate::manifest::redacted;
use crate::model::{Diagnostic, Severity};

/// How many diagnostics are drawn; the rest is counted, and `--json` has all of them.
const MAX_RENDERED: usize = 50;

/// Draws every diagnostic with its place, and says how many there are.
pub fn problems(problems: &[Diagnostic], text: &str, file: &str, width: usize, style: Style) -> String {
    let theme = if style.is_coloured() { GraphicalTheme::unicode() } else { GraphicalTheme::unicode_nocolor() };
    let handler = GraphicalReportHandler::new_themed(theme).with_width(width).with_links(false);
    let shown = redacted(text, problems);
    let mut drawn = String::new();
    for problem in problems.iter().take(MAX_RENDERED) {
        let severity = match problem.severity {
            Severity::Error => miette::Severity::Error,
            Severity::Warning => miette::Severity::Warning,
        };
        let mut diagnostic = MietteDiagnostic::new(problem.message.clone()).with_code(&problem.code).with_severity(severity);
        for span in problem.related.iter().chain(&problem.span) {
            let label = span.label.clone().unwrap_or_else(|| "here".to_owned());
            diagnostic = diagnostic.and_label(LabeledSpan::new_with_span(Some(label), span.bytes()));
        }
        if let Some(help) = &problem.help {
            diagnostic = diagnostic.with_help(help.clone());
        }
        let report = Report::new(diagnostic).with_source_code(NamedSource::new(file, shown.to_string()));
        if handler.render_report(&mut drawn, report.as_ref()).is_err() {
            drawn.push_str(&format!("{file}: {} [{}]\n", problem.message, problem.code));
        }
    }
    if problems.len() > MAX_RENDERED {
        drawn.push_str(&format!("and {} more; `--json` lists all of them\n", problems.len() - MAX_RENDERED));
    }
    let errors = problems.iter().filter(|problem| problem.severity == Severity::Error).count();
    if errors > 0 {
        drawn.push_str(&format!("{} in `{file}`\n", counted(errors, "problem")));
    }
    drawn
}
