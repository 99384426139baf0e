//! Identifiers and times as the real backend makes them.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

const ALPHABET: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";
const LENGTH: usize = 32;

/// Returns a new document identifier.
pub(super) fn document() -> String {
    let bytes: [u8; LENGTH] = random();
    let mut text: String = bytes.iter().map(|byte| char::from(ALPHABET[usize::from(byte & 31)])).collect();
    // They always begin with a letter, which tells them from a point in time.
    if text.starts_with(|c: char| c.is_ascii_digit()) {
        text.replace_range(..1, "k");
    }
    text
}

/// Returns whether a text has the shape of a document identifier.
pub(super) fn is_document(text: &str) -> bool {
    text.len() == LENGTH && text.bytes().all(|byte| ALPHABET.contains(&byte)) && !text.starts_with(|c: char| c.is_ascii_digit())
}

/// Returns a new name of an object in a store of files, in the shape of a UUID.
pub(super) fn object() -> String {
    let hex = hex::encode(random::<16>());
    format!("{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..])
}

/// Returns what goes in front of an error so that it could be found in a log.
pub(super) fn request() -> String {
    hex::encode(random::<8>())
}

/// Nanoseconds since 1970, larger with every call of this process.
pub(super) fn now_ns() -> u64 {
    static LAST: AtomicU64 = AtomicU64::new(0);
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_nanos() as u64);
    let next = |last: u64| Some(now.max(last + 1));
    LAST.fetch_update(Ordering::Relaxed, Ordering::Relaxed, next).map_or(now, |last| now.max(last + 1))
}

/// Milliseconds since 1970 with a fraction, which is how creation times are kept.
pub(super) fn now_ms() -> f64 {
    (now_ns() / 100) as f64 / 10_000.0
}

fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    // Without random bytes a counter still keeps identifiers apart, which is all that a stand-in needs.
    if getrandom::fill(&mut bytes).is_err() {
        for (byte, part) in bytes.iter_mut().zip(now_ns().to_be_bytes().into_iter().rev()) {
            *byte = part;
        }
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn identifiers_have_the_shape_that_is_asked_for() {
        for _ in 0..100 {
            assert!(is_document(&document()));
        }
        assert!(!is_document("nope") && !is_document(&"1".repeat(32)));
        assert_eq!(object().len(), 36);
        assert!(now_ns() < now_ns());
    }
}
