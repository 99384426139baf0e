//! Upgrade: a put of another release on data that exists. A snapshot is taken before the new release starts, and where the
//! new one does not come up, the data and the record of before are put back.

use std::collections::BTreeMap;

use super::super::put_request::PutRequest;
use super::super::{Authority, AuthorityError};
use super::acceptance::pending_name;
use super::row_before::Upgrade;
use super::types::OperationPhase;
use crate::model::{OperationId, Secret, SnapshotId, Timestamp};
use crate::policy::{self, WayBack};
use crate::store::{BackendRow, Rows, Store, StoreError};

/// The name of the sealed part of an operation that says what an upgrade goes back to.
pub(in crate::authority) const UPGRADE: &str = "upgrade";

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
        let upgrade = Upgrade::new(snapshot, now, (from, to), row);
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
