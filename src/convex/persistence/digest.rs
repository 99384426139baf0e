//! Digests of tables that are equal on every engine, for any order in which the rows are read.

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::row::Row;
use super::table::Table;

/// The digest of one table: how many rows, from when to when, and the sum of the SHA-256 of their canonical encodings,
/// modulo 2^256. Engines sort long keys differently, so the order must not count.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TableDigest {
    /// How many rows.
    pub rows: u64,
    /// When the oldest was written.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub min_ts: Option<i64>,
    /// When the newest was written.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_ts: Option<i64>,
    /// The sum, big-endian, as hexadecimal digits.
    #[serde(with = "hex::serde")]
    pub sum: [u8; 32],
}

impl TableDigest {
    /// Adds a row, by its canonical encoding.
    fn add(&mut self, ts: Option<i64>, encoded: &[u8]) {
        self.merge(&Self { rows: 1, min_ts: ts, max_ts: ts, sum: Sha256::digest(encoded).into() });
    }

    /// Adds the rows of another digest.
    pub fn merge(&mut self, other: &Self) {
        self.rows += other.rows;
        self.min_ts = [self.min_ts, other.min_ts].into_iter().flatten().min();
        self.max_ts = self.max_ts.max(other.max_ts);
        let mut carry = 0;
        for (byte, added) in self.sum.iter_mut().zip(other.sum).rev() {
            let total = u16::from(*byte) + u16::from(added) + carry;
            let [high, low] = total.to_be_bytes();
            *byte = low;
            carry = high.into();
        }
    }
}

/// The digests of the tables that are the data of a backend.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DatabaseDigest {
    /// Of `documents`.
    pub documents: TableDigest,
    /// Of `indexes`.
    pub indexes: TableDigest,
    /// Of `persistence_globals`, without what is never copied.
    pub persistence_globals: TableDigest,
}

impl DatabaseDigest {
    /// Returns the digest of a table; none for a table that is no data.
    pub fn of(&self, table: Table) -> Option<&TableDigest> {
        match table {
            Table::Documents => Some(&self.documents),
            Table::Indexes => Some(&self.indexes),
            Table::PersistenceGlobals => Some(&self.persistence_globals),
            Table::Leases | Table::ReadOnly => None,
        }
    }

    /// Returns the first table whose rows differ from another database's.
    pub fn first_difference(&self, other: &Self) -> Option<Table> {
        Table::DATA.into_iter().find(|table| self.of(*table) != other.of(*table))
    }

    /// Adds the rows of another digest.
    pub fn merge(&mut self, other: &Self) {
        self.documents.merge(&other.documents);
        self.indexes.merge(&other.indexes);
        self.persistence_globals.merge(&other.persistence_globals);
    }
}

/// Makes a digest, row after row.
#[derive(Debug, Default)]
pub struct Digester {
    digest: DatabaseDigest,
    encoded: Vec<u8>,
}

impl Digester {
    /// Adds a row.
    pub fn add(&mut self, row: &Row) {
        self.encoded.clear();
        row.encode(&mut self.encoded);
        let table = match row {
            Row::Document(_) => &mut self.digest.documents,
            Row::Index(_) => &mut self.digest.indexes,
            Row::Global(row) if !row.is_copied() => return,
            Row::Global(_) => &mut self.digest.persistence_globals,
        };
        table.add(row.ts(), &self.encoded);
    }

    /// Returns the digest of all rows so far.
    pub fn digest(&self) -> &DatabaseDigest {
        &self.digest
    }
}

#[cfg(test)]
mod tests {
    use super::super::row::{DocumentRow, GlobalRow, InternalId, TABLE_SUMMARY};
    use super::*;

    fn digest(rows: &[Row]) -> DatabaseDigest {
        let mut digester = Digester::default();
        rows.iter().for_each(|row| digester.add(row));
        digester.digest().clone()
    }

    #[test]
    fn the_order_of_rows_does_not_count_and_their_content_does() {
        let row = |ts, json: &str| {
            Row::Document(DocumentRow {
                id: InternalId([1; 16]),
                ts,
                table_id: InternalId([2; 16]),
                json: Some(json.into()),
                prev_ts: None,
            })
        };
        let rows: Vec<Row> = (0..600).map(|ts| row(ts, "{}")).collect();
        let reversed: Vec<Row> = rows.iter().rev().cloned().collect();
        let one = digest(&rows);
        assert_eq!(one, digest(&reversed));
        assert_eq!((one.documents.rows, one.documents.min_ts, one.documents.max_ts), (600, Some(0), Some(599)));
        let mut halves = digest(&rows[..300]);
        halves.merge(&digest(&rows[300..]));
        assert_eq!(one, halves);
        let mut changed = rows;
        changed[7] = row(7, "{ }");
        assert_eq!(one.first_difference(&digest(&changed)), Some(Table::Documents));
        let text = serde_json::to_string(&one).unwrap();
        assert_eq!(serde_json::from_str::<DatabaseDigest>(&text).unwrap(), one);
    }

    #[test]
    fn counts_of_a_past_moment_are_no_data() {
        let global = |key: &str| Row::Global(GlobalRow { key: key.to_owned(), json: b"1".to_vec() });
        assert_eq!(digest(&[global("a"), global(TABLE_SUMMARY)]), digest(&[global("a")]));
    }
}
