//! Reads Convex's rows from an SQLite file, in one read transaction.
//!
//! The backend has to be stopped: it holds no lock between its commits. A journal left beside the file means that a commit was
//! cut off. It is rolled back in a copy, never in the original.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use async_trait::async_trait;
use rusqlite::types::ValueRef;
use rusqlite::{Connection, OpenFlags, Row as SqlRow};
use tempfile::TempDir;
use tokio::sync::mpsc;

use super::{BATCHES_AHEAD, RowBatch, RowError, RowReader, RowScope};
use crate::convex::persistence::{
    Column, DocumentRow, Engine, GlobalRow, IndexRow, InternalId, MalformedRow, Row, Table, VALUE_BYTES_MAX, check_columns,
};

/// How much of the file SQLite keeps in memory, in KiB.
const CACHE_KIB: i64 = 16 << 10;

const GLOBALS: &str = "SELECT key, json_value FROM persistence_globals ORDER BY key";
const DOCUMENTS: &str = "SELECT id, ts, table_id, json_value, deleted, prev_ts FROM documents WHERE ts > ?1 OR ?2
    ORDER BY ts, table_id, id";
const INDEXES: &str = "SELECT index_id, ts, key, deleted, table_id, document_id FROM indexes WHERE ts > ?1 OR ?2
    ORDER BY index_id, key, ts";

/// Streams the rows of an SQLite file.
#[derive(Debug)]
pub struct SqliteReader {
    batches: mpsc::Receiver<Result<RowBatch, RowError>>,
}

impl SqliteReader {
    /// Opens a file and compares its columns with the known ones.
    ///
    /// # Errors
    /// [`RowError`]: nothing was read.
    pub async fn open(path: &Path, scope: RowScope) -> Result<Self, RowError> {
        let path = path.to_owned();
        let opened = tokio::task::spawn_blocking(move || SqliteFile::open(&path)).await;
        let file = opened.map_err(|_| RowError::Interrupted)??;
        let (sender, batches) = mpsc::channel(BATCHES_AHEAD);
        tokio::task::spawn_blocking(move || {
            if let Err(error) = file.stream(scope, &sender) {
                let _ = sender.blocking_send(Err(error));
            }
        });
        Ok(Self { batches })
    }
}

#[async_trait]
impl RowReader for SqliteReader {
    async fn next_batch(&mut self) -> Result<Option<RowBatch>, RowError> {
        self.batches.recv().await.transpose()
    }
}

/// An SQLite file with Convex's tables, opened for reading.
pub(super) struct SqliteFile {
    pub(super) connection: Connection,
    path: PathBuf,
    /// The copy that is read instead of a file whose last commit was cut off.
    _recovered: Option<TempDir>,
}

impl SqliteFile {
    /// Opens a file and compares its columns with the known ones.
    pub(super) fn open(path: &Path) -> Result<Self, RowError> {
        if !path.is_file() {
            return Err(RowError::Missing { path: path.to_owned() });
        }
        let failed = |error| sqlite_error(path, "opened", error);
        let recovered = recovered_copy(path).map_err(|source| io_error(path, "copied", source))?;
        let connection = match &recovered {
            Some(folder) => Connection::open(folder.path().join(file_name(path))),
            None => Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX),
        };
        let connection = connection.map_err(failed)?;
        connection.pragma_update(None, "cache_size", -CACHE_KIB).map_err(failed)?;
        // One moment for all tables, and a check that this is a database at all.
        connection.execute_batch("BEGIN").map_err(failed)?;
        check_columns(Engine::Sqlite, &columns(&connection).map_err(failed)?)?;
        Ok(Self { connection, path: path.to_owned(), _recovered: recovered })
    }

    fn stream(&self, scope: RowScope, batches: &mpsc::Sender<Result<RowBatch, RowError>>) -> Result<(), RowError> {
        let mut batch = RowBatch::default();
        for (sql, row) in TABLES {
            let failed = |error| sqlite_error(&self.path, "read", error);
            let mut statement = self.connection.prepare(sql).map_err(failed)?;
            let mut rows = match statement.parameter_count() {
                0 => statement.query([]),
                _ => statement.query((scope.after.unwrap_or(i64::MIN), scope.after.is_none())),
            }
            .map_err(failed)?;
            while let Some(found) = rows.next().map_err(failed)? {
                batch.push(row(found)?);
                // A closed channel: the reader was dropped.
                if batch.is_full() && batches.blocking_send(Ok(std::mem::take(&mut batch))).is_err() {
                    return Ok(());
                }
            }
        }
        let _ = batches.blocking_send(Ok(batch));
        Ok(())
    }
}

type ReadRow = fn(&SqlRow<'_>) -> Result<Row, MalformedRow>;

const TABLES: [(&str, ReadRow); 3] = [(GLOBALS, global), (DOCUMENTS, document), (INDEXES, index_entry)];

fn global(row: &SqlRow<'_>) -> Result<Row, MalformedRow> {
    let cells = Cells { row, table: Table::PersistenceGlobals };
    let key = String::from_utf8(cells.bytes(0)?).map_err(|_| cells.malformed("a key is no text"))?;
    Ok(Row::Global(GlobalRow { key, json: cells.bytes(1)? }))
}

fn document(row: &SqlRow<'_>) -> Result<Row, MalformedRow> {
    let cells = Cells { row, table: Table::Documents };
    let json = if cells.flag(4)? { None } else { Some(cells.bytes(3)?) };
    Ok(Row::Document(DocumentRow {
        id: cells.id(0)?,
        ts: cells.integer(1)?,
        table_id: cells.id(2)?,
        json,
        prev_ts: if cells.is_null(5) { None } else { Some(cells.integer(5)?) },
    }))
}

fn index_entry(row: &SqlRow<'_>) -> Result<Row, MalformedRow> {
    let cells = Cells { row, table: Table::Indexes };
    let document = match (cells.flag(3)?, cells.is_null(4) && cells.is_null(5)) {
        (true, true) => None,
        (false, false) => Some((cells.id(4)?, cells.id(5)?)),
        _ => return Err(cells.malformed("a tombstone with a document, or an entry without one")),
    };
    Ok(Row::Index(IndexRow { index_id: cells.id(0)?, ts: cells.integer(1)?, key: cells.bytes(2)?, document }))
}

struct Cells<'a> {
    row: &'a SqlRow<'a>,
    table: Table,
}

