//! The secrets of a backend in its row, and a row as its provider gets it.
//!
//! Must not do: write rows, or let a secret out other than into a placement.

use std::sync::atomic::Ordering;

use super::allocation::UNUSED_PORTS;
use super::operation::AllocationConflicts;
use super::put_request::PutRequest;
use super::vault::{SecretSlots, VaultError};
use super::{Authority, AuthorityError, allocation, database};
use crate::api::ControlError;
use crate::convex::admin_key::{self, InstanceSecret, KeyKind};
use crate::convex::database_url;
use crate::model::{
    Addressing, Certificates, Diagnostic, FieldPath, PortPair, ResolvedBackend, STORAGE_URL, Secret, Timestamp, Tls,
    secret_slots,
};
use crate::store::{BackendRow, Rows, Store};

const INSTANCE_SECRET: &str = "instance_secret";
pub(super) const ADMIN_KEY: &str = "admin_key";
const CERTIFICATES: &str = "certificates";
const FIELD: &str = "field:";

impl<S: Store> Authority<S> {
    /// Allocates the address of a backend: it keeps the one that it has, unless that conflicts with another owner.
    pub(super) fn allocate(
        &self,
        rows: &dyn Rows,
        row: &mut BackendRow,
        strangers: &AllocationConflicts,
    ) -> Result<(), AuthorityError> {
        if let Addressing::App(allocate) = row.spec.provider.descriptor().addressing {
            let app = allocate(&row.spec, &row.instance_name, &row.id, &row.references, strangers.apps);
            row.endpoints = Some(app.endpoints);
            row.references.extend(app.state);
            return Ok(());
        }
        let ports = match row.ports.filter(|_| strangers.ports.is_empty()) {
            Some(ports) => ports,
            None => {
                row.references.insert(UNUSED_PORTS.to_owned(), String::new());
                allocation::ports(rows, self.first_port, &strangers.ports)?
            }
        };
        row.ports = Some(ports);
        let noted = allocation::noted_endpoints(&row.spec, &row.references);
        row.endpoints = Some(noted.unwrap_or_else(|| allocation::endpoints(&row.spec, ports)));
        Ok(())
    }

    /// Makes what secrets are missing, takes in what was handed over, and forgets what no field names any more.
    pub(super) fn seal_secrets(&self, row: &mut BackendRow, put: &PutRequest, now: Timestamp) -> Result<(), AuthorityError> {
        let slots = secret_slots(&put.spec);
        if put.spec.is_record_only() && slots.is_empty() && row.sealed.is_empty() {
            return Ok(());
        }
        let before = self.open_secrets(row)?;
        let mut secrets = SecretSlots::new();
        if !put.spec.is_record_only() || before.contains_key(INSTANCE_SECRET) {
            let (secret, key) = match (before.get(INSTANCE_SECRET), before.get(ADMIN_KEY)) {
                (Some(secret), Some(key)) => (secret.clone(), key.clone()),
                _ => self.generate_credentials(row, now)?,
            };
            row.admin_key = Some(self.vault.fingerprint_key(&row.project).fingerprint(key.expose()));
            secrets.insert(INSTANCE_SECRET.to_owned(), secret);
            secrets.insert(ADMIN_KEY.to_owned(), key);
        }
        let fingerprints = self.vault.fingerprint_key(&row.project);
        row.fingerprints.clear();
        for (path, _) in slots {
            let slot = field_slot(&path);
            let value = put.secrets.get(&path).or_else(|| before.get(&slot)).cloned().ok_or_else(|| {
                let message = format!("`{path}` of `{}` has no value, and none was kept from before", row.name);
                ControlError::Refused(Diagnostic::new("control.secret_missing", message))
            })?;
            if path.as_str() == STORAGE_URL {
                let server = self.server_fingerprint(&row.project, &put.spec.storage, &value);
                row.fingerprints.extend(server);
            }
            row.fingerprints.insert(path, fingerprints.fingerprint(value.expose()));
            secrets.insert(slot, value);
        }
        // The row says which they are: what only looks at backends carries no text of theirs.
        if let Some(Tls::Pem(certificates)) = put.spec.storage.server().map(|server| &server.tls) {
            secrets.insert(CERTIFICATES.to_owned(), Secret::new(certificates.as_str()));
        }
        if let Some(password) =
            put.role_password.clone().map_or_else(|| self.role_password(&put.spec.storage, &before), |known| Ok(Some(known)))?
        {
            secrets.insert(database::ROLE_PASSWORD.to_owned(), password);
        }
        row.sealed = self.seal_for(row, &secrets)?;
        Ok(())
    }

    fn generate_credentials(&self, row: &BackendRow, now: Timestamp) -> Result<(Secret, Secret), AuthorityError> {
        let mut bytes = [0; 32];
        (self.entropy)(&mut bytes)?;
        self.derive_credentials(row, InstanceSecret::new(bytes), now)
    }

