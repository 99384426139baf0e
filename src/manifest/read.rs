//! From a TOML tree to a checked tree: unknown keys, wrong types and texts that do not have the shape of their key.

mod secret;
mod value;
mod wrong_value;

use std::fmt;
use std::ops::Range;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::formats;
use super::schema_table::{self, Key, Kind, ROOT, Table};
use super::suggest::{nearest, one_of, quoted};
use super::tree::{Entry, TableNode, Value};
use crate::model::Diagnostic;

/// What labels begin with that tools set for themselves: ours prove what belongs to a backend.
const OWNED_LABELS: [&str; 2] = ["convexinfra.", "com.docker.compose."];

/// Reads the root of a manifest.
pub(super) fn read<'t>(text: &'t str, tree: &'t DeTable<'t>, problems: &mut Vec<Diagnostic>) -> TableNode<'t> {
    let mut reader = Reader { text, problems, suggestions: 0 };
    let start = if text.starts_with('\u{feff}') { 3 } else { 0 };
    reader.table(&ROOT, tree, &(start..start), &KeyPath::ROOT)
}

/// How many unknown keys are compared with known ones: hostile texts have many.
const MOST_SUGGESTIONS: usize = 2_000;

/// The way to a key, from the root.
#[derive(Debug, Clone, Copy)]
struct KeyPath<'p> {
    parent: Option<&'p KeyPath<'p>>,
    name: &'p str,
}

impl<'p> KeyPath<'p> {
    const ROOT: Self = Self { parent: None, name: "" };

    fn child(&'p self, name: &'p str) -> Self {
        KeyPath { parent: Some(self), name }
    }

    fn names(&self) -> Vec<&'p str> {
        let mut names = Vec::new();
        let mut path = Some(self);
        while let Some(this) = path.filter(|this| this.parent.is_some()) {
            names.push(this.name);
            path = this.parent;
        }
        names.reverse();
        names
    }

    /// The variable that a secret at this place would naturally come from.
    fn variable(&self) -> String {
        let names = self.names();
        let words: Vec<String> = match names.as_slice() {
            [.., "env", name] if names.len() > 1 => vec![(*name).to_owned()],
            ["backends" | "defaults", rest @ ..] => rest.iter().map(|name| name.to_uppercase()).collect(),
            rest => rest.iter().map(|name| name.to_uppercase()).collect(),
        };
        let text: String = words.join("_").chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).take(200).collect();
        if text.starts_with(|c: char| c.is_ascii_digit()) { format!("_{text}") } else { text }
    }
}

/// The key and its table, as messages name it.
impl fmt::Display for KeyPath<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = self.names();
        let names = match names.as_slice() {
            ["backends", _, rest @ ..] | ["defaults", rest @ ..] if !rest.is_empty() => rest,
            all => all,
        };
        f.write_str(&quoted(&names.join(".")))
    }
}

struct Reader<'t, 'p> {
    text: &'t str,
    problems: &'p mut Vec<Diagnostic>,
    /// How many unknown keys were compared with known ones.
    suggestions: usize,
}

