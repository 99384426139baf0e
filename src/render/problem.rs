//! The problems of a manifest, each with the lines that it is about.
//!
//! Must not do: show a value that may be a secret.

use miette::{GraphicalReportHandler, GraphicalTheme, LabeledSpan, MietteDiagnostic, NamedSource, Report, Severity};

use super::plural::counted;
use super::style::Style;
use crate::manifest::{Problem, Severity as ProblemSeverity, redacted};

/// How many problems are drawn; the rest is counted. Nobody reads further, and `--json` has all of them.
const MAX_RENDERED: usize = 50;

/// Every problem as a drawing of its place, and how many there are.
pub fn problems(problems: &[Problem], text: &str, file: &str, width: usize, style: Style) -> String {
    let theme = if style.is_coloured() { GraphicalTheme::unicode() } else { GraphicalTheme::unicode_nocolor() };
    let handler = GraphicalReportHandler::new_themed(theme).with_width(width).with_links(false);
    let shown = redacted(text, problems);
    let mut drawn = String::new();
    for problem in problems.iter().take(MAX_RENDERED) {
        let severity = match problem.severity {
            ProblemSeverity::Error => Severity::Error,
            ProblemSeverity::Warning => Severity::Warning,
        };
        let label = problem.label.clone().unwrap_or_else(|| "here".to_owned());
        let mut diagnostic = MietteDiagnostic::new(problem.message.clone())
            .with_code(problem.code)
            .with_severity(severity)
            .with_label(LabeledSpan::new_with_span(Some(label), problem.span.clone()));
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
    let errors = problems.iter().filter(|problem| problem.severity == ProblemSeverity::Error).count();
    if errors > 0 {
        drawn.push_str(&format!("{} in `{file}`\n", counted(errors, "problem")));
    }
    drawn
}
