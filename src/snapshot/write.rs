//! Writes a snapshot: the copied database and the files, as chunks, and the manifest last.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use super::ProgressFn;
use super::archive::read_archive;
use super::chunk::{CHUNK_BYTES, ChunkName};
use super::copy::{DATABASE_FILE, DATABASE_FILES, DatabaseCopy, STORAGE_FOLDER};
use super::error::{SnapshotError, file_error};
use super::manifest::{FORMAT, ListingEntry, RowEncoding, SnapshotContent, SnapshotManifest};
use super::store::SnapshotStore;
use crate::failpoint;
use crate::model::{
    BackendId, BackendName, DataSize, InstanceName, ProjectName, ProviderKind, ResolvedBackend, SnapshotId, Timestamp,
};

/// How many files are looked at before their size counts as unknown: plans are to be quick.
const MAX_MEASURED: usize = 50_000;

/// What a backend keeps below its files that belongs to its past: zips that were exported or imported.
const NOT_KEPT: [&str; 2] = ["exports", "snapshot_imports"];

/// Names the backend that a snapshot is of.
#[derive(Debug, Clone)]
pub struct SnapshotSubject {
    /// Its project.
    pub project: ProjectName,
    /// Its name.
    pub name: BackendName,
    /// Its identity across renames.
    pub id: BackendId,
    /// What its process calls itself.
    pub instance: InstanceName,
    /// Where it runs.
    pub provider: ProviderKind,
    /// What keeps its documents.
    pub engine: &'static str,
}

impl From<&ResolvedBackend> for SnapshotSubject {
    fn from(backend: &ResolvedBackend) -> Self {
        Self {
            project: backend.project.clone(),
            name: backend.name.clone(),
            id: backend.id.clone(),
            instance: backend.instance_name.clone(),
            provider: backend.spec.provider,
            engine: backend.spec.storage.engine(),
        }
    }
}

/// Says where the files of a backend are read.
pub enum StoredFiles<'a> {
    /// In the folder of its data.
    Folder(&'a Path),
    /// In a tar archive of their folder; none where it has no files.
    Archive(Option<Box<dyn Read + Send + 'a>>),
}

/// Describes what a snapshot is taken of.
pub struct SnapshotSource<'a> {
    /// The snapshot.
    pub id: &'a SnapshotId,
    /// The backend.
    pub backend: SnapshotSubject,
    /// Its files.
    pub files: StoredFiles<'a>,
    /// The release that runs, where it is known.
    pub release: Option<String>,
    /// A note of the user.
    pub note: Option<String>,
    /// The release that the backend is about to be upgraded to.
    pub before_upgrade_to: Option<String>,
    /// When it was asked for.
    pub created_at: Timestamp,
}

impl SnapshotStore {
    /// Writes the snapshot whose database was copied, or returns it where it is there already. `now` is when the backend ran
    /// again.
    ///
    /// # Errors
    /// The copy is gone or damaged, or a file cannot be read or written. Then there is no snapshot.
    pub fn write(
        &self,
        source: SnapshotSource<'_>,
        now: Timestamp,
        progress: ProgressFn<'_>,
    ) -> Result<SnapshotManifest, SnapshotError> {
        let _lock = self.lock()?;
        let copy = self.copy(source.id);
        match self.get(source.id) {
            Err(SnapshotError::NotFound(_)) => {}
            found => {
                copy.discard()?;
                return found;
            }
        }
        let stopped_at = copy.prepare()?;
        failpoint::hit("snapshot.copy_checked");
        let manifest = self.write_content(source, &copy, stopped_at.map(|stopped| now.since(stopped)), progress)?;
        self.commit(&manifest)?;
        copy.discard()?;
        failpoint::hit("snapshot.copy_removed");
        Ok(manifest)
    }

