//! A database of any size is copied within little memory.

use std::io::Write;

use convexinfra::convex::persistence::{DocumentRow, IndexRow, InternalId, Row, Table};
use convexinfra::database::rows::{self, RowBatch, RowError, RowReader, RowScope, RowStore, Stage};

use super::rows::{empty, run};
use fixture::database::servers;

/// Rows as a generator makes them: documents of a kilobyte, each with two entries of indexes.
struct Generated {
    next: i64,
    count: i64,
    table: Table,
}

#[async_trait::async_trait]
impl RowReader for Generated {
    async fn next_batch(&mut self) -> Result<Option<RowBatch>, RowError> {
        let mut batch = RowBatch::default();
        while !batch.is_full() {
            if self.next == self.count {
                if self.table == Table::Indexes {
                    break;
                }
                (self.table, self.next) = (Table::Indexes, 0);
            }
            let number = self.next;
            self.next += 1;
            // Identities are random, and the same in each run.
            let id = |salt: u8| {
                let mut bytes = [0; 16];
                let hash = (number as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ u64::from(salt);
                bytes[..8].copy_from_slice(&hash.to_be_bytes());
                bytes[8..].copy_from_slice(&hash.wrapping_mul(0xbf58_476d_1ce4_e5b9).to_be_bytes());
                InternalId(bytes)
            };
            let (ts, table) = (1_700_000_000_000_000_000 + number, InternalId([7; 16]));
            if self.table == Table::Documents {
                let json = format!("{{\"_id\":\"{number:032}\",\"text\":\"{:0>940}\"}}", hex_of(&id(9)));
                batch.push(Row::Document(DocumentRow {
                    id: id(0),
                    ts,
                    table_id: table,
                    json: Some(json.into()),
                    prev_ts: None,
                }));
                continue;
            }
            for index in [1, 2] {
                let key = [number.to_be_bytes().as_slice(), &id(index).0, &id(0).0].concat();
                let document = Some((table, id(0)));
                batch.push(Row::Index(IndexRow { index_id: InternalId([index; 16]), ts, key, document }));
            }
        }
        Ok((!batch.rows().is_empty()).then_some(batch))
    }
}

fn hex_of(id: &InternalId) -> String {
    format!("{id:?}")
}

/// The most memory that this process ever had, in MiB.
fn peak_memory() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() >> 10
}

/// `CONVEXINFRA_ROWS_MIB` of rows through every engine, with the rate and the memory of each copy.
#[test]
#[ignore = "a gigabyte of rows takes minutes; run it with `--release`, `--ignored` and `--nocapture`"]
fn a_large_database_is_copied_within_its_memory() {
    let wanted: i64 = std::env::var("CONVEXINFRA_ROWS_MIB").map_or(1024, |text| text.parse().unwrap());
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str| RowStore::Sqlite(folder.path().join(name));
    let mut source: Option<RowStore> = None;
    let targets = servers().flat_map(|server| {
        let name = format!("rows_large_{}", server.engine());
        [(format!("{:?}", server.kind), empty(server, &name)), (format!("SQLite from {:?}", server.kind), file(&name))]
    });
    let mut expected = None;
    for (name, target) in [("SQLite".to_owned(), file("first"))].into_iter().chain(targets) {
        let started = std::time::Instant::now();
        let mut seen = rows::RowProgress::default();
        let copied = run(async {
            let mut reader: Box<dyn RowReader> = match &source {
                Some(source) => source.reader(Stage::Loading, RowScope::ALL).await.unwrap(),
                None => Box::new(Generated { next: 0, count: wanted << 10, table: Table::Documents }),
            };
            let writer = target.writer().await.unwrap();
            rows::copy(reader.as_mut(), writer, |progress| seen = progress).await.unwrap()
        });
        let seconds = started.elapsed().as_secs_f64();
        let rate = seen.bytes as f64 / seconds / f64::from(1 << 20);
        let (count, mib, peak) = (seen.rows, seen.bytes >> 20, peak_memory());
        let _ =
            writeln!(std::io::stderr(), "{name}: {count} rows, {mib} MiB in {seconds:.1} s, {rate:.0} MiB/s, peak {peak} MiB");
        assert_eq!(*expected.get_or_insert(copied.clone()), copied, "{name}");
        assert!(peak_memory() < 100, "{} MiB", peak_memory());
        source = Some(target);
    }
}
