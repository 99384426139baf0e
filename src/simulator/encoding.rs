//! The two ways in which values travel: `convex_encoded_json`, where 64-bit integers are little-endian base64 under
//! `$integer`, and `json`, where they are decimal text.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

/// Returns a 64-bit integer, encoded.
pub(super) fn integer(number: u64) -> Value {
    json!({ "$integer": timestamp(number) })
}

/// Returns a number of 64 bits as the sync protocol writes points in time.
pub(super) fn timestamp(number: u64) -> String {
    STANDARD.encode(number.to_le_bytes())
}

/// Returns the `json` form of an encoded value.
pub(super) fn plain(value: Value) -> Value {
    match value {
        Value::Array(values) => Value::Array(values.into_iter().map(plain).collect()),
        Value::Object(fields) => match fields.get("$integer").and_then(Value::as_str).filter(|_| fields.len() == 1) {
            Some(encoded) => decode(encoded).map_or(Value::Null, |number| number.to_string().into()),
            None => Value::Object(fields.into_iter().map(|(name, value)| (name, plain(value))).collect()),
        },
        other => other,
    }
}

fn decode(encoded: &str) -> Option<i64> {
    let bytes: [u8; 8] = STANDARD.decode(encoded).ok()?.try_into().ok()?;
    Some(i64::from_le_bytes(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integers_travel_in_both_forms() {
        assert_eq!(integer(2), json!({ "$integer": "AgAAAAAAAAA=" }));
        assert_eq!(plain(json!({ "a": [integer(2)], "b": 1.5 })), json!({ "a": ["2"], "b": 1.5 }));
        assert_eq!(plain(json!({ "$integer": "?" })), Value::Null);
        assert_eq!(timestamp(0), "AAAAAAAAAAA=");
    }
}
