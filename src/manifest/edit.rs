//! Changes to a manifest that keep every comment and every blank where they are.

use std::ops::Range;

use crate::model::Edit;
use toml::Spanned;
use toml::de::{DeTable, DeValue};
use toml_edit::{Array, DocumentMut, InlineTable, Item, Table, TableLike, Value};

/// The value of a field of a new backend.
#[derive(Debug, Clone, PartialEq)]
pub enum FieldLiteral {
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
    /// Any value, as TOML writes it.
    Toml(String),
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

/// Returns a manifest with one more backend. Fields are named by their dotted path inside the backend's block, such as
/// `resources.memory`; nested ones become one inline table each.
///
/// # Errors
/// [`EditError`] when the text is not TOML or has such a backend already.
pub fn add_backend(text: &str, name: &str, fields: &[(String, FieldLiteral)]) -> Result<String, EditError> {
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
    Ok(with_line_ends_of(text, appended))
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

fn block(fields: &[(String, FieldLiteral)]) -> Table {
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

fn value(field: &FieldLiteral) -> Value {
    match field {
        FieldLiteral::Text(text) => Value::from(text.as_str()),
        FieldLiteral::Flag(flag) => Value::from(*flag),
        FieldLiteral::Whole(number) => Value::from(*number),
        FieldLiteral::Decimal(number) => Value::from(*number),
        FieldLiteral::Toml(text) => text.parse().unwrap_or_else(|_| Value::from(text.as_str())),
        FieldLiteral::List(list) => Value::from_iter(list.iter().map(String::as_str)),
        FieldLiteral::Environment(name) => {
            let mut table = InlineTable::new();
            table.insert("env", Value::from(name.as_str()));
            Value::InlineTable(table)
        }
    }
}

/// Returns a manifest with one more field in the block of a backend, below the fields that are there. A field that is
/// there already stays as it is.
///
/// # Errors
/// [`EditError`] when the text is not TOML or has no such backend.
pub fn add_field(text: &str, name: &str, key: &str, field: &FieldLiteral) -> Result<String, EditError> {
    let mut is_there = false;
    let edited = edit_block(text, name, |block| {
        is_there = block.contains_key(key);
        if !is_there {
            block.insert(key, Item::Value(value(field)));
        }
    })?;
    Ok(if is_there { text.to_owned() } else { edited })
}

/// Returns a manifest whose backend has another block: what `edit` makes of its fields.
pub(super) fn edit_block(text: &str, name: &str, edit: impl FnOnce(&mut dyn TableLike)) -> Result<String, EditError> {
    let mut document = document(text)?;
    let block = document
        .get_mut("backends")
        .and_then(Item::as_table_like_mut)
        .and_then(|backends| backends.get_mut(name))
        .ok_or_else(|| EditError::Missing { name: name.to_owned() })?;
    let is_dotted = block.as_table().is_some_and(Table::is_dotted);
    edit(block.as_table_like_mut().ok_or_else(|| EditError::NotATable { key: format!("backends.{name}") })?);
    // A new key gives a block of dotted keys a header otherwise.
    if let Some(table) = block.as_table_mut() {
        table.set_dotted(is_dotted);
    }
    Ok(with_line_ends_of(text, document.to_string()))
}

/// Returns an edited text with the line ends of the one before.
fn with_line_ends_of(before: &str, edited: String) -> String {
    if before.contains("\r\n") { edited.replace("\r\n", "\n").replace('\n', "\r\n") } else { edited }
}

/// Returns the one edit that adds a field to the block of a backend; none where the text is not TOML or has no such backend.
pub fn field_edit(text: &str, name: &str, key: &str, field: &FieldLiteral) -> Option<Edit> {
    let edited = add_field(text, name, key, field).ok().filter(|edited| edited != text)?;
    let mut start = text.bytes().zip(edited.bytes()).take_while(|(one, other)| one == other).count();
    while !text.is_char_boundary(start) || !edited.is_char_boundary(start) {
        start -= 1;
    }
    let rest = text.len().min(edited.len()) - start;
    let mut same = text.bytes().rev().zip(edited.bytes().rev()).take(rest).take_while(|(one, other)| one == other).count();
    while !text.is_char_boundary(text.len() - same) || !edited.is_char_boundary(edited.len() - same) {
        same -= 1;
    }
    Some(Edit { start, end: text.len() - same, replacement: edited[start..edited.len() - same].to_owned() })
}

/// Returns a manifest without one backend, without its name in any `depends_on`, and without the `[[moved]]` entries
/// that lead to it.
///
/// The comment right above a block goes with it; every other byte stays.
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
            changed |= item.as_table_like_mut().is_some_and(|table| remove_dependency(table, name));
        }
    }
    changed |= remove_moves(&mut document, name);
    if changed {
        left = with_line_ends_of(text, document.to_string());
    }
    Ok(left)
}

