//! The documents of all tables: listing them, and taking in those of an import.

use std::collections::BTreeMap;

use rusqlite::{Connection, OptionalExtension};
use serde_json::{Map, Value};

use super::identifier;

/// The documents of an import, by table.
pub(super) type Tables = BTreeMap<String, Vec<Map<String, Value>>>;

/// Describes what an import does with what is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) enum ImportMode {
    /// Fails if a table of the import has documents.
    RequireEmpty,
    /// Adds to what is there.
    Append,
    /// Empties the tables of the import first.
    Replace,
    /// Empties all tables first.
    ReplaceAll,
}

impl ImportMode {
    /// Returns how the record of an import spells it.
    pub(super) fn recorded(self) -> &'static str {
        match self {
            Self::RequireEmpty => "RequireEmpty",
            Self::Append => "Append",
            Self::Replace => "Replace",
            Self::ReplaceAll => "ReplaceAll",
        }
    }
}

/// Says why an import does not work out.
#[derive(Debug, thiserror::Error)]
pub(super) enum WriteError {
    #[error("the table `{0}` is not empty")]
    NotEmpty(String),
    #[error("the table `{table}` has the document `{id}` already")]
    Exists { table: String, id: String },
    #[error("the database failed")]
    Database(#[from] rusqlite::Error),
}

/// Returns the tables that have documents, in the order in which they came to be.
pub(super) fn tables(connection: &Connection) -> rusqlite::Result<Vec<String>> {
    let mut statement = connection.prepare("SELECT table_name FROM document GROUP BY table_name ORDER BY min(number)")?;
    statement.query_map([], |row| row.get(0))?.collect()
}

/// Returns how many documents a table has.
pub(super) fn count(connection: &Connection, table: &str) -> rusqlite::Result<u64> {
    connection.query_row("SELECT count(*) FROM document WHERE table_name = ?1", [table], |row| row.get(0))
}

/// Returns all documents of a table, oldest first, as JSON.
pub(super) fn bodies(connection: &Connection, table: &str) -> rusqlite::Result<Vec<String>> {
    let mut statement = connection.prepare("SELECT body FROM document WHERE table_name = ?1 ORDER BY created, number")?;
    statement.query_map([table], |row| row.get(0))?.collect()
}

/// Returns one page of a table, beginning after so many documents.
pub(super) fn page(
    connection: &Connection,
    table: &str,
    newest_first: bool,
    skip: u64,
    limit: u64,
) -> rusqlite::Result<Vec<Value>> {
    let order = if newest_first { "created DESC, number DESC" } else { "created, number" };
    let sql = format!("SELECT body FROM document WHERE table_name = ?1 ORDER BY {order} LIMIT ?2 OFFSET ?3");
    let mut statement = connection.prepare(&sql)?;
    let rows = statement.query_map(rusqlite::params![table, limit, skip], |row| row.get::<_, String>(0))?;
    rows.map(|body| body.map(|body| serde_json::from_str(&body).unwrap_or(Value::Null))).collect()
}

/// Takes in the documents of an import, and says how many there were.
pub(super) fn write(connection: &Connection, mode: ImportMode, tables: &Tables) -> Result<u64, WriteError> {
    match mode {
        ImportMode::ReplaceAll => drop(connection.execute("DELETE FROM document", [])?),
        ImportMode::Replace => {
            for table in tables.keys() {
                connection.execute("DELETE FROM document WHERE table_name = ?1", [table])?;
            }
        }
        ImportMode::RequireEmpty => {
            for table in tables.keys() {
                if count(connection, table)? > 0 {
                    return Err(WriteError::NotEmpty(table.clone()));
                }
            }
        }
        ImportMode::Append => {}
    }
    let mut written = 0;
    for (table, documents) in tables {
        for document in documents {
            write_one(connection, table, document.clone())?;
            written += 1;
        }
    }
    Ok(written)
}

fn write_one(connection: &Connection, table: &str, mut document: Map<String, Value>) -> Result<(), WriteError> {
    let id = match document.get("_id") {
        Some(Value::String(id)) => id.clone(),
        _ => identifier::document(),
    };
    let created = document.get("_creationTime").and_then(Value::as_f64).unwrap_or_else(identifier::now_ms);
    document.insert("_id".into(), id.as_str().into());
    document.insert("_creationTime".into(), created.into());
    let known: Option<i64> = connection
        .query_row("SELECT 1 FROM document WHERE table_name = ?1 AND id = ?2", [table, &id], |row| row.get(0))
        .optional()?;
    if known.is_some() {
        return Err(WriteError::Exists { table: table.to_owned(), id });
    }
    connection.execute(
        "INSERT INTO document (table_name, id, created, body) VALUES (?1, ?2, ?3, ?4)",
        rusqlite::params![table, id, created, Value::Object(document).to_string()],
    )?;
    Ok(())
}
