//! A place that Convex's rows are kept in, on any engine: read, loaded, published, locked.
//!
//! | | SQLite | servers |
//! |---|---|---|
//! | being loaded | a file with the suffix `.loading` | the row of `read_only` is there |
//! | published | renamed | the row is gone |
//! | locked | renamed to the suffix `.locked` | the row is there again |

use std::path::{Path, PathBuf};

use super::super::connect::Volume;
use super::super::{DatabaseServer, admin::Admin, mysql::MysqlSession, postgres::PostgresSession};
use super::catalog;
use super::editor::{edit_file, edit_on_server};
use super::mysql_reader::MysqlReader;
use super::mysql_writer::MysqlWriter;
use super::postgres_reader::PostgresReader;
use super::postgres_writer::PostgresWriter;
use super::server::{self, missing};
use super::sqlite_reader::io_error;
use super::{Catalog, RowError, RowReader, RowScope, RowWriter, SqliteReader, SqliteWriter};
use crate::convex::launch::locked_database;
use crate::convex::persistence::{Edit, Engine};
use crate::model::Storage;

/// A place for rows.
#[derive(Debug, Clone)]
pub enum RowStore {
    /// An SQLite file, by the path at which a backend looks for it.
    Sqlite(PathBuf),
    /// A database on a server.
    Server(Box<DatabaseServer>, String),
}

/// In which stage of its life a place is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// Backends may use it.
    Published,
    /// It is being loaded, or was loaded and is not published yet.
    Loading,
    /// It was locked.
    Locked,
}

impl Stage {
    fn file(self, path: &Path) -> PathBuf {
        match self {
            Self::Published => path.to_owned(),
            Self::Loading => path.with_file_name(format!("{}.loading", path.file_name().unwrap_or_default().to_string_lossy())),
            Self::Locked => locked_database(path),
        }
    }
}

impl RowStore {
    /// Returns a database on a server.
    pub fn server(server: &DatabaseServer, database: &str) -> Self {
        Self::Server(Box::new(DatabaseServer { volume: Volume::Rows, ..server.clone() }), database.to_owned())
    }

    /// Returns its engine.
    pub fn engine(&self) -> Engine {
        match self {
            Self::Sqlite(_) => Engine::Sqlite,
            Self::Server(server, _) => match server.storage {
                Storage::Mysql(_) => Engine::Mysql,
                Storage::Postgres(_) | Storage::Sqlite => Engine::Postgres,
            },
        }
    }

    /// Opens it for reading at one moment.
    ///
    /// # Errors
    /// [`RowError`]: it cannot be read, or holds what is not known.
    pub async fn reader(&self, stage: Stage, scope: RowScope) -> Result<Box<dyn RowReader>, RowError> {
        Ok(match (self, self.engine()) {
            (Self::Sqlite(path), _) => Box::new(SqliteReader::open(&stage.file(path), scope).await?),
            (Self::Server(server, database), Engine::Mysql) => Box::new(MysqlReader::open(server, database, scope).await?),
            (Self::Server(server, database), _) => Box::new(PostgresReader::open(server, database, scope).await?),
        })
    }

    /// Begins to load it, from nothing. What an earlier load left is dropped; a place that backends may use is refused.
    ///
    /// # Errors
    /// [`RowError`]: it cannot be loaded.
    pub async fn writer(&self) -> Result<Box<dyn RowWriter>, RowError> {
        Ok(match (self, self.engine()) {
            (Self::Sqlite(path), _) if path.exists() => {
                return Err(RowError::InUse { database: path.display().to_string() });
            }
            (Self::Sqlite(path), _) => Box::new(SqliteWriter::create(&Stage::Loading.file(path)).await?),
            (Self::Server(server, database), Engine::Mysql) => Box::new(MysqlWriter::create(server, database).await?),
            (Self::Server(server, database), _) => Box::new(PostgresWriter::create(server, database).await?),
        })
    }

    /// Returns the tables that it has, with how many documents are in each.
    ///
    /// # Errors
    /// [`RowError`]: it cannot be read, or holds what is not known.
    pub async fn catalog(&self, stage: Stage) -> Result<Catalog, RowError> {
        match (self, self.engine()) {
            (Self::Sqlite(path), _) => {
                let path = stage.file(path);
                let read = tokio::task::spawn_blocking(move || catalog::read_file(&path)).await;
                read.map_err(|_| RowError::Interrupted)?
            }
            (Self::Server(server, database), Engine::Mysql) => catalog::read_server(&mut mysql(server, database).await?).await,
            (Self::Server(server, database), _) => catalog::read_server(&mut postgres(server, database).await?).await,
        }
    }

    /// Edits documents of what was loaded and is not published yet. Repeating it is harmless.
    ///
    /// # Errors
    /// [`RowError`]: not all of them are edited.
    pub async fn edit(&self, edits: Vec<Edit>) -> Result<(), RowError> {
        match (self, self.engine()) {
            (Self::Sqlite(path), _) => {
                let path = Stage::Loading.file(path);
                let edited = tokio::task::spawn_blocking(move || edit_file(&path, &edits)).await;
                edited.map_err(|_| RowError::Interrupted)?
            }
            (Self::Server(server, database), Engine::Mysql) => {
                edit_on_server(&mut mysql(server, database).await?, &edits).await
            }
            (Self::Server(server, database), _) => edit_on_server(&mut postgres(server, database).await?, &edits).await,
        }
    }

