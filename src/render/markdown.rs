//! A plan as Markdown, for the comment under a pull request.
//!
//! Must not do: let text from a manifest become markup.

use std::fmt::Write as _;

use super::plan::summary_line;
use super::sanitize::sanitize_line as harmless;
use crate::plan::{Plan, Step};

/// The whole plan as Markdown.
pub fn markdown(plan: &Plan) -> String {
    let mut text = format!("### convexinfra plan for `{}`\n\n**{}**", plain_text(plan.project.as_str()), summary_line(plan));
    let _ = writeln!(text, " · {} · revision {}", plain_text(&plan.control_plane), plan.base);
    if !plan.steps.is_empty() {
        text.push_str("\n| | address | why | changes |\n|---|---|---|---|\n");
        for step in &plan.steps {
            let _ = writeln!(
                text,
                "| {} | `{}` | {} | {} |",
                step.action.as_str(),
                step.address,
                plain_text(&step.reason.to_string()),
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
    let _ = writeln!(text, "| together | {before} | {after} |\n\n{}", plain_text(&super::cost::basis(cost)));
}

fn section<'a>(text: &mut String, title: &str, notes: impl Iterator<Item = (Option<&'a crate::model::Address>, &'a String)>) {
    for (index, (address, message)) in notes.enumerate() {
        if index == 0 {
            let _ = writeln!(text, "\n#### {title}\n");
        }
        let address = address.map(|address| format!("`{address}`: ")).unwrap_or_default();
        let _ = writeln!(text, "- {address}{}", plain_text(message));
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

/// Renders text as a code span of a table's cell: no cell, line or span ends inside it.
fn code(text: &str) -> String {
    let text = text.replace('\n', "⏎").replace('`', "ˋ").replace('|', "\\|");
    format!("`{}`", harmless(if text.is_empty() { " " } else { &text }))
}

/// Renders text that others may have chosen: all of it stays text. What is between backticks becomes a
/// code span; everything else is escaped, and what a host would turn into a mention or a link is broken up by a
/// zero-width space.
fn plain_text(text: &str) -> String {
    let flat = harmless(&text.replace('\n', " ")).trim().to_owned();
    let mut parts: Vec<&str> = flat.split('`').collect();
    // A backtick without a partner is one of the text.
    let unpaired = if parts.len().is_multiple_of(2) { parts.pop() } else { None };
    let mut shown = String::with_capacity(flat.len() + 16);
    for (index, part) in parts.iter().enumerate() {
        if index % 2 == 1 { shown.push_str(&span(part)) } else { escape_into(&mut shown, part) }
    }
    if let Some(rest) = unpaired {
        escape_into(&mut shown, "`");
        escape_into(&mut shown, rest);
    }
    shown
}

fn escape_into(shown: &mut String, text: &str) {
    const MARKUP: &str = "\\`*_[]<>|~&#!$^@";
    let mut before = ' ';
    // A number or a sign begins a list only at the beginning.
    let mut leading = shown.is_empty();
    for character in text.chars() {
        // `@team`, `#12`, `https://…`, `www.…`: a word that a host links by itself begins no word here.
        let links = matches!(before, '@' | '#') && character.is_alphanumeric()
            || (before == ':' && character == '/')
            || (before.eq_ignore_ascii_case(&'w') && character == '.');
        if links {
            shown.push('\u{200b}');
        }
        if MARKUP.contains(character) || (leading && matches!(character, '-' | '+' | '.' | ')' | '=' | ':')) {
            shown.push('\\');
        }
        leading &= character.is_ascii_digit() || character == ' ';
        shown.push(character);
        before = character;
    }
}

/// Renders text as a code span outside of tables, where a bar needs no escape.
fn span(text: &str) -> String {
    if text.is_empty() { String::new() } else { format!("`{text}`") }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use pulldown_cmark::{Event, Options, Parser, Tag};

    use super::*;

    /// Everything that hosts understand beyond the core.
    fn options() -> Options {
        Options::all() - Options::ENABLE_SMART_PUNCTUATION
    }

    /// What a host makes of Markdown, other than text, code and the one paragraph around it.
    fn markup(markdown: &str) -> Vec<String> {
        let allowed = |event: &Event<'_>| match event {
            Event::Text(_) | Event::Code(_) | Event::End(_) => true,
            Event::Start(tag) => matches!(tag, Tag::List(_) | Tag::Item | Tag::Paragraph),
            _ => false,
        };
        Parser::new_ext(markdown, options()).filter(|event| !allowed(event)).map(|event| format!("{event:?}")).collect()
    }

    fn words(markdown: &str) -> String {
        let text = |event| match event {
            Event::Text(text) | Event::Code(text) => Some(text.into_string()),
            _ => None,
        };
        Parser::new_ext(markdown, options()).filter_map(text).collect()
    }

    #[test]
    fn text_of_others_becomes_no_markup() {
        for hostile in [
            "x`</code></details> … **APPROVED** @org/admins [click](https://evil.test)",
            "![image](https://evil.test) <img src=x> <script>",
            "# title\n- item\n```\ncode\n```\n| a | b |\n|---|---|",
            "https://evil.test www.evil.test me@evil.test #12 @team &lt;b&gt; &#64;team",
            "``x`` ` ~~gone~~ $math$ [^1] :tada: \\` \\\\",
        ] {
            let shown = plain_text(hostile);
            assert_eq!(markup(&format!("- {shown}")), Vec::<String>::new(), "{shown}");
            assert!(!shown.contains("://") && !shown.contains("@org") && !shown.contains("@team"), "{shown}");
        }
        assert_eq!(plain_text("`dev` has no `release`, so"), "`dev` has no `release`, so");
        assert_eq!(markup("- 1\\. one"), Vec::<String>::new());
        assert_eq!(plain_text("1. one"), "1\\. one");
    }

    proptest! {
        #[test]
        fn no_text_becomes_markup(hostile in "(?s)[ -~\n]{0,80}") {
            let shown = plain_text(&hostile);
            prop_assert_eq!(markup(&format!("- {shown}")), Vec::<String>::new(), "{}", shown);
            let kept: String = words(&format!("- a {shown}")).replace('\u{200b}', "");
            let flat: String = hostile.replace('\n', " ").replace('`', "");
            let squeeze = |text: &str| text.replace('`', "").split_whitespace().collect::<String>();
            prop_assert_eq!(squeeze(&kept), squeeze(&format!("a {flat}")), "{}", shown);
        }
    }
}
