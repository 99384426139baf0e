//! What readers and writers of both servers share: errors, and the row that keeps backends from starting.

use std::collections::BTreeMap;

use mysql_async::prelude::Queryable;
use tokio_postgres::error::SqlState;
use tokio_postgres::types::Type;

use super::super::DatabaseError;
use super::super::admin::Admin;
use super::super::mysql::MysqlSession;
use super::super::mysql_error::code;
use super::super::postgres::PostgresSession;
use super::RowError;
use crate::convex::persistence::Table;
use crate::model::error_chain;

/// What MySQL says of a disk that is full, and of a table that cannot grow.
const MYSQL_FULL: [u16; 3] = [1021, 1041, 1114];

/// Says that a database is not there.
pub(super) fn missing(database: &str) -> RowError {
    DatabaseError::DataMissing { database: database.to_owned() }.into()
}

/// Refuses to write over a database that a backend may use.
pub(super) fn refuse_in_use(has_documents: bool, is_locked: bool, database: &str) -> Result<(), RowError> {
    if has_documents && !is_locked {
        return Err(RowError::InUse { database: database.to_owned() });
    }
    Ok(())
}

/// Returns the types of the columns of a table on PostgreSQL, in the order in which they are copied.
pub(super) fn column_types(table: Table) -> Vec<Type> {
    let (bytes, number, flag) = (Type::BYTEA, Type::INT8, Type::BOOL);
    match table {
        Table::Documents => vec![bytes.clone(), number.clone(), bytes.clone(), bytes, flag, number],
        Table::Indexes => {
            vec![bytes.clone(), number, bytes.clone(), bytes.clone(), bytes.clone(), flag, bytes.clone(), bytes]
        }
        _ => vec![Type::TEXT, bytes],
    }
}

/// Returns what an error of PostgreSQL means.
pub(super) fn postgres_error(session: &PostgresSession, what: &str, error: tokio_postgres::Error) -> RowError {
    match error.code() {
        Some(code) if *code == SqlState::DISK_FULL => {
            RowError::NoSpace { place: session.server_name(), source: error_chain(&error).into() }
        }
        _ => session.query_error(what, None, error).into(),
    }
}

/// Returns what an error of MySQL means.
pub(super) fn mysql_error(session: &MysqlSession, what: &str, error: mysql_async::Error) -> RowError {
    match code(&error) {
        Some(number) if MYSQL_FULL.contains(&number) => mysql_error_of(session.server_name(), what, error),
        _ => session.query_error(what, None, error).into(),
    }
}

/// Returns what an error of MySQL means, while a result borrows the session.
pub(super) fn mysql_error_of(server: String, what: &str, error: mysql_async::Error) -> RowError {
    match code(&error) {
        Some(number) if MYSQL_FULL.contains(&number) => RowError::NoSpace { place: server, source: error.to_string().into() },
        _ => DatabaseError::Server { server, what: what.to_owned(), source: error.to_string().into() }.into(),
    }
}

/// Counts the live documents of each table: the newest revision of each decides.
pub(super) fn counts_sql(documents: &str) -> String {
    format!(
        "SELECT d.table_id, count(*) FROM {documents} d
         JOIN (SELECT table_id, id, max(ts) AS ts FROM {documents} GROUP BY table_id, id) n
         ON n.table_id = d.table_id AND n.id = d.id AND n.ts = d.ts
         WHERE NOT coalesce(d.deleted, false) GROUP BY d.table_id"
    )
}

/// A session that can read and write the row that keeps backends from starting.
pub(super) trait Lockable: Admin {
    /// Returns the first column of the first row of a query as a number.
    fn number(&mut self, sql: &str) -> impl Future<Output = Result<i64, RowError>> + Send;

    /// Runs a statement.
    fn run(&mut self, sql: &str) -> impl Future<Output = Result<(), RowError>> + Send;

    /// Returns one of Convex's tables as SQL names it.
    fn named(&self, table: &str) -> String;

    /// Returns the expression for the schema of Convex's tables.
    fn schema(&self) -> String;

    /// Returns bytes as a literal.
    fn literal(&self, bytes: &[u8]) -> String;

