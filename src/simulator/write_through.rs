//! Keeps the rows of an SQLite database in memory on a server as well: what changes here is there before it counts.

use rusqlite::types::{Value as Cell, ValueRef};
use rusqlite::{Connection, params_from_iter};
use serde_json::{Map, Value};

use super::row_store::{RowStore, RowStoreError, StoredRow};

/// The tables, and whether the column `number` is the row's number.
const TABLES: [(&str, bool); 6] = [
    ("setting", false),
    ("environment_variable", false),
    ("document", true),
    ("upload_part", false),
    ("snapshot_import", true),
    ("snapshot_export", true),
];

/// Fills the database with the rows of the server, and notes every change from then on.
pub(super) fn track_changes(connection: &Connection, rows: &[StoredRow]) -> rusqlite::Result<()> {
    for row in rows {
        load(connection, row)?;
    }
    // Otherwise what is replaced would go unnoticed.
    connection.pragma_update(None, "recursive_triggers", true)?;
    connection
        .execute_batch("CREATE TEMP TABLE changed (table_name TEXT, number INTEGER, PRIMARY KEY (table_name, number))")?;
    for (table, _) in TABLES {
        for (verb, which) in [("INSERT", "new"), ("UPDATE", "new"), ("DELETE", "old")] {
            connection.execute_batch(&format!(
                "CREATE TEMP TRIGGER note_{table}_{verb} AFTER {verb} ON main.{table}
                 BEGIN INSERT OR IGNORE INTO changed VALUES ('{table}', {which}.rowid); END"
            ))?;
        }
    }
    Ok(())
}

/// Brings what has changed to the server. Called inside the transaction that changed it.
pub(super) fn flush(connection: &Connection, server: &RowStore) -> rusqlite::Result<()> {
    let mut rows = Vec::new();
    {
        let mut changed =
            connection.prepare_cached("SELECT table_name, number FROM temp.changed ORDER BY table_name, number")?;
        let changed = changed.query_map([], |row| Ok((row.get::<_, String>(0)?, row.get::<_, i64>(1)?)))?;
        for found in changed {
            let (table, number) = found?;
            let content = content(connection, &table, number)?;
            rows.push(StoredRow { table, number, content });
        }
    }
    if rows.is_empty() {
        return Ok(());
    }
    server.write(rows).map_err(|error| failure(&error))?;
    connection.execute("DELETE FROM temp.changed WHERE true", []).map(drop)
}

fn failure(error: &RowStoreError) -> rusqlite::Error {
    let code = rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_IOERR);
    rusqlite::Error::SqliteFailure(code, Some(format!("the database server: {error}")))
}

/// Returns a row as JSON; none when it is gone.
fn content(connection: &Connection, table: &str, number: i64) -> rusqlite::Result<Option<String>> {
    let mut statement = connection.prepare_cached(&format!("SELECT * FROM main.{table} WHERE rowid = ?1"))?;
    let names: Vec<String> = statement.column_names().map(str::to_owned).collect();
    let mut rows = statement.query([number])?;
    let Some(row) = rows.next()? else { return Ok(None) };
    let mut columns = Map::new();
    for (index, name) in names.into_iter().enumerate() {
        let value = match row.get_ref(index)? {
            ValueRef::Null => Value::Null,
            ValueRef::Integer(number) => number.into(),
            ValueRef::Real(number) => number.into(),
            ValueRef::Text(text) => String::from_utf8_lossy(text).into(),
            ValueRef::Blob(bytes) => Value::Array(vec![hex::encode(bytes).into()]),
        };
        columns.insert(name, value);
    }
    Ok(Some(Value::Object(columns).to_string()))
}

fn load(connection: &Connection, row: &StoredRow) -> rusqlite::Result<()> {
    let Some((table, number_is_row)) = TABLES.into_iter().find(|(table, _)| *table == row.table) else { return Ok(()) };
    let columns: Map<String, Value> = serde_json::from_str(row.content.as_deref().unwrap_or_default()).unwrap_or_default();
    let mut names: Vec<&str> = columns.keys().map(String::as_str).collect();
    let mut cells: Vec<Cell> = columns.values().map(cell).collect();
    if !number_is_row {
        names.push("rowid");
        cells.push(Cell::Integer(row.number));
    }
    let marks = vec!["?"; names.len()].join(", ");
    let sql = format!("INSERT INTO main.{table} ({}) VALUES ({marks})", names.join(", "));
    connection.prepare_cached(&sql)?.execute(params_from_iter(cells)).map(drop)
}

fn cell(value: &Value) -> Cell {
    match value {
        Value::Null | Value::Object(_) => Cell::Null,
        Value::Bool(flag) => Cell::Integer((*flag).into()),
        Value::Number(number) => match number.as_i64() {
            Some(number) => Cell::Integer(number),
            None => Cell::Real(number.as_f64().unwrap_or_default()),
        },
        Value::String(text) => Cell::Text(text.clone()),
        Value::Array(bytes) => {
            let text = bytes.first().and_then(Value::as_str).unwrap_or_default();
            Cell::Blob(hex::decode(text).unwrap_or_default())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simulator::data::SCHEMA;

    fn changed(connection: &Connection) -> Vec<(String, i64)> {
        let mut statement = connection.prepare("SELECT table_name, number FROM temp.changed ORDER BY 1, 2").unwrap();
        statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?))).unwrap().map(Result::unwrap).collect()
    }

    #[test]
    fn every_change_is_noticed_and_comes_back_as_it_was() {
        let one = Connection::open_in_memory().unwrap();
        one.execute_batch(SCHEMA).unwrap();
        track_changes(&one, &[]).unwrap();
        one.execute("INSERT INTO setting VALUES ('a', '1'), ('b', '2')", []).unwrap();
        one.execute("INSERT OR REPLACE INTO setting VALUES ('a', 'é\"')", []).unwrap();
        one.execute("INSERT INTO upload_part VALUES ('x', 7, x'00ff')", []).unwrap();
        one.execute(
            "INSERT INTO document (table_name, id, created, body) VALUES ('t', 'i', 1.0, '{}'), ('t', 'j', 2.5, '[]')",
            [],
        )
        .unwrap();
        one.execute("DELETE FROM document", []).unwrap();
        one.execute("INSERT INTO document (table_name, id, created, body) VALUES ('t', 'k', 3.0, 'null')", []).unwrap();
        let names: Vec<String> = changed(&one).iter().map(|(table, number)| format!("{table} {number}")).collect();
        assert_eq!(names, ["document 1", "document 2", "document 3", "setting 1", "setting 2", "setting 3", "upload_part 1"]);

        let rows: Vec<StoredRow> = changed(&one)
            .into_iter()
            .map(|(table, number)| StoredRow { content: content(&one, &table, number).unwrap(), table, number })
            .collect();
        assert_eq!(rows.iter().filter(|row| row.content.is_none()).count(), 3);
        let two = Connection::open_in_memory().unwrap();
        two.execute_batch(SCHEMA).unwrap();
        let kept: Vec<StoredRow> = rows.into_iter().filter(|row| row.content.is_some()).collect();
        track_changes(&two, &kept).unwrap();
        for row in &kept {
            assert_eq!(content(&two, &row.table, row.number).unwrap(), row.content, "{row:?}");
        }
        assert_eq!(changed(&two), []);
    }
}
