//! The database that the simulator keeps everything in: an SQLite file, or one in memory whose rows a server keeps.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rusqlite::{Connection, OptionalExtension};

use super::row_store::{RowStore, StoredRow};
use super::write_through;

pub(super) const SCHEMA: &str = "
CREATE TABLE IF NOT EXISTS setting (name TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS environment_variable (
    name TEXT PRIMARY KEY, id TEXT NOT NULL, created REAL NOT NULL, value TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS document (
    number INTEGER PRIMARY KEY AUTOINCREMENT, table_name TEXT NOT NULL, id TEXT NOT NULL, created REAL NOT NULL,
    body TEXT NOT NULL, UNIQUE (table_name, id));
CREATE TABLE IF NOT EXISTS upload_part (object TEXT, number INTEGER, bytes BLOB NOT NULL, PRIMARY KEY (object, number));
CREATE TABLE IF NOT EXISTS snapshot_import (
    number INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL UNIQUE, created REAL NOT NULL, request TEXT NOT NULL,
    object TEXT NOT NULL, checkpoints TEXT NOT NULL, state TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS snapshot_export (
    number INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL UNIQUE, created REAL NOT NULL,
    include_storage INTEGER NOT NULL, state TEXT NOT NULL, start_ts INTEGER, complete_ts INTEGER,
    expiration_ts INTEGER NOT NULL, object TEXT, zip BLOB);
";

/// The database, open.
#[derive(Debug, Clone)]
pub(super) struct SimulatorDatabase {
    connection: Arc<Mutex<Connection>>,
    /// Where the rows are kept, when not in the file.
    server: Option<RowStore>,
}

impl SimulatorDatabase {
    /// Opens the file, and makes it if there is none.
    pub(super) fn open(path: &Path) -> rusqlite::Result<Self> {
        let connection = Connection::open(path)?;
        connection.busy_timeout(Duration::from_secs(5))?;
        connection.pragma_update(None, "journal_mode", "WAL")?;
        connection.pragma_update(None, "synchronous", "NORMAL")?;
        connection.execute_batch(SCHEMA)?;
        Ok(Self { connection: Arc::new(Mutex::new(connection)), server: None })
    }

    /// Returns a database in memory, which ends with the process.
    pub(super) fn in_memory(connection: Connection) -> Self {
        Self { connection: Arc::new(Mutex::new(connection)), server: None }
    }

    /// Returns a database in memory with the rows of a server, which has every change before it counts.
    pub(super) fn on_server(server: RowStore, rows: &[StoredRow]) -> rusqlite::Result<Self> {
        let connection = Connection::open_in_memory()?;
        connection.execute_batch(SCHEMA)?;
        write_through::track_changes(&connection, rows)?;
        Ok(Self { connection: Arc::new(Mutex::new(connection)), server: Some(server) })
    }

    /// Waits until a newer process has taken the rows over; for ever where there is no server.
    pub(super) async fn lease_lost(&self) {
        let Some(mut lost) = self.server.as_ref().map(|server| server.lost.clone()) else {
            return std::future::pending().await;
        };
        if lost.wait_for(|lost| *lost).await.is_err() {
            std::future::pending().await
        }
    }

    /// Looks at the data, or makes one change that is a transaction by itself.
    pub(super) fn with<T>(&self, work: impl FnOnce(&Connection) -> rusqlite::Result<T>) -> rusqlite::Result<T> {
        if self.server.is_some() {
            return self.transaction(work);
        }
        work(&self.connection.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Makes several changes, all or none: an error takes everything back.
    pub(super) fn transaction<T, E: From<rusqlite::Error>>(
        &self,
        work: impl FnOnce(&Connection) -> Result<T, E>,
    ) -> Result<T, E> {
        let mut connection = self.connection.lock().unwrap_or_else(PoisonError::into_inner);
        let transaction = connection.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)?;
        let result = work(&transaction)?;
        if let Some(server) = &self.server {
            write_through::flush(&transaction, server)?;
        }
        transaction.commit()?;
        Ok(result)
    }

    /// Returns a setting, if it was ever made.
    pub(super) fn setting(&self, name: &str) -> rusqlite::Result<Option<String>> {
        self.with(|connection| {
            connection.query_row("SELECT value FROM setting WHERE name = ?1", [name], |row| row.get(0)).optional()
        })
    }

    /// Makes a setting, or takes it back.
    pub(super) fn set(&self, name: &str, value: Option<&str>) -> rusqlite::Result<()> {
        self.with(|connection| {
            match value {
                Some(value) => connection.execute("INSERT OR REPLACE INTO setting VALUES (?1, ?2)", [name, value])?,
                None => connection.execute("DELETE FROM setting WHERE name = ?1", [name])?,
            };
            Ok(())
        })
    }

    /// Ends the write-ahead log, so that the file alone is the data.
    pub(super) fn close(&self) {
        if self.server.is_some() {
            return;
        }
        let _ = self.with(|connection| connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())));
    }
}
