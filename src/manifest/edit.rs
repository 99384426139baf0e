//! Changes to a manifest that keep every comment and every blank where they are.
//!
//! Must not do: checking what a manifest means. Whoever edits parses the result before writing it.

use std::ops::Range;

use toml::Spanned;
use toml::de::{DeTable, DeValue};
use toml_edit::{DocumentMut, InlineTable, Item, Table, TableLike, Value};

/// The value of a field of a new backend.
#[derive(Debug, Clone, PartialEq)]
pub enum FieldText {
    /// A text, put in quotes.
    Text(String),
    /// A switch.
    Flag(bool),
    /// A whole number.
    Whole(i64),
    /// A number with a fraction.
    Decimal(f64),
    /// A list of texts.
    List(Vec<String>),
    /// `{ env = "NAME" }`
    Environment(String),
}

/// Why a manifest could not be edited.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EditError {
    /// The text is not TOML.
    #[error("the manifest is not TOML, so it cannot be edited; run `convexinfra validate` to see where it is broken")]
    Syntax,
    /// There is a backend of that name already.
    #[error("there is a backend `{name}` already; choose another name")]
    Exists {
        /// The name.
        name: String,
    },
    /// There is no backend of that name.
    #[error("there is no backend `{name}` in the manifest")]
    Missing {
        /// The name.
        name: String,
    },
    /// A key stands where a table would have to be.
    #[error("`{key}` is not a table in this manifest, so nothing can be put into it; write it as `[{key}]`")]
    NotATable {
        /// The key.
        key: String,
    },
}

fn document(text: &str) -> Result<DocumentMut, EditError> {
    text.parse::<DocumentMut>().map_err(|_| EditError::Syntax)
}

/// The same manifest with one more backend. Fields are named by their dotted path inside the backend's block, such as
/// `resources.memory`; nested ones become one inline table each.
///
/// # Errors
/// [`EditError`] when the text is not TOML or has such a backend already.
pub fn add_backend(text: &str, name: &str, fields: &[(String, FieldText)]) -> Result<String, EditError> {
    let mut document = document(text)?;
    let not_a_table = || EditError::NotATable { key: "backends".to_owned() };
    let exists = match document.get("backends") {
        None => false,
        Some(backends) => backends.as_table_like().ok_or_else(not_a_table)?.contains_key(name),
    };
    if exists {
        return Err(EditError::Exists { name: name.to_owned() });
    }
    // Appending keeps every byte that is there; only a table that no header can extend has to be changed inside.
    let mut appended = text.to_owned();
    if !appended.is_empty() && !appended.ends_with('\n') {
        appended.push('\n');
    }
    if !appended.trim().is_empty() {
        appended.push('\n');
    }
    appended.push_str(&render(name, block(fields)));
    if appended.parse::<DocumentMut>().is_err() {
        let table = document.get_mut("backends").and_then(Item::as_table_like_mut).ok_or_else(not_a_table)?;
        table.insert(name, Item::Value(Value::InlineTable(block(fields).into_inline_table())));
        appended = document.to_string();
    }
    let windows = text.contains("\r\n");
    Ok(if windows { appended.replace("\r\n", "\n").replace('\n', "\r\n") } else { appended })
}

/// A block as text, header and all.
fn render(name: &str, block: Table) -> String {
    let mut backends = Table::new();
    backends.set_implicit(true);
    backends.insert(name, Item::Table(block));
    let mut document = DocumentMut::new();
    document.insert("backends", Item::Table(backends));
    document.to_string()
}

fn block(fields: &[(String, FieldText)]) -> Table {
    let mut block = Table::new();
    for (path, field) in fields {
        match path.split_once('.') {
            None => {
                block.insert(path, Item::Value(value(field)));
            }
            Some((table, key)) => {
                let nested = block.entry(table).or_insert_with(|| Item::Value(Value::InlineTable(InlineTable::new())));
                if let Some(nested) = nested.as_inline_table_mut() {
                    nested.insert(key, value(field));
                }
            }
        }
    }
    block
}

