//! What operations go back to that change the release of a backend: the part of its record that they change, and the snapshot
//! with the data that belongs to it.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::super::effect::{SnapshotPurpose, SnapshotRequest};
use crate::model::{
    BackendSpec, DATA_KEYS, Diagnostic, Endpoints, FieldPath, Fingerprint, Phase, ProviderState, Release, SnapshotId, Timestamp,
};
use crate::store::BackendRow;

/// What an upgrade goes back to.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(in crate::authority) struct Upgrade {
    snapshot: SnapshotId,
    created_at: Timestamp,
    from: Option<Release>,
    to: Release,
    before: RowBefore,
}

/// The part of the record of a backend that a put changes.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(in crate::authority) struct RowBefore {
    phase: Phase,
    spec: BackendSpec,
    fingerprints: BTreeMap<FieldPath, Fingerprint>,
    managed_env: BTreeSet<String>,
    endpoints: Option<Endpoints>,
    references: ProviderState,
    newest_release: Option<Release>,
    expires_at: Option<Timestamp>,
    sealed: Vec<u8>,
    stopped: bool,
}

impl RowBefore {
    pub(super) fn of(row: &BackendRow) -> Self {
        Self {
            phase: row.phase,
            spec: row.spec.clone(),
            fingerprints: row.fingerprints.clone(),
            managed_env: row.managed_env.clone(),
            endpoints: row.endpoints.clone(),
            references: row.references.clone(),
            newest_release: row.newest_release.clone(),
            expires_at: row.expires_at,
            sealed: row.sealed.clone(),
            stopped: row.stopped,
        }
    }

    /// Puts the record from before back. Where the data is now stays in it.
    pub(super) fn revert(&self, row: &mut BackendRow) {
        let mut before = self.clone();
        for key in DATA_KEYS {
            before.references.remove(key);
            before.references.extend(row.references.remove_entry(key));
        }
        row.phase = before.phase;
        row.spec = before.spec;
        row.fingerprints = before.fingerprints;
        row.managed_env = before.managed_env;
        row.endpoints = before.endpoints;
        row.references = before.references;
        row.newest_release = before.newest_release;
        row.expires_at = before.expires_at;
        row.sealed = before.sealed;
        row.stopped = before.stopped;
    }
}

impl Upgrade {
    pub(super) fn new(
        snapshot: SnapshotId,
        created_at: Timestamp,
        (from, to): (Option<Release>, Release),
        row: &BackendRow,
    ) -> Self {
        Self { snapshot, created_at, from, to, before: RowBefore::of(row) }
    }

    /// Returns the snapshot that is taken first.
    pub(super) fn request(&self) -> SnapshotRequest {
        let from = self.from.as_ref().map(|from| format!("{from} ")).unwrap_or_default();
        SnapshotRequest {
            id: self.snapshot.clone(),
            note: Some(format!("before the upgrade {from}→ {}", self.to)),
            created_at: self.created_at,
            purpose: SnapshotPurpose::Upgrade(self.from.clone(), self.to.clone()),
        }
    }

    pub(super) fn snapshot(&self) -> &SnapshotId {
        &self.snapshot
    }

    /// Puts the record from before back: the data is in that release's format again.
    pub(super) fn revert(&self, row: &mut BackendRow) {
        self.before.revert(row);
    }

    /// Returns whether the record is that from before.
    pub(super) fn is_reverted(&self, row: &BackendRow) -> bool {
        row.spec == self.before.spec
    }

    /// Returns the failure with what has become of the backend.
    pub(super) fn explain(&self, failure: Diagnostic, row: &BackendRow) -> Diagnostic {
        let (name, to) = (&row.name, &self.to);
        let from = self.from.as_ref().map_or_else(|| "the release from before".to_owned(), |from| format!("`{from}`"));
        let state = if self.is_reverted(row) {
            format!("`{name}` was not upgraded to `{to}`: it is back at {from} with the data of before")
        } else {
            format!(
                "`{name}` was not upgraded to `{to}`, and its data could not be put back, so {from} was not started; the snapshot \
                 `{}` has the data of before",
                self.snapshot
            )
        };
        Diagnostic { message: format!("{state}: {}", failure.message), ..failure }
    }
}
