//! The rows of Convex's tables, the same on every engine, and their canonical encoding.
//!
//! The canonical encoding of a row is what digests are made over and what snapshots hold. It says where it ends. Numbers are
//! big-endian; `bytes` is a length of four bytes and as many bytes; `option` is 0, or 1 and the value.
//!
//! | row | encoding |
//! |---|---|
//! | document | `1`, id (16), ts (8), table id (16), option of previous ts (8), option of JSON (bytes) |
//! | index entry | `2`, index id (16), ts (8), whole key (bytes), option of table id (16) and document id (16) |
//! | global | `3`, key (bytes), JSON (bytes) |
//!
//! A tombstone is a document without JSON, or an index entry without a document.

use super::table::Table;

/// The largest value of a row that is read: Convex's documents are at most 1 MiB, and their JSON a little more.
pub const VALUE_BYTES_MAX: usize = 64 << 20;

/// The global that holds counts of a past moment. A backend that misses it counts again, and one that finds an old one may
/// not start its counts at all, so it is never copied.
pub const TABLE_SUMMARY: &str = "table_summary_v2";

/// The lease of a database that no process has: the first to start takes it.
pub const FREE_LEASE: LeaseRow = LeaseRow { id: 1, ts: 0 };

/// The row that keeps backends from starting.
pub const READ_ONLY: ReadOnlyRow = ReadOnlyRow { id: 1 };

/// The identity of a document, a table or an index.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct InternalId(pub [u8; 16]);

impl std::fmt::Debug for InternalId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

/// One revision of a document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DocumentRow {
    /// The document.
    pub id: InternalId,
    /// When it was written, in nanoseconds.
    pub ts: i64,
    /// Its table.
    pub table_id: InternalId,
    /// Its JSON, exactly as Convex wrote it; none for a tombstone.
    pub json: Option<Vec<u8>>,
    /// When its revision before was written.
    pub prev_ts: Option<i64>,
}

/// One change of a key in an index.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IndexRow {
    /// The index.
    pub index_id: InternalId,
    /// When it was written, in nanoseconds.
    pub ts: i64,
    /// The whole key.
    pub key: Vec<u8>,
    /// Table and document that the key leads to; none for a tombstone.
    pub document: Option<(InternalId, InternalId)>,
}

/// One global.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GlobalRow {
    /// Its name.
    pub key: String,
    /// Its JSON, exactly as Convex wrote it.
    pub json: Vec<u8>,
}

impl GlobalRow {
    /// Returns whether it belongs into a copy.
    pub fn is_copied(&self) -> bool {
        self.key != TABLE_SUMMARY
    }
}

/// Which process may write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LeaseRow {
    /// Always 1.
    pub id: i64,
    /// When the process started.
    pub ts: i64,
}

/// Keeps backends from starting by being there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReadOnlyRow {
    /// Always 1.
    pub id: i64,
}

/// A row of the tables that are the data of a backend.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Row {
    /// Of `documents`.
    Document(DocumentRow),
    /// Of `indexes`.
    Index(IndexRow),
    /// Of `persistence_globals`.
    Global(GlobalRow),
}

/// Says why a row is none of Convex's.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a row of `{}` is none that Convex writes: {what}", table.name())]
pub struct MalformedRow {
    /// Its table.
    pub table: Table,
    /// What is wrong.
    pub what: &'static str,
}

impl Row {
    /// Returns its table.
    pub fn table(&self) -> Table {
        match self {
            Self::Document(_) => Table::Documents,
            Self::Index(_) => Table::Indexes,
            Self::Global(_) => Table::PersistenceGlobals,
        }
    }

    /// Returns when it was written; none for globals.
    pub fn ts(&self) -> Option<i64> {
        match self {
            Self::Document(row) => Some(row.ts),
            Self::Index(row) => Some(row.ts),
            Self::Global(_) => None,
        }
    }

    /// Returns how many bytes it takes, as far as its values go.
    pub fn size(&self) -> usize {
        match self {
            Self::Document(row) => 64 + row.json.as_ref().map_or(0, Vec::len),
            Self::Index(row) => 64 + row.key.len(),
            Self::Global(row) => row.key.len() + row.json.len(),
        }
    }

    /// Appends its canonical encoding.
    pub fn encode(&self, into: &mut Vec<u8>) {
        match self {
            Self::Document(row) => {
                into.push(1);
                into.extend(row.id.0);
                into.extend(row.ts.to_be_bytes());
                into.extend(row.table_id.0);
                put_option(into, row.prev_ts, |into, ts| into.extend(ts.to_be_bytes()));
                put_option(into, row.json.as_deref(), put_bytes);
            }
            Self::Index(row) => {
                into.push(2);
                into.extend(row.index_id.0);
                into.extend(row.ts.to_be_bytes());
                put_bytes(into, &row.key);
                put_option(into, row.document, |into, (table, document)| {
                    into.extend(table.0);
                    into.extend(document.0);
                });
            }
            Self::Global(row) => {
                into.push(3);
                put_bytes(into, row.key.as_bytes());
                put_bytes(into, &row.json);
            }
        }
    }

