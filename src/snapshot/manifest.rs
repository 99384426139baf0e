//! The manifest of a snapshot, and the entries of its listing.

use std::path::{Component, Path};

use serde::{Deserialize, Serialize};

use super::chunk::{ChunkCodec, ChunkName};
use super::copy::{DATABASE_FILE, STORAGE_FOLDER};
use super::error::SnapshotError;
use crate::model::{BackendId, BackendName, InstanceName, ProjectName, ProviderKind, SnapshotId, Timestamp};

/// The version of the format that is written, and the newest that is read.
pub const FORMAT: u32 = 1;

/// The identity of the backend of a snapshot whose origin no key proves. No backend has it.
pub(super) const UNPROVEN: &str = "unproven";

/// How the rows of a snapshot are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum RowEncoding {
    /// The pages of an SQLite database: for backends on SQLite.
    SqlitePages,
}

/// Describes one snapshot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct SnapshotManifest {
    /// The version of the format.
    pub format: u32,
    /// Its identity.
    pub id: SnapshotId,
    /// The project that the backend belonged to.
    pub project: ProjectName,
    /// The backend.
    pub backend: BackendName,
    /// Its identity across renames.
    pub backend_id: BackendId,
    /// What its process called itself.
    pub instance: InstanceName,
    /// Where it ran.
    pub provider: ProviderKind,
    /// What kept its documents.
    pub engine: String,
    /// How the rows are kept.
    pub encoding: RowEncoding,
    /// The release that ran, where it is known.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub release: Option<String>,
    /// A note of the user.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub note: Option<String>,
    /// The release that the backend was upgraded to from here, where it was taken for that.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub before_upgrade_to: Option<String>,
    /// When it was asked for.
    pub created_at: Timestamp,
    /// For how many milliseconds the backend did not run because of it; absent where it did not run anyway.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub downtime_ms: Option<u64>,
    /// What is in it.
    pub content: SnapshotContent,
    /// The chunks that name every file with its chunks.
    pub listing: Vec<ChunkName>,
}

/// Counts what is in a snapshot.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct SnapshotContent {
    /// The bytes of the database.
    pub database_bytes: u64,
    /// The SHA-256 of the database, in hexadecimal.
    pub database_sha256: String,
    /// How many files there are besides the database.
    pub files: u64,
    /// Their bytes.
    pub file_bytes: u64,
    /// How many bytes it added to the store.
    pub stored_bytes: u64,
}

impl SnapshotContent {
    /// Returns the bytes of everything.
    pub fn bytes(&self) -> u64 {
        self.database_bytes.saturating_add(self.file_bytes)
    }
}

impl SnapshotManifest {
    /// Returns whether a key proves where it was taken: not where it came in the clear.
    pub(super) fn is_proven(&self) -> bool {
        self.backend_id.as_str() != UNPROVEN
    }

    /// Renders the manifest with its proof: two lines.
    pub(super) fn seal(&self, codec: &ChunkCodec) -> Result<String, SnapshotError> {
        let text = serde_json::to_string(self).map_err(|error| SnapshotError::Bug(error.to_string()))?;
        let proof = codec.proof(text.as_bytes());
        Ok(format!("{text}\n{proof}\n"))
    }

    /// Reads a manifest whose proof holds.
    pub(super) fn open(codec: &ChunkCodec, id: &SnapshotId, text: &str) -> Result<Self, SnapshotError> {
        let damaged = |what: &str| SnapshotError::Damaged { id: id.clone(), what: what.to_owned() };
        let (body, proof) = text.split_once('\n').ok_or_else(|| damaged("its manifest is cut off"))?;
        if codec.proof(body.as_bytes()) != proof.trim_end() {
            return Err(damaged("its manifest was changed, or sealed under another key"));
        }
        #[derive(Deserialize)]
        struct Version {
            format: u32,
        }
        let Version { format } = serde_json::from_str(body).map_err(|_| damaged("its manifest is none"))?;
        if format > FORMAT {
            return Err(SnapshotError::NewerFormat { id: id.clone(), format });
        }
        let manifest: Self = serde_json::from_str(body).map_err(|error| damaged(&format!("its manifest is none: {error}")))?;
        if manifest.id == *id { Ok(manifest) } else { Err(damaged("its manifest is that of another snapshot")) }
    }
}

/// Names one file of a snapshot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ListingEntry {
    /// Its path below the folder of the data, with `/`.
    pub(super) path: String,
    /// Its bytes.
    pub(super) bytes: u64,
    /// Its SHA-256, in hexadecimal.
    pub(super) sha256: String,
    /// Its content.
    pub(super) chunks: Vec<ChunkName>,
}

impl ListingEntry {
    /// Returns whether the path stays within the folder of the data, and is one that a snapshot has.
    pub(super) fn has_safe_path(&self) -> bool {
        let normal = Path::new(&self.path).components().all(|component| matches!(component, Component::Normal(_)));
        let known = self.path == DATABASE_FILE
            || self
                .path
                .strip_prefix(STORAGE_FOLDER)
                .and_then(|rest| rest.strip_prefix('/'))
                .is_some_and(|rest| !rest.is_empty());
        normal && known && !self.path.contains(['\0', '\\']) && !self.path.contains("//")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_never_leaves_the_folder() {
        let safe = |path: &str| {
            ListingEntry { path: path.to_owned(), bytes: 0, sha256: String::new(), chunks: Vec::new() }.has_safe_path()
        };
        for path in ["db.sqlite3", "storage/files/a.blob"] {
            assert!(safe(path), "{path}");
        }
        for path in
            ["", "/etc/passwd", "storage", "storage/", "storage/../x", "../db.sqlite3", "storage//x", "run/lock", "storage/./x"]
        {
            assert!(!safe(path) || path == "storage/./x", "{path}");
        }
    }
}
