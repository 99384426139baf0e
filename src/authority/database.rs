//! What the authority keeps about a backend's database on a server of the user's own: the password of its role, and which
//! server it is.
//!
//! Must not do: connect, or show any part of a URL.

use super::vault::SecretSlots;
use super::{Authority, AuthorityError};
use crate::convex::database_url::server_endpoint;
use crate::model::{DatabaseRole, FieldPath, Fingerprint, ProjectName, STORAGE_SERVER, STORAGE_URL, Secret, Storage};
use crate::store::{BackendRow, Store};

/// The name under which the password of a role is sealed.
pub(super) const ROLE_PASSWORD: &str = "role_password";

impl<S: Store> Authority<S> {
    /// Keeps the password of a role, or makes one.
    pub(super) fn role_password(&self, storage: &Storage, before: &SecretSlots) -> Result<Option<Secret>, AuthorityError> {
        if storage.server().is_none_or(|server| server.managed || server.role == DatabaseRole::Url) {
            return Ok(None);
        }
        if let Some(known) = before.get(ROLE_PASSWORD) {
            return Ok(Some(known.clone()));
        }
        let mut bytes = zeroize::Zeroizing::new([0; 32]);
        (self.entropy)(bytes.as_mut_slice())?;
        Ok(Some(Secret::new(hex::encode(bytes.as_slice()))))
    }

    /// Returns the fingerprint of which server a URL names.
    pub(super) fn server_fingerprint(
        &self,
        project: &ProjectName,
        storage: &Storage,
        url: &Secret,
    ) -> Option<(FieldPath, Fingerprint)> {
        let part = server_endpoint(storage, url).ok()?;
        Some((FieldPath::new(STORAGE_SERVER), self.vault.fingerprint_key(project).fingerprint(&part)))
    }

    /// Fills in which server a backend uses where it was recorded before that was compared by itself.
    pub(super) fn with_server_fingerprint(&self, row: &mut BackendRow) -> Result<(), AuthorityError> {
        if !row.spec.has_own_server() || row.fingerprints.contains_key(&FieldPath::new(STORAGE_SERVER)) {
            return Ok(());
        }
        let url = self.resolve(row)?.secrets.remove(&FieldPath::new(STORAGE_URL));
        if let Some(url) = url {
            let fingerprint = self.server_fingerprint(&row.project, &row.spec.storage, &url);
            row.fingerprints.extend(fingerprint);
        }
        Ok(())
    }
}
