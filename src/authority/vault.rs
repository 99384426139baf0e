//! Sealing the secrets of a store, and deriving the keys that fingerprint them.

use std::collections::BTreeMap;

use chacha20poly1305::aead::{Aead, KeyInit, Payload};
use chacha20poly1305::{XChaCha20Poly1305, XNonce};
use hmac::digest::FixedOutput;
use hmac::{Hmac, Mac};
use sha2::Sha256;
use zeroize::Zeroizing;

use crate::model::{FingerprintKey, ProjectName, Secret};

const NONCE_LENGTH: usize = 24;

/// The key that everything else is derived from: 32 bytes.
#[derive(Clone)]
pub struct MasterKey(Zeroizing<[u8; 32]>);

impl MasterKey {
    /// Takes 32 random bytes.
    pub fn new(bytes: [u8; 32]) -> Self {
        Self(Zeroizing::new(bytes))
    }

    /// Takes 32 random bytes without a copy that is not wiped.
    pub fn from_zeroizing(bytes: Zeroizing<[u8; 32]>) -> Self {
        Self(bytes)
    }

    /// Reads 64 hex digits; anything around them that is white is ignored.
    pub fn parse(text: &str) -> Option<Self> {
        let mut bytes = Zeroizing::new([0; 32]);
        hex::decode_to_slice(text.trim(), bytes.as_mut_slice()).ok()?;
        Some(Self(bytes))
    }

    /// Returns the 64 hex digits, for the key file.
    pub fn to_text(&self) -> Zeroizing<String> {
        Zeroizing::new(hex::encode(self.0.as_slice()))
    }

    fn derive(&self, purpose: &str, context: &str) -> Zeroizing<[u8; 32]> {
        let content = mac(&self.0).chain_update(purpose.as_bytes()).chain_update([0]).chain_update(context.as_bytes());
        let mut key = Zeroizing::new([0; 32]);
        // Written in place: an array that is returned leaves a copy behind.
        content.finalize_into((&mut *key).into());
        key
    }
}

/// Returns an HMAC under a key of 32 bytes, which stands for a block that goes on with zeros.
fn mac(key: &[u8; 32]) -> Hmac<Sha256> {
    let mut block = Zeroizing::new([0; 64]);
    block[..32].copy_from_slice(key);
    <Hmac<Sha256> as hmac::KeyInit>::new((&*block).into())
}

/// Says why a secret could not be sealed or opened.
#[derive(Debug, thiserror::Error)]
pub enum VaultError {
    /// The key is another one, or the bytes were changed.
    #[error("the secrets of this store do not open with this master key")]
    Locked,
    /// The secrets of one row do not open in a store whose key is the right one.
    #[error("the secrets of `{0}` are damaged, or those of another row: they do not open with this master key")]
    Damaged(String),
    /// What came out is not what went in.
    #[error("the secrets of `{0}` open but cannot be read")]
    Content(String),
}

/// Named secrets of one backend.
pub(super) type SecretSlots = BTreeMap<String, Secret>;

/// Seals and opens the secrets of one store.
#[derive(Clone)]
pub struct Vault {
    master: MasterKey,
}

impl Vault {
    /// Returns a vault under this key.
    pub fn new(master: MasterKey) -> Self {
        Self { master }
    }

    /// Returns the key under which one project's secrets are fingerprinted.
    pub fn fingerprint_key(&self, project: &ProjectName) -> FingerprintKey {
        FingerprintKey::from_zeroizing(self.master.derive("fingerprint", project.as_str()))
    }

    /// Returns whether a key check value was written under this master key, today or by an earlier release.
    pub fn wrote(&self, key_check_value: &str) -> bool {
        [self.key_check_value(), self.sealed_key_check_value(), self.legacy_key_check_value()]
            .iter()
            .any(|own| own == key_check_value)
    }

    /// Returns the hash that chains one entry of the history: 64 hex digits that need the master key.
    pub(super) fn chain_hash(&self, content: &[u8]) -> String {
        chain_hash_under(&self.history_key(), content)
    }

    /// Returns the key that chains histories.
    pub(super) fn history_key(&self) -> Zeroizing<[u8; 32]> {
        self.master.derive("history", "")
    }

    /// Returns the MAC of content that is not an entry of the history: 64 hex digits that need the master key.
    pub(super) fn compute_mac(&self, content: &[u8]) -> String {
        let key = self.master.derive("attestation", "");
        hex::encode(mac(&key).chain_update(content).finalize().into_bytes())
    }

    /// Returns the key under which the snapshots of one project are sealed, unless they are older than the master key.
    pub(super) fn snapshot_key(&self, project: &ProjectName) -> Zeroizing<[u8; 32]> {
        self.master.derive("snapshots", project.as_str())
    }

    /// By what the master key is known again: 64 hex digits that say nothing about it.
    pub(super) fn key_check_value(&self) -> String {
        hex::encode(*self.master.derive("mark", "bound"))
    }