    fn write_content(
        &self,
        source: SnapshotSource<'_>,
        copy: &DatabaseCopy,
        downtime: Option<i64>,
        progress: ProgressFn<'_>,
    ) -> Result<SnapshotManifest, SnapshotError> {
        let backend = source.backend.clone();
        let mut writer =
            ContentWriter { store: self, content: SnapshotContent::default(), listing: Vec::new(), progress, done: 0 };
        let known = self.known_files(&source.backend.id)?;
        let database = writer.file(DATABASE_FILE.to_owned(), &copy.database())?;
        (writer.content.database_bytes, writer.content.database_sha256) = (database.bytes, database.sha256.clone());
        writer.list(&database)?;
        match source.files {
            StoredFiles::Folder(data) => writer.files_of_folder(data, &known)?,
            StoredFiles::Archive(Some(archive)) => writer.files_of_archive(archive, &known)?,
            StoredFiles::Archive(None) => {}
        }
        let (listing, content) = writer.finish()?;
        failpoint::hit("snapshot.content_written");
        Ok(SnapshotManifest {
            format: FORMAT,
            id: source.id.clone(),
            project: backend.project,
            backend: backend.name,
            backend_id: backend.id,
            instance: backend.instance,
            provider: backend.provider,
            engine: backend.engine.to_owned(),
            encoding: RowEncoding::SqlitePages,
            release: source.release,
            note: source.note,
            before_upgrade_to: source.before_upgrade_to,
            created_at: source.created_at,
            downtime_ms: downtime.map(|downtime| u64::try_from(downtime).unwrap_or_default()),
            content,
            listing,
        })
    }

    /// Returns the files of the newest snapshot of the backend: they are not read again.
    fn known_files(&self, backend: &BackendId) -> Result<KnownFiles, SnapshotError> {
        let mut known = BTreeMap::new();
        let listing = self.list()?;
        let of_backend = listing.snapshots.iter().rev().find(|manifest| manifest.backend_id == *backend);
        if let Some(manifest) = of_backend {
            let read = self.entries(manifest, &mut |entry| {
                if entry.path != DATABASE_FILE {
                    known.insert(entry.path.clone(), entry);
                }
                Ok(())
            });
            if read.is_err() {
                // A damaged snapshot makes the next one slower, and no more.
                known.clear();
            }
        }
        Ok(known)
    }
}

/// The files of the last snapshot, by path.
type KnownFiles = BTreeMap<String, ListingEntry>;

/// Turns files into chunks, and lists them.
pub(super) struct ContentWriter<'a> {
    pub(super) store: &'a SnapshotStore,
    pub(super) content: SnapshotContent,
    pub(super) listing: Vec<u8>,
    pub(super) progress: ProgressFn<'a>,
    pub(super) done: u64,
}

impl ContentWriter<'_> {
    /// Stores the content of a file.
    fn file(&mut self, path: String, place: &Path) -> Result<ListingEntry, SnapshotError> {
        let mut file = File::open(place).map_err(file_error(place, "opened"))?;
        self.read(path, place, &mut file)
    }

    /// Stores what a reader gives.
    fn read(&mut self, path: String, place: &Path, file: &mut dyn Read) -> Result<ListingEntry, SnapshotError> {
        let mut entry = ListingEntry { path, bytes: 0, sha256: String::new(), chunks: Vec::new() };
        let mut digest = Sha256::new();
        let mut buffer = vec![0; CHUNK_BYTES];
        loop {
            let length = fill(file, &mut buffer).map_err(file_error(place, "read"))?;
            let Some(piece) = buffer.get(..length).filter(|piece| !piece.is_empty()) else { break };
            digest.update(piece);
            entry.bytes += length as u64;
            entry.chunks.push(self.chunk(piece)?);
        }
        entry.sha256 = hex::encode(digest.finalize());
        Ok(entry)
    }

    /// Stores and lists the files in the folder of the data.
    fn files_of_folder(&mut self, data: &Path, known: &KnownFiles) -> Result<(), SnapshotError> {
        let mut files = Vec::new();
        walk(&data.join(STORAGE_FOLDER), STORAGE_FOLDER, &NOT_KEPT, &mut files)?;
        for (path, place, bytes) in files {
            let entry = match self.known(known, &path, bytes) {
                Some(entry) => entry,
                None => match self.file(path, &place) {
                    Ok(entry) => entry,
                    // It was a temporary one.
                    Err(SnapshotError::File { source, .. }) if source.kind() == io::ErrorKind::NotFound => continue,
                    Err(error) => return Err(error),
                },
            };
            self.count(&entry)?;
        }
        Ok(())
    }

    /// Stores and lists the files of an archive of their folder.
    fn files_of_archive(&mut self, archive: Box<dyn Read + '_>, known: &KnownFiles) -> Result<(), SnapshotError> {
        let past: Vec<String> = NOT_KEPT.iter().map(|name| format!("{STORAGE_FOLDER}/{name}/")).collect();
        read_archive(archive, &mut |path, bytes, content| {
            if past.iter().any(|folder| path.starts_with(folder)) {
                return Ok(());
            }
            let place = Path::new(&path).to_owned();
            let entry = match self.known(known, &path, bytes) {
                Some(entry) => entry,
                None => self.read(path, &place, content)?,
            };
            if entry.bytes != bytes || !entry.has_safe_path() {
                let why = if entry.bytes == bytes { io::ErrorKind::InvalidData } else { io::ErrorKind::UnexpectedEof };
                return Err(file_error(&place, "read")(why.into()));
            }
            self.count(&entry)
        })
    }

    /// Returns the entry of a file that the last snapshot has, whole: files are written once and never changed.
    fn known(&self, known: &KnownFiles, path: &str, bytes: u64) -> Option<ListingEntry> {
        let entry = known.get(path).filter(|entry| entry.bytes == bytes)?;
        entry.chunks.iter().all(|name| self.store.has_chunk(name)).then(|| entry.clone())
    }

    fn count(&mut self, entry: &ListingEntry) -> Result<(), SnapshotError> {
        self.content.files += 1;
        self.content.file_bytes += entry.bytes;
        self.list(entry)
    }

    /// Stores a piece of content.
    pub(super) fn chunk(&mut self, piece: &[u8]) -> Result<ChunkName, SnapshotError> {
        let (name, added) = self.store.put_chunk(piece)?;
        self.content.stored_bytes += added;
        self.done += piece.len() as u64;
        (self.progress)(self.done);
        Ok(name)
    }

    /// Adds a file to the listing.
    pub(super) fn list(&mut self, entry: &ListingEntry) -> Result<(), SnapshotError> {
        serde_json::to_writer(&mut self.listing, entry).map_err(|error| SnapshotError::Bug(error.to_string()))?;
        self.listing.push(b'\n');
        Ok(())
    }

    /// Stores the listing, and returns its chunks with the counts.
    pub(super) fn finish(mut self) -> Result<(Vec<ChunkName>, SnapshotContent), SnapshotError> {
        let listing = std::mem::take(&mut self.listing);
        let names = listing.chunks(CHUNK_BYTES).map(|piece| self.chunk(piece)).collect::<Result<_, _>>()?;
        Ok((names, self.content))
    }
}

