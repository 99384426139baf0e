//! Reads Convex's rows from MySQL: one consistent snapshot, streamed row by row. The backend may go on.

use std::collections::BTreeMap;

use async_trait::async_trait;
use mysql_async::prelude::Queryable;
use mysql_async::{Row as SqlRow, Value};
use tokio::sync::mpsc;

use super::super::DatabaseServer;
use super::super::admin::Admin;
use super::super::mysql::MysqlSession;
use super::server::{missing, mysql_error, mysql_error_of};
use super::{BATCHES_AHEAD, RowBatch, RowError, RowReader, RowScope};
use crate::convex::persistence::{
    Column, DocumentRow, Engine, GlobalRow, IndexRow, InternalId, MalformedRow, Row, Table, VALUE_BYTES_MAX, check_columns,
    index_key, mysql_json,
};

const READ: &str = "give out its rows";

/// Streams the rows of a database on MySQL.
pub(super) struct MysqlReader {
    batches: mpsc::Receiver<Result<RowBatch, RowError>>,
}

impl MysqlReader {
    pub(super) async fn open(server: &DatabaseServer, database: &str, scope: RowScope) -> Result<Self, RowError> {
        let mut session = MysqlSession::open(server, database).await?.ok_or_else(|| missing(database))?;
        let begin = [
            // A slow writer at the other end makes the server wait for us.
            "SET SESSION max_execution_time = 0, net_write_timeout = 3600, transaction_isolation = 'REPEATABLE-READ'",
            "START TRANSACTION WITH CONSISTENT SNAPSHOT, READ ONLY",
        ];
        for sql in begin {
            let done = session.connection.query_drop(sql).await;
            done.map_err(|error| mysql_error(&session, READ, error))?;
        }
        check_columns(Engine::Mysql, &columns(&mut session, database).await?)?;
        let (sender, batches) = mpsc::channel(BATCHES_AHEAD);
        // A result borrows its connection, so a task owns both. It ends with the reader.
        tokio::spawn(async move {
            if let Err(error) = stream(session, scope, &sender).await {
                let _ = sender.send(Err(error)).await;
            }
        });
        Ok(Self { batches })
    }
}

#[async_trait]
impl RowReader for MysqlReader {
    async fn next_batch(&mut self) -> Result<Option<RowBatch>, RowError> {
        self.batches.recv().await.transpose()
    }
}

async fn stream(
    mut session: MysqlSession,
    scope: RowScope,
    batches: &mpsc::Sender<Result<RowBatch, RowError>>,
) -> Result<(), RowError> {
    let later = scope.after.map_or_else(String::new, |after| format!("WHERE ts > {after}"));
    let mut batch = RowBatch::default();
    for table in [Table::PersistenceGlobals, Table::Documents, Table::Indexes] {
        let name = session.table(table.name());
        let sql = match table {
            Table::Documents => format!(
                "SELECT id, ts, table_id, json_value, coalesce(deleted, 0), prev_ts FROM {name} {later} ORDER BY ts, table_id, id"
            ),
            Table::Indexes => format!(
                "SELECT index_id, ts, key_prefix, key_suffix, key_sha256, coalesce(deleted, 0), table_id, document_id
                 FROM {name} {later} ORDER BY index_id, key_prefix, key_sha256, ts"
            ),
            _ => format!("SELECT `key`, json_value FROM {name} ORDER BY `key`"),
        };
        let failed = {
            let server = session.server_name();
            move |error| mysql_error_of(server.clone(), READ, error)
        };
        let mut rows = session.connection.exec_iter(sql.as_str(), ()).await.map_err(&failed)?;
        while let Some(row) = rows.next().await.map_err(&failed)? {
            batch.push(read(table, row)?);
            if batch.is_full() && batches.send(Ok(std::mem::take(&mut batch))).await.is_err() {
                return Ok(());
            }
        }
        drop(rows);
    }
    if !batch.rows().is_empty() {
        let _ = batches.send(Ok(batch)).await;
    }
    Ok(())
}

