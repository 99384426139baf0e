//! The reference of every key as Markdown, rendered from the same table that the reader checks against.

use super::schema_table::{BACKEND, DEFAULTS, Key, Kind, ROOT, SECRET, TLS, Table};

/// Renders every table of a manifest with its keys: the section *Keys* of `docs/manifest.md`.
pub fn reference() -> String {
    let mut text = String::new();
    section(&mut text, "", &ROOT);
    section(&mut text, "`{ env = … }` or `{ file = … }`", &SECRET);
    section(&mut text, "`tls = { … }`", &TLS);
    text
}

/// Appends a table and, behind it, the tables inside it. `path` is its heading's path, such as `backends.NAME`.
fn section(text: &mut String, path: &str, table: &Table) {
    let heading = match path {
        "" => "At the top".to_owned(),
        path if path.starts_with('`') => path.to_owned(),
        path => format!("`[{path}]`"),
    };
    text.push_str(&format!("### {heading}\n\n{}.\n\n| key | takes | meaning |\n|---|---|---|\n", table.title));
    for key in table.keys() {
        text.push_str(&row(key));
    }
    text.push('\n');
    for key in table.keys() {
        let inner = if path.is_empty() { key.name.to_owned() } else { format!("{path}.{}", key.name) };
        match key.kind {
            // Every backend starts from the defaults, so those are described once, at the backends.
            Kind::Table(table) if std::ptr::eq(table, &DEFAULTS) => {}
            Kind::Backends(table) if std::ptr::eq(table, &BACKEND) => section(text, "backends.NAME", table),
            Kind::Servers(table) => section(text, "servers.NAME", table),
            Kind::Table(table) | Kind::Backends(table) => section(text, &inner, table),
            Kind::Tables(table) => section(text, &format!("[{inner}]"), table),
            _ => {}
        }
    }
}

fn row(key: &Key) -> String {
    let (takes, example) = key.expects();
    let takes = match key.kind {
        Kind::Word(_, _, words) => words.iter().map(|word| format!("`\"{word}\"`")).collect::<Vec<_>>().join(", "),
        Kind::Flag => takes,
        Kind::Table(_) | Kind::Backends(_) | Kind::Servers(_) | Kind::Tables(_) => format!("{takes}, below"),
        _ => format!("{takes}, such as `{example}`"),
    };
    let own = if key.own { " Not in `[defaults]`." } else { "" };
    format!("| `{}` | {} | {}{own} |\n", key.name, takes.replace('|', "\\|"), key.doc.replace('|', "\\|"))
}