fn value(field: &FieldText) -> Value {
    match field {
        FieldText::Text(text) => Value::from(text.as_str()),
        FieldText::Flag(flag) => Value::from(*flag),
        FieldText::Whole(number) => Value::from(*number),
        FieldText::Decimal(number) => Value::from(*number),
        FieldText::List(list) => Value::from_iter(list.iter().map(String::as_str)),
        FieldText::Environment(name) => {
            let mut table = InlineTable::new();
            table.insert("env", Value::from(name.as_str()));
            Value::InlineTable(table)
        }
    }
}

/// The same manifest with one more field in the block of a backend, below the fields that are there. A field that is
/// there already stays as it is.
///
/// # Errors
/// [`EditError`] when the text is not TOML or has no such backend.
pub fn add_field(text: &str, name: &str, key: &str, field: &FieldText) -> Result<String, EditError> {
    let mut document = document(text)?;
    let block = document
        .get_mut("backends")
        .and_then(Item::as_table_like_mut)
        .and_then(|backends| backends.get_mut(name))
        .ok_or_else(|| EditError::Missing { name: name.to_owned() })?;
    let dotted = block.as_table().is_some_and(Table::is_dotted);
    let block = block.as_table_like_mut().ok_or_else(|| EditError::NotATable { key: format!("backends.{name}") })?;
    if block.contains_key(key) {
        return Ok(text.to_owned());
    }
    block.insert(key, Item::Value(value(field)));
    if dotted {
        block.set_dotted(true);
    }
    let windows = text.contains("\r\n");
    let edited = document.to_string();
    Ok(if windows { edited.replace("\r\n", "\n").replace('\n', "\r\n") } else { edited })
}

/// The same manifest without one backend and without its name in anybody's `depends_on`.
///
/// The comment right above the block goes with it; every other byte stays.
///
/// # Errors
/// [`EditError`] when the text is not TOML or has no such backend.
pub fn remove_backend(text: &str, name: &str) -> Result<String, EditError> {
    let missing = || EditError::Missing { name: name.to_owned() };
    let has = |document: &DocumentMut| {
        document.get("backends").and_then(Item::as_table_like).is_some_and(|backends| backends.contains_key(name))
    };
    if !has(&document(text)?) {
        return Err(missing());
    }
    let mut left = without_blocks(text, name);
    let mut document = document(&left)?;
    let mut changed = has(&document);
    if let Some(backends) = document.get_mut("backends").and_then(Item::as_table_like_mut) {
        // A backend without a header of its own: between braces, or in dotted keys.
        backends.remove(name);
        for (_, item) in backends.iter_mut() {
            changed |= item.as_table_like_mut().is_some_and(|table| forget(table, name));
        }
    }
    if changed {
        left = document.to_string();
    }
    Ok(left)
}

/// Takes a name out of `depends_on`; says whether it was there.
fn forget(table: &mut dyn TableLike, name: &str) -> bool {
    let Some(list) = table.get_mut("depends_on").and_then(Item::as_array_mut) else { return false };
    let had = list.len();
    list.retain(|element| element.as_str() != Some(name));
    if list.len() == had {
        return false;
    }
    // The blank after a comma is not wanted behind the bracket.
    if let Some(first) = list.get_mut(0) {
        let prefix = first.decor().prefix().and_then(|prefix| prefix.as_str()).unwrap_or_default();
        if prefix.chars().all(|c| c == ' ' || c == '\t') {
            first.decor_mut().set_prefix("");
        }
    }
    if list.is_empty() {
        table.remove("depends_on");
    }
    true
}