/// Reads until the buffer is full or the file ends.
fn fill(file: &mut dyn Read, buffer: &mut [u8]) -> io::Result<usize> {
    let mut length = 0;
    while let Some(rest) = buffer.get_mut(length..).filter(|rest| !rest.is_empty()) {
        match file.read(rest) {
            Ok(0) => break,
            Ok(read) => length += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(length)
}

/// Returns what the data in a folder takes; none where that cannot be told, or would take long.
pub fn measure(data: &Path) -> Option<DataSize> {
    let bytes = |name: &str| fs::metadata(data.join(name)).map(|metadata| metadata.len());
    let mut size = DataSize { database_bytes: bytes(DATABASE_FILE).ok()?, ..DataSize::default() };
    // What a running backend has written last is beside its database.
    size.database_bytes += DATABASE_FILES.iter().skip(1).filter_map(|name| bytes(name).ok()).sum::<u64>();
    let mut folders = vec![data.join(STORAGE_FOLDER)];
    let mut seen = 0;
    while let Some(folder) = folders.pop() {
        let entries = match fs::read_dir(&folder) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(_) => return None,
        };
        for entry in entries {
            let metadata = entry.ok()?;
            let (path, metadata) = (metadata.path(), metadata.metadata().ok()?);
            seen += 1;
            if seen > MAX_MEASURED {
                return None;
            }
            if metadata.is_dir() {
                folders.push(path);
            } else {
                size.files += 1;
                size.file_bytes += metadata.len();
            }
        }
    }
    Some(size)
}

/// Lists the regular files below a folder, in order, with their path in the snapshot, their place and their bytes.
fn walk(folder: &Path, path: &str, without: &[&str], files: &mut Vec<(String, PathBuf, u64)>) -> Result<(), SnapshotError> {
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(file_error(folder, "read")(error)),
    };
    let mut entries = entries.collect::<io::Result<Vec<_>>>().map_err(file_error(folder, "read"))?;
    entries.sort_by_key(fs::DirEntry::file_name);
    for entry in entries {
        let place = entry.path();
        let Ok(metadata) = entry.metadata() else { continue };
        let name = entry.file_name();
        let Some(name) = name.to_str().filter(|name| !without.contains(name)) else { continue };
        let path = format!("{path}/{name}");
        if metadata.is_dir() {
            walk(&place, &path, &[], files)?;
        } else if metadata.is_file() {
            files.push((path, place, metadata.len()));
        }
    }
    Ok(())
}
