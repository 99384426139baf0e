//! The files that Convex's documents name, and whether they are where the backend will look for them.

use std::path::PathBuf;

use super::admin::Admin;
use super::{DatabaseError, DatabaseSpec, Expectation};
use crate::convex::persistence::{self, BlobKind};

/// Says where a backend keeps the files that its documents name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FileStore {
    /// In buckets, or where they cannot be listed: nothing is compared.
    Remote,
    /// In this folder, which need not exist yet.
    Folder(PathBuf),
    /// On a volume, which is new and empty unless the backend has been ready before.
    NewVolume,
}

/// How many documents of one table are read. More are not needed to see that files are gone.
const DOCUMENTS_MAX: u32 = 20_000;

/// Compares the files that documents name with those that are there.
///
/// # Errors
/// [`DatabaseError::FilesMissing`] with how many are not.
pub(super) async fn check(session: &mut impl Admin, spec: &DatabaseSpec) -> Result<(), DatabaseError> {
    let is_listed = match (&spec.files, spec.expectation) {
        (FileStore::Folder(_), _) | (FileStore::NewVolume, Expectation::MayCreate) => true,
        (FileStore::NewVolume, Expectation::MustExist) | (FileStore::Remote, _) => false,
    };
    if !is_listed {
        return Ok(());
    }
    let (mut modules, mut files) = ((0, 0), (0, 0));
    for (kind, key) in named_files(session).await? {
        let count = if kind == BlobKind::Module { &mut modules } else { &mut files };
        count.1 += 1;
        let is_there = match (&spec.files, persistence::blob_path(kind, &key)) {
            (FileStore::Folder(folder), Some(path)) => tokio::fs::try_exists(folder.join(path)).await.unwrap_or(true),
            _ => false,
        };
        count.0 += u64::from(!is_there);
    }
    let is_missing = match spec.expectation {
        Expectation::MayCreate => modules.0 > 0 || files.0 > 0,
        // A backend may have lost single files long ago and lives; one whose files are all gone does not.
        Expectation::MustExist => [modules, files].iter().any(|(missing, all)| *all > 0 && missing == all),
    };
    if !is_missing {
        return Ok(());
    }
    let place = match &spec.files {
        FileStore::Folder(folder) => Some(folder.display().to_string()),
        FileStore::Remote | FileStore::NewVolume => None,
    };
    Err(DatabaseError::FilesMissing { database: spec.database.clone(), modules, files, place })
}

/// Returns the prefix under which a backend keeps its files in S3, as its database says; none where it keeps them
/// elsewhere.
///
/// # Errors
/// [`DatabaseError`] when the database cannot be read.
pub(super) async fn s3_prefix(session: &mut impl Admin) -> Result<Option<String>, DatabaseError> {
    for (name, table) in tables(session).await? {
        if name == persistence::DATABASE_GLOBALS {
            let documents = session.live_documents(&table, 1).await?;
            let document = documents.first().and_then(|document| persistence::decode_document(&document.value));
            return Ok(document.as_ref().and_then(persistence::s3_prefix));
        }
    }
    Ok(None)
}

async fn named_files(session: &mut impl Admin) -> Result<Vec<(BlobKind, String)>, DatabaseError> {
    let mut found = Vec::new();
    for (name, table) in tables(session).await? {
        let Some(kind) = BlobKind::of_table(&name) else { continue };
        for document in session.live_documents(&table, DOCUMENTS_MAX).await? {
            let key = persistence::decode_document(&document.value).and_then(|document| persistence::storage_key(&document));
            found.extend(key.map(|key| (kind, key)));
        }
    }
    Ok(found)
}

/// Returns the active tables by name. Every component has its own.
async fn tables(session: &mut impl Admin) -> Result<Vec<(String, [u8; 16])>, DatabaseError> {
    let Some(tables) = session.global(persistence::TABLES_TABLE_ID).await?.as_deref().and_then(persistence::table_id) else {
        return Ok(Vec::new());
    };
    let mut found = Vec::new();
    for document in session.live_documents(&tables, DOCUMENTS_MAX).await? {
        let name = persistence::decode_document(&document.value).and_then(|document| persistence::active_table(&document));
        if let (Some(name), Ok(id)) = (name, document.id.try_into()) {
            found.push((name, id));
        }
    }
    Ok(found)
}