/// The text without the blocks `[backends.NAME]` and `[backends.NAME.…]`.
fn without_blocks(text: &str, name: &str) -> String {
    let (tree, _) = DeTable::parse_recoverable(text);
    let tree = tree.into_inner();
    let block = tree.get("backends").and_then(|backends| backends.get_ref().as_table()).and_then(|backends| backends.get(name));
    let mut blocks = Vec::new();
    if let Some(block) = block {
        collect(text, block, &mut blocks);
    }
    blocks.sort_by_key(|block| block.start);
    let mut left = String::with_capacity(text.len());
    let mut done = 0;
    for block in blocks {
        let start = above(text, block.start).max(done);
        let line_end = text[block.end..].find('\n').map_or(text.len(), |offset| block.end + offset + 1);
        let rest = &text[line_end..];
        let mut end = line_end + (rest.len() - skip_blank_lines(rest).len());
        let mut kept = &text[done..start];
        if end == text.len() {
            // Nothing follows, so the blank lines before the block separate nothing any more.
            let trimmed = kept.trim_end();
            let newline = kept[trimmed.len()..].find('\n').map_or(0, |offset| offset + 1);
            kept = &kept[..trimmed.len() + newline];
        } else if kept.is_empty() || kept.ends_with("\n\n") || kept.ends_with("\n\r\n") {
            // The blank lines above serve what follows.
        } else {
            end = line_end;
        }
        left.push_str(kept);
        done = end;
    }
    left.push_str(&text[done..]);
    left
}

fn skip_blank_lines(text: &str) -> &str {
    let mut rest = text;
    while let Some((line, after)) = rest.split_once('\n').filter(|(line, _)| line.trim().is_empty()) {
        let _ = line;
        rest = after;
    }
    if rest.trim().is_empty() { "" } else { rest }
}

/// The start of the comment that belongs to the line of a header: the lines of comment right above it.
fn above(text: &str, header: usize) -> usize {
    let mut start = text[..header].rfind('\n').map_or(0, |newline| newline + 1);
    while start > 0 {
        let before = text[..start - 1].rfind('\n').map_or(0, |newline| newline + 1);
        if !text[before..start].trim_start().starts_with('#') || text[before..start].starts_with("#:") {
            break;
        }
        start = before;
    }
    start
}

/// Every block with a header: from the header to the end of its last value.
fn collect(text: &str, value: &Spanned<DeValue<'_>>, blocks: &mut Vec<Range<usize>>) {
    let Some(table) = value.get_ref().as_table() else { return };
    let span = value.span();
    if text.get(span.clone()).is_some_and(|written| written.starts_with('[')) {
        blocks.push(span.start..last_byte(text, value));
    }
    for inner in table.values() {
        collect(text, inner, blocks);
    }
}

