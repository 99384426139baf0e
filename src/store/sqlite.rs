//! The rows in a SQLite file.
//!
//! Must not do: decide what a row means, or write one outside a transaction.

use std::cell::Cell;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rusqlite::types::Type;
use rusqlite::{Connection, ErrorCode, OpenFlags, OptionalExtension, Row, TransactionBehavior, params};

use super::{BackendRow, EventRow, LeaseRow, OperationRow, ProjectRow, Rows, Store, StoreError};
use crate::fault;
use crate::model::{
    BackendId, BackendName, Endpoints, Generation, InstanceName, OperationId, PortPair, ProjectName, Revision, Timestamp,
};

/// `application_id` of our files: "cvxi" as a big-endian number, so that a stranger's SQLite file is told apart.
const APPLICATION_ID: i32 = 0x6376_7869;

/// Every step from an empty file to the newest schema; `user_version` counts how many were taken.
const MIGRATIONS: [&str; 1] = [include_str!("schema_1.sql")];

/// How long to wait for another process that is writing.
const BUSY_TIMEOUT: Duration = Duration::from_secs(10);
const BUSY_PAUSE: Duration = Duration::from_millis(5);

/// What a transaction must survive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Durability {
    /// The end of any process. Enough where nothing outside the store happened.
    Process,
    /// The loss of power as well. Needed before and after every effect outside the store.
    Power,
}

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
        let store = Self::connect(path, OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE)?;
        restrict(path)?;
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
        let store = match writable {
            Err(StoreError::Denied { .. }) => Self::connect(path, OpenFlags::SQLITE_OPEN_READ_ONLY)?,
            other => other?,
        };
        if store.version()? == 0 {
            return Ok(None);
        }
        Ok(Some(store))
    }

    fn connect(path: &Path, flags: OpenFlags) -> Result<Self, StoreError> {
        let flags = flags | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(path, flags).map_err(|error| sql(path, error))?;
        let store = Self { connection, path: path.to_owned(), durability: Cell::new(None) };
        let prepare = || -> rusqlite::Result<()> {
            store.connection.busy_timeout(BUSY_TIMEOUT)?;
            store.connection.pragma_update(None, "foreign_keys", true)?;
            store.connection.pragma_update(None, "secure_delete", true)?;
            store.connection.set_prepared_statement_cache_capacity(32);
            Ok(())
        };
        prepare().map_err(|error| sql(path, error))?;
        store.check_identity()?;
        Ok(store)
    }

    fn pragma(&self, name: &str) -> Result<i64, StoreError> {
        self.connection.pragma_query_value(None, name, |row| row.get(0)).map_err(|error| sql(&self.path, error))
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
        let run = || -> rusqlite::Result<()> {
            // The journal mode belongs to the file and cannot change inside a transaction.
            self.connection.pragma_update(None, "journal_mode", "WAL")?;
            fault::point("store.journal_mode");
            let transaction = rusqlite::Transaction::new_unchecked(&self.connection, TransactionBehavior::Immediate)?;
            // Somebody else may have migrated while we waited for the lock.
            let version: u32 = transaction.pragma_query_value(None, "user_version", |row| row.get(0))?;
            for migration in MIGRATIONS.iter().skip(version as usize) {
                transaction.execute_batch(migration)?;
            }
            transaction.pragma_update(None, "application_id", APPLICATION_ID)?;
            transaction.pragma_update(None, "user_version", u32::try_from(MIGRATIONS.len()).unwrap_or(u32::MAX))?;
            transaction.commit()
        };
        run().map_err(|error| sql(&self.path, error))?;
        fault::point("store.migrated");
        Ok(())
    }

    fn require(&self, durability: Durability) -> Result<(), StoreError> {
        if self.durability.get() != Some(durability) {
            let level = match durability {
                Durability::Process => "NORMAL",
                Durability::Power => "FULL",
            };
            self.connection.pragma_update(None, "synchronous", level).map_err(|error| sql(&self.path, error))?;
            self.durability.set(Some(durability));
        }
        Ok(())
    }
}

