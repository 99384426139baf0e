//! Reads Convex's rows from PostgreSQL: binary `COPY`, table after table, in one snapshot. The backend may go on.

use std::collections::BTreeMap;
use std::pin::Pin;

use async_trait::async_trait;
use futures_util::StreamExt;
use tokio_postgres::binary_copy::{BinaryCopyOutRow, BinaryCopyOutStream};
use tokio_postgres::types::FromSql;

use super::super::DatabaseServer;
use super::super::admin::Admin;
use super::super::postgres::PostgresSession;
use super::server::{column_types, missing, postgres_error};
use super::{RowBatch, RowError, RowReader, RowScope};
use crate::convex::persistence::{
    Column, DocumentRow, Engine, GlobalRow, IndexRow, InternalId, MalformedRow, Row, Table, VALUE_BYTES_MAX, check_columns,
    index_key,
};

const READ: &str = "give out its rows";

/// Streams the rows of a database on PostgreSQL.
pub(super) struct PostgresReader {
    session: PostgresSession,
    scope: RowScope,
    /// The tables that are still to be read, the next one last.
    tables: Vec<Table>,
    stream: Option<(Table, Pin<Box<BinaryCopyOutStream>>)>,
}

impl PostgresReader {
    pub(super) async fn open(server: &DatabaseServer, database: &str, scope: RowScope) -> Result<Self, RowError> {
        let session = PostgresSession::open(server, database).await?.ok_or_else(|| missing(database))?;
        // A large table takes as long as it takes; a connection that is gone is noticed by its keep-alives.
        let begin = "SET statement_timeout = 0; SET idle_in_transaction_session_timeout = 0;
                     BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY";
        session.client.batch_execute(begin).await.map_err(|error| postgres_error(&session, READ, error))?;
        check_columns(Engine::Postgres, &columns(&session).await?)?;
        let tables = vec![Table::Indexes, Table::Documents, Table::PersistenceGlobals];
        Ok(Self { session, scope, tables, stream: None })
    }

    async fn begin(&mut self, table: Table) -> Result<(Table, Pin<Box<BinaryCopyOutStream>>), RowError> {
        let later = self.scope.after.map_or_else(String::new, |after| format!("WHERE ts > {after}"));
        let sql = match table {
            Table::Documents => format!(
                "SELECT id, ts, table_id, json_value, coalesce(deleted, false), prev_ts FROM documents {later}
                 ORDER BY ts, table_id, id"
            ),
            Table::Indexes => format!(
                "SELECT index_id, ts, key_prefix, key_suffix, key_sha256, coalesce(deleted, false), table_id, document_id
                 FROM indexes {later} ORDER BY index_id, key_prefix, key_sha256, ts"
            ),
            _ => "SELECT key, json_value FROM persistence_globals ORDER BY key".to_owned(),
        };
        let sql = format!("COPY ({sql}) TO STDOUT (FORMAT binary)");
        let copied = self.session.client.copy_out(sql.as_str()).await;
        let stream = copied.map_err(|error| postgres_error(&self.session, READ, error))?;
        Ok((table, Box::pin(BinaryCopyOutStream::new(stream, &column_types(table)))))
    }
}

#[async_trait]
impl RowReader for PostgresReader {
    async fn next_batch(&mut self) -> Result<Option<RowBatch>, RowError> {
        let mut batch = RowBatch::default();
        while !batch.is_full() {
            let (table, mut stream) = match self.stream.take() {
                Some(stream) => stream,
                None => match self.tables.pop() {
                    Some(table) => self.begin(table).await?,
                    None => break,
                },
            };
            while let Some(row) = stream.next().await {
                let row = row.map_err(|error| postgres_error(&self.session, READ, error))?;
                batch.push(read(table, &row)?);
                if batch.is_full() {
                    self.stream = Some((table, stream));
                    break;
                }
            }
        }
        Ok((!batch.rows().is_empty()).then_some(batch))
    }
}

fn read(table: Table, row: &BinaryCopyOutRow) -> Result<Row, MalformedRow> {
    let cells = Cells { row, table };
    Ok(match table {
        Table::Documents => Row::Document(DocumentRow {
            id: cells.id(0)?,
            ts: cells.get(1)?,
            table_id: cells.id(2)?,
            json: if cells.get(4)? { None } else { Some(cells.bytes(3)?.to_vec()) },
            prev_ts: cells.get(5)?,
        }),
        Table::Indexes => {
            let suffix: Option<&[u8]> = cells.get(3)?;
            let key = index_key::join(cells.bytes(2)?, suffix, cells.bytes(4)?);
            let document: (bool, Option<&[u8]>, Option<&[u8]>) = (cells.get(5)?, cells.get(6)?, cells.get(7)?);
            let document = match document {
                (true, None, None) => None,
                (false, Some(_), Some(_)) => Some((cells.id(6)?, cells.id(7)?)),
                _ => return Err(cells.malformed("a tombstone with a document, or an entry without one")),
            };
            let key = key.ok_or_else(|| cells.malformed("a key does not have the hash beside it"))?;
            Row::Index(IndexRow { index_id: cells.id(0)?, ts: cells.get(1)?, key, document })
        }
        _ => Row::Global(GlobalRow { key: cells.get(0)?, json: cells.bytes(1)?.to_vec() }),
    })
}

struct Cells<'a> {
    row: &'a BinaryCopyOutRow,
    table: Table,
}

impl<'a> Cells<'a> {
    fn malformed(&self, what: &'static str) -> MalformedRow {
        MalformedRow { table: self.table, what }
    }

    fn get<T: FromSql<'a>>(&self, column: usize) -> Result<T, MalformedRow> {
        self.row.try_get(column).map_err(|_| self.malformed("a value is missing or of another type"))
    }

    fn bytes(&self, column: usize) -> Result<&'a [u8], MalformedRow> {
        let bytes: &[u8] = self.get(column)?;
        if bytes.len() > VALUE_BYTES_MAX { Err(self.malformed("a value is too large")) } else { Ok(bytes) }
    }

    fn id(&self, column: usize) -> Result<InternalId, MalformedRow> {
        self.bytes(column)?.try_into().map(InternalId).map_err(|_| self.malformed("an id has not 16 bytes"))
    }
}

async fn columns(session: &PostgresSession) -> Result<BTreeMap<String, Vec<Column>>, RowError> {
    let sql = "SELECT table_name::text, column_name::text, data_type::text, is_nullable = 'YES' FROM information_schema.columns
               WHERE table_schema = current_schema() ORDER BY ordinal_position";
    let failed = |error| postgres_error(session, "name its columns", error);
    let mut found: BTreeMap<String, Vec<Column>> = BTreeMap::new();
    for row in session.client.query(sql, &[]).await.map_err(failed)? {
        let column = |row: &tokio_postgres::Row| {
            Ok((row.try_get(0)?, Column { name: row.try_get(1)?, kind: row.try_get(2)?, is_nullable: row.try_get(3)? }))
        };
        let (table, column): (String, Column) = column(&row).map_err(failed)?;
        found.entry(table).or_default().push(column);
    }
    Ok(found)
}
