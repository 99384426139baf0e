//! Admin keys: issued and checked here, as the backend does it, without running a program inside a
//! container to get one.
//!
//! A key is the instance's name, a bar, and hex: a version byte, a nonce, and a few encrypted bytes that say whom
//! it stands for. It never expires and cannot be revoked but by changing the instance secret.

use std::fmt;

use aes_gcm_siv::aead::{Aead, KeyInit, Payload};
use aes_gcm_siv::{Aes128GcmSiv, Nonce};
use crypto_secretbox::XSalsa20Poly1305;
use hmac::digest::FixedOutput;
use hmac::{Hmac, Mac};
use sha2::Sha256;
use zeroize::Zeroizing;

use super::key_payload::{KeyIdentity, KeyPayload};
use crate::model::Secret;

const VERSION: u8 = 1;
const NONCE_LEN: usize = 12;
const LEGACY_NONCE_LEN: usize = 24;

/// The 32 bytes from which everything that a backend encrypts is derived.
#[derive(Clone, PartialEq, Eq)]
pub struct InstanceSecret(Zeroizing<[u8; 32]>);

/// Says why there is no instance secret.
#[derive(Debug, thiserror::Error)]
pub enum InstanceSecretError {
    /// A character that is no hex digit, or an odd number of digits.
    #[error("an instance secret is written in hex digits, and this one has something else in it")]
    NotHex,
    /// Not 32 bytes.
    #[error("an instance secret has 32 bytes (64 hex digits), this one has {bytes}")]
    Length {
        /// How many bytes were there.
        bytes: usize,
    },
    /// The operating system gave no random bytes.
    #[error("the operating system gave no random bytes")]
    Random(#[source] getrandom::Error),
}

impl InstanceSecret {
    /// Takes 32 bytes.
    pub fn new(bytes: [u8; 32]) -> Self {
        Self(Zeroizing::new(bytes))
    }

    /// Reads 64 hex digits.
    ///
    /// # Errors
    /// [`InstanceSecretError`] when the text is not hex or not of that length.
    pub fn parse(text: &str) -> Result<Self, InstanceSecretError> {
        let decoded = Zeroizing::new(hex::decode(text).map_err(|_| InstanceSecretError::NotHex)?);
        let mut bytes = Zeroizing::new([0; 32]);
        if decoded.len() != bytes.len() {
            return Err(InstanceSecretError::Length { bytes: decoded.len() });
        }
        bytes.copy_from_slice(&decoded);
        Ok(Self(bytes))
    }

    /// Draws a new secret.
    ///
    /// # Errors
    /// [`InstanceSecretError::Random`] when the operating system has no random bytes to give.
    pub fn generate() -> Result<Self, InstanceSecretError> {
        let mut bytes = Zeroizing::new([0; 32]);
        getrandom::fill(bytes.as_mut_slice()).map_err(InstanceSecretError::Random)?;
        Ok(Self(bytes))
    }

    /// Returns the secret as 64 hex digits, which is how the backend takes it.
    pub fn to_hex(&self) -> Secret {
        Secret::new(hex::encode(self.0.as_slice()))
    }

    /// Returns the key under which admin keys are encrypted: the counter-mode derivation of NIST SP 800-108 with
    /// HMAC-SHA-256, one block of it, cut to 16 bytes.
    fn admin_key_cipher(&self) -> Option<Aes128GcmSiv> {
        let mac = <Hmac<Sha256> as hmac::KeyInit>::new_from_slice(self.0.as_slice()).ok()?;
        let mac = mac.chain_update(1_u32.to_be_bytes()).chain_update(b"admin key");
        let mut block = Zeroizing::new([0; 32]);
        mac.finalize_into((&mut *block).into());
        Aes128GcmSiv::new_from_slice(block.get(..16)?).ok()
    }

    fn decrypt_current(&self, bytes: &[u8]) -> Option<Vec<u8>> {
        let (&version, rest) = bytes.split_first()?;
        let (nonce, sealed) = rest.split_at_checked(NONCE_LEN)?;
        let nonce: [u8; NONCE_LEN] = nonce.try_into().ok()?;
        let payload = Payload { msg: sealed, aad: &[version] };
        (version == VERSION).then(|| self.admin_key_cipher()?.decrypt(&Nonce::from(nonce), payload).ok())?
    }

    fn decrypt_legacy(&self, bytes: &[u8]) -> Option<Vec<u8>> {
        use crypto_secretbox::aead::{Aead, KeyInit};
        let (&version, rest) = bytes.split_first()?;
        let (nonce, sealed) = rest.split_at_checked(LEGACY_NONCE_LEN)?;
        let cipher = XSalsa20Poly1305::new_from_slice(self.0.as_slice()).ok()?;
        (version == VERSION).then(|| cipher.decrypt(crypto_secretbox::Nonce::from_slice(nonce), sealed).ok())?
    }
}

impl fmt::Debug for InstanceSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("<instance secret>")
    }
}

/// Describes what a key allows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyKind {
    /// Everything.
    Admin {
        /// Who it was issued to; zero for no particular member.
        member_id: u64,
    },
    /// Looking, not changing.
    ReadOnly {
        /// Who it was issued to; zero for no particular member.
        member_id: u64,
    },
    /// What Convex's own parts use among themselves; administrators' endpoints refuse it.
    System,
}

