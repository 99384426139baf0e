//! The few bytes inside an admin key: a protobuf message of at most five fields.

/// Holds the fields of an admin key, not validated yet.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct KeyPayload {
    /// Field 1; newer keys leave it out.
    pub(super) instance_name: Option<String>,
    /// Field 2.
    pub(super) issued_s: u64,
    /// Field 3 or 4, whichever came last.
    pub(super) identity: Option<KeyIdentity>,
    /// Field 5.
    pub(super) is_read_only: bool,
}

/// The identity that a key carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum KeyIdentity {
    /// A member of a team; zero for no particular member.
    Member(u64),
    /// Convex itself.
    System,
}

const VARINT: u64 = 0;
const FIXED_64: u64 = 1;
const BYTES: u64 = 2;
const FIXED_32: u64 = 5;

impl KeyPayload {
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(24);
        if let Some(name) = &self.instance_name {
            put_varint(&mut bytes, (1 << 3) | BYTES);
            put_varint(&mut bytes, name.len() as u64);
            bytes.extend_from_slice(name.as_bytes());
        }
        put_varint(&mut bytes, (2 << 3) | VARINT);
        put_varint(&mut bytes, self.issued_s);
        // A zero member must still stand on the wire: it says which branch of the union is meant.
        match self.identity {
            Some(KeyIdentity::Member(id)) => {
                put_varint(&mut bytes, (3 << 3) | VARINT);
                put_varint(&mut bytes, id);
            }
            Some(KeyIdentity::System) => {
                put_varint(&mut bytes, (4 << 3) | BYTES);
                put_varint(&mut bytes, 0);
            }
            None => {}
        }
        if self.is_read_only {
            put_varint(&mut bytes, (5 << 3) | VARINT);
            put_varint(&mut bytes, 1);
        }
        bytes
    }

    pub(super) fn decode(bytes: &[u8]) -> Option<Self> {
        let mut payload = Self::default();
        let mut rest = bytes;
        while !rest.is_empty() {
            let tag = take_varint(&mut rest)?;
            match (tag >> 3, tag & 7) {
                (1, BYTES) => payload.instance_name = Some(String::from_utf8(take_bytes(&mut rest)?.to_vec()).ok()?),
                (2, VARINT) => payload.issued_s = take_varint(&mut rest)?,
                (3, VARINT) => payload.identity = Some(KeyIdentity::Member(take_varint(&mut rest)?)),
                (4, BYTES) => {
                    take_bytes(&mut rest)?;
                    payload.identity = Some(KeyIdentity::System);
                }
                (5, VARINT) => payload.is_read_only = take_varint(&mut rest)? != 0,
                (0, _) => return None,
                // Fields of a later version are passed over.
                (_, VARINT) => drop(take_varint(&mut rest)?),
                (_, BYTES) => drop(take_bytes(&mut rest)?),
                (_, FIXED_64) => rest = rest.get(8..)?,
                (_, FIXED_32) => rest = rest.get(4..)?,
                _ => return None,
            }
        }
        Some(payload)
    }
}

fn put_varint(bytes: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        bytes.push((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    bytes.push(value as u8);
}

fn take_varint(rest: &mut &[u8]) -> Option<u64> {
    let mut value: u64 = 0;
    for shift in (0..64).step_by(7) {
        let (&byte, left) = rest.split_first()?;
        *rest = left;
        let part = u64::from(byte & 0x7f);
        // The tenth byte has room for one bit only.
        if shift == 63 && part > 1 {
            return None;
        }
        value |= part << shift;
        if byte < 0x80 {
            return Some(value);
        }
    }
    None
}

fn take_bytes<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let length = usize::try_from(take_varint(rest)?).ok()?;
    let bytes = rest.get(..length)?;
    *rest = rest.get(length..)?;
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_written_payload_is_read_back(
            name in proptest::option::of("[a-z0-9-]{0,20}"),
            issued_s in any::<u64>(),
            member in proptest::option::of(any::<u64>()),
            is_read_only in any::<bool>(),
        ) {
            let identity = Some(member.map_or(KeyIdentity::System, KeyIdentity::Member));
            let payload = KeyPayload { instance_name: name, issued_s, identity, is_read_only };
            prop_assert_eq!(KeyPayload::decode(&payload.encode()), Some(payload));
        }

        #[test]
        fn any_bytes_are_survived(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            let _ = KeyPayload::decode(&bytes);
        }
    }
}
