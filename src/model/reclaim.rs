//! What happens to data when its backend is destroyed: Kubernetes' reclaim policy, for volumes and for databases.

use super::spec::BackendSpec;
use serde::{Deserialize, Serialize};

/// The reclaim policy that a removal was begun with. It holds until the removal is finished, or until the backend is named to be
/// destroyed again.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct ReclaimPolicy {
    /// Of its volume.
    pub volume: VolumeReclaim,
    /// Of its database on a server of the user's own.
    pub database: DatabaseReclaim,
}

impl ReclaimPolicy {
    /// Returns the policy under which nothing is kept in half: files go the way of the database whose documents name
    /// them.
    #[must_use]
    pub fn completed(self, spec: &BackendSpec) -> Self {
        if !spec.has_split_data() {
            return self;
        }
        let volume = match self.database {
            DatabaseReclaim::Retain => VolumeReclaim::Retain,
            DatabaseReclaim::Delete | DatabaseReclaim::DeleteWithFiles => VolumeReclaim::Delete,
        };
        Self { volume, ..self }
    }
}

/// What happens to the volume of a backend, where its provider can keep one without the backend.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub enum VolumeReclaim {
    /// It is deleted with everything on it.
    #[default]
    #[serde(rename = "destroy")]
    Delete,
    /// It stays, and can be taken up again.
    #[serde(rename = "keep")]
    Retain,
}

impl VolumeReclaim {
    /// Returns whether it is what happens where nothing else was asked for.
    pub fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

/// Says whether a last snapshot of a backend is taken before its data goes, and why none is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum FinalSnapshot {
    /// It is taken first. Where it cannot be taken, nothing is removed.
    Taken,
    /// It was declined by `--no-last-snapshot`.
    Declined,
    /// The backend has a `ttl`, so its data was never meant to stay.
    Expires,
    /// Nothing takes snapshots of it: of its provider, engine or place of files, or in this control plane.
    Unsupported,
    /// There is no data.
    NoData,
}

/// What happens to the database of a backend on a server of the user's own.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub enum DatabaseReclaim {
    /// It stays, and a backend of the same name takes it up again.
    #[default]
    #[serde(rename = "leave")]
    Retain,
    /// It is dropped with all its data, which was asked for beside allowing the backend to be destroyed.
    #[serde(rename = "drop")]
    Delete,
    /// It is dropped, and the objects in buckets that its documents name are removed with it.
    #[serde(rename = "drop_with_files")]
    DeleteWithFiles,
}

impl DatabaseReclaim {
    /// Returns whether the database goes.
    pub fn is_dropped(self) -> bool {
        self != Self::Retain
    }
}