fn last_byte(text: &str, value: &Spanned<DeValue<'_>>) -> usize {
    let inner = value.get_ref().as_table().into_iter().flat_map(|table| table.values());
    let own = inner.filter(|inner| !(inner.get_ref().is_table() && text[inner.span()].starts_with('[')));
    own.map(|inner| last_byte(text, inner)).fold(value.span().end, usize::max)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "# top\nproject = \"x\"   # why\n\n# about dev\n[backends.dev]\nprovider = \"docker\" # here\n\n# about staging\n[backends.staging]\nprovider = 'fly'\ndepends_on = [\"dev\"]\n[backends.staging.env]\nA = \"1\"\n# the end\n";

    fn fields() -> Vec<(String, FieldText)> {
        vec![
            ("provider".into(), FieldText::Text("docker".into())),
            ("dashboard".into(), FieldText::Flag(true)),
            ("resources.cpus".into(), FieldText::Decimal(0.5)),
            ("resources.memory".into(), FieldText::Text("1 GiB".into())),
        ]
    }

    #[test]
    fn a_new_backend_leaves_every_byte_before_it() {
        let added = add_backend(TEXT, "pr-7", &fields()).unwrap();
        assert_eq!(
            added,
            format!(
                "{TEXT}\n[backends.pr-7]\nprovider = \"docker\"\ndashboard = true\nresources = {{ cpus = 0.5, memory = \"1 GiB\" }}\n"
            )
        );
        assert_eq!(remove_backend(&added, "pr-7").unwrap(), TEXT);
        crate::manifest::parse(&added, None).unwrap();
        assert_eq!(add_backend(TEXT, "dev", &[]), Err(EditError::Exists { name: "dev".into() }));
        assert_eq!(add_backend("a = = 1", "dev", &[]), Err(EditError::Syntax));
        assert!(matches!(add_backend("backends = 1", "dev", &[]), Err(EditError::NotATable { .. })));
    }

    #[test]
    fn a_new_field_leaves_everything_else() {
        let file = FieldText::Text(".env.local".into());
        let added = add_field(TEXT, "dev", "env_file", &file).unwrap();
        assert_eq!(added, TEXT.replace("# here\n", "# here\nenv_file = \".env.local\"\n"));
        assert_eq!(add_field(&added, "dev", "env_file", &file).unwrap(), added);
        assert_eq!(add_field(TEXT, "nobody", "env_file", &file), Err(EditError::Missing { name: "nobody".into() }));
        for odd in [
            "project = \"x\"\nbackends.a.provider = \"simulated\" # a\n# b\n",
            "project = \"x\"\nbackends = { a = { provider = \"simulated\" } } # b\n",
            "project = \"x\"\n[backends]\na = { provider = \"simulated\" } # b\n",
            "project = \"x\"\n[backends.a] # b\r\nprovider = \"simulated\"\r\n[backends.a.env]\r\nX = 'y'\r\n",
        ] {
            let added = add_field(odd, "a", "env_file", &FieldText::Text("own.env".into())).unwrap();
            let parsed = crate::manifest::parse(&added, None).unwrap_or_else(|problems| panic!("{added}\n{problems:?}"));
            let target = parsed.desired.backends.values().next().unwrap().env_file.clone().unwrap();
            assert!(target.path == "own.env" && added.contains("# b"), "{added}");
        }
    }

    #[test]
    fn the_first_backend_and_odd_forms() {
        for text in [
            "",
            "project = \"x\"",
            "project = \"x\"\r\n",
            "project = \"x\"\n[backends]\n",
            "project = \"x\"\nbackends = {}\n",
            "# only words\n",
        ] {
            let added = add_backend(text, "dev", &fields()).unwrap();
            let project = crate::model::ProjectName::parse("x").unwrap();
            let parsed =
                crate::manifest::parse(&added, Some(&project)).unwrap_or_else(|problems| panic!("{added}\n{problems:?}"));
            assert_eq!(parsed.desired.backends.len(), 1, "{added}");
            assert!(added.starts_with(text.trim_end_matches(['\n', '\r', '}', '{', ' '])), "{added:?}");
            assert_eq!(added.contains("\r\n"), text.contains("\r\n"));
        }
    }

    #[test]
    fn removing_keeps_the_others_and_forgets_the_dependency() {
        let removed = remove_backend(TEXT, "dev").unwrap();
        assert_eq!(
            removed,
            "# top\nproject = \"x\"   # why\n\n# about staging\n[backends.staging]\nprovider = 'fly'\n[backends.staging.env]\nA = \"1\"\n# the end\n"
        );
        let removed = remove_backend(TEXT, "staging").unwrap();
        assert_eq!(removed, format!("{}# the end\n", &TEXT[..TEXT.find("# about staging").unwrap()]));
        for odd in [
            "backends.a.provider = 'x' # a\nb = 1 # b\n",
            "b = 1 # b\nbackends = { a = {} }\n",
            "[backends]\na = {}\n# b\n",
            "b = 1 # b\n[backends.a.env]\nX = 'y'",
        ] {
            let removed = remove_backend(odd, "a").unwrap();
            assert!(
                removed.contains("# b") && !removed.contains('a'.to_string().as_str()) || removed.contains("backends"),
                "{removed}"
            );
            assert!(remove_backend(&removed, "a").is_err());
        }
        assert_eq!(remove_backend(TEXT, "nobody"), Err(EditError::Missing { name: "nobody".into() }));
        let list = "[backends.a]\nprovider='fly'\n[backends.b]\ndepends_on = [\"a\", \"c\"] # both\n[backends.c]\n";
        assert!(remove_backend(list, "a").unwrap().contains("depends_on = [\"c\"] # both\n"));
    }
}