    /// Returns the same of homes from before rows were bound to all that they are about.
    pub(super) fn sealed_key_check_value(&self) -> String {
        hex::encode(*self.master.derive("mark", "sealed"))
    }

    /// Returns the same in homes from before the ends of histories were sealed.
    pub(super) fn legacy_key_check_value(&self) -> String {
        hex::encode(*self.master.derive("mark", ""))
    }

    fn cipher(&self) -> XChaCha20Poly1305 {
        let key = self.master.derive("seal", "");
        XChaCha20Poly1305::new((&*key).into())
    }

    /// Seals the secrets of one row. The row's id is bound to them, so that rows cannot be swapped, and so is that they
    /// were sealed in a home that is marked.
    pub(super) fn seal(&self, id: &str, secrets: &SecretSlots, nonce: [u8; NONCE_LENGTH]) -> Result<Vec<u8>, VaultError> {
        let plain: BTreeMap<&str, &str> = secrets.iter().map(|(name, secret)| (name.as_str(), secret.expose())).collect();
        let text = Zeroizing::new(serde_json::to_vec(&plain).map_err(|_| VaultError::Content(id.to_owned()))?);
        let aad = associated_data(id);
        let payload = Payload { msg: &text, aad: aad.as_bytes() };
        let sealed = self.cipher().encrypt(&XNonce::from(nonce), payload).map_err(|_| VaultError::Content(id.to_owned()))?;
        Ok([nonce.as_slice(), &sealed].concat())
    }

    /// Opens what [`Vault::seal`] sealed.
    pub(super) fn open(&self, id: &str, sealed: &[u8]) -> Result<SecretSlots, VaultError> {
        // What was sealed before homes were marked stays readable.
        let text = self.decrypt(&associated_data(id), sealed).or_else(|_| self.decrypt(id, sealed))?;
        let plain: BTreeMap<String, String> = serde_json::from_slice(&text).map_err(|_| VaultError::Content(id.to_owned()))?;
        Ok(plain.into_iter().map(|(name, value)| (name, Secret::new(value))).collect())
    }

    /// Returns whether the secrets of a row were sealed in a home that is marked.
    pub(super) fn is_sealed_with_key_check(&self, id: &str, sealed: &[u8]) -> bool {
        self.decrypt(&associated_data(id), sealed).is_ok()
    }

    fn decrypt(&self, bound_to: &str, sealed: &[u8]) -> Result<Zeroizing<Vec<u8>>, VaultError> {
        let (nonce, body) = sealed.split_at_checked(NONCE_LENGTH).ok_or(VaultError::Locked)?;
        let nonce = <[u8; NONCE_LENGTH]>::try_from(nonce).map_err(|_| VaultError::Locked)?;
        let payload = Payload { msg: body, aad: bound_to.as_bytes() };
        self.cipher().decrypt(&XNonce::from(nonce), payload).map(Zeroizing::new).map_err(|_| VaultError::Locked)
    }
}

/// Returns the hash that chains an entry of a history under a key of histories.
pub(super) fn chain_hash_under(key: &[u8; 32], content: &[u8]) -> String {
    hex::encode(mac(key).chain_update(content).finalize().into_bytes())
}

/// Returns what secrets are bound to: no id has a character zero.
fn associated_data(id: &str) -> String {
    format!("{id}\0marked")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn vault(byte: u8) -> Vault {
        Vault::new(MasterKey::new([byte; 32]))
    }

    #[test]
    fn a_sealed_secret_opens_only_with_its_key_and_its_backend() {
        let id = "b1";
        let secrets: SecretSlots = [("instance".to_owned(), Secret::new("hunter2"))].into();
        let sealed = vault(1).seal(id, &secrets, [7; 24]).unwrap();
        assert!(!sealed.windows(7).any(|window| window == b"hunter2"));
        assert_eq!(vault(1).open(id, &sealed).unwrap(), secrets);
        assert!(matches!(vault(2).open(id, &sealed), Err(VaultError::Locked)));
        assert!(matches!(vault(1).open("b2", &sealed), Err(VaultError::Locked)));
        assert!(matches!(vault(1).open(id, b"short"), Err(VaultError::Locked)));
    }

    #[test]
    fn keys_are_derived_as_they_always_were() {
        // As any other HMAC-SHA-256 has it: of "mark", a zero byte and nothing under 32 bytes of one; and of "entry" under
        // the same of "history".
        assert_eq!(vault(1).legacy_key_check_value(), "d99177e020dde8ca2bce825fad3927a2656a4f7de6c1650297f26cc9fddd2b25");
        assert_eq!(vault(1).chain_hash(b"entry"), "6093635bddb621573ff373442897701ae8f88d8bea012b6fa6c60022e083a8de");
    }

    #[test]
    fn a_master_key_reads_what_it_writes() {
        let key = MasterKey::new([9; 32]);
        assert_eq!(*MasterKey::parse(&format!("{}\n", *key.to_text())).unwrap().to_text(), *key.to_text());
        assert!(MasterKey::parse("00").is_none());
    }
}