    /// Returns how many live documents each table has.
    fn counts(&mut self) -> impl Future<Output = Result<BTreeMap<Vec<u8>, u64>, RowError>> + Send;
}

impl Lockable for PostgresSession {
    async fn number(&mut self, sql: &str) -> Result<i64, RowError> {
        let what = "say whether it is locked";
        let row = self.client.query_one(&format!("SELECT ({sql})::bigint"), &[]).await;
        row.and_then(|row| row.try_get(0)).map_err(|error| postgres_error(self, what, error))
    }

    async fn run(&mut self, sql: &str) -> Result<(), RowError> {
        let done = self.client.batch_execute(sql).await;
        done.map_err(|error| postgres_error(self, "take a change of its rows", error))
    }

    fn named(&self, table: &str) -> String {
        table.to_owned()
    }

    fn schema(&self) -> String {
        "current_schema()".to_owned()
    }

    fn literal(&self, bytes: &[u8]) -> String {
        format!("decode('{}', 'hex')", hex::encode(bytes))
    }

    async fn counts(&mut self) -> Result<BTreeMap<Vec<u8>, u64>, RowError> {
        let rows = self.client.query(&counts_sql("documents"), &[]).await;
        let count = |row: &tokio_postgres::Row| {
            let count: i64 = row.try_get(1)?;
            Ok((row.try_get(0)?, count.unsigned_abs()))
        };
        rows.and_then(|rows| rows.iter().map(count).collect())
            .map_err(|error| postgres_error(self, "count its documents", error))
    }
}

impl Lockable for MysqlSession {
    async fn number(&mut self, sql: &str) -> Result<i64, RowError> {
        let found: Result<Option<i64>, _> = self.connection.query_first(sql).await;
        found.map(Option::unwrap_or_default).map_err(|error| mysql_error(self, "say whether it is locked", error))
    }

    async fn run(&mut self, sql: &str) -> Result<(), RowError> {
        let done = self.connection.query_drop(sql).await;
        done.map_err(|error| mysql_error(self, "take a change of its rows", error))
    }

    fn named(&self, table: &str) -> String {
        self.table(table)
    }

    fn schema(&self) -> String {
        self.database_literal()
    }

    fn literal(&self, bytes: &[u8]) -> String {
        format!("X'{}'", hex::encode(bytes))
    }

    async fn counts(&mut self) -> Result<BTreeMap<Vec<u8>, u64>, RowError> {
        let rows: Result<Vec<(Vec<u8>, u64)>, _> = self.connection.query(counts_sql(&self.table("documents"))).await;
        let rows = rows.map_err(|error| mysql_error(self, "count its documents", error))?;
        Ok(rows.into_iter().collect())
    }
}

/// Returns whether backends are kept from starting on a database.
pub(super) async fn is_locked(session: &mut impl Lockable) -> Result<bool, RowError> {
    let there = format!(
        "SELECT count(*) FROM information_schema.tables WHERE table_schema = {} AND table_name = 'read_only'",
        session.schema()
    );
    if session.number(&there).await? == 0 {
        return Ok(false);
    }
    let sql = format!("SELECT count(*) FROM {}", session.named("read_only"));
    Ok(session.number(&sql).await? > 0)
}

/// Refuses to write over a database that a backend may use.
pub(super) async fn require_loadable(session: &mut impl Lockable, database: &str) -> Result<(), RowError> {
    refuse_in_use(session.content().await?.has_documents, is_locked(session).await?, database)
}

/// Keeps backends from starting on a database. One that runs is not stopped by it.
pub(super) async fn lock(session: &mut impl Lockable) -> Result<(), RowError> {
    if is_locked(session).await? {
        return Ok(());
    }
    let sql = format!("INSERT INTO {} (id) VALUES (1)", session.named("read_only"));
    session.run(&sql).await
}

/// Lets backends start on a database.
pub(super) async fn unlock(session: &mut impl Lockable) -> Result<(), RowError> {
    let sql = format!("DELETE FROM {} WHERE id = 1", session.named("read_only"));
    session.run(&sql).await
}
