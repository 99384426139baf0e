//! The SQLite store's own promises: whose files it opens, and what it leaves alone.

use std::fs;

use super::*;
use crate::model::{Revision, Timestamp};

fn path(folder: &tempfile::TempDir) -> std::path::PathBuf {
    folder.path().join("store.sqlite3")
}

fn project(store: &SqliteStore, name: &str) {
    let name = ProjectName::parse(name).unwrap();
    let row = ProjectRow { name, revision: Revision(1), origin: None, created_at: Timestamp(0) };
    store.write(Durability::Fsync, |rows| rows.put_project(&row)).unwrap();
}

#[test]
fn reading_makes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    assert!(SqliteStore::open_to_read(&path(&folder)).unwrap().is_none());
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    project(&SqliteStore::open(&path(&folder)).unwrap(), "a");
    let before = fs::read(path(&folder)).unwrap();
    let reader = SqliteStore::open_to_read(&path(&folder)).unwrap().unwrap();
    assert_eq!(reader.read(|rows| rows.projects()).unwrap().len(), 1);
    drop(reader);
    assert_eq!(fs::read(path(&folder)).unwrap(), before);
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "no journal is left behind");
}

/// Returns all that a database says of its schema, a line each: columns, keys, indices and triggers.
fn shape_of(scripts: &[&str]) -> Vec<String> {
    let connection = rusqlite::Connection::open_in_memory().unwrap();
    scripts.iter().for_each(|script| connection.execute_batch(script).unwrap());
    let lines = |statement: &str| -> Vec<String> {
        let mut statement = connection.prepare(statement).unwrap();
        let columns = statement.column_count();
        let line = |row: &rusqlite::Row<'_>| (0..columns).map(|column| row.get::<_, rusqlite::types::Value>(column)).collect();
        let rows = statement.query_map([], line).unwrap();
        rows.map(|row: rusqlite::Result<Vec<_>>| format!("{:?}", row.unwrap())).collect()
    };
    let tables =
        "SELECT l.name, l.wr, l.strict, c.* FROM pragma_table_list l, pragma_table_xinfo(l.name) c ORDER BY l.name, c.cid";
    let keys = "SELECT l.name, k.* FROM pragma_table_list l, pragma_foreign_key_list(l.name) k ORDER BY l.name, k.id";
    let indices = "SELECT l.name, i.name, i.\"unique\", i.origin, i.partial, c.* FROM pragma_table_list l, pragma_index_list(l.name) i, \
         pragma_index_xinfo(i.name) c ORDER BY i.name, c.seqno";
    let others =
        "SELECT type, name, tbl_name, replace(sql, char(10), ' ') FROM sqlite_schema WHERE type <> 'table' ORDER BY name";
    [tables, keys, indices, others].into_iter().flat_map(lines).collect()
}

#[test]
fn a_new_database_has_the_schema_that_the_steps_come_to() {
    let (new, stepped) = (shape_of(&[sql::SCHEMA]), shape_of(&sql::MIGRATIONS));
    assert!(new.iter().any(|line| line.contains("events_are_not_removed")) && new.len() > 150, "{new:?}");
    assert_eq!(new, stepped);
}

#[test]
fn a_transaction_that_fails_leaves_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let store = SqliteStore::open(&path(&folder)).unwrap();
    let row =
        ProjectRow { name: ProjectName::parse("a").unwrap(), revision: Revision(1), origin: None, created_at: Timestamp(0) };
    let result: Result<(), StoreError> = store.write(Durability::NoFsync, |rows| {
        rows.put_project(&row)?;
        Err(StoreError::Full { path: String::new() })
    });
    assert!(result.is_err());
    assert!(store.read(|rows| rows.projects()).unwrap().is_empty());
}

#[test]
fn a_newer_damaged_or_foreign_store_is_left_untouched() {
    let folder = tempfile::tempdir().unwrap();
    let path = path(&folder);
    project(&SqliteStore::open(&path).unwrap(), "a");
    let connection = rusqlite::Connection::open(&path).unwrap();
    connection.pragma_update(None, "user_version", 99).unwrap();
    drop(connection);
    let before = fs::read(&path).unwrap();
    assert!(matches!(SqliteStore::open(&path), Err(StoreError::Newer { found: 99, .. })));
    assert!(matches!(SqliteStore::open_to_read(&path), Err(StoreError::Newer { .. })));
    assert_eq!(fs::read(&path).unwrap(), before);

    fs::write(&path, b"this is not a database, but long enough to be looked at as one by anybody who tries").unwrap();
    assert!(matches!(SqliteStore::open(&path), Err(StoreError::Damaged { .. })));
    assert!(fs::read(&path).unwrap().starts_with(b"this is not"));

    fs::remove_file(&path).unwrap();
    let stranger = rusqlite::Connection::open(&path).unwrap();
    stranger.execute_batch("CREATE TABLE theirs (x); PRAGMA user_version = 1;").unwrap();
    drop(stranger);
    assert!(matches!(SqliteStore::open(&path), Err(StoreError::Row { .. })));
}

#[test]
fn only_its_owner_may_read_it() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().unwrap();
    project(&SqliteStore::open(&path(&folder)).unwrap(), "a");
    assert_eq!(fs::metadata(path(&folder)).unwrap().permissions().mode() & 0o777, 0o600);
}

#[test]
fn many_may_make_it_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let path = path(&folder);
    std::thread::scope(|scope| {
        for index in 0..8 {
            let path = &path;
            scope.spawn(move || project(&SqliteStore::open(path).unwrap(), &format!("p{index}")));
        }
    });
    assert_eq!(SqliteStore::open(&path).unwrap().read(|rows| rows.projects()).unwrap().len(), 8);
}

