//! Snapshots: complete copies of the data of one backend, as sealed chunks and a manifest that is written last.
//!
//! `docs/snapshots.md` describes the format. What has no manifest is no snapshot, so a process that is killed anywhere leaves
//! chunks that nothing names, and never half a snapshot.
//!
//! Must not do: stop or start a backend, or know a provider.

mod archive;
mod chunk;
mod copy;
mod database;
mod error;
mod files;
mod manifest;
mod pack;
mod read;
mod retention;
mod store;
mod transfer;
mod write;

pub use archive::unpack_file;
pub use chunk::{ChunkCodec, ChunkName};
pub use copy::{DATABASE_FILE, DATABASE_FILES, DatabaseCopy, STORAGE_FOLDER};
pub use database::recover as recover_database;
pub use error::SnapshotError;
pub use manifest::{FORMAT, RowEncoding, SnapshotContent, SnapshotManifest};
pub use pack::ArchiveLayout;
pub use read::Verification;
pub use retention::Retention;
pub use store::{SnapshotListing, SnapshotStore};
pub use transfer::ExportMode;
pub use write::{SnapshotSource, SnapshotSubject, StoredFiles, measure};

/// Receives how much of a long work is done, in bytes.
pub type ProgressFn<'a> = &'a (dyn Fn(u64) + Send + Sync);

#[cfg(test)]
mod tests;
