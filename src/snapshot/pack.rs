//! The data of a snapshot as a tar archive, for a volume that takes one.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, Read, Write};
use std::path::Path;

use sha2::{Digest, Sha256};

use super::ProgressFn;
use super::chunk::ChunkName;
use super::copy::DATABASE_FILE;
use super::error::{SnapshotError, file_error};
use super::manifest::ListingEntry;
use super::store::SnapshotStore;
use crate::model::SnapshotId;

/// Says where the data is in an archive, and whom it belongs to.
#[derive(Debug, Clone, Copy)]
pub struct ArchiveLayout {
    /// The folder of the data.
    pub root: &'static str,
    /// The number of the user.
    pub user: u64,
    /// The number of the group.
    pub group: u64,
}

impl ArchiveLayout {
    fn header(&self, kind: tar::EntryType, bytes: u64, mode: u32) -> tar::Header {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(kind);
        header.set_size(bytes);
        header.set_mode(mode);
        header.set_uid(self.user);
        header.set_gid(self.group);
        header.set_mtime(0);
        header
    }
}

impl SnapshotStore {
    /// Writes the data of a snapshot as an archive, all of it checked; with another database in the place of its own, where there
    /// is one.
    ///
    /// # Errors
    /// It is damaged, or the archive is not taken. The archive is then not whole.
    pub fn pack(
        &self,
        id: &SnapshotId,
        layout: ArchiveLayout,
        edited: Option<&Path>,
        archive: impl Write,
        progress: ProgressFn<'_>,
    ) -> Result<(), SnapshotError> {
        let manifest = self.get(id)?;
        let mut archive = tar::Builder::new(archive);
        let mut folders = BTreeSet::new();
        let (mut done, mut database) = (0, false);
        self.entries(&manifest, &mut |entry| {
            database |= entry.path == DATABASE_FILE;
            let path = format!("{}/{}", layout.root, entry.path);
            for (end, _) in path.match_indices('/') {
                if folders.insert(path[..end].to_owned()) {
                    let mode = if end == layout.root.len() { 0o755 } else { 0o700 };
                    let header = &mut layout.header(tar::EntryType::Directory, 0, mode);
                    archive.append_data(header, format!("{}/", &path[..end]), io::empty()).map_err(not_written)?;
                }
            }
            let mut append = |bytes: u64, content: &mut dyn Read| {
                let header = &mut layout.header(tar::EntryType::Regular, bytes, 0o600);
                archive.append_data(header, &path, content).map_err(not_written)
            };
            match edited.filter(|_| entry.path == DATABASE_FILE) {
                None => append(entry.bytes, &mut ContentReader::new(self, id, &entry))?,
                Some(edited) => {
                    let mut file = File::open(edited).map_err(file_error(edited, "opened"))?;
                    append(file.metadata().map_err(file_error(edited, "read"))?.len(), &mut file)?;
                }
            }
            done += entry.bytes;
            progress(done);
            Ok(())
        })?;
        if !database {
            return Err(SnapshotError::Damaged { id: id.clone(), what: "it has no database".to_owned() });
        }
        archive.into_inner().and_then(|mut archive| archive.flush()).map_err(not_written)
    }
}

/// Returns the damage that was found while an archive was written, else why it was not taken.
fn not_written(error: io::Error) -> SnapshotError {
    let file = |source| SnapshotError::File { path: "the archive of the data".to_owned(), verb: "written", source };
    match error.downcast::<SnapshotError>() {
        Ok(damage) => damage,
        Err(error) => file(error),
    }
}

/// Reads the content of one file, and checks it against its digest at the end.
struct ContentReader<'a> {
    store: &'a SnapshotStore,
    id: &'a SnapshotId,
    entry: &'a ListingEntry,
    chunks: std::slice::Iter<'a, ChunkName>,
    piece: io::Cursor<Vec<u8>>,
    digest: Sha256,
    bytes: u64,
}

impl<'a> ContentReader<'a> {
    fn new(store: &'a SnapshotStore, id: &'a SnapshotId, entry: &'a ListingEntry) -> Self {
        let (chunks, piece) = (entry.chunks.iter(), io::Cursor::default());
        Self { store, id, entry, chunks, piece, digest: Sha256::new(), bytes: 0 }
    }
}

impl Read for ContentReader<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            let length = self.piece.read(buffer)?;
            if length > 0 || buffer.is_empty() {
                return Ok(length);
            }
            let Some(name) = self.chunks.next() else {
                let is_whole =
                    self.bytes == self.entry.bytes && hex::encode(self.digest.clone().finalize()) == self.entry.sha256;
                let what = || format!("`{}` is not what it was", self.entry.path);
                let damage = || SnapshotError::Damaged { id: self.id.clone(), what: what() };
                return if is_whole { Ok(0) } else { Err(io::Error::other(damage())) };
            };
            let piece = self.store.chunk(self.id, name).map_err(io::Error::other)?;
            self.digest.update(&piece);
            self.bytes += piece.len() as u64;
            self.piece = io::Cursor::new(piece);
        }
    }
}
