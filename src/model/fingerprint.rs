//! Fingerprints of secrets, and digests of documents.

use std::fmt;

use hmac::{Hmac, KeyInit, Mac};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

use super::secret::Secret;

/// What a plan shows instead of a secret: equal secrets of one project have equal fingerprints, and without the
/// key of the control plane no guess can be tested against one.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(transparent)]
pub struct Fingerprint(String);

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

/// The key under which one project's secrets are fingerprinted.
#[derive(Clone)]
pub struct FingerprintKey(Zeroizing<[u8; 32]>);

impl FingerprintKey {
    /// Takes the 32 bytes that the control plane derived for the project.
    pub fn new(bytes: [u8; 32]) -> Self {
        Self(Zeroizing::new(bytes))
    }

    /// Takes the 32 bytes without a copy that is not wiped.
    pub fn from_zeroizing(bytes: Zeroizing<[u8; 32]>) -> Self {
        Self(bytes)
    }

    /// Takes the 64 hex digits that [`FingerprintKey::to_hex`] gave; none when they are something else.
    pub fn from_hex(text: &str) -> Option<Self> {
        let mut bytes = Zeroizing::new([0; 32]);
        hex::decode_to_slice(text, bytes.as_mut_slice()).ok()?;
        Some(Self(bytes))
    }

    /// The key itself, for a client that may have it.
    pub fn to_hex(&self) -> Secret {
        Secret::new(hex::encode(self.0.as_slice()))
    }

    /// The fingerprint of a value: the first 64 bits of its HMAC-SHA-256.
    pub fn fingerprint(&self, value: &str) -> Fingerprint {
        let mac = <Hmac<Sha256> as KeyInit>::new_from_slice(self.0.as_slice()).map(|mac| mac.chain_update(value.as_bytes()));
        // HMAC takes a key of any length, so there is always a result.
        let bytes = mac.map(|mac| mac.finalize().into_bytes()).unwrap_or_default();
        Fingerprint(format!("hmac:{}", hex::encode(&bytes[..8])))
    }
}

impl fmt::Debug for FingerprintKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("<fingerprint key>")
    }
}

/// The SHA-256 of a document, as `sha256:` and 64 hex digits.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(transparent)]
pub struct Digest(String);

impl Digest {
    /// The digest of some bytes.
    pub fn of(bytes: &[u8]) -> Self {
        Self(format!("sha256:{}", hex::encode(Sha256::digest(bytes))))
    }

    /// The digest of a value as JSON, which is never held in memory as a whole.
    pub fn of_json(value: &impl Serialize) -> Self {
        let mut hasher = std::io::BufWriter::new(Hasher(Sha256::new()));
        // What is digested is plain data with text keys, which always serialises, and hashing never fails.
        let _ = serde_json::to_writer(&mut hasher, value);
        let digest = hasher.into_inner().map(|hasher| hasher.0.finalize()).unwrap_or_default();
        Self(format!("sha256:{}", hex::encode(digest)))
    }

    /// The digest as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// A hash as something to write into.
struct Hasher(Sha256);

impl std::io::Write for Hasher {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fingerprints_depend_on_key_and_value_and_hide_both() {
        let one = FingerprintKey::new([1; 32]);
        let two = FingerprintKey::new([2; 32]);
        assert_eq!(one.fingerprint("hunter2"), one.fingerprint("hunter2"));
        assert_ne!(one.fingerprint("hunter2"), one.fingerprint("hunter3"));
        assert_ne!(one.fingerprint("hunter2"), two.fingerprint("hunter2"));
        assert_eq!(one.fingerprint("x").to_string().len(), "hmac:".len() + 16);
        assert_eq!(format!("{one:?}"), "<fingerprint key>");
    }

    #[test]
    fn digests_are_sha256() {
        assert_eq!(Digest::of(b"abc").as_str(), "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
        assert_eq!(Digest::of_json(&("a", [1, 2])), Digest::of(br#"["a",[1,2]]"#));
    }
}
