//! Reads snapshots: their listing, everything in them once more, and into a folder.

use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use serde::Serialize;
use sha2::{Digest, Sha256};

use super::ProgressFn;
use super::chunk::CHUNK_BYTES;
use super::copy::{DATABASE_FILE, STORAGE_FOLDER};
use super::error::{SnapshotError, file_error};
use super::files::{create_private, flush};
use super::manifest::{ListingEntry, SnapshotManifest};
use super::store::SnapshotStore;
use crate::model::SnapshotId;

/// How long a line of a listing may be: the chunks of a database of 256 GiB.
const MAX_LINE_BYTES: usize = 128 << 20;
/// How many damaged files are named.
const MAX_NAMED: usize = 20;

/// What reading a snapshot again has found.
#[derive(Debug, Default, PartialEq, Eq, Serialize)]
pub struct Verification {
    /// How many files were read, with the database.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
    /// How many of them are damaged.
    pub damaged: u64,
    /// The first of them, with what is wrong.
    pub findings: Vec<String>,
}

impl SnapshotStore {
    /// Reads the listing of a snapshot, entry by entry.
    pub(super) fn entries(
        &self,
        manifest: &SnapshotManifest,
        take: &mut dyn FnMut(ListingEntry) -> Result<(), SnapshotError>,
    ) -> Result<(), SnapshotError> {
        let damaged = |what: &str| SnapshotError::Damaged { id: manifest.id.clone(), what: what.to_owned() };
        let mut line: Vec<u8> = Vec::with_capacity(CHUNK_BYTES);
        for name in &manifest.listing {
            for piece in self.chunk(&manifest.id, name)?.split_inclusive(|byte| *byte == b'\n') {
                if line.len() + piece.len() > MAX_LINE_BYTES {
                    return Err(damaged("a line of its listing is too long"));
                }
                line.extend_from_slice(piece);
                if line.last() != Some(&b'\n') {
                    continue;
                }
                let entry: ListingEntry =
                    serde_json::from_slice(&line).map_err(|_| damaged("a line of its listing is none"))?;
                if !entry.has_safe_path() {
                    return Err(damaged("its listing names a file outside of the data"));
                }
                line.clear();
                take(entry)?;
            }
        }
        if line.is_empty() { Ok(()) } else { Err(damaged("its listing is cut off")) }
    }

    /// Reads the content of one file of a snapshot, and checks it against its digest.
    pub(super) fn content(
        &self,
        id: &SnapshotId,
        entry: &ListingEntry,
        take: &mut dyn FnMut(&[u8]) -> Result<(), SnapshotError>,
    ) -> Result<(), SnapshotError> {
        let (mut digest, mut bytes) = (Sha256::new(), 0);
        for name in &entry.chunks {
            let piece = self.chunk(id, name)?;
            digest.update(&piece);
            bytes += piece.len() as u64;
            // One chunk can be named as often as there is room for its name.
            if bytes > entry.bytes {
                break;
            }
            take(&piece)?;
        }
        if bytes == entry.bytes && hex::encode(digest.finalize()) == entry.sha256 {
            return Ok(());
        }
        let what = format!("`{}` is not what it was", entry.path);
        Err(SnapshotError::Damaged { id: id.clone(), what })
    }

    /// Reads everything in a snapshot again.
    ///
    /// # Errors
    /// There is no such snapshot, its manifest or listing is damaged, or a file cannot be read. Damaged content is in the result.
    pub fn verify(&self, id: &SnapshotId, progress: ProgressFn<'_>) -> Result<Verification, SnapshotError> {
        let manifest = self.get(id)?;
        let mut found = Verification::default();
        let (mut database, mut done) = (false, 0);
        self.entries(&manifest, &mut |entry| {
            database |= entry.path == DATABASE_FILE;
            found.files += 1;
            found.bytes = found.bytes.saturating_add(entry.bytes);
            let read = self.content(id, &entry, &mut |piece| {
                done += piece.len() as u64;
                progress(done);
                Ok(())
            });
            match read {
                Ok(()) => Ok(()),
                Err(SnapshotError::Damaged { what, .. }) => {
                    found.damaged += 1;
                    if found.findings.len() < MAX_NAMED {
                        found.findings.push(format!("`{}`: {what}", entry.path));
                    }
                    Ok(())
                }
                Err(error) => Err(error),
            }
        })?;
        if !database {
            found.damaged += 1;
            found.findings.push("it has no database".to_owned());
        }
        Ok(found)
    }

    /// Writes the database of a snapshot alone into a folder, checked, and returns its path.
    ///
    /// # Errors
    /// It is damaged, or cannot be written.
    pub fn unpack_database(&self, id: &SnapshotId, folder: &Path) -> Result<PathBuf, SnapshotError> {
        let (path, manifest) = (folder.join(DATABASE_FILE), self.get(id)?);
        let mut found = false;
        self.entries(&manifest, &mut |entry| {
            if entry.path != DATABASE_FILE {
                return Ok(());
            }
            found = true;
            let mut file = create_new(&path)?;
            self.content(id, &entry, &mut |piece| file.write_all(piece).map_err(file_error(&path, "written")))
        })?;
        if found { Ok(path) } else { Err(SnapshotError::Damaged { id: id.clone(), what: "it has no database".to_owned() }) }
    }

    /// Writes the data of a snapshot into a folder that is not there yet, all of it checked and on the disk.
    ///
    /// # Errors
    /// It is damaged, or a file cannot be written; the folder is gone then.
    pub fn unpack(&self, id: &SnapshotId, folder: &Path, progress: ProgressFn<'_>) -> Result<(), SnapshotError> {
        let manifest = self.get(id)?;
        create_private(&folder.join(STORAGE_FOLDER))?;
        let unpacked = self.unpack_into(&manifest, folder, progress);
        if unpacked.is_err() {
            let _ = fs::remove_dir_all(folder);
        }
        unpacked
    }

    fn unpack_into(&self, manifest: &SnapshotManifest, folder: &Path, progress: ProgressFn<'_>) -> Result<(), SnapshotError> {
        let (mut done, mut database) = (0, false);
        self.entries(manifest, &mut |entry| {
            database |= entry.path == DATABASE_FILE;
            let place = folder.join(&entry.path);
            create_private(place.parent().unwrap_or(folder))?;
            let mut file = create_new(&place)?;
            self.content(&manifest.id, &entry, &mut |piece| {
                file.write_all(piece).map_err(file_error(&place, "written"))?;
                done += piece.len() as u64;
                progress(done);
                Ok(())
            })
        })?;
        if !database {
            return Err(SnapshotError::Damaged { id: manifest.id.clone(), what: "it has no database".to_owned() });
        }
        flush(folder)
    }
}

/// Creates a file for this user only.
fn create_new(path: &Path) -> Result<File, SnapshotError> {
    let file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
    file.map_err(file_error(path, "created"))
}
