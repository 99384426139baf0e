//! Convex's rows, read from one database and written into another, on whichever engine.
//!
//! A [`RowReader`] streams batches of rows in this order: globals by key, documents by (ts, table, id), index entries by index
//! and the first bytes of their keys. A [`RowWriter`] takes them in any order. Between the two are at most a few batches, so
//! memory does not grow with the database, and the slower side sets the pace.

mod catalog;
mod editor;
mod error;
mod mysql_reader;
mod mysql_writer;
mod postgres_reader;
mod postgres_writer;
mod row_store;
mod server;
mod sqlite_reader;
mod sqlite_writer;

use std::time::Duration;

use async_trait::async_trait;

pub use self::catalog::{Catalog, CatalogTable, read_live_documents, read_version};
pub use self::editor::pause_copy;
pub use self::error::RowError;
pub use self::row_store::{RowStore, Stage};
pub use self::sqlite_reader::SqliteReader;
pub use self::sqlite_writer::SqliteWriter;
use crate::convex::persistence::{DatabaseDigest, Digester, Row};

/// How many bytes of values a batch holds before it is full.
const BATCH_BYTES: usize = 1 << 20;
/// How many rows a batch holds at most.
const BATCH_ROWS: usize = 4096;
/// How long one batch may take. The first one of a table may wait for the server to sort it.
const STALL_TIMEOUT: Duration = Duration::from_secs(30 * 60);
/// How many batches wait between a thread and the task that it works for.
const BATCHES_AHEAD: usize = 2;

/// Which rows are read. Globals always are.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RowScope {
    /// Only what was written later than this.
    pub after: Option<i64>,
}

impl RowScope {
    /// Every row.
    pub const ALL: Self = Self { after: None };
}

/// Some rows.
#[derive(Debug, Default)]
pub struct RowBatch {
    rows: Vec<Row>,
    bytes: usize,
}

impl RowBatch {
    /// Adds a row.
    pub fn push(&mut self, row: Row) {
        self.bytes += row.size();
        self.rows.push(row);
    }

    /// Returns whether it is time to pass it on.
    pub fn is_full(&self) -> bool {
        self.bytes >= BATCH_BYTES || self.rows.len() >= BATCH_ROWS
    }

    /// Returns its rows.
    pub fn rows(&self) -> &[Row] {
        &self.rows
    }

    /// Returns about how many bytes its rows take.
    pub fn bytes(&self) -> usize {
        self.bytes
    }
}

/// Streams the rows of one database at one moment.
#[async_trait]
pub trait RowReader: Send {
    /// Returns the next rows; none after the last.
    ///
    /// # Errors
    /// [`RowError`]: nothing more comes.
    async fn next_batch(&mut self) -> Result<Option<RowBatch>, RowError>;
}

/// Writes rows into one new database, which no backend can use before it is published.
#[async_trait]
pub trait RowWriter: Send {
    /// Writes rows. They may still be on their way when this returns, and are written once [`RowWriter::finish`] does.
    ///
    /// # Errors
    /// [`RowError`]: what is written so far is of no use.
    async fn write(&mut self, batch: RowBatch) -> Result<(), RowError>;

    /// Makes keys and indexes, and has everything on disk.
    ///
    /// # Errors
    /// [`RowError`]: what is written so far is of no use.
    async fn finish(self: Box<Self>) -> Result<(), RowError>;
}

/// Says how far a copy is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RowProgress {
    /// Rows so far.
    pub rows: u64,
    /// About how many bytes they take.
    pub bytes: u64,
}

/// Copies all rows that a reader gives, and returns their digest. What is never copied is left out.
///
/// # Errors
/// [`RowError`] of the reader or the writer.
pub async fn copy(
    reader: &mut dyn RowReader,
    mut writer: Box<dyn RowWriter>,
    mut progress: impl FnMut(RowProgress) + Send,
) -> Result<DatabaseDigest, RowError> {
    let (mut digester, mut seen) = (Digester::default(), RowProgress::default());
    while let Some(mut batch) = moving(reader.next_batch()).await? {
        batch.rows.retain(|row| !matches!(row, Row::Global(global) if !global.is_copied()));
        batch.rows.iter().for_each(|row| digester.add(row));
        seen.rows += batch.rows.len() as u64;
        seen.bytes += batch.bytes as u64;
        moving(writer.write(batch)).await?;
        progress(seen);
    }
    writer.finish().await?;
    Ok(digester.digest().clone())
}

/// Returns the digest of all rows that a reader gives.
///
/// # Errors
/// [`RowError`] of the reader.
pub async fn digest(reader: &mut dyn RowReader) -> Result<DatabaseDigest, RowError> {
    let mut digester = Digester::default();
    while let Some(batch) = moving(reader.next_batch()).await? {
        batch.rows().iter().for_each(|row| digester.add(row));
    }
    Ok(digester.digest().clone())
}

/// Ends what stands still, such as a connection whose other end is gone.
async fn moving<T>(work: impl Future<Output = Result<T, RowError>> + Send) -> Result<T, RowError> {
    tokio::time::timeout(STALL_TIMEOUT, work).await.unwrap_or(Err(RowError::Stalled))
}
