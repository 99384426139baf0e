//! The diagnostics of a manifest, each with the lines that it is about.

use miette::{GraphicalReportHandler, GraphicalTheme, LabeledSpan, MietteDiagnostic, NamedSource, Report};

use super::plural::counted;
use super::style::Style;
use crate::manifest::redacted;
use crate::model::{Diagnostic, Severity, Span};

/// How many diagnostics are drawn; the rest is counted, and `--json` has all of them.
const MAX_RENDERED: usize = 50;

/// The longest line that is drawn, in bytes: a line is drawn as a whole.
const MAX_LINE: usize = 2_000;

/// The length of the longest line that a drawing of a diagnostic would have, with the one before and the one after its places.
fn longest_line(text: &str, problem: &Diagnostic) -> usize {
    let lines = |span: &Span| {
        let start = text.get(..span.start).unwrap_or(text).rsplitn(3, '\n').take(2).map(str::len).sum::<usize>();
        let from = span.start.saturating_sub(start + 1);
        let end = text.get(span.end..).unwrap_or_default().splitn(3, '\n').take(2).map(|line| line.len() + 1).sum::<usize>();
        let shown = text.get(from..(span.end + end).min(text.len())).unwrap_or(text);
        shown.lines().map(str::len).max().unwrap_or(0)
    };
    problem.span.iter().chain(&problem.related).map(lines).max().unwrap_or(0)
}

/// Draws every diagnostic with its place, and says how many there are.
pub fn problems(problems: &[Diagnostic], text: &str, file: &str, width: usize, style: Style) -> String {
    let theme = if style.is_coloured() { GraphicalTheme::unicode() } else { GraphicalTheme::unicode_nocolor() };
    let handler = GraphicalReportHandler::new_themed(theme).with_width(width).with_links(false);
    let shown = redacted(text, problems);
    let mut drawn = String::new();
    for problem in problems.iter().take(MAX_RENDERED) {
        if longest_line(text, problem) > MAX_LINE {
            let place = super::sanitize::sanitize_line(file);
            drawn.push_str(&format!("{place}: {} [{}]\n", problem.message, problem.code));
            if let Some(help) = &problem.help {
                drawn.push_str(&format!("  help: {help}\n"));
            }
            continue;
        }
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
