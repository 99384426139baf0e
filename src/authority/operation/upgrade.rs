//! Upgrade: a put of another release on data that exists. A snapshot is taken before the new release starts, and where the
//! new one does not come up, the data and the record of before are put back.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::super::effect::SnapshotRequest;
use super::super::put_request::PutRequest;
use super::super::{Authority, AuthorityError};
use super::acceptance::pending_name;
use super::types::OperationPhase;
use crate::model::{
    BackendSpec, Diagnostic, Endpoints, FieldPath, Fingerprint, OperationId, Phase, ProviderState, Release, Secret, SnapshotId,
    Timestamp,
};
use crate::policy::{self, WayBack};
use crate::store::{BackendRow, Rows, Store, StoreError};

/// The name of the sealed part of an operation that says what an upgrade goes back to.
pub(in crate::authority) const UPGRADE: &str = "upgrade";

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

    /// Puts the record from before back.
    pub(super) fn revert(&self, row: &mut BackendRow) {
        let before = self.clone();
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
    /// Returns the snapshot that is taken first.
    pub(super) fn request(&self) -> SnapshotRequest {
        let from = self.from.as_ref().map(|from| format!("{from} ")).unwrap_or_default();
        SnapshotRequest {
            id: self.snapshot.clone(),
            note: Some(format!("before the upgrade {from}→ {}", self.to)),
            created_at: self.created_at,
            before_upgrade: Some((self.from.clone(), self.to.clone())),
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

impl<S: Store> Authority<S> {
    /// Returns what a put goes back to where it is an upgrade with a way back, and seals it with its operation.
    pub(in crate::authority) fn begin_upgrade(
        &self,
        rows: &dyn Rows,
        operation: &OperationId,
        row: &BackendRow,
        put: &PutRequest,
        now: Timestamp,
    ) -> Result<Option<Upgrade>, AuthorityError> {
        if !row.has_been_ready || row.is_only_a_record() {
            return Ok(None);
        }
        let planned = policy::upgrade(&row.spec, &put.spec).filter(|upgrade| upgrade.way_back == WayBack::Snapshot);
        let Some(policy::Upgrade { from, to, .. }) = planned else { return Ok(None) };
        let mut random = [0; 3];
        (self.entropy)(&mut random)?;
        let Ok(snapshot) = SnapshotId::of(&row.name, now, random) else { return Ok(None) };
        let before = RowBefore::of(row);
        let upgrade = Upgrade { snapshot, created_at: now, from, to, before };
        let text = serde_json::to_string(&upgrade).map_err(StoreError::Unwritable)?;
        let mut nonce = [0; 24];
        (self.entropy)(&mut nonce)?;
        let pending = BTreeMap::from([(UPGRADE.to_owned(), Secret::new(text))]);
        rows.put_pending(operation, Some(&self.vault.seal(&pending_name(operation), &pending, nonce)?))?;
        Ok(Some(upgrade))
    }

    /// Returns the upgrade that the sealed part of an operation tells of; none where it tells of something else.
    pub(in crate::authority) fn open_upgrade(
        &self,
        operation: &OperationId,
        sealed: &[u8],
    ) -> Result<Option<OperationPhase>, AuthorityError> {
        let content = self.vault.open(&pending_name(operation), sealed)?;
        let Some(text) = content.get(UPGRADE) else { return Ok(None) };
        let upgrade = serde_json::from_str(text.expose());
        let upgrade = upgrade.map_err(|_| super::super::VaultError::Content(pending_name(operation)))?;
        Ok(Some(OperationPhase::Upgrade(Box::new(upgrade))))
    }
}
