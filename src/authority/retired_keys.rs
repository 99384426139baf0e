//! Keys from before the master key was rotated that are still needed, sealed under it: those that chain histories, as entries
//! are never changed; those of projects that have snapshots, whose chunks are many; and those that fingerprinted what destroyed
//! backends left, of which nothing else is known any more.
//!
//! Must not do: keep a master key.

use std::collections::BTreeSet;

use zeroize::Zeroizing;

use super::vault::{SecretSlots, Vault};
use super::{Authority, AuthorityError};
use crate::model::{FingerprintKey, ProjectName, Secret};
use crate::store::{Rows, Store};

/// What the keys that are kept are sealed as.
const NAME: &str = "retired keys";
const HISTORY: &str = "history:";
const SNAPSHOTS: &str = "snapshots:";
const FINGERPRINTS: &str = "fingerprints:";

/// Holds the keys from before the master key was rotated that are still needed.
#[derive(Default)]
pub(super) struct RetiredKeys(SecretSlots);

impl RetiredKeys {
    fn under<'a>(&'a self, prefix: &'a str) -> impl Iterator<Item = &'a Secret> {
        self.0.iter().filter(move |(name, _)| name.starts_with(prefix)).map(|(_, key)| key)
    }

    /// Returns the keys that chained histories.
    pub(super) fn history_keys(&self) -> impl Iterator<Item = Zeroizing<[u8; 32]>> {
        self.under(HISTORY).filter_map(parse)
    }

    /// Returns the keys under which the secrets of a project were fingerprinted.
    pub(super) fn fingerprint_keys(&self, project: &ProjectName) -> impl Iterator<Item = FingerprintKey> {
        let prefix = format!("{FINGERPRINTS}{project}:");
        let keys: Vec<FingerprintKey> = self.under(&prefix).filter_map(|key| FingerprintKey::from_hex(key.expose())).collect();
        keys.into_iter()
    }

    fn snapshot_key(&self, project: &ProjectName) -> Option<Zeroizing<[u8; 32]>> {
        self.0.get(&format!("{SNAPSHOTS}{project}")).and_then(parse)
    }

    /// Retires the keys of a vault.
    pub(super) fn retire(
        &mut self,
        vault: &Vault,
        with_snapshots: &BTreeSet<ProjectName>,
        with_retained: &BTreeSet<ProjectName>,
    ) {
        let number = self.under(HISTORY).count();
        self.0.insert(format!("{HISTORY}{number}"), text(&vault.history_key()));
        // A project whose snapshots are gone gets a key of the new master key.
        self.0.retain(|name, _| {
            let of = |prefix: &str| name.strip_prefix(prefix).map(|rest| rest.split(':').next().unwrap_or_default().to_owned());
            let is_needed = |project: String, all: &BTreeSet<ProjectName>| all.iter().any(|known| known.as_str() == project);
            match (of(SNAPSHOTS), of(FINGERPRINTS)) {
                (Some(project), _) => is_needed(project, with_snapshots),
                (_, Some(project)) => is_needed(project, with_retained),
                _ => true,
            }
        });
        for project in with_snapshots {
            self.0.entry(format!("{SNAPSHOTS}{project}")).or_insert_with(|| text(&vault.snapshot_key(project)));
        }
        for project in with_retained {
            self.0.insert(format!("{FINGERPRINTS}{project}:{number}"), vault.fingerprint_key(project).to_hex());
        }
    }
}

fn text(key: &[u8; 32]) -> Secret {
    Secret::new(hex::encode(key))
}

fn parse(key: &Secret) -> Option<Zeroizing<[u8; 32]>> {
    let mut bytes = Zeroizing::new([0; 32]);
    hex::decode_to_slice(key.expose(), bytes.as_mut_slice()).ok()?;
    Some(bytes)
}

impl<S: Store> Authority<S> {
    /// Returns the keys from before the master key was rotated that are still needed.
    pub(super) fn retired_keys(&self, rows: &dyn Rows) -> Result<RetiredKeys, AuthorityError> {
        match rows.key_check()?.and_then(|row| row.retired) {
            Some(sealed) => Ok(RetiredKeys(self.vault.open(NAME, &sealed)?)),
            None => Ok(RetiredKeys::default()),
        }
    }

    /// Returns the key under which the snapshots of one project are sealed.
    ///
    /// # Errors
    /// The rows cannot be read.
    pub fn snapshot_key(&self, project: &ProjectName) -> Result<Zeroizing<[u8; 32]>, AuthorityError> {
        let retired = self.store.read(|rows| self.retired_keys(rows))?;
        Ok(retired.snapshot_key(project).unwrap_or_else(|| self.vault.snapshot_key(project)))
    }

    /// Seals the keys that are kept.
    pub(super) fn seal_retired(&self, retired: &RetiredKeys) -> Result<Vec<u8>, AuthorityError> {
        let mut nonce = [0; 24];
        (self.entropy)(&mut nonce)?;
        Ok(self.vault.seal(NAME, &retired.0, nonce)?)
    }
}
