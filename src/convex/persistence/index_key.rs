//! Keys of indexes as PostgreSQL and MySQL hold them: a prefix that fits into their own keys, the rest, and a hash.

use sha2::{Digest, Sha256};

/// How many bytes of a key are in its prefix.
pub const PREFIX_BYTES: usize = 2500;

/// The columns of one key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SplitKey<'a> {
    /// The first [`PREFIX_BYTES`].
    pub prefix: &'a [u8],
    /// What follows; none where nothing does.
    pub suffix: Option<&'a [u8]>,
    /// The SHA-256 of the whole key.
    pub sha256: [u8; 32],
}

/// Splits a key.
pub fn split(key: &[u8]) -> SplitKey<'_> {
    let (prefix, suffix) = match key.split_at_checked(PREFIX_BYTES) {
        Some((prefix, suffix)) if !suffix.is_empty() => (prefix, Some(suffix)),
        _ => (key, None),
    };
    SplitKey { prefix, suffix, sha256: Sha256::digest(key).into() }
}

/// Joins a key; none where its hash says that it is not whole.
pub fn join(prefix: &[u8], suffix: Option<&[u8]>, sha256: &[u8]) -> Option<Vec<u8>> {
    let key = [prefix, suffix.unwrap_or_default()].concat();
    (split(&key) == SplitKey { prefix, suffix, sha256: sha256.try_into().ok()? }).then_some(key)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_of_any_length_come_back_whole() {
        for length in [0, 1, PREFIX_BYTES - 1, PREFIX_BYTES, PREFIX_BYTES + 1, 3 * PREFIX_BYTES] {
            let key: Vec<u8> = (0..length).map(|index| index as u8).collect();
            let SplitKey { prefix, suffix, sha256 } = split(&key);
            assert_eq!(suffix.is_some(), length > PREFIX_BYTES);
            assert_eq!(join(prefix, suffix, &sha256), Some(key.clone()));
            assert_eq!(join(prefix, suffix, &[0; 32]), None);
            assert_eq!(join(prefix, suffix, &[]), None);
        }
    }
}