    fn derive_credentials(
        &self,
        row: &BackendRow,
        secret: InstanceSecret,
        now: Timestamp,
    ) -> Result<(Secret, Secret), AuthorityError> {
        let mut nonce = [0; 12];
        (self.entropy)(&mut nonce)?;
        // Zero is the one time of issue that Convex refuses.
        let issued_s = u64::try_from(now.0 / 1000).unwrap_or(1).max(1);
        let key = admin_key::issue(row.instance_name.as_str(), &secret, KeyKind::Admin { member_id: 0 }, issued_s, nonce)?;
        Ok((secret.to_hex(), key))
    }

    /// Makes another instance secret and admin key, and keeps the values of the fields.
    pub(super) fn rotate_credentials(&self, row: &mut BackendRow, now: Timestamp) -> Result<(), AuthorityError> {
        let mut secrets = self.open_secrets(row)?;
        let (secret, key) = self.generate_credentials(row, now)?;
        row.admin_key = Some(self.vault.fingerprint_key(&row.project).fingerprint(key.expose()));
        secrets.insert(INSTANCE_SECRET.to_owned(), secret);
        secrets.insert(ADMIN_KEY.to_owned(), key);
        row.sealed = self.seal_for(row, &secrets)?;
        Ok(())
    }

    /// Seals an instance secret that was there before us, with a key of our own for it.
    pub(super) fn seal_imported_secret(
        &self,
        row: &mut BackendRow,
        secret: InstanceSecret,
        now: Timestamp,
    ) -> Result<(), AuthorityError> {
        let (secret, key) = self.derive_credentials(row, secret, now)?;
        let secrets = SecretSlots::from([(INSTANCE_SECRET.to_owned(), secret), (ADMIN_KEY.to_owned(), key)]);
        row.sealed = self.seal_for(row, &secrets)?;
        Ok(())
    }

    pub(super) fn open_secrets(&self, row: &BackendRow) -> Result<SecretSlots, AuthorityError> {
        if row.sealed.is_empty() {
            return Ok(SecretSlots::new());
        }
        // Under another key the store was not opened.
        let damaged = |error| match error {
            VaultError::Locked => VaultError::Damaged(row.name.to_string()).into(),
            other => AuthorityError::from(other),
        };
        let opened = self.vault.open(&bound_to(row), &row.sealed);
        if opened.is_err() && self.accepts_legacy.load(Ordering::Relaxed) {
            return self.vault.open(row.id.as_str(), &row.sealed).map_err(damaged);
        }
        opened.map_err(damaged)
    }

    /// Seals the secrets of a backend. They are bound to its id, its project and its instance, so that they open nowhere else.
    pub(super) fn seal_for(&self, row: &BackendRow, secrets: &SecretSlots) -> Result<Vec<u8>, AuthorityError> {
        let mut nonce = [0; 24];
        (self.entropy)(&mut nonce)?;
        Ok(self.vault.seal(&bound_to(row), secrets, nonce)?)
    }

    /// Returns whether the secrets of a backend were sealed since homes have a key check.
    pub(super) fn is_sealed_with_key_check(&self, row: &BackendRow) -> bool {
        self.vault.is_sealed_with_key_check(&bound_to(row), &row.sealed)
            || self.vault.is_sealed_with_key_check(row.id.as_str(), &row.sealed)
    }

    /// Returns a row as its provider gets it.
    pub(super) fn resolve(&self, row: &BackendRow) -> Result<ResolvedBackend, AuthorityError> {
        let mut secrets = self.open_secrets(row)?;
        let ports = row.ports.unwrap_or(PortPair { api: 0, site: 0 });
        let role_password = secrets.remove(database::ROLE_PASSWORD);
        let role_password = role_password.map(|password| (FieldPath::new(database_url::ROLE_PASSWORD), password));
        let mut spec = row.spec.clone();
        if let Some(text) = secrets.remove(CERTIFICATES) {
            let certificates = Certificates::parse(text.expose());
            spec.storage.put_certificates(certificates.map_err(|_| VaultError::Content(row.id.to_string()))?);
        }
        let mut take = |name: &str| secrets.remove(name).unwrap_or_else(|| Secret::new(""));
        Ok(ResolvedBackend {
            id: row.id.clone(),
            project: row.project.clone(),
            name: row.name.clone(),
            instance_name: row.instance_name.clone(),
            spec,
            generation: row.generation,
            instance_secret: take(INSTANCE_SECRET),
            admin_key: take(ADMIN_KEY),
            secrets: secrets
                .into_iter()
                .filter_map(|(slot, value)| slot.strip_prefix(FIELD).map(|path| (FieldPath::new(path), value)))
                .chain(role_password)
                .collect(),
            ports,
            endpoints: row.endpoints.clone().unwrap_or_else(|| allocation::endpoints(&row.spec, ports)),
            has_been_ready: row.has_been_ready,
            provider_state: row.references.clone(),
        })
    }
}

/// Returns the name under which the value of a field is sealed.
pub(super) fn field_slot(path: &FieldPath) -> String {
    format!("{FIELD}{path}")
}

/// Returns what the secrets of a backend are bound to. No part has a character zero.
fn bound_to(row: &BackendRow) -> String {
    format!("{}\0{}\0{}", row.id, row.project, row.instance_name)
}
