//! What is in a database: its tables with how many documents each has, from the rows themselves.

use std::collections::BTreeMap;
use std::path::Path;

use super::super::admin::{Admin, StoredDocument};
use super::RowError;
use super::editor::{TABLES_MAX, find_table, live_documents, malformed, sqlite_tables};
use super::server::{Lockable, counts_sql};
use super::sqlite_reader::{SqliteFile, sqlite_error};
use crate::convex::persistence;

/// A table in use.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct CatalogTable {
    /// The component that it belongs to, by the identity of its document; none for the deployment itself.
    pub component: Option<String>,
    /// Its name. Those of Convex itself begin with an underscore.
    pub name: String,
    /// How many documents it has.
    pub documents: u64,
}

/// What is in a database.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Catalog {
    /// The tables in use, those of the deployment itself first.
    pub tables: Vec<CatalogTable>,
    /// The version of the database, which decides which releases can run on it.
    pub version: Option<i64>,
}

impl Catalog {
    /// Returns how many documents users have, in how many tables.
    pub fn user_documents(&self) -> (u64, usize) {
        let users = || self.tables.iter().filter(|table| !table.name.starts_with('_'));
        (users().map(|table| table.documents).sum(), users().count())
    }

    fn new(tables: &[StoredDocument], counts: &BTreeMap<Vec<u8>, u64>) -> Self {
        let mut found: Vec<CatalogTable> = Vec::new();
        for table in tables {
            let Some(document) = persistence::decode_document(&table.value) else { continue };
            let Some(name) = persistence::active_table(&document) else { continue };
            let documents = counts.get(&table.id).copied().unwrap_or_default();
            found.push(CatalogTable { component: persistence::component(&document), name, documents });
        }
        found.sort();
        Self { tables: found, version: None }
    }

    fn with_version(self, globals: &[StoredDocument]) -> Self {
        let document = globals.first().and_then(|document| persistence::decode_document(&document.value));
        Self { version: document.as_ref().and_then(persistence::database_version), ..self }
    }
}

/// Reads the catalog of a database on a server.
pub(super) async fn read_server<S: Lockable + Admin>(session: &mut S) -> Result<Catalog, RowError> {
    let tables = session.global(persistence::TABLES_TABLE_ID).await?.as_deref().and_then(persistence::table_id);
    let tables = tables.ok_or_else(|| malformed("the table of all tables is not named"))?;
    let tables = session.live_documents(&tables, TABLES_MAX).await?;
    let counts = session.counts().await?;
    let catalog = Catalog::new(&tables, &counts);
    let globals = find_table(&tables, persistence::DATABASE_GLOBALS)?;
    let globals = session.live_documents(&globals.0, 1).await?;
    Ok(catalog.with_version(&globals))
}

/// Reads the live documents of the tables of an SQLite file that are wanted, as JSON.
///
/// # Errors
/// [`RowError`]: it cannot be read, or holds what is not known.
pub fn read_live_documents(
    path: &Path,
    is_wanted: impl Fn(&CatalogTable) -> bool,
) -> Result<Vec<(CatalogTable, Vec<String>)>, RowError> {
    let file = SqliteFile::open(path)?;
    let failed = |error| sqlite_error(path, "read", error);
    let mut found = Vec::new();
    for table in sqlite_tables(&file.connection, path)? {
        let catalog = Catalog::new(std::slice::from_ref(&table), &BTreeMap::new());
        let Some(mut entry) = catalog.tables.into_iter().next().filter(&is_wanted) else { continue };
        let id = table.id.as_slice().try_into().map_err(|_| malformed("an id has not 16 bytes"))?;
        let documents = live_documents(&file.connection, id, u32::MAX).map_err(failed)?;
        entry.documents = documents.len() as u64;
        let text = |document: StoredDocument| String::from_utf8_lossy(&document.value).into_owned();
        found.push((entry, documents.into_iter().map(text).collect()));
    }
    Ok(found)
}

/// Reads the version of an SQLite file that no backend uses; none where it says none.
///
/// # Errors
/// [`RowError`]: it cannot be read, or holds what is not known.
pub fn read_version(path: &Path) -> Result<Option<i64>, RowError> {
    let file = SqliteFile::open(path)?;
    let tables = sqlite_tables(&file.connection, path)?;
    let globals = find_table(&tables, persistence::DATABASE_GLOBALS)?;
    let globals = live_documents(&file.connection, &globals.0, 1).map_err(|error| sqlite_error(path, "read", error))?;
    Ok(Catalog::default().with_version(&globals).version)
}

/// Reads the catalog of an SQLite file.
pub(super) fn read_file(path: &Path) -> Result<Catalog, RowError> {
    let file = SqliteFile::open(path)?;
    let failed = |error| sqlite_error(path, "read", error);
    let tables = sqlite_tables(&file.connection, path)?;
    let counted = |connection: &rusqlite::Connection| {
        let mut statement = connection.prepare(&counts_sql("documents"))?;
        let counts = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?;
        counts.collect::<rusqlite::Result<BTreeMap<Vec<u8>, u64>>>()
    };
    let catalog = Catalog::new(&tables, &counted(&file.connection).map_err(failed)?);
    let globals = find_table(&tables, persistence::DATABASE_GLOBALS)?;
    let globals = live_documents(&file.connection, &globals.0, 1).map_err(failed)?;
    Ok(catalog.with_version(&globals))
}
