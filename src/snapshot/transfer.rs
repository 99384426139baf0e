//! Export and import: a snapshot between two stores, each with its own keys or none.
//!
//! Must not do: believe a folder in the clear. Its writer is not known: what it says of its origin makes it no part of a
//! backend's own past, and what it says of its size bounds what is read of it.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use super::ProgressFn;
use super::chunk::ChunkCodec;
use super::copy::DATABASE_FILE;
use super::error::{SnapshotError, file_error};
use super::manifest::{ListingEntry, SnapshotContent, SnapshotManifest, UNPROVEN};
use super::store::SnapshotStore;
use super::write::ContentWriter;
use crate::model::{BackendId, SnapshotId};

/// How long a text of a manifest may be in bytes.
const MAX_TEXT_BYTES: usize = 1024;

/// Says who can read an export.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExportMode {
    /// Who has the key of the project.
    Sealed,
    /// Everyone who has the folder.
    Plain,
}

impl SnapshotStore {
    /// Writes one snapshot into a folder of its own.
    ///
    /// # Errors
    /// The folder is there, the snapshot is damaged, or a file cannot be written.
    pub fn export(
        &self,
        id: &SnapshotId,
        folder: &Path,
        mode: ExportMode,
        progress: ProgressFn<'_>,
    ) -> Result<SnapshotManifest, SnapshotError> {
        let is_empty = match std::fs::read_dir(folder) {
            Ok(mut entries) => entries.next().is_none(),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => true,
            Err(error) => return Err(file_error(folder, "read")(error)),
        };
        if !is_empty {
            return Err(SnapshotError::NotEmpty(folder.display().to_string()));
        }
        let codec = match mode {
            ExportMode::Sealed => self.codec.clone(),
            ExportMode::Plain => ChunkCodec::Plain,
        };
        let target = SnapshotStore::new(folder.to_owned(), codec);
        let _lock = target.lock()?;
        self.transfer(&self.get(id)?, &target, progress)
    }

    /// Takes the snapshot of an exported folder into this store.
    ///
    /// # Errors
    /// The folder holds none, it is damaged or sealed under another key, or this store has it already, or as many as it may.
    pub fn import(&self, folder: PathBuf, progress: ProgressFn<'_>) -> Result<SnapshotManifest, SnapshotError> {
        self.check_count()?;
        let sealed = SnapshotStore::new(folder.clone(), self.codec.clone());
        let ids = sealed.ids()?;
        let mut ids = ids.into_iter();
        let (Some(id), None) = (ids.next(), ids.next()) else {
            return Err(SnapshotError::NoExport(folder.display().to_string()));
        };
        let plain = SnapshotStore::new(folder, ChunkCodec::Plain);
        let (source, manifest) = match (plain.get(&id), sealed.get(&id)) {
            (Ok(manifest), _) => (plain, of_unproven_origin(manifest)?),
            (_, Ok(manifest)) => (sealed, manifest),
            (_, Err(error)) => return Err(error),
        };
        let _lock = self.lock()?;
        match self.get(&id) {
            Err(SnapshotError::NotFound(_)) => {
                let imported = source.transfer(&manifest, self, progress);
                if imported.is_err() {
                    // What was taken of it until then is of no use.
                    let _ = self.sweep();
                }
                imported
            }
            _ => Err(SnapshotError::Exists(id)),
        }
    }

    /// Writes a snapshot into another store, all of it checked.
    fn transfer(
        &self,
        manifest: &SnapshotManifest,
        target: &SnapshotStore,
        progress: ProgressFn<'_>,
    ) -> Result<SnapshotManifest, SnapshotError> {
        let content = SnapshotContent { stored_bytes: 0, ..manifest.content.clone() };
        let mut tally = Tally::new(manifest);
        let mut writer = ContentWriter { store: target, content, listing: Vec::new(), progress, done: 0 };
        self.entries(manifest, &mut |entry| {
            tally.count(&entry)?;
            let mut chunks = Vec::with_capacity(entry.chunks.len());
            self.content(&manifest.id, &entry, &mut |piece| {
                chunks.push(writer.chunk(piece)?);
                Ok(())
            })?;
            writer.list(&ListingEntry { chunks, ..entry })
        })?;
        tally.check_whole()?;
        let (listing, content) = writer.finish()?;
        let written = SnapshotManifest { listing, content, ..manifest.clone() };
        target.commit(&written)?;
        Ok(written)
    }
}

/// Returns a manifest that no key proves: it says of no backend of this control plane that it was taken of it.
fn of_unproven_origin(manifest: SnapshotManifest) -> Result<SnapshotManifest, SnapshotError> {
    let is_line = |text: &String| text.len() <= MAX_TEXT_BYTES && !text.chars().any(char::is_control);
    if !is_line(&manifest.engine) || ![&manifest.release, &manifest.note].into_iter().flatten().all(is_line) {
        let what = "a text of its manifest is none of one line".to_owned();
        return Err(SnapshotError::Damaged { id: manifest.id, what });
    }
    Ok(SnapshotManifest { backend_id: BackendId::new(UNPROVEN), before_upgrade_to: None, ..manifest })
}

/// Counts what is read of a snapshot against what its manifest says.
struct Tally<'a> {
    manifest: &'a SnapshotManifest,
    seen: SnapshotContent,
    paths: HashSet<String>,
}

impl<'a> Tally<'a> {
    fn new(manifest: &'a SnapshotManifest) -> Self {
        // How much it added to its store is of that store.
        let seen = SnapshotContent { stored_bytes: manifest.content.stored_bytes, ..SnapshotContent::default() };
        Self { manifest, seen, paths: HashSet::new() }
    }

    fn damaged(&self, what: String) -> SnapshotError {
        SnapshotError::Damaged { id: self.manifest.id.clone(), what }
    }

    /// Counts a file, before anything of it is read.
    fn count(&mut self, entry: &ListingEntry) -> Result<(), SnapshotError> {
        if !self.paths.insert(entry.path.clone()) {
            return Err(self.damaged(format!("its listing names `{}` twice", entry.path)));
        }
        if entry.path == DATABASE_FILE {
            self.seen.database_bytes = entry.bytes;
            self.seen.database_sha256.clone_from(&entry.sha256);
        } else {
            self.seen.files += 1;
            self.seen.file_bytes = self.seen.file_bytes.saturating_add(entry.bytes);
        }
        let (seen, said) = (&self.seen, &self.manifest.content);
        if seen.database_bytes > said.database_bytes || seen.files > said.files || seen.file_bytes > said.file_bytes {
            return Err(self.damaged("it has more in it than its manifest says".to_owned()));
        }
        Ok(())
    }

    fn check_whole(&self) -> Result<(), SnapshotError> {
        if self.seen == self.manifest.content {
            return Ok(());
        }
        Err(self.damaged("it does not have in it what its manifest says".to_owned()))
    }
}
