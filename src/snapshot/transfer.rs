//! Export and import: a snapshot between two stores, each with its own keys or none.

use std::path::{Path, PathBuf};

use super::ProgressFn;
use super::chunk::ChunkCodec;
use super::error::{SnapshotError, file_error};
use super::manifest::{ListingEntry, SnapshotManifest};
use super::store::SnapshotStore;
use super::write::ContentWriter;
use crate::model::SnapshotId;

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
    /// The folder holds none, it is damaged or sealed under another key, or this store has it already.
    pub fn import(&self, folder: PathBuf, progress: ProgressFn<'_>) -> Result<SnapshotManifest, SnapshotError> {
        let sealed = SnapshotStore::new(folder.clone(), self.codec.clone());
        let ids = sealed.ids()?;
        let mut ids = ids.into_iter();
        let (Some(id), None) = (ids.next(), ids.next()) else {
            return Err(SnapshotError::NoExport(folder.display().to_string()));
        };
        let plain = SnapshotStore::new(folder, ChunkCodec::Plain);
        let (source, manifest) = match (plain.get(&id), sealed.get(&id)) {
            (Ok(manifest), _) => (plain, manifest),
            (_, Ok(manifest)) => (sealed, manifest),
            (_, Err(error)) => return Err(error),
        };
        let _lock = self.lock()?;
        match self.get(&id) {
            Err(SnapshotError::NotFound(_)) => source.transfer(&manifest, self, progress),
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
        let content = super::SnapshotContent { stored_bytes: 0, ..manifest.content.clone() };
        let mut writer = ContentWriter { store: target, content, listing: Vec::new(), progress, done: 0 };
        self.entries(manifest, &mut |entry| {
            let mut chunks = Vec::with_capacity(entry.chunks.len());
            self.content(&manifest.id, &entry, &mut |piece| {
                chunks.push(writer.chunk(piece)?);
                Ok(())
            })?;
            writer.list(&ListingEntry { chunks, ..entry })
        })?;
        let (listing, content) = writer.finish()?;
        let written = SnapshotManifest { listing, content, ..manifest.clone() };
        target.commit(&written)?;
        Ok(written)
    }
}