impl<'t> Reader<'t, '_> {
    fn report(&mut self, problem: Diagnostic) {
        self.problems.push(problem);
    }

    /// A table with known keys.
    fn table(
        &mut self,
        spec: &'static Table,
        table: &'t DeTable<'t>,
        span: &Range<usize>,
        path: &KeyPath<'_>,
    ) -> TableNode<'t> {
        let mut entries = Vec::with_capacity(table.len());
        for (key, value) in table {
            let name: &'t str = key.get_ref();
            let span = key.span();
            if let Some(known) = spec.key(name) {
                let read = self.value(known.kind, value, &path.child(name));
                entries.push((name, Entry { key: span, span: value.span(), value: read }));
                continue;
            }
            let meant = self.suggest_key(spec, name);
            let problem = self.unknown_key(spec, table, key, value, path, meant);
            self.report(problem);
            // What was misspelt is there, so no rule needs to miss it.
            if let Some(meant) = meant.filter(|meant| !table.contains_key(*meant)) {
                entries.push((meant, Entry { key: span, span: value.span(), value: Value::Broken }));
            }
        }
        TableNode { span: span.clone(), entries }
    }

    /// Returns the key that was most likely meant by an unknown one.
    fn suggest_key(&mut self, spec: &'static Table, name: &str) -> Option<&'static str> {
        self.suggestions += 1;
        if self.suggestions > MOST_SUGGESTIONS {
            return None;
        }
        let alias = spec.keys().find(|key| key.aliases.contains(&name)).map(|key| key.name);
        alias.or_else(|| nearest(name, spec.keys().map(|key| key.name)))
    }

    fn unknown_key(
        &mut self,
        spec: &'static Table,
        table: &DeTable<'_>,
        key: &Spanned<std::borrow::Cow<'_, str>>,
        value: &Spanned<DeValue<'_>>,
        path: &KeyPath<'_>,
        meant: Option<&'static str>,
    ) -> Diagnostic {
        let name: &str = key.get_ref();
        let span = key.span();
        if spec.shared && schema_table::BACKEND.key(name).is_some() {
            return Diagnostic::at(
                "manifest.not_a_default",
                &span,
                format!("{} belongs to one backend, so it has no default", quoted(name)),
            )
            .with_help("move it into the blocks of the backends that it is meant for")
            .with_allowed(spec.keys().map(|key| key.name));
        }
        if self.suggestions > MOST_SUGGESTIONS {
            return Diagnostic::at("manifest.unknown_key", &span, format!("{} is not a key here", quoted(name)))
                .with_help("`convexinfra schema` shows the keys that there are");
        }
        let place = if path.parent.is_none() { "the manifest".to_owned() } else { path.to_string() };
        let problem = Diagnostic::at("manifest.unknown_key", &span, format!("{} is not a key of {place}", quoted(name)))
            .with_allowed(spec.keys().map(|key| key.name));
        if let Some(meant) = meant {
            let help = format!("did you mean `{meant}`?");
            // A table that several headers open has several keys to change, and a key that is there already cannot come twice.
            let headers = value.get_ref().as_table().is_some_and(|inner| value.span() == span && inner.len() > 1);
            let problem = problem.with_label(format!("`{meant}`?"));
            return if table.contains_key(meant) || headers {
                problem.with_help(help)
            } else {
                problem.with_help(help).with_edit(&span, meant)
            };
        }
        if matches!(name, "port" | "ports") && spec.key("origins").is_some() {
            return problem
                .with_help("the control plane hands ports out and keeps them; `convexinfra status` shows where a backend is, and `origins` says where clients reach it through a proxy");
        }
        if let Some((inner, key)) = nested_key_suggestion(spec, name) {
            return problem.with_help(format!("it belongs into `{inner}`: `{inner} = {{ {key} = … }}`"));
        }
        if path.parent.is_none() && value.get_ref().as_table().is_some_and(|inner| inner.contains_key("provider")) {
            let problem = problem.with_help(format!("a backend is written `[backends.{name}]`"));
            let header = self.text.get(value.span()).is_some_and(|header| header.starts_with('[') && !header.starts_with("[["));
            let alone = value.get_ref().as_table().is_some_and(|inner| inner.values().all(|value| !value.get_ref().is_table()));
            let backends = table.get("backends").and_then(|backends| backends.get_ref().as_table());
            let taken = backends.is_some_and(|backends| backends.contains_key(name));
            return if header && alone && !taken { problem.with_edit(&(span.start..span.start), "backends.") } else { problem };
        }
        problem.with_help(format!("the keys here are {}", one_of(spec.keys().map(|key| key.name))))
    }

    /// A table whose keys the user chooses.
    fn named(
        &mut self,
        spec: &'static Table,
        table: &'t DeTable<'t>,
        span: &Range<usize>,
        path: &KeyPath<'_>,
    ) -> TableNode<'t> {
        let noun = if std::ptr::eq(spec, &raw const schema_table::SERVER) { "server" } else { "backend" };
        let mut entries = Vec::with_capacity(table.len());
        for (key, value) in table {
            let name: &'t str = key.get_ref();
            if !(formats::NAME.matches)(name) {
                let mut problem =
                    Diagnostic::at(formats::NAME.code, &key.span(), format!("{} is not a name for a {noun}", quoted(name)))
                        .with_help(formats::NAME.allowed);
                let headers = value.get_ref().as_table().is_some_and(|inner| value.span() == key.span() && inner.len() > 1);
                if let Some(meant) =
                    formats::NAME.repaired(name).filter(|meant| !table.contains_key(meant.as_str()) && !headers)
                {
                    problem = problem.with_label(format!("`{meant}`?")).with_edit(&key.span(), meant);
                }
                self.report(problem);
            }
            let read = self.value(Kind::Table(spec), value, &path.child(name));
            entries.push((name, Entry { key: key.span(), span: value.span(), value: read }));
        }
        TableNode { span: span.clone(), entries }
    }

    fn labels(&mut self, table: &'t DeTable<'t>, span: &Range<usize>, path: &KeyPath<'_>) -> TableNode<'t> {
        let mut entries = Vec::with_capacity(table.len());
        for (key, value) in table {
            let name: &'t str = key.get_ref();
            let read = if OWNED_LABELS.iter().any(|prefix| name.starts_with(prefix)) {
                let message = format!("the label {} belongs to the tool that sets it", quoted(name));
                let help = format!("labels that start with {} are not yours to set", one_of(OWNED_LABELS.iter().copied()));
                self.report(Diagnostic::at("manifest.reserved_label", &key.span(), message).with_help(help));
                Value::Broken
            } else {
                self.value(Kind::Text(&formats::LINE), value, &path.child(name))
            };
            entries.push((name, Entry { key: key.span(), span: value.span(), value: read }));
        }
        TableNode { span: span.clone(), entries }
    }

    fn variables(&mut self, table: &'t DeTable<'t>, span: &Range<usize>, path: &KeyPath<'_>) -> TableNode<'t> {
        let mut entries = Vec::with_capacity(table.len());
        for (key, value) in table {
            let name: &'t str = key.get_ref();
            let read = self.variable(name, key.span(), value, &path.child(name), |meant| table.contains_key(meant));
            entries.push((name, Entry { key: key.span(), span: value.span(), value: read }));
        }
        TableNode { span: span.clone(), entries }
    }

    fn tables(&mut self, spec: &'static Table, value: &'t Spanned<DeValue<'t>>, path: &KeyPath<'_>) -> Value<'t> {
        let Some(array) = value.get_ref().as_array() else {
            return self.wrong_type(Kind::Tables(spec), value, path);
        };
        let mut list = Vec::with_capacity(array.len());
        for element in array.iter() {
            let read = self.value(Kind::Table(spec), element, path);
            list.push(Entry { key: element.span(), span: element.span(), value: read });
        }
        Value::List(list)
    }
}

/// The table inside this one that knows the key, and how it is written there.
fn nested_key_suggestion(spec: &'static Table, name: &str) -> Option<(&'static str, &'static str)> {
    let inner =
        || spec.keys().filter_map(|key: &Key| if let Kind::Table(inner) = key.kind { Some((key.name, inner)) } else { None });
    let exact = inner().find_map(|(table, inner)| Some((table, inner.key(name)?.name)));
    // Short words are near to one another by accident.
    let near = || inner().find_map(|(table, inner)| Some((table, nearest(name, inner.keys().map(|key| key.name))?)));
    exact.or_else(|| (name.len() > 5).then(near).flatten())
}