fn restrict(path: &Path) -> Result<(), StoreError> {
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
fn sql(path: &Path, error: rusqlite::Error) -> StoreError {
    let path = path.display().to_string();
    match error.sqlite_error_code() {
        Some(ErrorCode::NotADatabase | ErrorCode::DatabaseCorrupt) => StoreError::Damaged { path, source: error },
        Some(ErrorCode::DiskFull) => StoreError::Full { path },
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => StoreError::Busy { path },
        Some(ErrorCode::ReadOnly | ErrorCode::PermissionDenied | ErrorCode::CannotOpen) => {
            StoreError::Denied { path, source: Box::new(error) }
        }
        _ => match error {
            rusqlite::Error::FromSqlConversionFailure(..) | rusqlite::Error::InvalidColumnType(..) => {
                StoreError::Row { path, what: error.to_string() }
            }
            error => StoreError::Sql { path, source: error },
        },
    }
}

impl Store for SqliteStore {
    fn read<T, E: From<StoreError>>(&self, work: impl FnOnce(&dyn Rows) -> Result<T, E>) -> Result<T, E> {
        let transaction = rusqlite::Transaction::new_unchecked(&self.connection, TransactionBehavior::Deferred)
            .map_err(|error| sql(&self.path, error))?;
        work(&SqliteRows { connection: &transaction, path: &self.path })
    }

    fn write<T, E: From<StoreError>>(
        &self,
        durability: Durability,
        work: impl FnOnce(&dyn Rows) -> Result<T, E>,
    ) -> Result<T, E> {
        self.require(durability)?;
        let transaction = rusqlite::Transaction::new_unchecked(&self.connection, TransactionBehavior::Immediate)
            .map_err(|error| sql(&self.path, error))?;
        let result = work(&SqliteRows { connection: &transaction, path: &self.path })?;
        fault::point("store.before_commit");
        transaction.commit().map_err(|error| sql(&self.path, error))?;
        fault::point("store.committed");
        Ok(result)
    }
}

struct SqliteRows<'a> {
    connection: &'a Connection,
    path: &'a Path,
}

