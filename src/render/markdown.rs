//! A plan as Markdown, for the comment under a pull request.
//!
//! Must not do: let text from a manifest become markup.

use std::fmt::Write as _;

use super::plan::summary_line;
use super::sanitize::{sanitize_block, sanitize_line as harmless};
use crate::plan::{Plan, Step};

/// The whole plan as Markdown.
pub fn markdown(plan: &Plan) -> String {
    let mut text = format!("### convexinfra plan for `{}`\n\n**{}**", escape(plan.project.as_str()), summary_line(plan));
    let _ = writeln!(text, " · {} · revision {}", escape(&plan.control_plane), plan.base);
    if !plan.steps.is_empty() {
        text.push_str("\n| | address | why | changes |\n|---|---|---|---|\n");
        for step in &plan.steps {
            let _ = writeln!(
                text,
                "| {} | `{}` | {} | {} |",
                step.action.as_str(),
                step.address,
                escape(&step.reason.to_string()),
                changes(step)
            );
        }
    }
    cost_table(&mut text, plan);
    section(&mut text, "Refused", plan.refusals.iter().map(|refusal| (refusal.address.as_ref(), &refusal.message)));
    if !plan.drift.is_empty() {
        text.push_str("\n#### Drift\n\n");
        for drift in &plan.drift {
            let _ = writeln!(
                text,
                "- `{}` {}: applied {}, seen {}",
                drift.address,
                code(drift.path.as_str()),
                code(&drift.recorded),
                code(&drift.observed)
            );
        }
    }
    section(&mut text, "Worth a look", plan.lints.iter().map(|lint| (lint.address.as_ref(), &lint.message)));
    let _ = writeln!(text, "\n<sub>`{}`</sub>", plan.digest);
    text
}

fn cost_table(text: &mut String, plan: &Plan) {
    let Some(cost) = &plan.cost else { return };
    let _ = writeln!(text, "\n#### Cost a month\n\n| backend | before | after |\n|---|---|---|");
    for backend in &cost.backends {
        let (before, after) = (super::cost::price(backend.before), super::cost::price(backend.after));
        let _ = writeln!(text, "| `{}` | {before} | {after} |", backend.backend);
    }
    let (before, after) = (super::cost::sum(&cost.before), super::cost::sum(&cost.after));
    let _ = writeln!(text, "| together | {before} | {after} |\n\n{}", escape(&super::cost::basis(cost)));
}

fn section<'a>(text: &mut String, title: &str, notes: impl Iterator<Item = (Option<&'a crate::model::Address>, &'a String)>) {
    for (index, (address, message)) in notes.enumerate() {
        if index == 0 {
            let _ = writeln!(text, "\n#### {title}\n");
        }
        let address = address.map(|address| format!("`{address}`: ")).unwrap_or_default();
        let _ = writeln!(text, "- {address}{}", sanitize_block(message, 0).replace('\n', " "));
    }
}

fn changes(step: &Step) -> String {
    let shown: Vec<String> = step
        .changes
        .iter()
        .map(|change| match (&change.before, &change.after) {
            (None, Some(after)) => format!("{} = {}", code(change.path.as_str()), code(after)),
            (Some(before), None) => format!("{} {} → none", code(change.path.as_str()), code(before)),
            (before, after) => {
                let text = |value: &Option<String>| value.as_deref().map_or_else(|| "none".to_owned(), code);
                format!("{} {} → {} ({})", code(change.path.as_str()), text(before), text(after), change.effect)
            }
        })
        .collect();
    shown.join("<br>")
}

/// Text as code inside a table's cell: no cell, line or code span ends inside it.
fn code(text: &str) -> String {
    let text = text.replace('\n', "⏎").replace('`', "ˋ").replace('|', "\\|");
    format!("`{}`", harmless(&text))
}

fn escape(text: &str) -> String {
    harmless(&text.replace('\n', " ")).replace('|', "\\|").replace('<', "&lt;")
}
