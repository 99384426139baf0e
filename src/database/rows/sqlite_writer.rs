//! Writes Convex's rows into a new SQLite file.
//!
//! A backend takes a file that is there for a database in use, so the file has another name until it is published.

use std::fs::File;
use std::path::{Path, PathBuf};

use async_trait::async_trait;
use rusqlite::{Connection, params};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::sqlite_reader::{io_error, sqlite_error};
use super::{BATCHES_AHEAD, RowBatch, RowError, RowWriter};
use crate::convex::persistence::Row;

pub(super) const TABLES: &str = "
CREATE TABLE documents (
    id BLOB NOT NULL, ts INTEGER NOT NULL, table_id BLOB NOT NULL, json_value TEXT NULL, deleted INTEGER NOT NULL,
    prev_ts INTEGER, PRIMARY KEY (ts, table_id, id));
CREATE TABLE indexes (
    index_id BLOB NOT NULL, ts INTEGER NOT NULL, key BLOB NOT NULL, deleted INTEGER NOT NULL, table_id BLOB NULL,
    document_id BLOB NULL, PRIMARY KEY (index_id, key, ts));
CREATE TABLE persistence_globals (key TEXT NOT NULL, json_value TEXT NOT NULL, PRIMARY KEY (key));
";
const INDEX: &str = "CREATE INDEX documents_by_table_and_id ON documents (table_id, id, ts)";

/// Nothing is lost when the file is half made, so neither journal nor waiting for the disk is needed before the end.
const PRAGMAS: &str = "PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF; PRAGMA locking_mode = EXCLUSIVE;
PRAGMA cache_size = -32768; PRAGMA temp_store = FILE;";

/// Writes rows into a new file.
#[derive(Debug)]
pub struct SqliteWriter {
    batches: mpsc::Sender<Message>,
    /// None once its outcome is known.
    thread: Option<JoinHandle<Result<(), RowError>>>,
}

impl SqliteWriter {
    /// Creates a file, in the place of one that was half made. Only its owner may read it.
    ///
    /// # Errors
    /// [`RowError`]: the file cannot be made.
    pub async fn create(path: &Path) -> Result<Self, RowError> {
        let path = path.to_owned();
        let created = tokio::task::spawn_blocking(move || NewFile::create(path)).await;
        let file = created.map_err(|_| RowError::Interrupted)??;
        let (batches, received) = mpsc::channel(BATCHES_AHEAD);
        let thread = tokio::task::spawn_blocking(move || file.fill(received));
        Ok(Self { batches, thread: Some(thread) })
    }

    async fn outcome(&mut self) -> Result<(), RowError> {
        match self.thread.take() {
            Some(thread) => thread.await.map_err(|_| RowError::Interrupted)?,
            None => Err(RowError::Interrupted),
        }
    }
}

#[async_trait]
impl RowWriter for SqliteWriter {
    async fn write(&mut self, batch: RowBatch) -> Result<(), RowError> {
        match self.batches.send(Message::Rows(batch)).await {
            Ok(()) => Ok(()),
            // The thread ended, and says why.
            Err(_) => self.outcome().await.and(Err(RowError::Interrupted)),
        }
    }

    async fn finish(mut self: Box<Self>) -> Result<(), RowError> {
        // Where the thread has ended, its outcome says why.
        let _ = self.batches.send(Message::Finish).await;
        self.outcome().await
    }
}

enum Message {
    Rows(RowBatch),
    /// A writer that is dropped sends none.
    Finish,
}

struct NewFile {
    connection: Connection,
    path: PathBuf,
}

impl NewFile {
    fn create(path: PathBuf) -> Result<Self, RowError> {
        let io = |error| io_error(&path, "made", error);
        if let Err(error) = std::fs::remove_file(&path)
            && error.kind() != std::io::ErrorKind::NotFound
        {
            return Err(io(error));
        }
        let mut options = File::options();
        options.write(true).create_new(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        options.open(&path).map_err(io)?;
        let made = Connection::open(&path).and_then(|connection| {
            connection.execute_batch(PRAGMAS)?;
            connection.execute_batch("BEGIN")?;
            connection.execute_batch(TABLES)?;
            Ok(connection)
        });
        let connection = made.map_err(|error| sqlite_error(&path, "made", error))?;
        Ok(Self { connection, path })
    }

    fn fill(self, mut messages: mpsc::Receiver<Message>) -> Result<(), RowError> {
        let failed = |error| sqlite_error(&self.path, "written", error);
        loop {
            match messages.blocking_recv() {
                Some(Message::Rows(batch)) => batch.rows().iter().try_for_each(|row| self.insert(row)).map_err(failed)?,
                Some(Message::Finish) => break,
                None => return Err(RowError::Interrupted),
            }
        }
        self.connection.execute_batch(INDEX).map_err(failed)?;
        self.connection.execute_batch("COMMIT").map_err(failed)?;
        let Self { connection, path } = self;
        connection.close().map_err(|(_, error)| sqlite_error(&path, "written", error))?;
        File::open(&path).and_then(|file| file.sync_all()).map_err(|error| io_error(&path, "written", error))
    }

    fn insert(&self, row: &Row) -> rusqlite::Result<()> {
        match row {
            Row::Document(row) => {
                let sql = "INSERT INTO documents (id, ts, table_id, json_value, deleted, prev_ts)
                           VALUES (?1, ?2, ?3, CAST(?4 AS TEXT), ?5, ?6)";
                let (id, table) = (row.id.0, row.table_id.0);
                let values = params![id.as_slice(), row.ts, table.as_slice(), row.json, row.json.is_none(), row.prev_ts];
                self.connection.prepare_cached(sql)?.execute(values)?;
            }
            Row::Index(row) => {
                let sql = "INSERT INTO indexes (index_id, ts, key, deleted, table_id, document_id)
                           VALUES (?1, ?2, ?3, ?4, ?5, ?6)";
                let table = row.document.as_ref().map(|(table, _)| table.0.as_slice());
                let document = row.document.as_ref().map(|(_, document)| document.0.as_slice());
                let deleted = row.document.is_none();
                let values = params![row.index_id.0.as_slice(), row.ts, row.key, deleted, table, document];
                self.connection.prepare_cached(sql)?.execute(values)?;
            }
            Row::Global(row) => {
                let sql = "INSERT INTO persistence_globals (key, json_value) VALUES (?1, CAST(?2 AS TEXT))";
                self.connection.prepare_cached(sql)?.execute(params![row.key, row.json])?;
            }
        }
        Ok(())
    }
}
