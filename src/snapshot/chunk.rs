//! Chunks: pieces of content, named by what is in them, compressed and sealed.
//!
//! The name is an HMAC of the content under a key of the project, so it does not tell what the content is, and equal content
//! has one name. The nonce is a part of the name: under one key, one nonce never seals two contents.

use std::fmt;

use chacha20poly1305::aead::{Aead, KeyInit, Payload};
use chacha20poly1305::{XChaCha20Poly1305, XNonce};
use hmac::{Hmac, Mac};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

/// How many bytes of content a chunk has at most.
pub(super) const CHUNK_BYTES: usize = 256 << 10;
/// How many bytes a chunk takes at most, compressed badly and sealed.
pub(super) const MAX_ENCODED_BYTES: u64 = 2 * CHUNK_BYTES as u64;

const NONCE_BYTES: usize = 24;
const PLAIN: u8 = 0;
const SEALED: u8 = 1;

/// Names a chunk by its content.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(transparent)]
pub struct ChunkName(
    #[serde(with = "hex::serde")]
    #[schemars(with = "String")]
    pub(super) [u8; 32],
);

impl fmt::Display for ChunkName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl fmt::Debug for ChunkName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Encodes the chunks of a store.
#[derive(Clone)]
pub enum ChunkCodec {
    /// Sealed under keys of the project.
    Sealed {
        /// Names contents and authenticates manifests.
        naming: Zeroizing<[u8; 32]>,
        /// Seals contents.
        sealing: Zeroizing<[u8; 32]>,
    },
    /// Readable by everyone, for an export that says so.
    Plain,
}

/// Marks a chunk that is not what its name says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct DamagedChunk;

impl ChunkCodec {
    /// Derives the keys of a store from the key of its project.
    pub fn sealed(root: &[u8; 32]) -> Self {
        let derive = |purpose: &[u8]| Zeroizing::new(<[u8; 32]>::from(mac(root).chain_update(purpose).finalize().into_bytes()));
        Self::Sealed { naming: derive(b"snapshot naming"), sealing: derive(b"snapshot sealing") }
    }

    /// Returns the name of a content.
    pub(super) fn name(&self, content: &[u8]) -> ChunkName {
        ChunkName(match self {
            Self::Sealed { naming, .. } => {
                mac(naming).chain_update(b"chunk").chain_update(content).finalize().into_bytes().into()
            }
            Self::Plain => Sha256::digest(content).into(),
        })
    }

    /// Returns what proves that a manifest was written by who has the key; in the clear, that it is whole.
    pub(super) fn proof(&self, manifest: &[u8]) -> String {
        match self {
            Self::Sealed { naming, .. } => {
                let proof = mac(naming).chain_update(b"manifest").chain_update(manifest).finalize().into_bytes();
                format!("hmac-sha256:{}", hex::encode(proof))
            }
            Self::Plain => format!("sha256:{}", hex::encode(Sha256::digest(manifest))),
        }
    }

    /// Encodes a content for the disk.
    pub(super) fn encode(&self, name: &ChunkName, content: &[u8]) -> Result<Vec<u8>, DamagedChunk> {
        let compressed = lz4_flex::compress_prepend_size(content);
        let (kind, body) = match self {
            Self::Plain => (PLAIN, compressed),
            Self::Sealed { sealing, .. } => {
                let payload = Payload { msg: &compressed, aad: &name.0 };
                let body = XChaCha20Poly1305::new((&**sealing).into()).encrypt(&nonce(name), payload);
                (SEALED, body.map_err(|_| DamagedChunk)?)
            }
        };
        Ok([&[kind], body.as_slice()].concat())
    }

    /// Decodes what [`ChunkCodec::encode`] made, and checks that it is what its name says.
    pub(super) fn decode(&self, name: &ChunkName, encoded: &[u8]) -> Result<Vec<u8>, DamagedChunk> {
        let (kind, body) = encoded.split_first().ok_or(DamagedChunk)?;
        let opened;
        let compressed = match (self, *kind) {
            (Self::Plain, PLAIN) => body,
            (Self::Sealed { sealing, .. }, SEALED) => {
                let payload = Payload { msg: body, aad: &name.0 };
                let cipher = XChaCha20Poly1305::new((&**sealing).into());
                opened = Zeroizing::new(cipher.decrypt(&nonce(name), payload).map_err(|_| DamagedChunk)?);
                opened.as_slice()
            }
            _ => return Err(DamagedChunk),
        };
        let (size, block) = compressed.split_at_checked(4).ok_or(DamagedChunk)?;
        // The size says how much memory is taken before anything of it is known to be true.
        let size = u32::from_le_bytes(size.try_into().map_err(|_| DamagedChunk)?) as usize;
        if size > CHUNK_BYTES {
            return Err(DamagedChunk);
        }
        let content = lz4_flex::decompress(block, size).map_err(|_| DamagedChunk)?;
        if self.name(&content) == *name { Ok(content) } else { Err(DamagedChunk) }
    }
}

fn mac(key: &[u8; 32]) -> Hmac<Sha256> {
    let mut block = Zeroizing::new([0; 64]);
    block[..32].copy_from_slice(key);
    <Hmac<Sha256> as hmac::KeyInit>::new((&*block).into())
}

fn nonce(name: &ChunkName) -> XNonce {
    let mut nonce = [0; NONCE_BYTES];
    nonce.copy_from_slice(&name.0[..NONCE_BYTES]);
    XNonce::from(nonce)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chunk_opens_only_with_its_key_under_its_name_and_unchanged() {
        let codec = ChunkCodec::sealed(&[1; 32]);
        let content = b"SECRET=hunter2 ".repeat(900);
        let name = codec.name(&content);
        let encoded = codec.encode(&name, &content).unwrap();
        assert!(encoded.len() < content.len());
        assert!(!encoded.windows(7).any(|window| window == b"hunter2"));
        assert_eq!(codec.decode(&name, &encoded), Ok(content.clone()));
        assert_eq!(ChunkCodec::sealed(&[2; 32]).decode(&name, &encoded), Err(DamagedChunk));
        assert_eq!(codec.decode(&codec.name(b"else"), &encoded), Err(DamagedChunk));
        for index in 0..encoded.len() {
            let mut changed = encoded.clone();
            changed[index] ^= 1;
            assert_eq!(codec.decode(&name, &changed), Err(DamagedChunk), "byte {index}");
        }
    }

    #[test]
    fn a_chunk_that_says_it_is_huge_takes_no_memory() {
        let encoded = [&[PLAIN], u32::MAX.to_le_bytes().as_slice(), &[0]].concat();
        assert_eq!(ChunkCodec::Plain.decode(&ChunkName([0; 32]), &encoded), Err(DamagedChunk));
    }

    proptest::proptest! {
        #[test]
        fn no_bytes_panic(encoded: Vec<u8>) {
            let _ = ChunkCodec::Plain.decode(&ChunkName([0; 32]), &encoded);
            let _ = ChunkCodec::Plain.decode(&ChunkName([0; 32]), &[&[PLAIN], encoded.as_slice()].concat());
        }
    }
}
