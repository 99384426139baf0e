//! The compressed encoding of documents on MySQL: an LZ4 block, primed with a dictionary, of the document's sort key.
//!
//! After the version byte come four bytes of uncompressed length and the block. A sort key is a tag for each value and,
//! where the tag does not say how long it is, a terminating zero.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value, json};

/// What the block may refer back to: the fields that every document has.
const DICTIONARY: &[u8] = b"{\"$integer\":\"AAAAAAAAAAA=\"},\0_id\0\x10\x15_creationTime\0\r";

/// The largest document of Convex is 1 MiB; its sort key is not much larger.
const DOCUMENT_MAX: usize = 8 << 20;
/// Convex nests 64 levels.
const DEPTH_MAX: usize = 128;

/// Decodes what follows the version byte.
pub(super) fn decode(bytes: &[u8]) -> Option<Value> {
    let (length, block) = bytes.split_first_chunk::<4>()?;
    let length = u32::from_be_bytes(*length) as usize;
    if length > DOCUMENT_MAX {
        return None;
    }
    let plain = lz4_flex::block::decompress_with_dict(block, length, DICTIONARY).ok()?;
    let mut reader = Reader(&plain);
    let value = reader.value(0)?;
    reader.0.is_empty().then_some(value)
}

struct Reader<'a>(&'a [u8]);

impl Reader<'_> {
    fn byte(&mut self) -> Option<u8> {
        let (byte, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(*byte)
    }

    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (bytes, rest) = self.0.split_first_chunk::<N>()?;
        self.0 = rest;
        Some(*bytes)
    }

    /// Returns bytes up to a zero; a zero inside is followed by 255.
    fn escaped(&mut self) -> Option<Vec<u8>> {
        let mut bytes = Vec::new();
        loop {
            match self.byte()? {
                0 if self.0.first() == Some(&0xff) => {
                    self.byte()?;
                    bytes.push(0);
                }
                0 => return Some(bytes),
                byte => bytes.push(byte),
            }
        }
    }

    fn text(&mut self) -> Option<String> {
        String::from_utf8(self.escaped()?).ok()
    }

    fn value(&mut self, depth: usize) -> Option<Value> {
        if depth > DEPTH_MAX {
            return None;
        }
        Some(match self.byte()? {
            0x03 => Value::Null,
            0x04 | 0x0c => integer(i64::from_be_bytes(self.take()?)),
            0x05 | 0x0b => integer(i64::from(i32::from_be_bytes(self.take()?))),
            0x06 | 0x0a => integer(i64::from(i16::from_be_bytes(self.take()?))),
            0x07 | 0x09 => integer(i64::from(i8::from_be_bytes(self.take()?))),
            0x08 => integer(0),
            0x0d => {
                let bits = u64::from_be_bytes(self.take()?);
                float(f64::from_bits(if bits >> 63 == 1 { bits & !(1 << 63) } else { !bits }))
            }
            0x0e => Value::Bool(false),
            0x0f => Value::Bool(true),
            0x10 => Value::String(self.text()?),
            0x11 => json!({ "$bytes": STANDARD.encode(self.escaped()?) }),
            0x12 => {
                let mut values = Vec::new();
                while *self.0.first()? != 0 {
                    values.push(self.value(depth + 1)?);
                }
                self.byte()?;
                Value::Array(values)
            }
            0x15 => {
                let mut fields = Map::new();
                // A name may be empty, which is written as an escaped zero; a bare zero ends the object.
                while self.0.first() != Some(&0) || self.0.get(1) == Some(&0xff) {
                    let name = match self.0 {
                        [0, 0xff, rest @ ..] => {
                            self.0 = rest;
                            String::new()
                        }
                        _ => self.text()?,
                    };
                    let value = self.value(depth + 1)?;
                    fields.insert(name, value);
                }
                self.byte()?;
                Value::Object(fields)
            }
            _ => return None,
        })
    }
}

fn integer(number: i64) -> Value {
    json!({ "$integer": STANDARD.encode(number.to_le_bytes()) })
}

fn float(number: f64) -> Value {
    match number.is_finite() && !(number == 0.0 && number.is_sign_negative()) {
        true => json!(number),
        false => json!({ "$float": STANDARD.encode(number.to_le_bytes()) }),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn encoded(sort_key: &[u8]) -> Vec<u8> {
        let mut bytes = u32::try_from(sort_key.len()).unwrap().to_be_bytes().to_vec();
        bytes.extend(lz4_flex::block::compress_with_dict(sort_key, DICTIONARY));
        bytes
    }

    #[test]
    fn every_tag_is_read() {
        let mut key = b"\x15_creationTime\0\x0d".to_vec();
        key.extend((1.5_f64.to_bits() | 1 << 63).to_be_bytes());
        key.extend(b"_id\0\x10abc\0");
        key.extend(b"a\0\x12\x03\x0e\x0f\x08\x09\x05\x0a\x01\x00\x07\xff\x11\x00\xff\x01\x00\x10\x00\x00");
        key.extend(b"o\0\x15\0\0");
        let document = decode(&encoded(&key)).unwrap();
        assert_eq!(
            document,
            json!({
                "_creationTime": 1.5, "_id": "abc",
                "a": [null, false, true, integer(0), integer(5), integer(256), integer(-1), { "$bytes": "AAE=" }, ""],
                "o": {},
            })
        );
    }

    proptest! {
        #[test]
        fn any_bytes_are_survived(bytes in proptest::collection::vec(any::<u8>(), 0..80)) {
            let _ = decode(&bytes);
            let _ = Reader(&bytes).value(0);
        }
    }
}