/// Takes the entries that lead to a name out of a list `moved` without headers; says whether there were any.
fn remove_moves(document: &mut DocumentMut, name: &str) -> bool {
    let Some(list) = document.get_mut("moved").and_then(Item::as_array_mut) else { return false };
    let had = list.len();
    let leads_there = |entry: &Value| entry.as_inline_table().and_then(|entry| entry.get("to")?.as_str()) == Some(name);
    list.retain(|entry| !leads_there(entry));
    let (left, none) = (list.len(), list.is_empty());
    without_blank_in_front(list);
    if none {
        document.remove("moved");
    }
    left != had
}

/// Takes a name out of `depends_on`; says whether it was there.
fn remove_dependency(table: &mut dyn TableLike, name: &str) -> bool {
    let Some(list) = table.get_mut("depends_on").and_then(Item::as_array_mut) else { return false };
    let had = list.len();
    list.retain(|element| element.as_str() != Some(name));
    if list.len() == had {
        return false;
    }
    without_blank_in_front(list);
    if list.is_empty() {
        table.remove("depends_on");
    }
    true
}

/// The blank after a comma is not wanted behind the bracket.
fn without_blank_in_front(list: &mut Array) {
    if let Some(first) = list.get_mut(0) {
        let prefix = first.decor().prefix().and_then(|prefix| prefix.as_str()).unwrap_or_default();
        if prefix.chars().all(|c| c == ' ' || c == '\t') {
            first.decor_mut().set_prefix("");
        }
    }
}

