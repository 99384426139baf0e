//! Reads one value, checked against what its key takes.

use std::ops::Range;

use toml::Spanned;
use toml::de::{DeArray, DeInteger, DeTable, DeValue};

use super::super::formats::{self, TextFormat};
use super::super::normalize;
use super::super::schema_table::{self, Kind};
use super::super::suggest::quoted;
use super::super::tree::{Entry, Value};
use super::super::url;
use super::wrong_value::with_text;
use super::{KeyPath, Reader};
use crate::model::{ByteSize, Cpus, Diagnostic, RouteTls, SizeError, TextValue, TimeSpan, Tls};
use crate::policy::specification;

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
            (Kind::Backends(spec) | Kind::Servers(spec), DeValue::Table(table)) => {
                Value::Table(self.named(spec, table, &span, path))
            }
            (Kind::Labels, DeValue::Table(table)) => Value::Table(self.labels(table, &span, path)),
            (Kind::Variables, DeValue::Table(table)) => Value::Table(self.variables(table, &span, path)),
            (Kind::Tables(spec), _) => self.tables(spec, value, path),
            (Kind::Secret, DeValue::Table(_)) => self.reference(value, path).map_or(Value::Broken, Value::Secret),
            (Kind::Secret, DeValue::String(_)) => self.literal_secret(&span, path),
            (Kind::TextOrSecret(_), DeValue::Table(_)) => {
                self.reference(value, path).map_or(Value::Broken, |found| Value::TextOrSecret(TextValue::Reference(found)))
            }
            (Kind::Release, DeValue::Table(table)) => self.pinned_release(table, &span, path),
            (Kind::Tls, DeValue::Table(table)) => self.tls(table, &span, path),
            (Kind::RouteTls, DeValue::Table(table)) => self.route_tls(table, &span, path),
            (Kind::EnvFiles, _) => self.env_files(value, path),
            (Kind::Names | Kind::Texts(_), DeValue::Array(array)) => self.texts(kind, array, path),
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

    fn pinned_release(&mut self, table: &'t DeTable<'t>, span: &Range<usize>, path: &KeyPath<'_>) -> Value<'t> {
        let node = self.table(&schema_table::PINNED_RELEASE, table, span, path);
        match (node.get("tag"), node.get("sha256")) {
            (Some(tag), Some(sha256)) => match (tag.text(), sha256.text()) {
                (Some(tag), Some(sha256)) => Value::PinnedRelease { tag, sha256 },
                _ => Value::Broken,
            },
            (None, _) => self.missing(span, path, "tag"),
            (_, None) => self.missing(span, path, "sha256"),
        }
    }

    fn tls(&mut self, table: &'t DeTable<'t>, span: &Range<usize>, path: &KeyPath<'_>) -> Value<'t> {
        let node = self.table(&schema_table::TLS, table, span, path);
        match node.get("ca").map(|entry| &entry.value) {
            Some(Value::Text(file)) => Value::Tls(Tls::Ca((*file).to_owned())),
            Some(_) => Value::Broken,
            None if table.is_empty() => self.missing(span, path, "ca"),
            None => Value::Broken,
        }
    }

    fn route_tls(&mut self, table: &'t DeTable<'t>, span: &Range<usize>, path: &KeyPath<'_>) -> Value<'t> {
        let node = self.table(&schema_table::ROUTE_TLS, table, span, path);
        if let Some(acme) = node.get("acme") {
            let foreign = ["cert", "key"].into_iter().find_map(|key| node.get(key).map(|entry| (key, entry)));
            if let Some((key, entry)) = foreign {
                let message =
                    format!("{path} has `acme` and `{key}`: an authority gives certificates out, or they are your own");
                self.report(
                    Diagnostic::at("manifest.two_certificates", &entry.key, message).with_help("leave one of the two out"),
                );
                return Value::Broken;
            }
            return match (&acme.value, node.get("root").map(|entry| &entry.value)) {
                (Value::Text(directory), None) => {
                    Value::RouteTls(RouteTls::Acme { directory: (*directory).to_owned(), root: None })
                }
                (Value::Text(directory), Some(Value::Secret(root))) => {
                    Value::RouteTls(RouteTls::Acme { directory: (*directory).to_owned(), root: Some(root.clone()) })
                }
                _ => Value::Broken,
            };
        }
        if node.get("root").is_some() {
            return self.missing(span, path, "acme");
        }
        match (node.get("cert").map(|entry| &entry.value), node.get("key").map(|entry| &entry.value)) {
            (Some(Value::Secret(cert)), Some(Value::Secret(key))) => {
                Value::RouteTls(RouteTls::Certificate { cert: cert.clone(), key: key.clone() })
            }
            (None, _) => self.missing(span, path, "cert"),
            (_, None) => self.missing(span, path, "key"),
            _ => Value::Broken,
        }
    }

    /// Reads a list of names, or of texts of one format.
    fn texts(&mut self, kind: Kind, array: &'t DeArray<'t>, path: &KeyPath<'_>) -> Value<'t> {
        let mut list = Vec::with_capacity(array.len());
        for element in array.iter() {
            let span = element.span();
            let read = match (kind, element.get_ref()) {
                (Kind::Texts(format), _) => self.value(Kind::Text(format), element, path),
                (_, DeValue::String(text)) => Value::Text(text),
                _ => self.wrong_type(Kind::Text(&formats::NAME), element, path),
            };
            list.push(Entry { key: span.clone(), span, value: read });
        }
        Value::List(list)
    }

    /// Reads one env file or a list of them, as a list of paths and tables.
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
            Kind::RouteTls => match text {
                "auto" => Value::RouteTls(RouteTls::Auto),
                "internal" => Value::RouteTls(RouteTls::Internal),
                _ => self.unknown_word("manifest.unknown_route_tls", "a source of certificates", &RouteTls::WORDS, text, &span),
            },
            Kind::Release => self.shaped(&formats::RELEASE, text, &span, path).map_or(Value::Broken, Value::Text),
            Kind::Text(shape) => {
                self.not_interpolated(text, &span, path, None);
                self.shaped(shape, text, &span, path).map_or(Value::Broken, Value::Text)
            }
            Kind::TextOrSecret(shape) => {
                self.not_interpolated(text, &span, path, None);
                let text = self.shaped(shape, text, &span, path);
                text.map_or(Value::Broken, |text| Value::TextOrSecret(TextValue::Literal(text.to_owned())))
            }
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
}
