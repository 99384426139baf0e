//! The rows in a SQLite file.

use std::cell::Cell;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rusqlite::config::DbConfig;
use rusqlite::types::{ToSqlOutput, ValueRef};
use rusqlite::{Connection, ErrorCode, OpenFlags, TransactionBehavior};

use super::sql::{self, ColumnError, Columns, MIGRATIONS, Parameter, SqlRows};
use super::{Access, Durability, Rows, Store, StoreError, TransactionOutcome};
use crate::failpoint;

/// `application_id` of our files: "cvxi" as a big-endian number, so that a stranger's SQLite file is told apart.
const APPLICATION_ID: i32 = 0x6376_7869;

/// How long to wait for another process that is writing.
const BUSY_TIMEOUT: Duration = Duration::from_secs(10);
const BUSY_PAUSE: Duration = Duration::from_millis(5);

/// A SQLite file as a store.
pub struct SqliteStore {
    connection: Connection,
    path: PathBuf,
    durability: Cell<Option<Durability>>,
}

impl SqliteStore {
    /// Opens the file for writing and brings its schema up to date; makes it where there is none.
    ///
    /// # Errors
    /// [`StoreError`] when the file cannot be used. The file is left as it was.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        create_private(path)?;
        let store = Self::connect(path, OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE)?;
        restrict_permissions(path)?;
        let started = Instant::now();
        loop {
            match store.migrate() {
                // SQLite does not wait by itself when several processes change the journal mode of a new file.
                Err(StoreError::Busy { .. }) if started.elapsed() < BUSY_TIMEOUT => std::thread::sleep(BUSY_PAUSE),
                result => return result.map(|()| store),
            }
        }
    }

    /// Opens the file for reading only; none where there is no file. Changes nothing.
    ///
    /// # Errors
    /// [`StoreError`] when there is a file and it cannot be used.
    pub fn open_to_read(path: &Path) -> Result<Option<Self>, StoreError> {
        match fs::metadata(path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            // An interrupted first run can leave an empty file: nothing is in it.
            Ok(metadata) if metadata.len() == 0 => return Ok(None),
            Err(error) => return Err(StoreError::Denied { path: path.display().to_string(), source: Box::new(error) }),
            Ok(_) => {}
        }
        // Read-write without create: a reader of a WAL file takes part in its shared memory, and the last one to
        // leave tidies up after itself; a strictly read-only handle would leave those files behind.
        let writable = Self::connect(path, OpenFlags::SQLITE_OPEN_READ_WRITE);
        let unwritable =
            |result: &Result<Self, StoreError>| matches!(result, Err(StoreError::Denied { .. } | StoreError::Full { .. }));
        let store = if unwritable(&writable) {
            // Nothing may be written, or there is no room for it: not even for the shared index of a WAL file.
            match Self::connect(path, OpenFlags::SQLITE_OPEN_READ_ONLY) {
                result if unwritable(&result) && !has_wal(path) => Self::connect_immutable(path)?,
                result if unwritable(&result) => Self::connect_alone(path)?,
                result => result?,
            }
        } else {
            writable?
        };
        match store.version()? as usize {
            0 => Ok(None),
            version if version < MIGRATIONS.len() => store.migrated_copy().map(Some),
            _ => Ok(Some(store)),
        }
    }

    /// Returns a copy with today's schema. Reading must not change a file that an older convexinfra wrote.
    fn migrated_copy(self) -> Result<Self, StoreError> {
        let copy = || -> rusqlite::Result<Connection> {
            let mut memory = Connection::open_in_memory()?;
            rusqlite::backup::Backup::new(&self.connection, &mut memory)?.run_to_completion(1024, BUSY_PAUSE, None)?;
            Ok(memory)
        };
        let connection = copy().map_err(|error| classify_error(&self.path, error))?;
        let store = Self { connection, path: self.path, durability: Cell::new(None) };
        store.apply_migrations()?;
        Ok(store)
    }

    fn connect(path: &Path, flags: OpenFlags) -> Result<Self, StoreError> {
        Self::configure(path, Connection::open_with_flags(path, flags | OpenFlags::SQLITE_OPEN_NO_MUTEX))
    }

    /// Opens a file where not even readers can leave a trace (a read-only file system), which SQLite refuses for a WAL file
    /// unless it is told that there is no writer.
    fn connect_immutable(path: &Path) -> Result<Self, StoreError> {
        let mut uri = "file:".to_owned();
        for character in path.display().to_string().chars() {
            match character {
                '%' => uri.push_str("%25"),
                '?' => uri.push_str("%3f"),
                '#' => uri.push_str("%23"),
                other => uri.push(other),
            }
        }
        uri.push_str("?immutable=1");
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_URI | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        Self::configure(path, Connection::open_with_flags(uri, flags))
    }

    /// Opens a WAL file with its index in memory, alone for as long as it is open.
    fn connect_alone(path: &Path) -> Result<Self, StoreError> {
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(path, flags).map_err(|error| classify_error(path, error))?;
        connection.pragma_update(None, "locking_mode", "EXCLUSIVE").map_err(|error| classify_error(path, error))?;
        Self::configure(path, Ok(connection))
    }

    fn configure(path: &Path, connection: rusqlite::Result<Connection>) -> Result<Self, StoreError> {
        let connection = connection.map_err(|error| classify_error(path, error))?;
        let store = Self { connection, path: path.to_owned(), durability: Cell::new(None) };
        let prepare = || -> rusqlite::Result<()> {
            store.connection.busy_timeout(BUSY_TIMEOUT)?;
            store.connection.pragma_update(None, "foreign_keys", true)?;
            store.connection.pragma_update(None, "secure_delete", true)?;
            // A plan that depends on what is bound is made anew at each execution.
            store.connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true)?;
            store.connection.set_prepared_statement_cache_capacity(32);
            Ok(())
        };
        prepare().map_err(|error| classify_error(path, error))?;
        store.check_identity()?;
        Ok(store)
    }

    fn pragma(&self, name: &str) -> Result<i64, StoreError> {
        self.connection.pragma_query_value(None, name, |row| row.get(0)).map_err(|error| classify_error(&self.path, error))
    }

    fn version(&self) -> Result<u32, StoreError> {
        Ok(u32::try_from(self.pragma("user_version")?).unwrap_or(u32::MAX))
    }

    fn check_identity(&self) -> Result<(), StoreError> {
        let known = u32::try_from(MIGRATIONS.len()).unwrap_or(u32::MAX);
        let found = self.version()?;
        if found > known {
            return Err(StoreError::Newer { path: self.path.display().to_string(), found, known });
        }
        if found > 0 && self.pragma("application_id")? != i64::from(APPLICATION_ID) {
            return Err(StoreError::Row {
                path: self.path.display().to_string(),
                what: "the file's application id".to_owned(),
            });
        }
        Ok(())
    }

    fn migrate(&self) -> Result<(), StoreError> {
        if self.version()? as usize >= MIGRATIONS.len() {
            return Ok(());
        }
        // The journal mode belongs to the file and cannot change inside a transaction.
        self.connection.pragma_update(None, "journal_mode", "WAL").map_err(|error| classify_error(&self.path, error))?;
        failpoint::hit("store.journal_mode");
        self.apply_migrations()?;
        failpoint::hit("store.migrated");
        Ok(())
    }

    /// Takes every step that is missing, all of them or none.
    fn apply_migrations(&self) -> Result<(), StoreError> {
        let failed = |error| classify_error(&self.path, error);
        let transaction =
            rusqlite::Transaction::new_unchecked(&self.connection, TransactionBehavior::Immediate).map_err(failed)?;
        // Another process may have migrated while we waited for the lock.
        let taken: u32 = transaction.pragma_query_value(None, "user_version", |row| row.get(0)).map_err(failed)?;
        sql::migrate(&self.in_transaction(&transaction), taken as usize)?;
        let finish = || -> rusqlite::Result<()> {
            transaction.pragma_update(None, "application_id", APPLICATION_ID)?;
            transaction.pragma_update(None, "user_version", u32::try_from(MIGRATIONS.len()).unwrap_or(u32::MAX))
        };
        finish().and_then(|()| transaction.commit()).map_err(failed)
    }

    fn in_transaction<'a>(&'a self, connection: &'a Connection) -> OpenConnection<'a> {
        OpenConnection { connection, path: &self.path }
    }

    fn set_durability(&self, durability: Durability) -> Result<(), StoreError> {
        if self.durability.get() != Some(durability) {
            let level = match durability {
                Durability::NoFsync => "NORMAL",
                Durability::Fsync => "FULL",
            };
            self.connection.pragma_update(None, "synchronous", level).map_err(|error| classify_error(&self.path, error))?;
            self.durability.set(Some(durability));
        }
        Ok(())
    }
}