    /// Lets backends start on what was loaded. To be done last; repeating it is harmless.
    ///
    /// # Errors
    /// [`RowError`]: it stays as it is.
    pub async fn publish(&self) -> Result<(), RowError> {
        match self {
            Self::Sqlite(path) => rename(&Stage::Loading.file(path), path),
            Self::Server(..) => self.unlock().await,
        }
    }

    /// Keeps backends from starting on it. One that runs has to be stopped before. Repeating it is harmless.
    ///
    /// # Errors
    /// [`RowError`]: it stays as it is.
    pub async fn lock(&self) -> Result<(), RowError> {
        match (self, self.engine()) {
            (Self::Sqlite(path), _) => lock_file(path),
            (Self::Server(server, database), Engine::Mysql) => server::lock(&mut mysql(server, database).await?).await,
            (Self::Server(server, database), _) => server::lock(&mut postgres(server, database).await?).await,
        }
    }

    /// Returns whether backends are kept from starting on it.
    ///
    /// # Errors
    /// [`RowError`]: it cannot be told.
    pub async fn is_locked(&self) -> Result<bool, RowError> {
        match (self, self.engine()) {
            (Self::Sqlite(path), _) => Ok(!path.exists() && Stage::Locked.file(path).exists()),
            (Self::Server(server, database), Engine::Mysql) => server::is_locked(&mut mysql(server, database).await?).await,
            (Self::Server(server, database), _) => server::is_locked(&mut postgres(server, database).await?).await,
        }
    }

    /// Refuses to load it where backends may use what is in it.
    ///
    /// # Errors
    /// [`RowError::InUse`], or what keeps it from being looked at.
    pub async fn require_loadable(&self) -> Result<(), RowError> {
        match (self, self.engine()) {
            (Self::Sqlite(path), _) if path.exists() => Err(RowError::InUse { database: path.display().to_string() }),
            (Self::Sqlite(_), _) => Ok(()),
            (Self::Server(server, database), Engine::Mysql) => {
                server::require_loadable(&mut mysql(server, database).await?, database).await
            }
            (Self::Server(server, database), _) => {
                server::require_loadable(&mut postgres(server, database).await?, database).await
            }
        }
    }

    /// Returns the file that was loaded and is not published yet; none on a server.
    pub fn loaded_file(&self) -> Option<PathBuf> {
        let Self::Sqlite(path) = self else { return None };
        Some(Stage::Loading.file(path)).filter(|loaded| loaded.exists())
    }

    /// Deletes the file of a load that is not gone on with. What is loaded on a server stays locked.
    pub fn discard_loading(&self) {
        if let Self::Sqlite(path) = self {
            let _ = std::fs::remove_file(Stage::Loading.file(path));
        }
    }

    /// Takes a lock back. Repeating it is harmless.
    ///
    /// # Errors
    /// [`RowError`]: it stays as it is.
    pub async fn unlock(&self) -> Result<(), RowError> {
        match (self, self.engine()) {
            (Self::Sqlite(path), _) => unlock_file(path),
            (Self::Server(server, database), Engine::Mysql) => server::unlock(&mut mysql(server, database).await?).await,
            (Self::Server(server, database), _) => server::unlock(&mut postgres(server, database).await?).await,
        }
    }
}

async fn postgres(server: &DatabaseServer, database: &str) -> Result<PostgresSession, RowError> {
    PostgresSession::open(server, database).await?.ok_or_else(|| missing(database))
}

async fn mysql(server: &DatabaseServer, database: &str) -> Result<MysqlSession, RowError> {
    MysqlSession::open(server, database).await?.ok_or_else(|| missing(database))
}

/// Locks a file with the journal of a commit that was cut off. An older one, locked before this was published, goes.
fn lock_file(path: &Path) -> Result<(), RowError> {
    let locked = Stage::Locked.file(path);
    if path.exists() {
        for old in [journal(&locked), locked.clone()] {
            match std::fs::remove_file(&old) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(io_error(&old, "removed", error)),
                _ => {}
            }
        }
    }
    // What can be opened has its journal beside it at every moment.
    rename(path, &locked)?;
    rename_journal(path, &locked)
}

fn unlock_file(path: &Path) -> Result<(), RowError> {
    let locked = Stage::Locked.file(path);
    if path.exists() {
        return Ok(());
    }
    rename_journal(&locked, path)?;
    rename(&locked, path)
}

fn rename_journal(from: &Path, to: &Path) -> Result<(), RowError> {
    let (from, to) = (journal(from), journal(to));
    if from.exists() { rename(&from, &to) } else { Ok(()) }
}

fn journal(path: &Path) -> PathBuf {
    path.with_file_name(format!("{}-journal", path.file_name().unwrap_or_default().to_string_lossy()))
}

/// Renames a file for good, unless that was done before.
fn rename(from: &Path, to: &Path) -> Result<(), RowError> {
    if !from.exists() {
        let is_done = to.exists();
        return if is_done { Ok(()) } else { Err(RowError::Missing { path: from.to_owned() }) };
    }
    if to.exists() {
        return Err(RowError::InUse { database: to.display().to_string() });
    }
    std::fs::rename(from, to).map_err(|error| io_error(from, "renamed", error))?;
    // Renaming is on disk once its folder is.
    let synced = to.parent().map(std::fs::File::open).transpose().and_then(|folder| folder.map_or(Ok(()), |f| f.sync_all()));
    if cfg!(unix) { synced.map_err(|error| io_error(to, "renamed", error)) } else { Ok(()) }
}
