//! Secrets and variables: references to their sources, and refusals of secrets that are written out.

use std::ops::Range;

use toml::Spanned;
use toml::de::DeValue;

use super::super::formats;
use super::super::schema_table::{self, Kind};
use super::super::secret_detection::{looks_secret, looks_secret_value};
use super::super::tree::{Entry, TableNode, Value};
use super::super::url;
use super::wrong_value::type_name;
use super::{KeyPath, Reader};
use crate::model::{Diagnostic, SecretRef, SecretSource};
use crate::policy::specification::{self, BUILT_IN_VARIABLES, MAX_VARIABLE_BYTES};
use crate::policy::{Template, template};

impl<'t> Reader<'t, '_> {
    pub(super) fn variable(
        &mut self,
        name: &'t str,
        key: Range<usize>,
        value: &'t Spanned<DeValue<'t>>,
        path: &KeyPath<'_>,
        taken: impl Fn(&str) -> bool,
    ) -> Value<'t> {
        let span = value.span();
        if span.is_empty() {
            return Value::Broken;
        }
        if BUILT_IN_VARIABLES.contains(&name) {
            self.report(specification::built_in_variable(name).at(&key));
            return Value::Broken;
        }
        let name_fits = (formats::CONVEX_VARIABLE.matches)(name);
        if !name_fits {
            let mut problem = specification::bad_variable_name(name).at(&key);
            if let Some(meant) = formats::CONVEX_VARIABLE.repaired(name).filter(|meant| !taken(meant)) {
                problem = problem.with_edit(&key, meant);
            }
            self.report(problem);
        }
        match value.get_ref() {
            DeValue::Table(_) => {
                self.reference(value, path).map_or(Value::Broken, |found| Value::Source(SecretSource::Reference(found)))
            }
            DeValue::String(text) if url::has_password(text) || looks_secret_value(text) || looks_secret(name) => {
                self.literal_secret(&span, path)
            }
            DeValue::String(text) if text.len() > MAX_VARIABLE_BYTES => {
                self.report(specification::variable_too_long(&path.to_string(), text.len()).at(&key));
                Value::Broken
            }
            DeValue::String(text) => {
                self.not_interpolated(text, &span, path, Some(name));
                Value::Source(SecretSource::Literal(text.to_string()))
            }
            other => {
                let message = format!("Convex variables are texts, and {path} is {}", type_name(other));
                let problem = Diagnostic::at("manifest.wrong_type", &span, message).with_help("put it in quotes");
                let raw = &self.text[span.clone()];
                let plain =
                    matches!(other, DeValue::Boolean(_) | DeValue::Integer(_) | DeValue::Float(_) | DeValue::Datetime(_))
                        && !looks_secret(name);
                self.report(if plain { problem.with_edit(&span, format!("\"{raw}\"")) } else { problem.sensitive() });
                Value::Broken
            }
        }
    }

    /// `{ env = "NAME" }` or `{ file = "path" }`
    pub(super) fn reference(&mut self, value: &'t Spanned<DeValue<'t>>, path: &KeyPath<'_>) -> Option<SecretRef> {
        let span = value.span();
        let table = value.get_ref().as_table()?;
        let before = self.problems.len();
        let node: TableNode<'t> = self.table(&schema_table::SECRET, table, &span, path);
        let example = format!("{{ env = \"{}\" }}", path.variable());
        match (node.get("env"), node.get("file")) {
            (Some(_), Some(file)) => {
                let message = format!("{path} has two sources, and it is not clear which one counts");
                let problem =
                    Diagnostic::at("manifest.ambiguous_secret", &file.key, message).with_help("keep `env` or `file`, not both");
                self.report(problem);
                None
            }
            (Some(Entry { value: Value::Text(name), .. }), None) => Some(SecretRef::Env((*name).to_owned())),
            (None, Some(Entry { value: Value::Text(file), .. })) => Some(SecretRef::File((*file).to_owned())),
            (None, None) if self.problems.len() == before => {
                let message = format!("{path} is empty: it says nowhere where its value comes from");
                let mut problem = Diagnostic::at("manifest.empty_secret", &span, message)
                    .with_help(format!("write for example `{example}`"))
                    .with_allowed(["env", "file"]);
                if self.text[span.clone()].starts_with('{') {
                    problem = problem.with_edit(&span, example);
                }
                self.report(problem);
                None
            }
            _ => None,
        }
    }

    /// Warns of a text that others would fill in: `${NAME}` and its like are letters here. `variable` is the Convex variable whose
    /// value it is, where a reference could stand in its place.
    pub(super) fn not_interpolated(&mut self, text: &str, span: &Range<usize>, path: &KeyPath<'_>, variable: Option<&str>) {
        let Some(found) = template(text) else { return };
        let (code, message) = match found {
            Template::Variable { name, .. } => ("manifest.not_interpolated", letters(path, &format!("${name}"))),
            Template::Expression(part) => ("manifest.not_interpolated", letters(path, part)),
            Template::Placeholder => ("manifest.placeholder", format!("{path} looks like a placeholder, and is used as it is")),
        };
        let problem = Diagnostic::at(code, span, message).as_warning();
        self.report(match (variable, found) {
            (Some(_), Template::Variable { name, is_whole: true }) => {
                let reference = format!("{{ env = \"{name}\" }}");
                problem.with_help(format!("write `{reference}` to take the value of that variable")).with_edit(span, reference)
            }
            (Some(own), _) => {
                let reference = format!("{{ env = \"{own}\" }}");
                let help = format!("set `{own}` to the whole value where convexinfra runs, and write `{reference}`");
                problem.with_help(help).with_edit(span, reference)
            }
            (None, _) => problem.with_help("write the value itself"),
        });
    }

    pub(super) fn literal_secret(&mut self, span: &Range<usize>, path: &KeyPath<'_>) -> Value<'t> {
        // `"${NAME}"` is what others would have taken for a reference.
        let variable = match template(self.text.get(span.clone()).unwrap_or_default().trim_matches(['"', '\''])) {
            Some(Template::Variable { name, is_whole: true }) => name.to_owned(),
            _ => path.variable(),
        };
        let reference = format!("{{ env = \"{variable}\" }}");
        let message = format!("{path} is a secret written out, and a manifest is read by everybody who reads the repository");
        let problem = Diagnostic::at("manifest.literal_secret", span, message)
            .with_help(format!("set the variable where convexinfra runs and write `{reference}`, or `{{ file = \"path\" }}`; a secret that was committed needs to be replaced"))
            .with_label("a secret in clear")
            .with_allowed(["{ env = \"NAME\" }", "{ file = \"path\" }"])
            .sensitive()
            .with_edit(span, reference);
        self.report(problem);
        Value::Broken
    }

    pub(super) fn literal_password(&mut self, kind: Kind, span: &Range<usize>, path: &KeyPath<'_>) -> Value<'t> {
        if let Kind::TextOrSecret(_) = kind {
            return self.literal_secret(span, path);
        }
        let message =
            format!("the URL in {path} has a password in it, and a manifest is read by everybody who reads the repository");
        let mut problem = Diagnostic::at("manifest.literal_secret", span, message)
            .with_help("take user and password out of the URL; a password that was committed needs to be replaced")
            .with_label("a password in clear")
            .sensitive();
        if let Some(found) = url::userinfo(&self.text[span.clone()]) {
            problem = problem.with_edit(&(span.start + found.start..span.start + found.end + 1), "");
        }
        self.report(problem);
        Value::Broken
    }
}

fn letters(path: &KeyPath<'_>, part: &str) -> String {
    format!("{path} has `{part}` in it, which is not filled in: the value is these letters")
}