impl Cells<'_> {
    fn malformed(&self, what: &'static str) -> MalformedRow {
        MalformedRow { table: self.table, what }
    }

    fn cell(&self, column: usize) -> ValueRef<'_> {
        self.row.get_ref(column).unwrap_or(ValueRef::Null)
    }

    fn is_null(&self, column: usize) -> bool {
        matches!(self.cell(column), ValueRef::Null)
    }

    fn bytes(&self, column: usize) -> Result<Vec<u8>, MalformedRow> {
        match self.cell(column) {
            ValueRef::Text(bytes) | ValueRef::Blob(bytes) if bytes.len() <= VALUE_BYTES_MAX => Ok(bytes.to_vec()),
            ValueRef::Text(_) | ValueRef::Blob(_) => Err(self.malformed("a value is too large")),
            _ => Err(self.malformed("a value is missing")),
        }
    }

    fn id(&self, column: usize) -> Result<InternalId, MalformedRow> {
        match self.cell(column) {
            ValueRef::Blob(bytes) => bytes.try_into().map(InternalId).map_err(|_| self.malformed("an id has not 16 bytes")),
            _ => Err(self.malformed("an id is missing")),
        }
    }

    fn integer(&self, column: usize) -> Result<i64, MalformedRow> {
        match self.cell(column) {
            ValueRef::Integer(number) => Ok(number),
            _ => Err(self.malformed("a number is missing")),
        }
    }

    fn flag(&self, column: usize) -> Result<bool, MalformedRow> {
        match self.integer(column)? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(self.malformed("`deleted` is neither 0 nor 1")),
        }
    }
}

fn columns(connection: &Connection) -> rusqlite::Result<BTreeMap<String, Vec<Column>>> {
    let mut found: BTreeMap<String, Vec<Column>> = BTreeMap::new();
    for table in Table::DATA {
        let mut statement = connection.prepare("SELECT name, type, \"notnull\" FROM pragma_table_info(?1)")?;
        let column =
            |row: &SqlRow<'_>| Ok(Column { name: row.get(0)?, kind: row.get(1)?, is_nullable: row.get::<_, i64>(2)? == 0 });
        let columns: Vec<Column> = statement.query_map([table.name()], column)?.collect::<Result<_, _>>()?;
        if !columns.is_empty() {
            found.insert(table.name().to_owned(), columns);
        }
    }
    Ok(found)
}

/// Copies a file with what lies beside it of a commit that was cut off; none where nothing does.
fn recovered_copy(path: &Path) -> std::io::Result<Option<TempDir>> {
    let beside = |suffix: &str| path.with_file_name(format!("{}{suffix}", file_name(path)));
    let left: Vec<PathBuf> = ["-journal", "-wal"].map(beside).into_iter().filter(|file| is_filled(file)).collect();
    if left.is_empty() {
        return Ok(None);
    }
    // Beside the file first: there a copy may cost nothing, and there is room for it more likely than in memory.
    let folder = path.parent().map(|parent| tempfile::Builder::new().prefix(".recovered-").tempdir_in(parent));
    let folder = folder.and_then(Result::ok).map_or_else(tempfile::tempdir, Ok)?;
    for file in std::iter::once(path).chain(left.iter().map(PathBuf::as_path)) {
        let target = folder.path().join(file_name(file));
        std::fs::copy(file, &target)?;
        let mut permissions = std::fs::metadata(&target)?.permissions();
        #[cfg(unix)]
        std::os::unix::fs::PermissionsExt::set_mode(&mut permissions, 0o600);
        #[cfg(not(unix))]
        permissions.set_readonly(false);
        std::fs::set_permissions(&target, permissions)?;
    }
    Ok(Some(folder))
}

fn is_filled(file: &Path) -> bool {
    std::fs::metadata(file).is_ok_and(|metadata| metadata.is_file() && metadata.len() > 0)
}

fn file_name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

/// Returns what an error of SQLite means.
pub(super) fn sqlite_error(path: &Path, what: &'static str, error: rusqlite::Error) -> RowError {
    match error.sqlite_error_code() {
        Some(rusqlite::ErrorCode::DiskFull) => RowError::NoSpace { place: folder_of(path), source: Box::new(error) },
        _ => RowError::File { path: path.to_owned(), what, source: Box::new(error) },
    }
}

/// Returns what an error of the file system means.
pub(super) fn io_error(path: &Path, what: &'static str, error: std::io::Error) -> RowError {
    match error.kind() {
        std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded => {
            RowError::NoSpace { place: folder_of(path), source: error.into() }
        }
        _ => RowError::File { path: path.to_owned(), what, source: error.into() },
    }
}

fn folder_of(path: &Path) -> String {
    path.parent().unwrap_or(path).display().to_string()
}