fn read(table: Table, row: SqlRow) -> Result<Row, MalformedRow> {
    let mut cells = Cells { cells: row.unwrap_raw(), table };
    Ok(match table {
        Table::Documents => {
            let json = match cells.integer(4)? {
                0 => {
                    let json = mysql_json(cells.bytes(3)?);
                    Some(json.ok_or_else(|| cells.malformed("a document is in no known encoding"))?)
                }
                _ => None,
            };
            Row::Document(DocumentRow {
                id: cells.id(0)?,
                ts: cells.integer(1)?,
                table_id: cells.id(2)?,
                json,
                prev_ts: if cells.is_null(5) { None } else { Some(cells.integer(5)?) },
            })
        }
        Table::Indexes => {
            let suffix = if cells.is_null(3) { None } else { Some(cells.bytes(3)?) };
            let key = index_key::join(&cells.bytes(2)?, suffix.as_deref(), &cells.bytes(4)?);
            let document = match (cells.integer(5)? != 0, cells.is_null(6) && cells.is_null(7)) {
                (true, true) => None,
                (false, false) => Some((cells.id(6)?, cells.id(7)?)),
                _ => return Err(cells.malformed("a tombstone with a document, or an entry without one")),
            };
            let key = key.ok_or_else(|| cells.malformed("a key does not have the hash beside it"))?;
            Row::Index(IndexRow { index_id: cells.id(0)?, ts: cells.integer(1)?, key, document })
        }
        _ => {
            let key = String::from_utf8(cells.bytes(0)?).map_err(|_| cells.malformed("a key is no text"))?;
            Row::Global(GlobalRow { key, json: cells.bytes(1)? })
        }
    })
}

struct Cells {
    cells: Vec<Option<Value>>,
    table: Table,
}

impl Cells {
    fn malformed(&self, what: &'static str) -> MalformedRow {
        MalformedRow { table: self.table, what }
    }

    fn is_null(&self, column: usize) -> bool {
        matches!(self.cells.get(column), None | Some(None | Some(Value::NULL)))
    }

    /// Takes the bytes out of a cell.
    fn bytes(&mut self, column: usize) -> Result<Vec<u8>, MalformedRow> {
        match self.cells.get_mut(column).and_then(Option::take) {
            Some(Value::Bytes(bytes)) if bytes.len() <= VALUE_BYTES_MAX => Ok(bytes),
            Some(Value::Bytes(_)) => Err(self.malformed("a value is too large")),
            _ => Err(self.malformed("a value is missing")),
        }
    }

    fn id(&mut self, column: usize) -> Result<InternalId, MalformedRow> {
        let id = self.bytes(column)?.try_into();
        id.map(InternalId).map_err(|_| self.malformed("an id has not 16 bytes"))
    }

    fn integer(&self, column: usize) -> Result<i64, MalformedRow> {
        match self.cells.get(column) {
            Some(Some(Value::Int(number))) => Ok(*number),
            Some(Some(Value::UInt(number))) => i64::try_from(*number).map_err(|_| self.malformed("a number is too large")),
            _ => Err(self.malformed("a number is missing")),
        }
    }
}

async fn columns(session: &mut MysqlSession, database: &str) -> Result<BTreeMap<String, Vec<Column>>, RowError> {
    let sql = "SELECT table_name, column_name, column_type, is_nullable FROM information_schema.columns
               WHERE table_schema = ? ORDER BY ordinal_position";
    let rows: Vec<(String, String, String, String)> =
        session.connection.exec(sql, (database,)).await.map_err(|error| mysql_error(session, "name its columns", error))?;
    let mut found: BTreeMap<String, Vec<Column>> = BTreeMap::new();
    for (table, name, kind, is_nullable) in rows {
        found.entry(table).or_default().push(Column { name, kind, is_nullable: is_nullable == "YES" });
    }
    Ok(found)
}