/// The text without the blocks `[backends.NAME]` and `[backends.NAME.…]`, and without each block `[[moved]]` that leads to
/// that name.
fn without_blocks(text: &str, name: &str) -> String {
    let (tree, _) = DeTable::parse_recoverable(text);
    let tree = tree.into_inner();
    let block = tree.get("backends").and_then(|backends| backends.get_ref().as_table()).and_then(|backends| backends.get(name));
    let mut blocks = Vec::new();
    if let Some(block) = block {
        collect_blocks(text, block, &mut blocks);
    }
    let moves = tree.get("moved").and_then(|moved| moved.get_ref().as_array());
    for entry in moves.into_iter().flatten() {
        let to = entry.get_ref().as_table().and_then(|entry| entry.get("to")?.get_ref().as_str());
        if to == Some(name) {
            collect_blocks(text, entry, &mut blocks);
        }
    }
    blocks.sort_by_key(|block| block.start);
    let mut left = String::with_capacity(text.len());
    let mut done = 0;
    for block in blocks {
        let start = comment_start(text, block.start).max(done);
        let line_end = text[block.end..].find('\n').map_or(text.len(), |offset| block.end + offset + 1);
        let rest = &text[line_end..];
        let mut end = line_end + (rest.len() - skip_blank_lines(rest).len());
        let kept = &text[done..start];
        if end == text.len() {
            // Nothing follows, so the blank lines before the block separate nothing any more.
            left.push_str(kept);
            let trimmed = left.trim_end().len();
            let newline = left[trimmed..].find('\n').map_or(0, |offset| offset + 1);
            left.truncate(trimmed + newline);
            return left;
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
fn comment_start(text: &str, header: usize) -> usize {
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
fn collect_blocks(text: &str, value: &Spanned<DeValue<'_>>, blocks: &mut Vec<Range<usize>>) {
    let Some(table) = value.get_ref().as_table() else { return };
    let span = value.span();
    if text.get(span.clone()).is_some_and(|written| written.starts_with('[')) {
        blocks.push(span.start..last_byte(text, value));
    }
    for inner in table.values() {
        collect_blocks(text, inner, blocks);
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

    fn fields() -> Vec<(String, FieldLiteral)> {
        vec![
            ("provider".into(), FieldLiteral::Text("docker".into())),
            ("dashboard".into(), FieldLiteral::Flag(true)),
            ("resources.cpus".into(), FieldLiteral::Decimal(0.5)),
            ("resources.memory".into(), FieldLiteral::Text("1 GiB".into())),
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
        let file = FieldLiteral::Text(".env.local".into());
        let added = add_field(TEXT, "dev", "env_file", &file).unwrap();
        assert_eq!(added, TEXT.replace("# here\n", "# here\nenv_file = \".env.local\"\n"));
        assert_eq!(add_field(&added, "dev", "env_file", &file).unwrap(), added);
        let edit = field_edit(TEXT, "dev", "env_file", &file).unwrap();
        let applied = format!("{}{}{}", &TEXT[..edit.start], edit.replacement, &TEXT[edit.end..]);
        assert_eq!((applied, edit.end - edit.start), (added.clone(), 0));
        assert_eq!(add_field(TEXT, "nobody", "env_file", &file), Err(EditError::Missing { name: "nobody".into() }));
        for odd in [
            "project = \"x\"\nbackends.a.provider = \"simulated\" # a\n# b\n",
            "project = \"x\"\nbackends = { a = { provider = \"simulated\" } } # b\n",
            "project = \"x\"\n[backends]\na = { provider = \"simulated\" } # b\n",
            "project = \"x\"\n[backends.a] # b\r\nprovider = \"simulated\"\r\n[backends.a.env]\r\nX = 'y'\r\n",
        ] {
            let added = add_field(odd, "a", "env_file", &FieldLiteral::Text("own.env".into())).unwrap();
            let parsed = crate::manifest::parse(&added, None).unwrap_or_else(|problems| panic!("{added}\n{problems:?}"));
            let target = parsed.desired.backends.values().next().unwrap().env_files[0].clone();
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
        let crlf = TEXT.replace('\n', "\r\n");
        assert_eq!(remove_backend(&crlf, "dev").unwrap(), remove_backend(TEXT, "dev").unwrap().replace('\n', "\r\n"));
        assert_eq!(remove_backend(TEXT, "nobody"), Err(EditError::Missing { name: "nobody".into() }));
        let list = "[backends.a]\nprovider='fly'\n[backends.b]\ndepends_on = [\"a\", \"c\"] # both\n[backends.c]\n";
        assert!(remove_backend(list, "a").unwrap().contains("depends_on = [\"c\"] # both\n"));
    }

    #[test]
    fn removing_takes_the_renames_to_it_along() {
        let blocks = "project = \"x\"\n\n# renamed in May\n[[moved]]\nfrom = \"old\"\nto = \"dev\" # the first\n\n# renamed in June\n[[moved]]\nfrom = \"older\"\nto = \"staging\"\n\n[backends.dev]\nprovider = \"simulated\"\n\n[backends.staging]\nprovider = \"simulated\"\n";
        let removed = remove_backend(blocks, "dev").unwrap();
        assert_eq!(
            removed,
            "project = \"x\"\n\n# renamed in June\n[[moved]]\nfrom = \"older\"\nto = \"staging\"\n\n[backends.staging]\nprovider = \"simulated\"\n"
        );
        crate::manifest::parse(&removed, None).unwrap();
        let removed = remove_backend(&removed, "staging").unwrap();
        assert_eq!(removed, "project = \"x\"\n");
        let rest = "project = \"x\" # why\n[backends.dev]\nprovider = \"simulated\"\n[backends.b]\nprovider = \"simulated\"\n";
        for (odd, left) in [
            ("moved = [{ from = \"old\", to = \"dev\" }]\n", ""),
            (
                "moved = [{ from = \"old\", to = \"dev\" }, { from = \"a\", to = \"b\" }] # two\n",
                "moved = [{ from = \"a\", to = \"b\" }] # two\n",
            ),
            (
                "moved = [\n  { from = \"a\", to = \"b\" },\n  { from = \"old\", to = \"dev\" },\n]\n",
                "moved = [\n  { from = \"a\", to = \"b\" },\n]\n",
            ),
        ] {
            let removed = remove_backend(&format!("{odd}{rest}"), "dev").unwrap();
            crate::manifest::parse(&removed, None).unwrap_or_else(|problems| panic!("{removed}\n{problems:?}"));
            assert_eq!(removed, format!("{left}project = \"x\" # why\n[backends.b]\nprovider = \"simulated\"\n"),);
        }
    }
}
