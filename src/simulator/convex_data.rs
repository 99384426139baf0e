//! A database of the real backend in an SQLite file, as the simulator shows it: tables and variables, in memory.
//!
//! The file is only read: the simulator cannot keep what it changes in the indexes of the real one.

use std::path::Path;

use rusqlite::{Connection, OpenFlags, params};
use serde_json::Value;

use super::data::SCHEMA;
use crate::database::rows::{self, RowError};

const VARIABLES: &str = "_environment_variables";

/// Returns whether a file is a database of the real backend.
pub(super) fn is_convex(path: &Path) -> bool {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let sql =
        "SELECT count(*) FROM sqlite_master WHERE type = 'table' AND name IN ('documents', 'indexes', 'persistence_globals')";
    let count = Connection::open_with_flags(path, flags).and_then(|file| file.query_row(sql, [], |row| row.get::<_, i64>(0)));
    count.is_ok_and(|count| count == 3)
}

/// Loads the documents of users and the variables of the deployment itself. Components are left out, as are Convex's own tables.
pub(super) fn load(path: &Path) -> Result<Connection, RowError> {
    let tables = rows::read_live_documents(path, |table| {
        table.component.is_none() && (table.name == VARIABLES || !table.name.starts_with('_'))
    })?;
    let loaded = Connection::open_in_memory().and_then(|connection| {
        connection.execute_batch(SCHEMA)?;
        for (table, documents) in &tables {
            for body in documents {
                insert(&connection, &table.name, body)?;
            }
        }
        Ok(connection)
    });
    loaded.map_err(|source| RowError::File { path: path.to_owned(), what: "loaded", source: source.into() })
}

fn insert(connection: &Connection, table: &str, body: &str) -> rusqlite::Result<()> {
    let document: Value = serde_json::from_str(body).unwrap_or_default();
    let text = |name: &str| document.get(name).and_then(Value::as_str).unwrap_or_default();
    let created = document.get("_creationTime").and_then(Value::as_f64).unwrap_or_default();
    let (sql, values) = match table {
        VARIABLES => (
            "INSERT INTO environment_variable (name, id, created, value) VALUES (?1, ?2, ?3, ?4)",
            (text("name"), text("_id"), text("value")),
        ),
        _ => ("INSERT INTO document (table_name, id, created, body) VALUES (?1, ?2, ?3, ?4)", (table, text("_id"), body)),
    };
    connection.prepare_cached(sql)?.execute(params![values.0, values.1, created, values.2]).map(drop)
}