impl SqliteRows<'_> {
    fn run(&self, statement: &str, parameters: impl rusqlite::Params) -> Result<usize, StoreError> {
        self.connection
            .prepare_cached(statement)
            .and_then(|mut statement| statement.execute(parameters))
            .map_err(|error| sql(self.path, error))
    }

    fn one<T>(
        &self,
        statement: &str,
        parameters: impl rusqlite::Params,
        read: impl FnOnce(&Row<'_>) -> rusqlite::Result<T>,
    ) -> Result<Option<T>, StoreError> {
        self.connection
            .prepare_cached(statement)
            .and_then(|mut statement| statement.query_row(parameters, read).optional())
            .map_err(|error| sql(self.path, error))
    }

    fn many<T>(
        &self,
        statement: &str,
        parameters: impl rusqlite::Params,
        read: impl FnMut(&Row<'_>) -> rusqlite::Result<T>,
    ) -> Result<Vec<T>, StoreError> {
        self.connection
            .prepare_cached(statement)
            .and_then(|mut statement| statement.query_map(parameters, read)?.collect())
            .map_err(|error| sql(self.path, error))
    }
}

fn unreadable(column: usize, error: impl std::error::Error + Send + Sync + 'static) -> rusqlite::Error {
    rusqlite::Error::FromSqlConversionFailure(column, Type::Text, Box::new(error))
}

fn json<T: serde::de::DeserializeOwned>(row: &Row<'_>, column: usize) -> rusqlite::Result<T> {
    let text = row.get_ref(column)?.as_str()?;
    serde_json::from_str(text).map_err(|error| unreadable(column, error))
}

fn text_of<T: serde::Serialize>(value: &T) -> String {
    // The rows hold plain data with text keys, which always serialises.
    serde_json::to_string(value).unwrap_or_default()
}

fn project_name(row: &Row<'_>, column: usize) -> rusqlite::Result<ProjectName> {
    ProjectName::parse(row.get_ref(column)?.as_str()?).map_err(|error| unreadable(column, error))
}

const BACKEND_COLUMNS: &str = "id, project, name, instance_name, phase, generation, spec, fingerprints, managed_env, url, site_url, \
     admin_key, api_port, site_port, provider_references, has_been_ready, created_at, expires_at, sealed";

fn backend(row: &Row<'_>) -> rusqlite::Result<BackendRow> {
    let url: Option<String> = row.get(9)?;
    let site_url: Option<String> = row.get(10)?;
    let ports: (Option<u16>, Option<u16>) = (row.get(12)?, row.get(13)?);
    Ok(BackendRow {
        id: BackendId::new(row.get::<_, String>(0)?),
        project: project_name(row, 1)?,
        name: BackendName::parse(row.get_ref(2)?.as_str()?).map_err(|error| unreadable(2, error))?,
        instance_name: InstanceName::parse(row.get_ref(3)?.as_str()?).map_err(|error| unreadable(3, error))?,
        phase: json(row, 4)?,
        generation: Generation(row.get(5)?),
        spec: json(row, 6)?,
        fingerprints: json(row, 7)?,
        managed_env: json(row, 8)?,
        endpoints: url.zip(site_url).map(|(url, site_url)| Endpoints { url, site_url }),
        admin_key: row.get::<_, Option<String>>(11)?.map(|_| json(row, 11)).transpose()?,
        ports: ports.0.zip(ports.1).map(|(api, site)| PortPair { api, site }),
        references: json(row, 14)?,
        has_been_ready: row.get(15)?,
        created_at: Timestamp(row.get(16)?),
        expires_at: row.get::<_, Option<i64>>(17)?.map(Timestamp),
        sealed: row.get(18)?,
    })
}

impl Rows for SqliteRows<'_> {
    fn project(&self, name: &ProjectName) -> Result<Option<ProjectRow>, StoreError> {
        self.one("SELECT name, revision, origin, created_at FROM projects WHERE name = ?1", [name.as_str()], |row| {
            Ok(ProjectRow {
                name: project_name(row, 0)?,
                revision: Revision(row.get(1)?),
                origin: row.get(2)?,
                created_at: Timestamp(row.get(3)?),
            })
        })
    }

    fn projects(&self) -> Result<Vec<ProjectName>, StoreError> {
        self.many("SELECT name FROM projects ORDER BY name", [], |row| project_name(row, 0))
    }

    fn put_project(&self, row: &ProjectRow) -> Result<(), StoreError> {
        self.run(
            "INSERT INTO projects (name, revision, origin, created_at) VALUES (?1, ?2, ?3, ?4)
             ON CONFLICT (name) DO UPDATE SET revision = ?2, origin = ?3",
            params![row.name.as_str(), row.revision.0, row.origin, row.created_at.0],
        )
        .map(drop)
    }

    fn backends(&self, project: &ProjectName) -> Result<Vec<BackendRow>, StoreError> {
        let statement = format!("SELECT {BACKEND_COLUMNS} FROM backends WHERE project = ?1 ORDER BY name");
        self.many(&statement, [project.as_str()], backend)
    }

    fn backend(&self, project: &ProjectName, name: &BackendName) -> Result<Option<BackendRow>, StoreError> {
        let statement = format!("SELECT {BACKEND_COLUMNS} FROM backends WHERE project = ?1 AND name = ?2");
        self.one(&statement, [project.as_str(), name.as_str()], backend)
    }

    fn backend_by_id(&self, id: &BackendId) -> Result<Option<BackendRow>, StoreError> {
        self.one(&format!("SELECT {BACKEND_COLUMNS} FROM backends WHERE id = ?1"), [id.as_str()], backend)
    }

    fn put_backend(&self, row: &BackendRow) -> Result<(), StoreError> {
        let statement = format!(
            "INSERT INTO backends ({BACKEND_COLUMNS})
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18, ?19)
             ON CONFLICT (id) DO UPDATE SET name = ?3, instance_name = ?4, phase = ?5, generation = ?6, spec = ?7, fingerprints = ?8,
             managed_env = ?9, url = ?10, site_url = ?11, admin_key = ?12, api_port = ?13, site_port = ?14, provider_references = ?15,
             has_been_ready = ?16, expires_at = ?18, sealed = ?19"
        );
        self.run(
            &statement,
            params![
                row.id.as_str(),
                row.project.as_str(),
                row.name.as_str(),
                row.instance_name.as_str(),
                text_of(&row.phase),
                row.generation.0,
                text_of(&row.spec),
                text_of(&row.fingerprints),
                text_of(&row.managed_env),
                row.endpoints.as_ref().map(|endpoints| &endpoints.url),
                row.endpoints.as_ref().map(|endpoints| &endpoints.site_url),
                row.admin_key.as_ref().map(text_of),
                row.ports.map(|ports| ports.api),
                row.ports.map(|ports| ports.site),
                text_of(&row.references),
                row.has_been_ready,
                row.created_at.0,
                row.expires_at.map(|time| time.0),
                row.sealed,
            ],
        )
        .map(drop)
    }

    fn delete_backend(&self, id: &BackendId) -> Result<(), StoreError> {
        self.run("DELETE FROM backends WHERE id = ?1", [id.as_str()]).map(drop)
    }

    fn instance_name_taken(&self, name: &InstanceName) -> Result<bool, StoreError> {
        self.one("SELECT 1 FROM backends WHERE instance_name = ?1", [name.as_str()], |_| Ok(())).map(|found| found.is_some())
    }

    fn ports(&self) -> Result<Vec<PortPair>, StoreError> {
        self.many("SELECT api_port, site_port FROM backends WHERE api_port IS NOT NULL ORDER BY api_port", [], |row| {
            Ok(PortPair { api: row.get(0)?, site: row.get(1)? })
        })
    }

    fn operation(&self, project: &ProjectName, key: &str) -> Result<Option<OperationRow>, StoreError> {
        self.one(
            "SELECT id, project, backend, key, kind, accepted_at, outcome FROM operations WHERE project = ?1 AND key = ?2",
            [project.as_str(), key],
            |row| {
                Ok(OperationRow {
                    id: Some(OperationId::new(row.get::<_, i64>(0)?.to_string())),
                    project: project_name(row, 1)?,
                    backend: BackendName::parse(row.get_ref(2)?.as_str()?).map_err(|error| unreadable(2, error))?,
                    key: row.get(3)?,
                    kind: row.get(4)?,
                    accepted_at: Timestamp(row.get(5)?),
                    outcome: row.get(6)?,
                })
            },
        )
    }

    fn accept_operation(&self, row: &OperationRow) -> Result<OperationId, StoreError> {
        self.run(
            "INSERT INTO operations (project, backend, key, kind, accepted_at) VALUES (?1, ?2, ?3, ?4, ?5)",
            params![row.project.as_str(), row.backend.as_str(), row.key, row.kind, row.accepted_at.0],
        )?;
        Ok(OperationId::new(self.connection.last_insert_rowid().to_string()))
    }

    fn end_operation(&self, id: &OperationId, ended_at: Timestamp, outcome: &str) -> Result<(), StoreError> {
        self.run("UPDATE operations SET ended_at = ?2, outcome = ?3 WHERE id = ?1", params![id.as_str(), ended_at.0, outcome])
            .map(drop)
    }

    fn lease(&self, project: &ProjectName) -> Result<Option<LeaseRow>, StoreError> {
        self.one("SELECT project, fence, holder, renewed_at FROM leases WHERE project = ?1", [project.as_str()], |row| {
            Ok(LeaseRow {
                project: project_name(row, 0)?,
                fence: row.get(1)?,
                holder: row.get(2)?,
                renewed_at: Timestamp(row.get(3)?),
            })
        })
    }

    fn put_lease(&self, row: &LeaseRow) -> Result<(), StoreError> {
        self.run(
            "INSERT INTO leases (project, fence, holder, renewed_at) VALUES (?1, ?2, ?3, ?4)
             ON CONFLICT (project) DO UPDATE SET fence = ?2, holder = ?3, renewed_at = ?4",
            params![row.project.as_str(), row.fence, row.holder, row.renewed_at.0],
        )
        .map(drop)
    }

    fn append_event(&self, event: &EventRow) -> Result<(), StoreError> {
        self.run(
            "INSERT INTO events (project, at, kind, backend, detail) VALUES (?1, ?2, ?3, ?4, ?5)",
            params![event.project.as_str(), event.at.0, event.kind, event.backend, event.detail],
        )
        .map(drop)
    }

    fn events(&self, project: &ProjectName, limit: u32) -> Result<Vec<EventRow>, StoreError> {
        let mut events = self.many(
            "SELECT sequence, project, at, kind, backend, detail FROM events WHERE project = ?1 ORDER BY sequence DESC LIMIT ?2",
            params![project.as_str(), limit],
            |row| {
                Ok(EventRow {
                    sequence: row.get(0)?,
                    project: project_name(row, 1)?,
                    at: Timestamp(row.get(2)?),
                    kind: row.get(3)?,
                    backend: row.get(4)?,
                    detail: row.get(5)?,
                })
            },
        )?;
        events.reverse();
        Ok(events)
    }
}
