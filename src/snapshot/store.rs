//! A folder of snapshots: chunks that several of them share, and a manifest for each. Garbage collection is a sweep over the chunks
//! that no manifest names.
//!
//! ```text
//! manifests/ID.json   the manifest and its proof
//! chunks/ab/abcd…     one chunk
//! copies/ID/          the database while a snapshot is being written from it
//! lock                held by who changes the folder
//! ```

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use super::chunk::{ChunkCodec, ChunkName, MAX_ENCODED_BYTES};
use super::copy::DatabaseCopy;
use super::error::{SnapshotError, file_error};
use super::files::{create_private, flush, write_private};
use super::manifest::SnapshotManifest;
use crate::failpoint;
use crate::model::{BackendName, SnapshotId};
use crate::system::{read_regular, read_regular_text};

/// How large a manifest may be in bytes.
const MAX_MANIFEST_BYTES: u64 = 64 << 20;
/// How many snapshots a project may have: every look at it lists them, and who may take one may take any number.
const MAX_SNAPSHOTS: usize = 1000;

/// A folder of snapshots of one project.
#[derive(Clone)]
pub struct SnapshotStore {
    root: PathBuf,
    pub(super) codec: ChunkCodec,
}

/// Lists the snapshots of a store, oldest first, and those that cannot be read.
#[derive(Debug, Default)]
pub struct SnapshotListing {
    /// What can be read.
    pub snapshots: Vec<SnapshotManifest>,
    /// What cannot.
    pub damaged: Vec<SnapshotError>,
}

impl SnapshotListing {
    /// Returns the newest snapshot of a backend, as far as its origin is proven.
    pub fn newest(&self, backend: &BackendName) -> Option<&SnapshotManifest> {
        self.snapshots.iter().rev().find(|manifest| manifest.backend == *backend && manifest.is_proven())
    }
}