/// Returns whether something was written that is not in the file itself yet.
fn has_wal(path: &Path) -> bool {
    let mut journal = path.as_os_str().to_owned();
    journal.push("-wal");
    fs::metadata(journal).is_ok_and(|metadata| metadata.len() > 0)
}

/// Creates the file for its owner only, under every umask; SQLite gives its journal and its index the same mode.
fn create_private(path: &Path) -> Result<(), StoreError> {
    let mut options = fs::OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    match options.open(path) {
        Err(error) if error.kind() == std::io::ErrorKind::StorageFull => {
            Err(StoreError::Full { path: path.display().to_string() })
        }
        // What else is in the way SQLite says better.
        _ => Ok(()),
    }
}

fn restrict_permissions(path: &Path) -> Result<(), StoreError> {
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        let denied = |source: std::io::Error| StoreError::Denied { path: path.display().to_string(), source: Box::new(source) };
        let metadata = fs::metadata(path).map_err(denied)?;
        if metadata.permissions().mode() & 0o077 != 0 {
            fs::set_permissions(path, fs::Permissions::from_mode(0o600)).map_err(denied)?;
        }
    }
    Ok(())
}

/// Turns what SQLite says into the situation that it means.
fn classify_error(path: &Path, error: rusqlite::Error) -> StoreError {
    let path = path.display().to_string();
    // The index of the journal is mapped memory, and what SQLite reports when it cannot grow is not "full".
    if error.sqlite_error().is_some_and(|error| error.extended_code == rusqlite::ffi::SQLITE_IOERR_SHMSIZE) {
        return StoreError::Full { path };
    }
    match error.sqlite_error_code() {
        Some(ErrorCode::NotADatabase | ErrorCode::DatabaseCorrupt) => StoreError::Damaged { path, source: Box::new(error) },
        Some(ErrorCode::DiskFull) => StoreError::Full { path },
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => StoreError::Busy { path },
        Some(ErrorCode::ReadOnly | ErrorCode::PermissionDenied | ErrorCode::CannotOpen) => {
            StoreError::Denied { path, source: Box::new(error) }
        }
        _ => match error {
            rusqlite::Error::FromSqlConversionFailure(..) | rusqlite::Error::InvalidColumnType(..) => {
                StoreError::Row { path, what: error.to_string() }
            }
            error => StoreError::Sql { path, source: Box::new(error) },
        },
    }
}

