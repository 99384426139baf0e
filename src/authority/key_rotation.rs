//! Rotation of the master key: what is sealed, bound or fingerprinted under one key is so under another one, in one transaction.
//!
//! Must not do: rotate while an operation is open.

use std::collections::BTreeSet;

use super::audit::AuditContext;
use super::vault::{MasterKey, Vault};
use super::{Authority, AuthorityError, resolve};
use crate::api::ControlError;
use crate::failpoint;
use crate::model::{Actor, BackendId, Diagnostic, ProjectName, STORAGE_SERVER, Timestamp};
use crate::store::{Durability, KeyCheckRow, Rows, Store};

impl<S: Store> Authority<S> {
    /// Rotates the master key: from the commit on, the rows belong to the new one. The caller keeps other writers out meanwhile.
    ///
    /// # Errors
    /// [`ControlError::Refused`] while an operation is open, and for rows that do not open: they never would again.
    pub fn rotate_master_key(
        &self,
        next: MasterKey,
        with_snapshots: &BTreeSet<ProjectName>,
        actor: &Actor,
        now: Timestamp,
    ) -> Result<(), AuthorityError> {
        let next = Authority { vault: Vault::new(next), ..Authority::new(&self.store, self.vault.clone(), self.entropy) };
        self.store.write(Durability::Fsync, |rows| {
            let (open, unreadable) = rows.all_open_operations()?;
            if let Some(open) = open.first() {
                let message = format!("an operation on `{}` of `{}` has not ended", open.backend, open.project);
                return Err(refused("key.operation_open", message, "run the command again that began it, and this one then"));
            }
            if let Some(row) = unreadable.first().or(rows.unreadable_rows()?.first()) {
                return Err(refused("key.unreadable", row.to_string(), "put the store back from a backup"));
            }
            let mut retired = self.retired_keys(rows)?;
            let with_retained = rows.retained(None)?.into_iter().map(|row| row.project).collect();
            retired.retire(&self.vault, with_snapshots, &with_retained);
            for id in rows.backend_ids()? {
                self.reseal_backend(rows, &next, &BackendId::new(id))?;
            }
            failpoint::hit("key.backends_resealed");
            for row in rows.tokens()?.into_iter().filter(|row| self.is_own_token(row)) {
                rows.put_token(&next.token_row(row.record, row.hash)?)?;
            }
            self.reseal_histories(rows, &next)?;
            rows.forget_requests()?;
            let retired = Some(next.seal_retired(&retired)?);
            let row = rows.key_check()?;
            let unchained = row.as_ref().and_then(|row| row.unchained);
            // A seal that was not ours does not become ours.
            let is_sealed = unchained
                .is_some_and(|last| row.as_ref().and_then(|row| row.seal.as_ref()) == Some(&self.seal_of_key_check(last)));
            let seal = unchained.filter(|_| is_sealed).map(|last| next.seal_of_key_check(last));
            rows.put_key_check(&KeyCheckRow { value: next.vault.key_check_value(), unchained, seal, retired })?;
            let who = AuditContext { actor, plan: None, at: now };
            next.record(rows, None, who, "master_key_rotated", None, "")
        })
    }

    /// Seals the secrets of a backend under another key, and compares them by it from now on.
    fn reseal_backend<T: Store>(&self, rows: &dyn Rows, next: &Authority<T>, id: &BackendId) -> Result<(), AuthorityError> {
        let Some(mut row) = rows.backend_by_id(id)? else { return Ok(()) };
        let secrets = self.open_secrets(&row).map_err(|_| {
            let message =
                format!("the secrets of `{}` of `{}` do not open with the master key of today", row.name, row.project);
            refused("key.unreadable", message, "put the store back from a backup, or destroy that backend first")
        })?;
        if row.sealed.is_empty() {
            return Ok(());
        }
        let key = next.vault.fingerprint_key(&row.project);
        row.admin_key = row.admin_key.and(secrets.get(resolve::ADMIN_KEY)).map(|known| key.fingerprint(known.expose()));
        let noted = std::mem::take(&mut row.fingerprints);
        for path in noted.into_keys().filter(|path| path.as_str() != STORAGE_SERVER) {
            if let Some(value) = secrets.get(&resolve::field_slot(&path)) {
                row.fingerprints.insert(path, key.fingerprint(value.expose()));
            }
        }
        row.sealed = next.seal_for(&row, &secrets)?;
        next.with_server_fingerprint(&mut row)?;
        Ok(rows.put_backend(&row)?)
    }

    /// Seals the ends of all histories under another key. One that was not as it was written stays so.
    fn reseal_histories<T: Store>(&self, rows: &dyn Rows, next: &Authority<T>) -> Result<(), AuthorityError> {
        let mut projects: Vec<_> = rows.projects()?.into_iter().map(Some).collect();
        projects.push(None);
        for project in projects {
            let Some(end) = rows.chain(project.as_ref())? else { continue };
            if self.is_chain_sealed(rows, &end)? {
                rows.put_chain(&next.seal_chain(end))?;
            }
        }
        Ok(())
    }
}

fn refused(code: &str, message: String, help: &str) -> AuthorityError {
    let message = format!("{message}, so the master key cannot be rotated now");
    ControlError::Refused(Diagnostic::new(code, message).with_help(help)).into()
}
