//! Writes Convex's rows into a database on MySQL: inserts of many rows within the server's limit on one packet.

use std::fmt::Write;

use async_trait::async_trait;
use mysql_async::prelude::Queryable;

use super::super::DatabaseServer;
use super::super::admin::Admin;
use super::super::mysql::MysqlSession;
use super::server::{is_locked, missing, mysql_error, refuse_in_use};
use super::{RowBatch, RowError, RowWriter};
use crate::convex::persistence::{Row, Table, index_key};

const WRITE: &str = "take the rows";

/// How long a statement grows before it is sent.
const STATEMENT_BYTES: usize = 1 << 20;

/// Writes rows into a database on MySQL.
pub(super) struct MysqlWriter {
    session: MysqlSession,
    /// The server's limit on one packet.
    packet: usize,
    statement: String,
    table: Table,
}

impl MysqlWriter {
    /// Locks a database and empties it of a copy that was cut off. One that backends use is refused.
    pub(super) async fn create(server: &DatabaseServer, database: &str) -> Result<Self, RowError> {
        let mut session = MysqlSession::open(server, database).await?.ok_or_else(|| missing(database))?;
        session.require_usable().await?;
        refuse_in_use(session.content().await?.has_documents, is_locked(&mut session).await?, database)?;
        let read_only = session.table("read_only");
        let mut statements = vec![
            format!("CREATE TABLE IF NOT EXISTS {read_only} (id BIGINT NOT NULL, PRIMARY KEY (id)) ROW_FORMAT=DYNAMIC"),
            format!("INSERT IGNORE INTO {read_only} (id) VALUES (1)"),
            "SET SESSION unique_checks = 0, foreign_key_checks = 0".to_owned(),
        ];
        for (name, columns) in TABLES {
            let table = session.table(name);
            statements.push(format!("DROP TABLE IF EXISTS {table}"));
            statements.push(format!("CREATE TABLE {table} ({columns}) ROW_FORMAT=DYNAMIC"));
        }
        statements.push(format!("INSERT INTO {} (id, ts) VALUES (1, 0)", session.table("leases")));
        for sql in statements {
            let done = session.connection.query_drop(sql).await;
            done.map_err(|error| mysql_error(&session, WRITE, error))?;
        }
        let packet: Option<usize> = session
            .connection
            .query_first("SELECT @@max_allowed_packet")
            .await
            .map_err(|error| mysql_error(&session, WRITE, error))?;
        let packet = packet.unwrap_or(STATEMENT_BYTES);
        Ok(Self { session, packet, statement: String::new(), table: Table::Documents })
    }

    async fn flush(&mut self) -> Result<(), RowError> {
        if self.statement.is_empty() {
            return Ok(());
        }
        let statement = std::mem::take(&mut self.statement);
        let done = self.session.connection.query_drop(statement).await;
        done.map_err(|error| mysql_error(&self.session, WRITE, error))
    }

    /// Adds a row to the statement, after that of another table or one that would grow too long has gone.
    async fn add(&mut self, row: &Row) -> Result<(), RowError> {
        let values = values(row);
        let limit = STATEMENT_BYTES.min(self.packet.saturating_sub(1024));
        if self.table != row.table() || self.statement.len() + values.len() + 1 > limit {
            self.flush().await?;
        }
        if self.statement.is_empty() {
            self.table = row.table();
            let columns = match self.table {
                Table::Documents => "id, ts, table_id, json_value, deleted, prev_ts",
                Table::Indexes => "index_id, ts, key_prefix, key_suffix, key_sha256, deleted, table_id, document_id",
                _ => "`key`, json_value",
            };
            self.statement = format!("INSERT INTO {} ({columns}) VALUES ", self.session.table(self.table.name()));
        } else {
            self.statement.push(',');
        }
        self.statement.push_str(&values);
        if self.statement.len() >= self.packet {
            return Err(RowError::PacketLimit { server: self.session.server_name(), limit: self.packet });
        }
        Ok(())
    }
}

#[async_trait]
impl RowWriter for MysqlWriter {
    async fn write(&mut self, batch: RowBatch) -> Result<(), RowError> {
        for row in batch.rows() {
            self.add(row).await?;
        }
        Ok(())
    }

    async fn finish(mut self: Box<Self>) -> Result<(), RowError> {
        self.flush().await?;
        let documents = self.session.table("documents");
        let sql = format!("ALTER TABLE {documents} ADD KEY documents_by_table_and_id (table_id, id, ts)");
        let done = self.session.connection.query_drop(sql).await;
        done.map_err(|error| mysql_error(&self.session, WRITE, error))
    }
}

/// The keys by which rows are clustered are there from the start: rows come in their order.
const TABLES: [(&str, &str); 4] = [
    (
        "documents",
        "id BINARY(16) NOT NULL, ts BIGINT NOT NULL, table_id BINARY(16) NOT NULL, json_value LONGBLOB NOT NULL,
         deleted BOOLEAN DEFAULT false, prev_ts BIGINT, PRIMARY KEY (ts, table_id, id)",
    ),
    (
        "indexes",
        "index_id BINARY(16) NOT NULL, ts BIGINT NOT NULL, key_prefix VARBINARY(2500) NOT NULL, key_suffix LONGBLOB NULL,
         key_sha256 BINARY(32) NOT NULL, deleted BOOLEAN, table_id BINARY(16) NULL, document_id BINARY(16) NULL,
         PRIMARY KEY (index_id, key_prefix, key_sha256, ts)",
    ),
    (
        "persistence_globals",
        "`key` VARCHAR(255) CHARACTER SET utf8mb4 COLLATE utf8mb4_0900_bin NOT NULL, json_value LONGBLOB NOT NULL,
         PRIMARY KEY (`key`)",
    ),
    ("leases", "id BIGINT NOT NULL, ts BIGINT NOT NULL, PRIMARY KEY (id)"),
];

fn values(row: &Row) -> String {
    let mut text = String::with_capacity(2 * row.size() + 256);
    match row {
        Row::Document(row) => {
            let json = row.json.as_deref().unwrap_or(b"null");
            let prev_ts = row.prev_ts.map_or_else(|| "NULL".to_owned(), |ts| ts.to_string());
            let _ = write!(text, "({},{},{},", Hex(&row.id.0), row.ts, Hex(&row.table_id.0));
            let _ = write!(text, "{},{},{prev_ts})", Hex(json), u8::from(row.json.is_none()));
        }
        Row::Index(row) => {
            let key = index_key::split(&row.key);
            let _ = write!(text, "({},{},{},", Hex(&row.index_id.0), row.ts, Hex(key.prefix));
            match key.suffix {
                Some(suffix) => text.push_str(&Hex(suffix).to_string()),
                None => text.push_str("NULL"),
            }
            let _ = write!(text, ",{},{},", Hex(&key.sha256), u8::from(row.document.is_none()));
            match &row.document {
                Some((table, document)) => text.push_str(&format!("{},{})", Hex(&table.0), Hex(&document.0))),
                None => text.push_str("NULL,NULL)"),
            }
        }
        Row::Global(row) => {
            let _ = write!(text, "(CONVERT({} USING utf8mb4),{})", Hex(row.key.as_bytes()), Hex(&row.json));
        }
    }
    text
}

/// Bytes as a literal of SQL.
struct Hex<'a>(&'a [u8]);

impl std::fmt::Display for Hex<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "X'{}'", hex::encode(self.0))
    }
}
