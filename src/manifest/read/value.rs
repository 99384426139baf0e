//! One value, checked against what its key takes.

use std::ops::Range;

use toml::Spanned;
use toml::de::{DeInteger, DeValue};

use super::super::formats::{self, TextFormat};
use super::super::normalize;
use super::super::schema_table::{self, Kind, Table};
use super::super::secret_detection::{looks_secret, looks_secret_value};
use super::super::suggest::{nearest, one_of, quoted};
use super::super::tree::{Entry, TableNode, Value};
use super::super::url;
use super::{KeyPath, Reader};
use crate::model::Diagnostic;
use crate::model::{ByteSize, Cpus, SecretRef, SecretSource, SizeError, TextValue, TimeSpan, Tls};
use crate::policy::specification::{self, BUILT_IN_VARIABLES, MAX_VARIABLE_BYTES};

/// How many env files a backend has at most.
const MOST_ENV_FILES: usize = 32;

impl<'t> Reader<'t, '_> {
    /// Reads one value, or says what is wrong with it.
    pub(super) fn value(&mut self, kind: Kind, value: &'t Spanned<DeValue<'t>>, path: &KeyPath<'_>) -> Value<'t> {
        let span = value.span();
        if span.is_empty() {
            // Nothing is written there: the parser made it up after a mistake of syntax, which has been said.
            return Value::Broken;
        }
        match (kind, value.get_ref()) {
            (Kind::Table(spec), DeValue::Table(table)) => Value::Table(self.table(spec, table, &span, path)),
            (Kind::Backends(spec), DeValue::Table(table)) => Value::Table(self.backends(spec, table, &span, path)),
            (Kind::Labels, DeValue::Table(table)) => Value::Table(self.labels(table, &span, path)),
            (Kind::Variables, DeValue::Table(table)) => Value::Table(self.variables(table, &span, path)),
            (Kind::Tables(spec), _) => self.tables(spec, value, path),
            (Kind::Secret, DeValue::Table(_)) => self.reference(value, path).map_or(Value::Broken, Value::Secret),
            (Kind::Secret, DeValue::String(_)) => self.literal_secret(&span, path),
            (Kind::TextOrSecret(_), DeValue::Table(_)) => {
                self.reference(value, path).map_or(Value::Broken, |found| Value::TextOrSecret(TextValue::Reference(found)))
            }
            (Kind::Release, DeValue::Table(table)) => {
                let node = self.table(&schema_table::PINNED_RELEASE, table, &span, path);
                match (node.get("tag"), node.get("sha256")) {
                    (Some(tag), Some(sha256)) => match (tag.text(), sha256.text()) {
                        (Some(tag), Some(sha256)) => Value::PinnedRelease { tag, sha256 },
                        _ => Value::Broken,
                    },
                    (None, _) => self.missing(&span, path, "tag"),
                    (_, None) => self.missing(&span, path, "sha256"),
                }
            }
            (Kind::Tls, DeValue::Table(table)) => {
                let node = self.table(&schema_table::TLS, table, &span, path);
                match node.get("ca").map(|entry| &entry.value) {
                    Some(Value::Text(file)) => Value::Tls(Tls::Ca((*file).to_owned())),
                    Some(_) => Value::Broken,
                    None if table.is_empty() => self.missing(&span, path, "ca"),
                    None => Value::Broken,
                }
            }
            (Kind::EnvFiles, _) => self.env_files(value, path),
            (Kind::Names | Kind::Texts(_), DeValue::Array(array)) => {
                let mut list = Vec::with_capacity(array.len());
                for element in array.iter() {
                    let span = element.span();
                    let read = match (kind, element.get_ref()) {
                        (Kind::Texts(shape), _) => self.value(Kind::Text(shape), element, path),
                        (_, DeValue::String(text)) => Value::Text(text),
                        _ => self.wrong_type(Kind::Text(&formats::NAME), element, path),
                    };
                    list.push(Entry { key: span.clone(), span, value: read });
                }
                Value::List(list)
            }
            (Kind::Flag, DeValue::Boolean(flag)) => Value::Flag(*flag),
            (Kind::Count(most), DeValue::Integer(number)) => self.count(most, number, &span, path),
            (Kind::Cores | Kind::Money, DeValue::Integer(number)) => {
                let number = i64::from_str_radix(number.as_str(), number.radix()).ok();
                // No amount that is allowed is large enough to lose digits here.
                #[allow(clippy::cast_precision_loss)]
                self.amount(kind, number.map(|number| number as f64), &span, path)
            }
            (Kind::Cores | Kind::Money, DeValue::Float(number)) => {
                self.amount(kind, number.as_str().parse::<f64>().ok(), &span, path)
            }
            (_, DeValue::String(text)) => self.string(kind, text, value, path),
            _ => self.wrong_type(kind, value, path),
        }
    }

    /// One env file or a list of them, as a list of paths and tables.
    fn env_files(&mut self, value: &'t Spanned<DeValue<'t>>, path: &KeyPath<'_>) -> Value<'t> {
        let elements: Vec<&'t Spanned<DeValue<'t>>> = match value.get_ref() {
            DeValue::Array(array) => array.iter().collect(),
            _ => vec![value],
        };
        if elements.len() > MOST_ENV_FILES {
            let message = format!("{path} names {} files, and a backend has at most {MOST_ENV_FILES}", elements.len());
            self.report(Diagnostic::at("manifest.too_many_env_files", &value.span(), message).with_help("name fewer files"));
            return Value::Broken;
        }
        let mut list = Vec::with_capacity(elements.len());
        for element in elements {
            let span = element.span();
            let read = match element.get_ref() {
                DeValue::Table(table) => {
                    let node = self.table(&schema_table::ENV_FILE, table, &span, path);
                    if node.get("path").is_some() { Value::Table(node) } else { self.missing(&span, path, "path") }
                }
                DeValue::String(_) => self.value(Kind::Text(&formats::PATH), element, path),
                _ => self.wrong_type(Kind::EnvFiles, element, path),
            };
            list.push(Entry { key: span.clone(), span, value: read });
        }
        Value::List(list)
    }

    fn string(&mut self, kind: Kind, text: &'t str, value: &'t Spanned<DeValue<'t>>, path: &KeyPath<'_>) -> Value<'t> {
        let span = value.span();
        if url::has_password(text) {
            return self.literal_password(kind, &span, path);
        }
        match kind {
            Kind::Size => match ByteSize::parse(text) {
                Ok(size) => Value::Size(size),
                Err(error) => {
                    let why = match &error {
                        SizeError::Unit { unit } if unit.is_empty() => {
                            "the unit is missing; write for example `2 GiB`".to_owned()
                        }
                        other => other.to_string(),
                    };
                    self.malformed("manifest.bad_size", &span, path, text, &why, normalize::size(text))
                }
            },
            Kind::Duration => match TimeSpan::parse(text) {
                Ok(duration) => Value::Duration(duration),
                Err(error) => {
                    self.malformed("manifest.bad_duration", &span, path, text, &error.to_string(), normalize::duration(text))
                }
            },
            Kind::Word(code, noun, words) => match words.iter().find(|word| **word == text) {
                Some(word) => Value::Word(word),
                None => self.unknown_word(code, noun, words, text, &span),
            },
            Kind::Tls => match text {
                "verify" => Value::Tls(Tls::Verify),
                "disable" => Value::Tls(Tls::Disable),
                _ => self.unknown_word(
                    "manifest.unknown_tls",
                    "a way to protect the connection",
                    schema_table::TLS_MODES,
                    text,
                    &span,
                ),
            },
            Kind::Release => self.shaped(&formats::RELEASE, text, &span, path).map_or(Value::Broken, Value::Text),
            Kind::Text(shape) => {
                self.not_interpolated(text, &span, path, None);
                self.shaped(shape, text, &span, path).map_or(Value::Broken, Value::Text)
            }
            Kind::TextOrSecret(shape) => self
                .shaped(shape, text, &span, path)
                .map_or(Value::Broken, |text| Value::TextOrSecret(TextValue::Literal(text.to_owned()))),
            _ => self.wrong_type(kind, value, path),
        }
    }

    fn shaped(
        &mut self,
        shape: &'static TextFormat,
        text: &'t str,
        span: &Range<usize>,
        path: &KeyPath<'_>,
    ) -> Option<&'t str> {
        let Some(violation) = shape.violation(&path.to_string(), text) else { return Some(text) };
        let problem = violation.at(span).with_allowed(shape.repaired(text));
        self.report(with_text(problem, span, shape.repaired(text)));
        None
    }

    fn malformed(
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

    fn unknown_word(
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

    fn count(&mut self, most: u32, number: &DeInteger<'_>, span: &Range<usize>, path: &KeyPath<'_>) -> Value<'t> {
        match u32::from_str_radix(number.as_str(), number.radix()).ok().filter(|count| (1..=most).contains(count)) {
            Some(count) => Value::Count(count),
            None => {
                let violation = specification::bad_count(&path.to_string(), &self.text[span.clone()], most);
                self.report(violation.at(span));
                Value::Broken
            }
        }
    }

    fn amount(&mut self, kind: Kind, number: Option<f64>, span: &Range<usize>, path: &KeyPath<'_>) -> Value<'t> {
        if let Kind::Money = kind {
            if let Some(money) = number.filter(|money| money.is_finite() && *money > 0.0 && *money <= 1e9) {
                return Value::Money(money);
            }
        } else if let Some(cores) = number.and_then(Cpus::from_cores) {
            return Value::Cores(cores);
        }
        let (code, help) = if let Kind::Money = kind {
            ("manifest.bad_amount", "it is an amount of US dollars above zero; leave it out for no ceiling")
        } else {
            ("manifest.bad_cpus", "it is a number of cores from 0.001 to 1024, with at most three decimals, such as `0.5`")
        };
        self.report(
            Diagnostic::at(code, span, format!("{path} cannot be {}", quoted(&self.text[span.clone()]))).with_help(help),
        );
        Value::Broken
    }

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
    fn reference(&mut self, value: &'t Spanned<DeValue<'t>>, path: &KeyPath<'_>) -> Option<SecretRef> {
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

    /// Warns of a text that others would fill in: `$NAME` and `${NAME}` are letters here. `variable` is the Convex variable whose
    /// value it is, where a reference could stand in its place.
    fn not_interpolated(&mut self, text: &str, span: &Range<usize>, path: &KeyPath<'_>, variable: Option<&str>) {
        let Some((name, is_whole)) = interpolated(text) else { return };
        let message = format!("{path} has `${name}` in it, which is not filled in: the value is these letters");
        let problem = Diagnostic::at("manifest.not_interpolated", span, message).as_warning();
        self.report(match variable {
            Some(own) => {
                let source = if is_whole { name } else { own };
                let reference = format!("{{ env = \"{source}\" }}");
                let help = if is_whole {
                    format!("write `{reference}` to take the value of that variable")
                } else {
                    format!("set `{source}` to the whole value where convexinfra runs, and write `{reference}`")
                };
                problem.with_help(help).with_edit(span, reference)
            }
            None => problem.with_help("write the value itself"),
        });
    }

    fn literal_secret(&mut self, span: &Range<usize>, path: &KeyPath<'_>) -> Value<'t> {
        // `"${NAME}"` is what others would have taken for a reference.
        let named = interpolated(self.text.get(span.clone()).unwrap_or_default().trim_matches(['"', '\'']));
        let variable = named.filter(|(_, is_whole)| *is_whole).map_or_else(|| path.variable(), |(name, _)| name.to_owned());
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

    fn literal_password(&mut self, kind: Kind, span: &Range<usize>, path: &KeyPath<'_>) -> Value<'t> {
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

    fn missing(&mut self, span: &Range<usize>, path: &KeyPath<'_>, key: &'static str) -> Value<'t> {
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

/// The first `$NAME` or `${NAME}` in a text, and whether it is the whole text.
fn interpolated(text: &str) -> Option<(&str, bool)> {
    for (at, _) in text.match_indices('$') {
        let rest = &text[at + 1..];
        let (rest, is_braced) = rest.strip_prefix('{').map_or((rest, false), |inner| (inner, true));
        let length = rest.find(|c: char| !(c.is_ascii_alphanumeric() || c == '_')).unwrap_or(rest.len());
        let name = &rest[..length];
        let is_closed = !is_braced || rest[length..].starts_with('}');
        let is_name = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_') && name.len() > 1;
        if is_name && is_closed && (at == 0 || !text[..at].ends_with(['$', '\\'])) {
            return Some((name, at == 0 && rest.len() == length + usize::from(is_braced)));
        }
    }
    None
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
fn with_text(problem: Diagnostic, span: &Range<usize>, text: Option<String>) -> Diagnostic {
    match text {
        Some(text) if !text.chars().any(|c| c.is_control() || matches!(c, '"' | '\\')) => {
            problem.with_edit(span, format!("\"{text}\""))
        }
        _ => problem,
    }
}

fn type_name(value: &DeValue<'_>) -> &'static str {
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
