//! Writes Convex's rows into a database on PostgreSQL: binary `COPY` into tables without keys, which are made at the end.

use std::pin::Pin;

use async_trait::async_trait;
use tokio_postgres::binary_copy::BinaryCopyInWriter;

use super::super::DatabaseServer;
use super::super::admin::Admin;
use super::super::postgres::PostgresSession;
use super::server::{column_types, is_locked, missing, postgres_error, refuse_in_use};
use super::{RowBatch, RowError, RowWriter};
use crate::convex::persistence::{Row, Table, index_key};

const WRITE: &str = "take the rows";

const LOCK: &str = "CREATE TABLE IF NOT EXISTS read_only (id BIGINT NOT NULL, PRIMARY KEY (id));
INSERT INTO read_only (id) VALUES (1) ON CONFLICT DO NOTHING;";

const TABLES: &str = "
DROP TABLE IF EXISTS documents, indexes, persistence_globals, leases;
CREATE TABLE documents (
    id BYTEA NOT NULL, ts BIGINT NOT NULL, table_id BYTEA NOT NULL, json_value BYTEA NOT NULL, deleted BOOLEAN DEFAULT false,
    prev_ts BIGINT);
CREATE TABLE indexes (
    index_id BYTEA NOT NULL, ts BIGINT NOT NULL, key_prefix BYTEA NOT NULL, key_suffix BYTEA NULL, key_sha256 BYTEA NOT NULL,
    deleted BOOLEAN, table_id BYTEA NULL, document_id BYTEA NULL);
CREATE TABLE persistence_globals (key TEXT NOT NULL, json_value BYTEA NOT NULL, PRIMARY KEY (key));
CREATE TABLE leases (id BIGINT NOT NULL, ts BIGINT NOT NULL, PRIMARY KEY (id));
INSERT INTO leases (id, ts) VALUES (1, 0);
";

/// What a backend would make at its first start within the time that it gives each statement.
const KEYS: [&str; 6] = [
    "ALTER TABLE documents ADD CONSTRAINT documents_pkey PRIMARY KEY (ts, table_id, id)",
    "CREATE INDEX documents_by_table_and_id ON documents (table_id, id, ts)",
    "CREATE INDEX documents_by_table_ts_and_id ON documents (table_id, ts, id)",
    "ALTER TABLE indexes ADD CONSTRAINT indexes_pkey PRIMARY KEY (index_id, key_sha256, ts)",
    "CREATE INDEX indexes_by_index_id_key_prefix_key_sha256 ON indexes (index_id, key_prefix, key_sha256)",
    "ANALYZE documents, indexes, persistence_globals",
];

/// Writes rows into a database on PostgreSQL.
pub(super) struct PostgresWriter {
    session: PostgresSession,
    sink: Option<(Table, Pin<Box<BinaryCopyInWriter>>)>,
}

impl PostgresWriter {
    /// Locks a database and empties it of a copy that was cut off. One that backends use is refused.
    pub(super) async fn create(server: &DatabaseServer, database: &str) -> Result<Self, RowError> {
        let mut session = PostgresSession::open(server, database).await?.ok_or_else(|| missing(database))?;
        session.require_usable().await?;
        refuse_in_use(session.content().await?.has_documents, is_locked(&mut session).await?, database)?;
        for sql in ["SET statement_timeout = 0", LOCK, TABLES] {
            session.client.batch_execute(sql).await.map_err(|error| postgres_error(&session, WRITE, error))?;
        }
        Ok(Self { session, sink: None })
    }

    /// Begins to copy into a table, once the table before is whole.
    async fn begin(&mut self, table: Table) -> Result<Pin<Box<BinaryCopyInWriter>>, RowError> {
        match self.sink.take() {
            Some((current, sink)) if current == table => return Ok(sink),
            Some((_, mut sink)) => {
                sink.as_mut().finish().await.map_err(|error| self.failed(error))?;
            }
            None => {}
        }
        let columns = match table {
            Table::Documents => "documents (id, ts, table_id, json_value, deleted, prev_ts)",
            Table::Indexes => "indexes (index_id, ts, key_prefix, key_suffix, key_sha256, deleted, table_id, document_id)",
            _ => "persistence_globals (key, json_value)",
        };
        let sql = format!("COPY {columns} FROM STDIN (FORMAT binary)");
        let copied = self.session.client.copy_in(sql.as_str()).await.map_err(|error| self.failed(error))?;
        Ok(Box::pin(BinaryCopyInWriter::new(copied, &column_types(table))))
    }

    fn failed(&self, error: tokio_postgres::Error) -> RowError {
        postgres_error(&self.session, WRITE, error)
    }
}

#[async_trait]
impl RowWriter for PostgresWriter {
    async fn write(&mut self, batch: RowBatch) -> Result<(), RowError> {
        for row in batch.rows() {
            let mut sink = self.begin(row.table()).await?;
            put(sink.as_mut(), row).await.map_err(|error| self.failed(error))?;
            self.sink = Some((row.table(), sink));
        }
        Ok(())
    }

    async fn finish(mut self: Box<Self>) -> Result<(), RowError> {
        if let Some((_, mut sink)) = self.sink.take() {
            sink.as_mut().finish().await.map_err(|error| self.failed(error))?;
        }
        for sql in KEYS {
            self.session.client.batch_execute(sql).await.map_err(|error| self.failed(error))?;
        }
        Ok(())
    }
}

async fn put(sink: Pin<&mut BinaryCopyInWriter>, row: &Row) -> Result<(), tokio_postgres::Error> {
    match row {
        Row::Document(row) => {
            let (id, table) = (row.id.0.as_slice(), row.table_id.0.as_slice());
            let json = row.json.as_deref().unwrap_or(b"null");
            sink.write(&[&id, &row.ts, &table, &json, &row.json.is_none(), &row.prev_ts]).await
        }
        Row::Index(row) => {
            let key = index_key::split(&row.key);
            let table = row.document.as_ref().map(|(table, _)| table.0.as_slice());
            let document = row.document.as_ref().map(|(_, document)| document.0.as_slice());
            let (id, sha256) = (row.index_id.0.as_slice(), key.sha256.as_slice());
            let deleted = row.document.is_none();
            sink.write(&[&id, &row.ts, &key.prefix, &key.suffix, &sha256, &deleted, &table, &document]).await
        }
        Row::Global(row) => sink.write(&[&row.key, &row.json.as_slice()]).await,
    }
}