#[test]
fn a_store_of_an_older_convexinfra_is_read_as_it_is_and_brought_up_to_date_by_a_writer() {
    let folder = tempfile::tempdir().unwrap();
    let path = path(&folder);
    let connection = rusqlite::Connection::open(&path).unwrap();
    connection.execute_batch(include_str!("sql/schema_1.sql")).unwrap();
    connection
        .execute_batch(
            r#"INSERT INTO projects VALUES ('a', 3, NULL, 0);
               INSERT INTO backends VALUES ('id', 'a', 'dev', 'a-dev', '"ready"', 1,
                 '{"provider":"simulated","resources":{"cpus":1500,"memory":"2 GiB"}}', '{}', '[]', NULL, NULL, NULL, NULL, NULL,
                 '{}', NULL, 1, 0, NULL, x'');
               INSERT INTO operations (project, backend, key, kind, accepted_at) VALUES ('a', 'dev', 'sha256:1/create', 'put', 5);
               INSERT INTO events (project, at, kind, backend, detail) VALUES ('a', 5, 'operation_accepted', 'dev', '');
               PRAGMA application_id = 1668708457; PRAGMA user_version = 1;"#,
        )
        .unwrap();
    drop(connection);
    let before = fs::read(&path).unwrap();
    let name = ProjectName::parse("a").unwrap();
    let look = |store: &SqliteStore| {
        store
            .read(|rows| {
                let usage = rows.usage(&name)?;
                assert_eq!((usage.backends, usage.cpus.milli(), usage.memory.bytes()), (1, 1500, 2 << 30));
                assert_eq!(rows.backends(&name)?.len(), 1);
                let events = rows.events_after(Some(&name), None, 9)?;
                assert_eq!((events.len(), events[0].link.clone(), events[0].actor.clone()), (1, None, None));
                let open = rows.open_operations(None)?;
                assert_eq!(open[0].step, StepKey { plan: "sha256:1".into(), step: "create".into() });
                Ok::<_, StoreError>(())
            })
            .unwrap();
    };
    look(&SqliteStore::open_to_read(&path).unwrap().unwrap());
    assert_eq!(fs::read(&path).unwrap(), before, "reading changed the file");
    look(&SqliteStore::open(&path).unwrap());
    look(&SqliteStore::open_to_read(&path).unwrap().unwrap());
}

#[test]
fn an_operation_of_an_unknown_kind_is_not_taken_for_another() {
    let folder = tempfile::tempdir().unwrap();
    let store = SqliteStore::open(&path(&folder)).unwrap();
    project(&store, "a");
    let connection = rusqlite::Connection::open(path(&folder)).unwrap();
    connection
        .execute("INSERT INTO operations (project, backend, key, kind, accepted_at) VALUES ('a', 'b', 'p/s', 'erase', 1)", [])
        .unwrap();
    drop(connection);
    let read = store.read(|rows| rows.open_operations(None));
    assert!(matches!(&read, Err(StoreError::Row { what, .. }) if what.contains("erase")), "{read:?}");
}

/// A connection that runs nothing, and notes the tables that SQLite would read from end to end.
struct QueryPlans {
    connection: rusqlite::Connection,
    scans: std::cell::RefCell<Vec<String>>,
}

impl sql::Connection for QueryPlans {
    fn run(&self, statement: &str, parameters: &[sql::Parameter<'_>]) -> Result<(), StoreError> {
        sql::Connection::query(self, statement, parameters, &mut |_| Ok(()))
    }

    fn query(
        &self,
        statement: &str,
        _: &[sql::Parameter<'_>],
        _: &mut dyn FnMut(&dyn sql::Columns) -> Result<(), sql::ColumnError>,
    ) -> Result<(), StoreError> {
        let mut explained = self.connection.prepare(&format!("EXPLAIN QUERY PLAN {statement}")).unwrap();
        let mut lines = explained.raw_query();
        while let Some(line) = lines.next().unwrap() {
            let detail: String = line.get("detail").unwrap();
            if ["SCAN backends", "SCAN operations", "SCAN events"].iter().any(|scan| detail.starts_with(scan)) {
                self.scans.borrow_mut().push(format!("{detail}: {statement}"));
            }
        }
        Ok(())
    }

    fn batch(&self, _: &str) -> Result<(), StoreError> {
        Ok(())
    }
}

#[test]
fn looking_one_backend_up_reads_no_rows_of_others() {
    let folder = tempfile::tempdir().unwrap();
    drop(SqliteStore::open(&path(&folder)).unwrap());
    let plans = QueryPlans { connection: rusqlite::Connection::open(path(&folder)).unwrap(), scans: Default::default() };
    let rows = sql::SqlRows::new(&plans);
    let (project, name) = (ProjectName::parse("a").unwrap(), BackendName::parse("b").unwrap());
    let step = StepKey { plan: "sha256:1".into(), step: "create".into() };
    rows.backend(&project, &name).unwrap();
    rows.backend_by_id(&BackendId::new("id")).unwrap();
    rows.instance_name_taken(&InstanceName::parse("a-b").unwrap()).unwrap();
    rows.operation(&project, &step).unwrap();
    rows.last_attempt(&project, &step).unwrap();
    rows.open_operations_on(&project, &name).unwrap();
    rows.put_expired(&project, &name, None).unwrap();
    rows.chain(Some(&project)).unwrap();
    rows.events_after(Some(&project), None, 1).unwrap();
    assert_eq!(plans.scans.into_inner(), Vec::<String>::new());
}