/// The right to change a store, until dropped.
pub(super) struct StoreLock(#[expect(dead_code, reason = "held, not used")] File);

impl SnapshotStore {
    /// Returns a store in this folder. Nothing is read or made yet.
    pub fn new(root: PathBuf, codec: ChunkCodec) -> Self {
        Self { root, codec }
    }

    fn manifest_path(&self, id: &SnapshotId) -> PathBuf {
        self.root.join("manifests").join(format!("{id}.json"))
    }

    fn chunk_path(&self, name: &ChunkName) -> PathBuf {
        let name = name.to_string();
        self.root.join("chunks").join(&name[..2]).join(name)
    }

    /// Returns the copy of a database that a snapshot is written from.
    pub fn copy(&self, id: &SnapshotId) -> DatabaseCopy {
        DatabaseCopy::new(self.root.join("copies").join(id.as_str()), id.clone())
    }

    /// Waits for the right to change the store.
    pub(super) fn lock(&self) -> Result<StoreLock, SnapshotError> {
        create_private(&self.root)?;
        let path = self.root.join("lock");
        let file = fs::OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(&path);
        let file = file.map_err(file_error(&path, "opened"))?;
        file.lock().map_err(file_error(&path, "locked"))?;
        Ok(StoreLock(file))
    }

    /// Returns the names of the snapshots.
    pub(super) fn ids(&self) -> Result<BTreeSet<SnapshotId>, SnapshotError> {
        let folder = self.root.join("manifests");
        let entries = match fs::read_dir(&folder) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(BTreeSet::new()),
            Err(error) => return Err(file_error(&folder, "read")(error)),
        };
        let mut ids = BTreeSet::new();
        for entry in entries {
            let name = entry.map_err(file_error(&folder, "read"))?.file_name();
            let id = name.to_str().and_then(|name| name.strip_suffix(".json")).and_then(|name| SnapshotId::parse(name).ok());
            ids.extend(id);
        }
        Ok(ids)
    }

    /// Refuses another snapshot where there are as many as a project may have.
    ///
    /// # Errors
    /// There is no room for one, or the folder cannot be read.
    pub fn check_count(&self) -> Result<(), SnapshotError> {
        let count = self.ids()?.len();
        if count < MAX_SNAPSHOTS { Ok(()) } else { Err(SnapshotError::TooMany(count)) }
    }

    /// Returns all snapshots, oldest first.
    ///
    /// # Errors
    /// The folder cannot be read.
    pub fn list(&self) -> Result<SnapshotListing, SnapshotError> {
        let mut listing = SnapshotListing::default();
        for id in self.ids()? {
            match self.get(&id) {
                Ok(manifest) => listing.snapshots.push(manifest),
                // Deleted since the folder was read.
                Err(SnapshotError::NotFound(_)) => {}
                Err(error) => listing.damaged.push(error),
            }
        }
        listing.snapshots.sort_by(|a, b| (a.created_at, &a.id).cmp(&(b.created_at, &b.id)));
        Ok(listing)
    }

    /// Returns one snapshot.
    ///
    /// # Errors
    /// There is none, or it is damaged.
    pub fn get(&self, id: &SnapshotId) -> Result<SnapshotManifest, SnapshotError> {
        let path = self.manifest_path(id);
        match read_regular_text(&path, MAX_MANIFEST_BYTES).map_err(io::Error::from) {
            Ok(text) => SnapshotManifest::open(&self.codec, id, &text),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Err(SnapshotError::NotFound(id.clone())),
            Err(error) if error.kind() == io::ErrorKind::InvalidData => {
                Err(SnapshotError::Damaged { id: id.clone(), what: "its manifest is no text".to_owned() })
            }
            Err(error) => Err(file_error(&path, "read")(error)),
        }
    }

    /// Stores a content, and returns its name with the bytes that it added.
    pub(super) fn put_chunk(&self, content: &[u8]) -> Result<(ChunkName, u64), SnapshotError> {
        let name = self.codec.name(content);
        let path = self.chunk_path(&name);
        // What a crash or a disk has damaged is written again, and so every snapshot that names it is whole again.
        let is_there = match read_regular(&path, MAX_ENCODED_BYTES) {
            Ok(encoded) => self.codec.decode(&name, &encoded).is_ok(),
            Err(_) => false,
        };
        if is_there {
            return Ok((name, 0));
        }
        let encoded = self.codec.encode(&name, content).map_err(|_| SnapshotError::Bug("a chunk was not sealed".to_owned()))?;
        create_private(path.parent().unwrap_or(&self.root))?;
        write_private(&path, &encoded)?;
        failpoint::hit("snapshot.chunk_written");
        Ok((name, encoded.len() as u64))
    }

    /// Returns whether a chunk is there, without reading it.
    pub(super) fn has_chunk(&self, name: &ChunkName) -> bool {
        self.chunk_path(name).exists()
    }

    /// Reads a content; `id` is the snapshot that names it.
    pub(super) fn chunk(&self, id: &SnapshotId, name: &ChunkName) -> Result<Vec<u8>, SnapshotError> {
        let path = self.chunk_path(name);
        let damaged = |what: String| SnapshotError::Damaged { id: id.clone(), what };
        match read_regular(&path, MAX_ENCODED_BYTES).map_err(io::Error::from) {
            Ok(encoded) => {
                self.codec.decode(name, &encoded).map_err(|_| damaged(format!("the chunk {name} is not what it was")))
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Err(damaged(format!("the chunk {name} is missing"))),
            Err(error) if error.kind() == io::ErrorKind::InvalidData => {
                Err(damaged(format!("the chunk {name} is not what it was")))
            }
            Err(error) => Err(file_error(&path, "read")(error)),
        }
    }

    /// Writes the manifest, once everything that it names is on the disk.
    pub(super) fn commit(&self, manifest: &SnapshotManifest) -> Result<(), SnapshotError> {
        let path = self.manifest_path(&manifest.id);
        let folder = self.root.join("manifests");
        create_private(&folder)?;
        flush(&self.root)?;
        failpoint::hit("snapshot.chunks_flushed");
        write_private(&path, manifest.seal(&self.codec)?.as_bytes())?;
        flush(&folder)?;
        failpoint::hit("snapshot.committed");
        Ok(())
    }

    /// Deletes a snapshot with the chunks that no other one names, and returns the bytes that this freed.
    ///
    /// # Errors
    /// There is none, or another one cannot be read, so that it is not known which chunks it names: then the manifest is gone
    /// and no chunk is.
    pub fn delete(&self, id: &SnapshotId) -> Result<u64, SnapshotError> {
        let _lock = self.lock()?;
        self.remove_manifest(id)?;
        self.sweep()
    }

    /// Deletes what a rule does not keep, with the chunks that no other snapshot names. Returns what went, and the bytes that
    /// this freed.
    ///
    /// # Errors
    /// A snapshot cannot be read or deleted. Nothing is deleted where one is damaged, as it is not known what belongs to it.
    pub fn prune(
        &self,
        expired: impl Fn(&SnapshotListing) -> Vec<SnapshotId>,
    ) -> Result<(Vec<SnapshotId>, u64), SnapshotError> {
        let _lock = self.lock()?;
        let mut listing = self.list()?;
        if let Some(damaged) = listing.damaged.pop() {
            return Err(damaged);
        }
        let gone = expired(&listing);
        for id in &gone {
            self.remove_manifest(id)?;
        }
        let freed = if gone.is_empty() { 0 } else { self.sweep()? };
        Ok((gone, freed))
    }

    /// Removes what makes the chunks of a snapshot one. The caller holds the lock.
    fn remove_manifest(&self, id: &SnapshotId) -> Result<(), SnapshotError> {
        let path = self.manifest_path(id);
        match fs::remove_file(&path) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(SnapshotError::NotFound(id.clone())),
            Err(error) => return Err(file_error(&path, "removed")(error)),
        }
        failpoint::hit("snapshot.manifest_removed");
        self.copy(id).discard()
    }

    /// Deletes the chunks that no snapshot names. The caller holds the lock.
    pub(super) fn sweep(&self) -> Result<u64, SnapshotError> {
        let mut named = BTreeSet::new();
        for id in self.ids()? {
            let manifest = self.get(&id)?;
            named.extend(manifest.listing.iter().copied());
            self.entries(&manifest, &mut |entry| {
                named.extend(entry.chunks);
                Ok(())
            })?;
        }
        let mut freed = 0;
        for (path, name) in self.chunk_files()? {
            if name.is_none_or(|name| !named.contains(&name)) {
                freed += fs::metadata(&path).map_or(0, |metadata| metadata.len());
                fs::remove_file(&path).map_err(file_error(&path, "removed"))?;
                failpoint::hit("snapshot.chunk_removed");
            }
        }
        Ok(freed)
    }

    /// Returns every file below `chunks`, with the name that it stands for.
    fn chunk_files(&self) -> Result<Vec<(PathBuf, Option<ChunkName>)>, SnapshotError> {
        let folder = self.root.join("chunks");
        let mut files = Vec::new();
        let list = |folder: &Path| match fs::read_dir(folder) {
            Ok(entries) => entries.map(|entry| entry.map(|entry| entry.path())).collect::<io::Result<Vec<_>>>(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
            Err(error) => Err(error),
        };
        for group in list(&folder).map_err(file_error(&folder, "read"))? {
            for path in list(&group).map_err(file_error(&group, "read"))? {
                let mut name = [0; 32];
                let text = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
                let known = hex::decode_to_slice(text, &mut name).is_ok();
                files.push((path, known.then_some(ChunkName(name))));
            }
        }
        Ok(files)
    }
}
