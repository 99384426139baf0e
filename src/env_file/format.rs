//! Credentials as text for other programs: dotenv, JSON, a shell, GitHub Actions.

use std::fmt::Write as _;

use serde_json::{Map, Value};

use super::block::{ADMIN_KEY, Block, ClientKind, URL};

/// For whom the credentials are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// Lines for a dotenv file.
    Dotenv,
    /// One JSON object.
    Json,
    /// Lines for `eval` in a POSIX shell, and for `source` in fish.
    Shell,
    /// Lines for the file that `GITHUB_ENV` names.
    GitHub,
}

/// The credentials in a format, each line with its line break.
pub fn render(block: &Block, format: Format) -> String {
    let variables = variables(block);
    let mut text = String::new();
    for (name, value) in &variables {
        // Writing to a string does not fail.
        let _ = match format {
            Format::Dotenv if name == ADMIN_KEY => writeln!(text, "{name}='{value}'"),
            Format::Dotenv => writeln!(text, "{name}={value}"),
            Format::Shell => writeln!(text, "export {name}='{}'", value.replace('\'', r"'\''")),
            Format::GitHub => writeln!(text, "{}", github(name, value)),
            Format::Json => Ok(()),
        };
    }
    if format == Format::Json {
        let object: Map<String, Value> = variables.into_iter().map(|(name, value)| (name, Value::String(value))).collect();
        text = format!("{:#}\n", Value::Object(object));
    }
    text
}

fn variables(block: &Block) -> Vec<(String, String)> {
    let mut variables = Vec::new();
    if let Some(admin_key) = &block.admin_key {
        variables.push((URL.to_owned(), block.url.clone()));
        variables.push((ADMIN_KEY.to_owned(), admin_key.expose().to_owned()));
    }
    if let Some(client) = &block.client {
        variables.push((ClientKind::Url.name(&client.prefix), block.url.clone()));
        variables.push((ClientKind::SiteUrl.name(&client.prefix), client.site_url.clone()));
    }
    variables
}

/// One line where it is safe, else GitHub's form with a delimiter that does not occur in the value.
fn github(name: &str, value: &str) -> String {
    // The runner takes a line as `NAME=value` only when no `<<` stands before the first `=`; names have none.
    if !value.contains(['\n', '\r']) {
        return format!("{name}={value}");
    }
    let mut delimiter = String::from("CONVEXINFRA");
    while value.contains(&delimiter) {
        delimiter.push('_');
    }
    format!("{name}<<{delimiter}\n{value}\n{delimiter}")
}

#[cfg(test)]
mod tests {
    use super::super::block::{BlockOwner, ClientVariables};
    use super::super::parse::Document;
    use super::*;
    use crate::model::{BackendName, ProjectName, Secret};

    fn block() -> Block {
        let owner = BlockOwner { project: ProjectName::parse("gremlin").unwrap(), backend: BackendName::parse("dev").unwrap() };
        let client = ClientVariables { prefix: "VITE_".to_owned(), site_url: "http://127.0.0.1:3211".to_owned() };
        Block::new(owner, "http://127.0.0.1:3210", Some(Secret::new("gremlin-dev|01ab")), Some(client)).unwrap()
    }

    #[test]
    fn dotenv_reads_back() {
        let text = render(&block(), Format::Dotenv);
        assert_eq!(Document::parse(text.as_bytes()).value(ADMIN_KEY), Some("gremlin-dev|01ab"));
        assert!(text.ends_with("VITE_CONVEX_URL=http://127.0.0.1:3210\nVITE_CONVEX_SITE_URL=http://127.0.0.1:3211\n"));
    }

    #[test]
    fn json_is_one_object() {
        let value: Value = serde_json::from_str(&render(&block(), Format::Json)).unwrap();
        assert_eq!(value[ADMIN_KEY], "gremlin-dev|01ab");
        assert_eq!(value.as_object().unwrap().len(), 4);
    }

    #[test]
    fn shells_and_runners() {
        assert!(render(&block(), Format::Shell).contains("export CONVEX_SELF_HOSTED_ADMIN_KEY='gremlin-dev|01ab'\n"));
        assert!(render(&block(), Format::GitHub).starts_with("CONVEX_SELF_HOSTED_URL=http://127.0.0.1:3210\n"));
        assert_eq!(github("A", "x\nCONVEXINFRA"), "A<<CONVEXINFRA_\nx\nCONVEXINFRA\nCONVEXINFRA_");
    }
}