/// Says how a key is encrypted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyScheme {
    /// AES-128-GCM-SIV under a derived key: what backends since mid-2025 issue.
    Current,
    /// XSalsa20-Poly1305 under the secret itself: what older ones issue, still accepted.
    Legacy,
}

/// Describes what a good key says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyClaims {
    /// What it allows.
    pub kind: KeyKind,
    /// When it was issued, in seconds since 1970. Not an expiry.
    pub issued_s: u64,
    /// Whether it may only look.
    pub is_read_only: bool,
    /// The member that it was issued to, if any.
    pub member_id: Option<u64>,
    /// The instance that it opens.
    pub instance_name: String,
    /// How it is encrypted.
    pub scheme: KeyScheme,
}

/// Says why a text is not a key of this instance. Never shows the key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// Not a name, a bar and hex digits.
    #[error("an admin key is an instance's name, `|` and hex digits")]
    Malformed,
    /// Neither scheme opens it: another secret, or a key that was tampered with.
    #[error("the admin key was not made with this instance's secret, or is damaged")]
    Undecryptable,
    /// It opens, and what is inside makes no sense.
    #[error("the admin key opens, but what it says is not a key's content")]
    InvalidPayload,
    /// It could not be encrypted.
    #[error("the admin key could not be encrypted")]
    EncryptionFailed,
    /// It opens, but for another name.
    #[error("the admin key belongs to the instance `{name}`")]
    OtherInstance {
        /// The name that it carries; empty when it carries none.
        name: String,
    },
}

/// Issues a key. The same inputs give the same key, so the nonce must never be used twice with one secret.
///
/// # Errors
/// [`KeyError::EncryptionFailed`], which nothing that fits into a key should lead to.
pub fn issue(
    instance: &str,
    secret: &InstanceSecret,
    kind: KeyKind,
    issued_s: u64,
    nonce: [u8; NONCE_LEN],
) -> Result<Secret, KeyError> {
    let (identity, is_read_only) = match kind {
        KeyKind::Admin { member_id } => (KeyIdentity::Member(member_id), false),
        KeyKind::ReadOnly { member_id } => (KeyIdentity::Member(member_id), true),
        KeyKind::System => (KeyIdentity::System, false),
    };
    let payload = KeyPayload { instance_name: None, issued_s, identity: Some(identity), is_read_only }.encode();
    let message = Payload { msg: &payload, aad: &[VERSION] };
    let sealed = secret.admin_key_cipher().and_then(|cipher| cipher.encrypt(&Nonce::from(nonce), message).ok());
    let sealed = sealed.ok_or(KeyError::EncryptionFailed)?;
    let mut bytes = vec![VERSION];
    bytes.extend_from_slice(&nonce);
    bytes.extend_from_slice(&sealed);
    Ok(Secret::new(format!("{instance}|{}", hex::encode(bytes))))
}

/// Checks a key as the backend does: it must open under the secret, and carry the instance's name.
///
/// # Errors
/// [`KeyError`] says at which of these it failed.
pub fn check(key: &str, instance: &str, secret: &InstanceSecret) -> Result<KeyClaims, KeyError> {
    let (outer, sealed) = match key.split_once('|') {
        Some((name, sealed)) => (instance_prefix(name), sealed),
        None => (None, key),
    };
    let bytes = hex::decode(sealed).map_err(|_| KeyError::Malformed)?;
    if bytes.is_empty() {
        return Err(KeyError::Malformed);
    }
    let (plain, scheme) = secret
        .decrypt_current(&bytes)
        .map(|plain| (plain, KeyScheme::Current))
        .or_else(|| secret.decrypt_legacy(&bytes).map(|plain| (plain, KeyScheme::Legacy)))
        .ok_or(KeyError::Undecryptable)?;
    let payload = KeyPayload::decode(&plain).filter(|payload| payload.issued_s > 0).ok_or(KeyError::InvalidPayload)?;
    let name = outer.map(str::to_owned).or(payload.instance_name).unwrap_or_default();
    if name != instance {
        return Err(KeyError::OtherInstance { name });
    }
    let (kind, member_id) = match payload.identity.ok_or(KeyError::InvalidPayload)? {
        KeyIdentity::Member(member_id) if payload.is_read_only => (KeyKind::ReadOnly { member_id }, Some(member_id)),
        KeyIdentity::Member(member_id) => (KeyKind::Admin { member_id }, Some(member_id)),
        KeyIdentity::System => (KeyKind::System, None),
    };
    let is_read_only = payload.is_read_only;
    Ok(KeyClaims { kind, issued_s: payload.issued_s, is_read_only, member_id, instance_name: name, scheme })
}

/// Returns the instance's name in front of the bar, without what says which kind of deployment it is.
fn instance_prefix(text: &str) -> Option<&str> {
    match text.split_once(':') {
        // Keys of previews and projects name no instance outside.
        Some(("preview" | "project", _)) => None,
        Some((_, name)) => Some(name),
        None => Some(text),
    }
}

#[cfg(test)]
#[path = "admin_key_tests.rs"]
mod tests;
