//! Edits the few documents that have to differ in a copy, before it is published.

use std::path::Path;

use rusqlite::{Connection, OptionalExtension, params};

use super::super::admin::{Admin, StoredDocument, live_documents_sql};
use super::RowError;
use super::server::Lockable;
use super::sqlite_reader::{SqliteFile, sqlite_error};
use crate::convex::persistence::{self, Edit, InternalId, MalformedRow, TABLE_SUMMARY, Table, mysql_json};

/// How many tables a deployment may have.
pub(super) const TABLES_MAX: u32 = 20_000;

pub(super) fn malformed(what: &'static str) -> RowError {
    MalformedRow { table: Table::Documents, what }.into()
}

/// Returns the identity of one of the deployment's own tables among the documents of the table of all tables.
pub(super) fn find_table(tables: &[StoredDocument], name: &str) -> Result<InternalId, RowError> {
    let is_it = |document: &&StoredDocument| {
        persistence::decode_document(&document.value)
            .is_some_and(|document| persistence::root_table(&document).as_deref() == Some(name))
    };
    let found = tables.iter().find(is_it).ok_or_else(|| malformed("a table of the deployment is missing"))?;
    let id = found.id.as_slice().try_into();
    id.map(InternalId).map_err(|_| malformed("an id has not 16 bytes"))
}

fn only(documents: Vec<StoredDocument>) -> Result<StoredDocument, RowError> {
    let mut documents = documents.into_iter();
    match (documents.next(), documents.next()) {
        (Some(document), None) => Ok(document),
        _ => Err(malformed("a table that has one document has another number of them")),
    }
}

/// Edits documents of a database on a server, each by one statement.
pub(super) async fn edit_on_server<S: Lockable + Admin>(session: &mut S, edits: &[Edit]) -> Result<(), RowError> {
    let tables = session.global(persistence::TABLES_TABLE_ID).await?.as_deref().and_then(persistence::table_id);
    let tables = tables.ok_or_else(|| malformed("the table of all tables is not named"))?;
    let tables = session.live_documents(&tables, TABLES_MAX).await?;
    for edit in edits {
        let table = find_table(&tables, edit.table())?;
        let document = only(session.live_documents(&table.0, 2).await?)?;
        let json = mysql_json(document.value).ok_or_else(|| malformed("a document is in no known encoding"))?;
        let edited = edit.apply(&json)?;
        let sql = format!(
            "UPDATE {} SET json_value = {} WHERE ts = {} AND table_id = {} AND id = {}",
            session.named("documents"),
            session.literal(&edited),
            document.ts,
            session.literal(&table.0),
            session.literal(&document.id)
        );
        session.run(&sql).await?;
    }
    Ok(())
}

/// Edits documents of an SQLite file, all or none.
pub(super) fn edit_file(path: &Path, edits: &[Edit]) -> Result<(), RowError> {
    let failed = |error| sqlite_error(path, "edited", error);
    if !path.is_file() {
        return Err(RowError::Missing { path: path.to_owned() });
    }
    let mut connection = Connection::open(path).map_err(failed)?;
    let transaction = connection.transaction().map_err(failed)?;
    let tables = sqlite_tables(&transaction, path)?;
    for edit in edits {
        let table = find_table(&tables, edit.table())?;
        let document = only(live_documents(&transaction, &table.0, 2).map_err(failed)?)?;
        let edited = edit.apply(&document.value)?;
        let sql = "UPDATE documents SET json_value = CAST(?1 AS TEXT) WHERE ts = ?2 AND table_id = ?3 AND id = ?4";
        transaction.execute(sql, params![edited, document.ts, table.0.as_slice(), document.id]).map_err(failed)?;
    }
    transaction.commit().map_err(failed)
}

/// Lets the backend start paused that starts on a copy in an SQLite file, and has it count its tables anew: what was counted may
/// be of a time that its history does not reach back to. A file without any table of Convex's is of the simulator, which runs
/// nothing by itself, and stays as it is.
///
/// # Errors
/// [`RowError`]: it is not edited.
pub fn pause_copy(path: &Path) -> Result<(), RowError> {
    let failed = |error| sqlite_error(path, "edited", error);
    let connection = Connection::open(path).map_err(failed)?;
    let known = "SELECT count(*) FROM sqlite_master WHERE name IN ('documents', 'indexes', 'persistence_globals')";
    if connection.query_row(known, [], |row| row.get::<_, i64>(0)).map_err(failed)? == 0 {
        return Ok(());
    }
    drop(SqliteFile::open(path)?);
    edit_file(path, &[Edit::Pause])?;
    connection.execute("DELETE FROM persistence_globals WHERE key = ?1", [TABLE_SUMMARY]).map_err(failed)?;
    connection.close().map_err(|(_, error)| failed(error))
}

/// Returns the documents of the table of all tables.
pub(super) fn sqlite_tables(connection: &Connection, path: &Path) -> Result<Vec<StoredDocument>, RowError> {
    let failed = |error| sqlite_error(path, "read", error);
    let global = "SELECT json_value FROM persistence_globals WHERE key = ?1";
    let tables: Option<String> =
        connection.query_row(global, [persistence::TABLES_TABLE_ID], |row| row.get(0)).optional().map_err(failed)?;
    let tables = tables.as_deref().and_then(|value| persistence::table_id(value.as_bytes()));
    let tables = tables.ok_or_else(|| malformed("the table of all tables is not named"))?;
    live_documents(connection, &tables, TABLES_MAX).map_err(failed)
}

pub(super) fn live_documents(connection: &Connection, table: &[u8; 16], limit: u32) -> rusqlite::Result<Vec<StoredDocument>> {
    let sql = live_documents_sql("documents", &format!("X'{}'", hex::encode(table)), limit);
    let mut statement = connection.prepare(&sql)?;
    let document = |row: &rusqlite::Row<'_>| {
        let value: String = row.get(1)?;
        Ok(StoredDocument { id: row.get(0)?, value: value.into_bytes(), ts: row.get(2)? })
    };
    statement.query_map([], document)?.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_is_paused_and_counted_anew() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("db.sqlite3");
        let connection = Connection::open(&path).unwrap();
        connection.execute_batch(super::super::sqlite_writer::TABLES).unwrap();
        let tables = "01".repeat(16);
        let table = r#"{"name":"_backend_state","state":"active"}"#;
        let state = r#"{"system":"none","usage_limit":"none","user":"none"}"#;
        connection
            .execute_batch(&format!(
                "INSERT INTO persistence_globals VALUES ('tables_table_id', '\"AQEBAQEBAQEBAQEBAQEBAQ\"'), ('table_summary_v2', '{{}}');
                 INSERT INTO documents VALUES (X'{0}', 1, X'{tables}', '{table}', 0, NULL), (X'{0}', 2, X'{0}', '{state}', 0, NULL);",
                "02".repeat(16)
            ))
            .unwrap();
        for _ in 0..2 {
            pause_copy(&path).unwrap();
        }
        let state: String =
            connection.query_row("SELECT json_value FROM documents WHERE ts = 2", [], |row| row.get(0)).unwrap();
        assert!(state.contains(r#""user":"paused""#), "{state}");
        let globals: i64 = connection.query_row("SELECT count(*) FROM persistence_globals", [], |row| row.get(0)).unwrap();
        assert_eq!(globals, 1);
    }
}