    /// Takes one row from the front of canonical encodings; none where it is no row, or not whole.
    pub fn decode(bytes: &mut &[u8]) -> Option<Self> {
        let [kind] = take(bytes)?;
        Some(match kind {
            1 => {
                let (id, ts, table_id) = (InternalId(take(bytes)?), i64::from_be_bytes(take(bytes)?), InternalId(take(bytes)?));
                let prev_ts = take_option(bytes, |bytes| Some(i64::from_be_bytes(take(bytes)?)))?;
                let json = take_option(bytes, |bytes| take_bytes(bytes).map(<[u8]>::to_vec))?;
                Self::Document(DocumentRow { id, ts, table_id, json, prev_ts })
            }
            2 => {
                let (index_id, ts) = (InternalId(take(bytes)?), i64::from_be_bytes(take(bytes)?));
                let key = take_bytes(bytes)?.to_vec();
                let document = take_option(bytes, |bytes| Some((InternalId(take(bytes)?), InternalId(take(bytes)?))))?;
                Self::Index(IndexRow { index_id, ts, key, document })
            }
            3 => {
                let key = String::from_utf8(take_bytes(bytes)?.to_vec()).ok()?;
                Self::Global(GlobalRow { key, json: take_bytes(bytes)?.to_vec() })
            }
            _ => return None,
        })
    }
}

fn put_bytes(into: &mut Vec<u8>, bytes: &[u8]) {
    // No value comes near: readers refuse more than `VALUE_BYTES_MAX`.
    into.extend(u32::try_from(bytes.len()).unwrap_or(u32::MAX).to_be_bytes());
    into.extend(bytes);
}

fn put_option<T>(into: &mut Vec<u8>, value: Option<T>, put: impl FnOnce(&mut Vec<u8>, T)) {
    into.push(value.is_some().into());
    if let Some(value) = value {
        put(into, value);
    }
}

fn take<const N: usize>(bytes: &mut &[u8]) -> Option<[u8; N]> {
    let (taken, rest) = bytes.split_first_chunk::<N>()?;
    *bytes = rest;
    Some(*taken)
}

fn take_bytes<'a>(bytes: &mut &'a [u8]) -> Option<&'a [u8]> {
    let length = u32::from_be_bytes(take(bytes)?) as usize;
    let (taken, rest) = bytes.split_at_checked(length).filter(|_| length <= VALUE_BYTES_MAX)?;
    *bytes = rest;
    Some(taken)
}

fn take_option<T>(bytes: &mut &[u8], value: impl FnOnce(&mut &[u8]) -> Option<T>) -> Option<Option<T>> {
    match take(bytes)? {
        [0] => Some(None),
        [1] => value(bytes).map(Some),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn id() -> impl Strategy<Value = InternalId> {
        any::<[u8; 16]>().prop_map(InternalId)
    }

    fn bytes() -> impl Strategy<Value = Vec<u8>> {
        proptest::collection::vec(any::<u8>(), 0..40)
    }

    fn row() -> impl Strategy<Value = Row> {
        let document = (id(), any::<i64>(), id(), proptest::option::of(bytes()), any::<Option<i64>>())
            .prop_map(|(id, ts, table_id, json, prev_ts)| Row::Document(DocumentRow { id, ts, table_id, json, prev_ts }));
        let index = (id(), any::<i64>(), bytes(), proptest::option::of((id(), id())))
            .prop_map(|(index_id, ts, key, document)| Row::Index(IndexRow { index_id, ts, key, document }));
        let global = (".{0,9}", bytes()).prop_map(|(key, json)| Row::Global(GlobalRow { key, json }));
        prop_oneof![document, index, global]
    }

    proptest! {
        #[test]
        fn rows_come_back_from_their_encoding(rows in proptest::collection::vec(row(), 0..9)) {
            let mut encoded = Vec::new();
            rows.iter().for_each(|row| row.encode(&mut encoded));
            let mut rest = encoded.as_slice();
            let decoded: Vec<Row> = std::iter::from_fn(|| Row::decode(&mut rest)).collect();
            prop_assert_eq!(decoded, rows);
            prop_assert!(rest.is_empty());
        }

        #[test]
        fn any_bytes_are_survived(bytes in proptest::collection::vec(0_u8..5, 0..99)) {
            let mut rest = bytes.as_slice();
            while Row::decode(&mut rest).is_some() {}
        }
    }
}
