//! What is said of a manifest stays short, however long the texts in it are: every key, with every kind of value.

use super::parse;
use super::schema_kind::{Kind, Table};
use super::schema_table::ROOT;

/// The length of a text that no key is meant for.
const LONG: usize = 32 << 10;
/// The most bytes that all problems of such a manifest say together.
const MOST_SAID: usize = 8 << 10;

/// The dotted paths of all keys below a table, each with what it takes.
fn keys(table: &'static Table, path: &str, found: &mut Vec<(String, Kind)>) {
    for key in table.keys() {
        let path = format!("{path}{}", key.name);
        match key.kind {
            Kind::Table(inner) => keys(inner, &format!("{path}."), found),
            Kind::Backends(inner) => keys(inner, &format!("{path}.dev."), found),
            _ => {}
        }
        found.push((path, key.kind));
    }
}

/// Returns how many bytes are said of a manifest, in messages, help, labels and lists.
fn said(text: &str) -> usize {
    let problems = match parse(text, None) {
        Ok(parsed) => parsed.warnings,
        Err(problems) => problems,
    };
    let size = |problem: &crate::model::Diagnostic| {
        let places = problem.span.iter().chain(&problem.related).filter_map(|span| span.label.as_ref()).map(String::len);
        let help = problem.help.as_ref().map_or(0, String::len);
        problem.message.len() + help + problem.allowed.iter().map(String::len).sum::<usize>() + places.sum::<usize>()
    };
    problems.iter().map(size).sum()
}

#[test]
fn nothing_that_is_said_grows_with_the_text_that_it_is_about() {
    let (mut found, long) = (Vec::new(), "a".repeat(LONG));
    keys(&ROOT, "", &mut found);
    assert!(found.len() > 80, "{}", found.len());
    for (path, kind) in found {
        let example = match kind {
            Kind::Text(shape) | Kind::TextOrSecret(shape) | Kind::Texts(shape) => shape.example,
            _ => "1",
        };
        let provider = path.split('.').nth(2).filter(|name| ["local", "docker", "fly", "kubernetes"].contains(name));
        for value in [
            format!("\"{long}\""),
            format!("\"{example}{long}\""),
            format!("\"https://{long}\""),
            format!("\"{example} {long}`\""),
            format!("[\"{example}{long}\", \"{long}\"]"),
            format!("{{ env = \"{long}\" }}"),
            format!("{{ file = \"{long}\" }}"),
            format!("{{ {long} = \"{long}\" }}"),
            "9".repeat(LONG),
        ] {
            let mut text = format!("{path} = {value}\n");
            if path != "project" {
                text.push_str("project = \"shop\"\n");
            }
            if path.starts_with("backends.") && !path.ends_with("provider") {
                text.push_str(&format!("backends.dev.provider = \"{}\"\n", provider.unwrap_or("simulated")));
            }
            let bytes = said(&text);
            assert!(bytes <= MOST_SAID, "{path} with {} …: {bytes} bytes", value.chars().take(24).collect::<String>());
        }
    }
    for text in [format!("{long} = 1\n"), format!("[{long}]\n"), format!("[backends.{long}]\n"), long.clone()] {
        assert!(said(&text) <= MOST_SAID, "{} …", text.chars().take(24).collect::<String>());
    }
}