impl Store for SqliteStore {
    fn transact(&self, access: Access, work: &mut dyn FnMut(&dyn Rows) -> TransactionOutcome) -> Result<(), StoreError> {
        let failed = |error| classify_error(&self.path, error);
        let behaviour = match access {
            Access::Read => TransactionBehavior::Deferred,
            Access::Write(durability) => {
                self.set_durability(durability)?;
                TransactionBehavior::Immediate
            }
        };
        let transaction = rusqlite::Transaction::new_unchecked(&self.connection, behaviour).map_err(failed)?;
        let verdict = work(&SqlRows::new(&self.in_transaction(&transaction)));
        if access != Access::Read && verdict == TransactionOutcome::Commit {
            failpoint::hit("store.before_commit");
            transaction.commit().map_err(failed)?;
            failpoint::hit("store.committed");
        }
        Ok(())
    }
}

/// A connection on which a transaction is open.
struct OpenConnection<'a> {
    connection: &'a Connection,
    path: &'a Path,
}

impl OpenConnection<'_> {
    /// Returns the failure of a row of the table that a statement reads, by the first column, which identifies it.
    fn unreadable(&self, statement: &str, row: &rusqlite::Row<'_>, error: &ColumnError) -> StoreError {
        let mut words = statement.split_whitespace().skip_while(|word| !word.eq_ignore_ascii_case("from"));
        let table = words.nth(1).unwrap_or("?");
        let id = row.get::<_, String>(0).map(|id| format!(", row `{id}`")).unwrap_or_default();
        StoreError::Row { path: self.path.display().to_string(), what: format!("table `{table}`{id}: {error}") }
    }
}

impl sql::Connection for OpenConnection<'_> {
    fn run(&self, statement: &str, parameters: &[Parameter<'_>]) -> Result<(), StoreError> {
        self.connection
            .prepare_cached(statement)
            .and_then(|mut statement| statement.execute(rusqlite::params_from_iter(parameters)))
            .map(drop)
            .map_err(|error| classify_error(self.path, error))
    }

    fn query(
        &self,
        statement: &str,
        parameters: &[Parameter<'_>],
        each: &mut dyn FnMut(&dyn Columns) -> Result<(), ColumnError>,
    ) -> Result<(), StoreError> {
        let failed = |error| classify_error(self.path, error);
        let mut prepared = self.connection.prepare_cached(statement).map_err(failed)?;
        let mut rows = prepared.query(rusqlite::params_from_iter(parameters)).map_err(failed)?;
        while let Some(row) = rows.next().map_err(failed)? {
            each(row).map_err(|error| self.unreadable(statement, row, &error))?;
        }
        Ok(())
    }

    fn batch(&self, statements: &str) -> Result<(), StoreError> {
        self.connection.execute_batch(statements).map_err(|error| classify_error(self.path, error))
    }
}

impl rusqlite::ToSql for Parameter<'_> {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(ToSqlOutput::Borrowed(match self {
            Self::Null => ValueRef::Null,
            Self::Integer(number) => ValueRef::Integer(*number),
            Self::Text(text) => ValueRef::Text(text.as_bytes()),
            Self::Bytes(bytes) => ValueRef::Blob(bytes),
        }))
    }
}

fn column<'a>(row: &'a rusqlite::Row<'_>, column: usize) -> Result<ValueRef<'a>, ColumnError> {
    row.get_ref(column).map_err(|error| ColumnError::new(column, error))
}

impl Columns for rusqlite::Row<'_> {
    fn integer(&self, index: usize) -> Result<Option<i64>, ColumnError> {
        column(self, index)?.as_i64_or_null().map_err(|error| ColumnError::new(index, error))
    }

    fn text(&self, index: usize) -> Result<Option<&str>, ColumnError> {
        column(self, index)?.as_str_or_null().map_err(|error| ColumnError::new(index, error))
    }

    fn bytes(&self, index: usize) -> Result<Option<&[u8]>, ColumnError> {
        column(self, index)?.as_blob_or_null().map_err(|error| ColumnError::new(index, error))
    }
}
