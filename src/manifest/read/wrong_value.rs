//! Diagnostics about values that a key does not take, with the edit that was probably meant.

use std::ops::Range;

use toml::Spanned;
use toml::de::DeValue;

use super::super::schema_table::{Kind, Table};
use super::super::suggest::{nearest, one_of, quoted};
use super::super::tree::Value;
use super::super::{formats, normalize};
use super::{KeyPath, Reader};
use crate::model::{Cpus, Diagnostic};

impl<'t> Reader<'t, '_> {
    pub(super) fn malformed(
        &mut self,
        code: &'static str,
        span: &Range<usize>,
        path: &KeyPath<'_>,
        text: &str,
        why: &str,
        repaired: Option<String>,
    ) -> Value<'t> {
        let example = if code == "manifest.bad_size" { "2 GiB" } else { "7d" };
        // The model's own words end in a list or an example; they serve as help.
        let noun = if code == "manifest.bad_size" { "a size" } else { "a duration" };
        let problem = Diagnostic::at(code, span, format!("{} in {path} is not {noun}", quoted(text)));
        let why = if why.len() > 200 { format!("{noun} is written like `{example}`") } else { why.to_owned() };
        self.report(with_text(problem.with_help(why).with_allowed([example]), span, repaired));
        Value::Broken
    }

    pub(super) fn unknown_word(
        &mut self,
        code: &'static str,
        noun: &str,
        words: &'static [&'static str],
        text: &str,
        span: &Range<usize>,
    ) -> Value<'t> {
        let problem = Diagnostic::at(code, span, format!("{} is not {noun}", quoted(text)))
            .with_help(format!("choose one of {}", one_of(words.iter().copied())))
            .with_allowed(words.iter().copied());
        let meant = normalize::word(text).filter(|word| words.contains(word)).or_else(|| nearest(text, words.iter().copied()));
        let problem = match meant {
            Some(meant) => problem.with_label(format!("did you mean `{meant}`?")),
            None => problem,
        };
        self.report(with_text(problem, span, meant.map(str::to_owned)));
        Value::Broken
    }

    pub(super) fn missing(&mut self, span: &Range<usize>, path: &KeyPath<'_>, key: &'static str) -> Value<'t> {
        self.report(Diagnostic::at("manifest.missing_key", span, format!("{path} needs the key `{key}`")).with_allowed([key]));
        Value::Broken
    }

    pub(super) fn wrong_type(&mut self, kind: Kind, value: &Spanned<DeValue<'_>>, path: &KeyPath<'_>) -> Value<'t> {
        let span = value.span();
        let (expected, example) = kind.expects();
        let found = type_name(value.get_ref());
        let mut problem = Diagnostic::at("manifest.wrong_type", &span, format!("{path} takes {expected}, and this is {found}"))
            .with_help(format!("write for example `{example}`"))
            .with_allowed([example]);
        if matches!(kind, Kind::Secret | Kind::TextOrSecret(_)) {
            problem = problem.sensitive();
        }
        let replacement = match (kind, value.get_ref()) {
            (Kind::Flag, DeValue::String(text)) => match text.to_ascii_lowercase().as_str() {
                "true" | "yes" | "on" | "1" => Some("true".to_owned()),
                "false" | "no" | "off" | "0" => Some("false".to_owned()),
                _ => None,
            },
            (Kind::Flag, DeValue::Integer(number)) if matches!(number.as_str(), "0" | "1") => {
                Some((number.as_str() == "1").to_string())
            }
            (Kind::Count(most), DeValue::String(text)) => {
                text.trim().parse::<u32>().ok().filter(|count| (1..=most).contains(count)).map(|count| count.to_string())
            }
            (Kind::Cores, DeValue::String(text)) => {
                text.trim().parse::<f64>().ok().and_then(Cpus::from_cores).map(|cores| cores.to_string())
            }
            (Kind::Names, DeValue::String(text)) if (formats::NAME.matches)(text) => Some(format!("[\"{text}\"]")),
            (Kind::Tables(_), DeValue::Table(_)) => {
                let raw = &self.text[span.clone()];
                raw.starts_with('{').then(|| format!("[{raw}]")).or_else(|| raw.starts_with('[').then(|| format!("[{raw}]")))
            }
            (Kind::Table(Table { .. }), DeValue::String(text)) => engine_table(kind, text),
            _ => None,
        };
        if let Some(replacement) = replacement {
            problem = problem.with_edit(&span, replacement);
        }
        self.report(problem);
        Value::Broken
    }
}

/// `storage = "postgres"` was probably meant to name the engine.
fn engine_table(kind: Kind, text: &str) -> Option<String> {
    let Kind::Table(spec) = kind else { return None };
    match spec.key("engine")?.kind {
        Kind::Word(_, _, words) if words.contains(&text) => Some(format!("{{ engine = \"{text}\" }}")),
        _ => None,
    }
}

/// Adds the repair, written as a TOML string.
pub(super) fn with_text(problem: Diagnostic, span: &Range<usize>, text: Option<String>) -> Diagnostic {
    match text {
        Some(text) if !text.chars().any(|c| c.is_control() || matches!(c, '"' | '\\')) => {
            problem.with_edit(span, format!("\"{text}\""))
        }
        _ => problem,
    }
}

/// Returns the words for the type of a value.
pub(super) fn type_name(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "a text",
        DeValue::Integer(_) => "a whole number",
        DeValue::Float(_) => "a number",
        DeValue::Boolean(_) => "a switch",
        DeValue::Datetime(_) => "a date",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a table",
    }
}
