//! Convex's rows on every engine, from databases that the real backend made.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use convexinfra::convex::persistence::{DatabaseDigest, DocumentRow, Edit, Engine, FileLocation, Row};
use convexinfra::database::DatabaseServer;
use convexinfra::database::rows::{
    self, Catalog, CatalogTable, RowBatch, RowError, RowReader, RowScope, RowStore, RowWriter, SqliteReader, SqliteWriter,
    Stage,
};
use convexinfra::model::{HostPolicy, Secret, ServerStorage, Storage, Tls};

use fixture::database::{Kind, Server, server, servers};
use fixture::{golden as recording, shared_bytes};

/// A copy of the recorded database, in a folder of its own.
fn golden() -> Option<(tempfile::TempDir, PathBuf)> {
    let recorded = shared_bytes("golden/data/sqlite.sqlite3")?;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("db.sqlite3");
    std::fs::write(&path, recorded).unwrap();
    Some((folder, path))
}

async fn digest(path: &Path) -> DatabaseDigest {
    let mut reader = SqliteReader::open(path, RowScope::ALL).await.unwrap();
    rows::digest(&mut reader).await.unwrap()
}

async fn copy(from: &Path, to: &Path) -> DatabaseDigest {
    let mut reader = SqliteReader::open(from, RowScope::ALL).await.unwrap();
    let writer = SqliteWriter::create(to).await.unwrap();
    rows::copy(&mut reader, Box::new(writer), |_| {}).await.unwrap()
}

fn count(path: &Path, sql: &str) -> i64 {
    rusqlite::Connection::open(path).unwrap().query_row(sql, [], |row| row.get(0)).unwrap()
}

#[tokio::test]
async fn a_copy_of_a_file_has_the_rows_of_the_original() {
    let Some((folder, original)) = golden() else { return };
    let target = folder.path().join("copy");
    let copied = copy(&original, &target).await;
    assert_eq!(copied, digest(&original).await);
    assert_eq!(copied, digest(&target).await);
    for (table, rows) in [("documents", copied.documents.rows), ("indexes", copied.indexes.rows)] {
        assert_eq!(i64::try_from(rows).unwrap(), count(&original, &format!("SELECT count(*) FROM {table}")));
    }
    assert_eq!(count(&target, "SELECT count(*) FROM persistence_globals WHERE key = 'table_summary_v2'"), 0);
    // Cell by cell, with its type.
    let differing = format!("ATTACH '{}' AS other", original.display());
    let connection = rusqlite::Connection::open(&target).unwrap();
    connection.execute_batch(&differing).unwrap();
    for (table, columns) in [
        ("documents", "id, ts, table_id, json_value, typeof(json_value), deleted, prev_ts"),
        ("indexes", "index_id, ts, key, deleted, table_id, document_id, typeof(key)"),
        ("persistence_globals WHERE key <> 'table_summary_v2'", "key, json_value, typeof(json_value)"),
    ] {
        let sql =
            format!("SELECT count(*) FROM (SELECT {columns} FROM other.{table} EXCEPT SELECT {columns} FROM main.{table})");
        assert_eq!(connection.query_row(&sql, [], |row| row.get::<_, i64>(0)).unwrap(), 0, "{table}");
    }
    assert_eq!(count(&target, "SELECT count(*) FROM sqlite_master WHERE name = 'documents_by_table_and_id'"), 1);
}

#[tokio::test]
async fn rows_after_a_moment_are_read_alone() {
    let Some((_folder, path)) = golden() else { return };
    let all = digest(&path).await;
    let middle = count(&path, "SELECT ts FROM documents ORDER BY ts LIMIT 1 OFFSET 300");
    let mut reader = SqliteReader::open(&path, RowScope { after: Some(middle) }).await.unwrap();
    let later = rows::digest(&mut reader).await.unwrap();
    assert!(later.documents.rows > 0 && later.documents.rows < all.documents.rows);
    assert!(later.documents.min_ts > Some(middle) && later.indexes.min_ts > Some(middle));
    assert_eq!(later.persistence_globals, all.persistence_globals);
}

#[tokio::test]
async fn a_commit_that_was_cut_off_is_taken_back_in_a_copy() {
    let Some((folder, path)) = golden() else { return };
    let before = digest(&path).await;
    let cut = folder.path().join("cut.sqlite3");
    {
        let connection = rusqlite::Connection::open(&path).unwrap();
        // So little memory that pages of the transaction are in the file before it is committed.
        connection.execute_batch("PRAGMA cache_size = 1; BEGIN; UPDATE documents SET json_value = 'x';").unwrap();
        std::fs::copy(&path, &cut).unwrap();
        std::fs::copy(folder.path().join("db.sqlite3-journal"), folder.path().join("cut.sqlite3-journal")).unwrap();
    }
    let (file, journal) = (std::fs::read(&cut).unwrap(), std::fs::read(folder.path().join("cut.sqlite3-journal")).unwrap());
    assert_ne!(file, std::fs::read(&path).unwrap(), "nothing of the transaction is in the file");
    assert_eq!(digest(&cut).await, before);
    assert_eq!(std::fs::read(&cut).unwrap(), file, "the original is as it was");
    assert_eq!(std::fs::read(folder.path().join("cut.sqlite3-journal")).unwrap(), journal);
    let left = std::fs::read_dir(folder.path()).unwrap().filter(|entry| entry.as_ref().unwrap().path().is_dir()).count();
    assert_eq!(left, 0, "the copy is gone");
}

#[tokio::test]
async fn what_is_no_database_of_convex_is_refused_with_what_differs() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("other");
    let open = |path: PathBuf| async move { SqliteReader::open(&path, RowScope::ALL).await.unwrap_err() };
    assert!(matches!(open(path.clone()).await, RowError::Missing { .. }));
    std::fs::write(&path, "no database at all, and longer than a header of one would have to be, by some bytes or more")
        .unwrap();
    assert!(matches!(open(path.clone()).await, RowError::File { .. }));
    std::fs::remove_file(&path).unwrap();
    let made = "CREATE TABLE documents (id BLOB NOT NULL, ts TEXT NOT NULL); CREATE TABLE mine (x)";
    rusqlite::Connection::open(&path).unwrap().execute_batch(made).unwrap();
    let RowError::Layout(layout) = open(path).await else { panic!("it was taken") };
    assert_eq!(layout.engine, Engine::Sqlite);
    assert!(layout.differences.contains(&"`documents.ts` is `TEXT`, and `INTEGER` is known".to_owned()), "{layout}");
    assert!(layout.differences.contains(&"there is no table `indexes`".to_owned()), "{layout}");
}

#[tokio::test]
async fn a_damaged_row_and_a_copy_that_was_cut_off_are_errors() {
    let Some((folder, path)) = golden() else { return };
    let target = folder.path().join("copy");
    let mut writer = SqliteWriter::create(&target).await.unwrap();
    writer.write(RowBatch::default()).await.unwrap();
    drop(writer);
    // In the place of what was half made.
    copy(&path, &target).await;
    rusqlite::Connection::open(&path).unwrap().execute_batch("UPDATE indexes SET table_id = NULL WHERE ts > 0").unwrap();
    let mut reader = SqliteReader::open(&path, RowScope::ALL).await.unwrap();
    let error = rows::digest(&mut reader).await.unwrap_err();
    assert!(matches!(error, RowError::Malformed(_)), "{error}");
    assert!(reader.next_batch().await.unwrap().is_none());
}

/// A new database on a server, empty.
pub(super) fn empty(server: &Server, name: &str) -> RowStore {
    server.sql("", &format!("CREATE DATABASE {name}"));
    on_server(server, name)
}

/// A database on a server.
pub(super) fn on_server(server: &Server, name: &str) -> RowStore {
    let url = Secret::new(server.root());
    let access = ServerStorage { tls: Tls::Disable, ..ServerStorage::default() };
    let storage = if server.engine() == "mysql" { Storage::Mysql(access) } else { Storage::Postgres(access) };
    RowStore::server(&DatabaseServer::new(storage, url, None, HostPolicy::Any).unwrap(), name)
}

fn unpacked(name: &str) -> Option<String> {
    let packed = shared_bytes(&format!("golden/data/{name}.sql.gz"))?;
    let mut child = Command::new("gzip").arg("-dc").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let fed = std::thread::spawn(move || stdin.write_all(&packed).unwrap());
    let output = child.wait_with_output().unwrap();
    fed.join().unwrap();
    Some(String::from_utf8(output.stdout).unwrap())
}

/// The recorded database of an engine on a server.
fn recorded(server: &Server, name: &str) -> Option<RowStore> {
    let dump = unpacked(server.engine())?;
    let store = empty(server, name);
    if server.engine() == "mysql" {
        server.sql(name, &dump);
        return Some(store);
    }
    let url = format!("{}/{name}?sslmode=disable", server.root());
    let mut psql = Command::new("psql");
    psql.args(["-q", "-v", "ON_ERROR_STOP=0", &url]).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
    let mut child = psql.spawn().unwrap();
    child.stdin.take().unwrap().write_all(dump.as_bytes()).unwrap();
    assert!(child.wait().unwrap().success());
    Some(store)
}

async fn digest_of(store: &RowStore, stage: Stage) -> DatabaseDigest {
    let mut reader = store.reader(stage, RowScope::ALL).await.unwrap();
    rows::digest(reader.as_mut()).await.unwrap()
}

/// All nine pairs, from databases that the real backend made on each of the three.
#[test]
fn every_engine_gives_its_rows_to_every_other() {
    let (Some((folder, file)), Some(postgres), Some(mysql)) = (golden(), server(Kind::Postgres), server(Kind::Mysql)) else {
        return;
    };
    let sources = [
        ("sqlite", RowStore::Sqlite(file)),
        ("postgres", recorded(postgres, "rows_of_postgres").unwrap()),
        ("mysql", recorded(mysql, "rows_of_mysql").unwrap()),
    ];
    for (from, source) in &sources {
        catalog_is_what_the_real_backend_said(from, &run(source.catalog(Stage::Published)).unwrap());
        for to in ["sqlite", "postgres", "mysql"] {
            let name = format!("rows_{from}_{to}");
            let (server, target) = match to {
                "sqlite" => (None, RowStore::Sqlite(folder.path().join(&name))),
                "postgres" => (Some(postgres), empty(postgres, &name)),
                _ => (Some(mysql), empty(mysql, &name)),
            };
            let locked = || server.map(|server| server.sql(&name, "SELECT id FROM read_only"));
            let copied = run(async {
                let mut reader = source.reader(Stage::Published, RowScope::ALL).await.unwrap();
                let writer = target.writer().await.unwrap();
                rows::copy(reader.as_mut(), writer, |_| {}).await.unwrap()
            });
            assert!(
                copied.documents.rows > 400 && copied.indexes.rows > 400 && copied.persistence_globals.rows > 5,
                "{copied:?}"
            );
            if let Some(locked) = locked() {
                assert_eq!(locked, ["1"], "{name} may be started before it is whole");
            }
            assert_eq!(run(digest_of(source, Stage::Published)), copied, "{name}: the source");
            assert_eq!(run(digest_of(&target, Stage::Loading)), copied, "{name}: the target");
            run(edited(&target, &copied));
            run(target.publish()).unwrap();
            run(target.publish()).unwrap();
            let copied = run(digest_of(&target, Stage::Published));
            if let Some(server) = server {
                assert_eq!(locked().unwrap(), Vec::<String>::new());
                assert_eq!(server.sql(&name, "SELECT id, ts FROM leases"), ["1|0"]);
            }
            // What is in use is never written over.
            let Err(error) = run(target.writer()) else { panic!("{name} was written over") };
            assert!(matches!(error, RowError::InUse { .. }), "{error}");
            run(target.lock()).unwrap();
            run(target.lock()).unwrap();
            assert_eq!(run(digest_of(&target, Stage::Locked)), copied);
            run(target.unlock()).unwrap();
        }
    }
    keys_are_those_of_the_real_backend(postgres, mysql);
}

/// Pauses a copy and moves its files: two documents change, and nothing else.
async fn edited(target: &RowStore, before: &DatabaseDigest) {
    let elsewhere = Edit::MoveFiles(FileLocation::S3("gold-1/".to_owned()));
    target.edit(vec![elsewhere, Edit::Pause]).await.unwrap();
    let mut reader = target.reader(Stage::Loading, RowScope::ALL).await.unwrap();
    let mut texts = Vec::new();
    while let Some(batch) = reader.next_batch().await.unwrap() {
        for row in batch.rows() {
            let Row::Document(DocumentRow { json: Some(json), .. }) = row else { continue };
            let text = String::from_utf8_lossy(json);
            if text.contains("\"user\":\"paused\"") || text.contains("\"s3Prefix\":\"gold-1/\"") {
                texts.push(text.into_owned());
            }
        }
    }
    assert_eq!(texts.len(), 2, "{texts:?}");
    let after = digest_of(target, Stage::Loading).await;
    assert_eq!((after.documents.rows, &after.indexes), (before.documents.rows, &before.indexes));
    assert_ne!(after.documents.sum, before.documents.sum);
}

pub(super) fn run<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap().block_on(work)
}

/// As `queries.json` has it of the one on SQLite; the other two were filled by the same program.
fn catalog_is_what_the_real_backend_said(from: &str, catalog: &Catalog) {
    let said = recording("data/queries.json").unwrap();
    let value =
        |name: &str| said.as_array().unwrap().iter().find(|query| query["name"] == name).unwrap()["body"]["value"].as_f64();
    let roots: Vec<&CatalogTable> = catalog.tables.iter().filter(|table| table.component.is_none()).collect();
    let users: u64 = roots.iter().filter(|table| !table.name.starts_with('_')).map(|table| table.documents).sum();
    assert_eq!(Some(users as f64), value("size of all tables"), "{from}: {catalog:?}");
    let people = roots.iter().find(|table| table.name == "people").unwrap().documents;
    assert_eq!(Some(people as f64), value("table size"), "{from}");
    let counts = catalog.tables.iter().find(|table| table.name == "counts").unwrap();
    assert!(counts.component.is_some());
    assert_eq!(Some(counts.documents as f64), value("table size in a component"), "{from}");
    assert_eq!(catalog.user_documents(), (users + counts.documents, 5), "{from}");
    assert_eq!(catalog.version, Some(128), "{from}");
}

/// What was loaded here has the columns, keys and indexes of what the real backend made.
fn keys_are_those_of_the_real_backend(postgres: &Server, mysql: &Server) {
    for (server, sql) in [
        (
            postgres,
            "SELECT indexdef FROM pg_indexes WHERE schemaname = 'public' UNION ALL
             SELECT concat_ws(' ', table_name, column_name, data_type, is_nullable, coalesce(column_default, '-'))
             FROM information_schema.columns WHERE table_schema = 'public' ORDER BY 1",
        ),
        (
            mysql,
            "SELECT concat_ws(' ', table_name, index_name, seq_in_index, column_name) FROM information_schema.statistics
             WHERE table_schema = database() UNION ALL
             SELECT concat_ws(' ', table_name, column_name, column_type, is_nullable, coalesce(column_default, '-'),
             coalesce(collation_name, '-')) FROM information_schema.columns WHERE table_schema = database() ORDER BY 1",
        ),
    ] {
        let real = server.sql(&format!("rows_of_{}", server.engine()), sql);
        assert!(real.len() > 20, "{real:?}");
        assert_eq!(server.sql(&format!("rows_sqlite_{}", server.engine()), sql), real);
    }
}

/// What this program writes for a document on MySQL is what Convex writes elsewhere.
#[tokio::test]
async fn documents_are_written_as_convex_writes_them() {
    let Some((_folder, path)) = golden() else { return };
    let mut reader = SqliteReader::open(&path, RowScope::ALL).await.unwrap();
    let mut seen = 0;
    while let Some(batch) = reader.next_batch().await.unwrap() {
        for row in batch.rows() {
            let Row::Document(DocumentRow { json: Some(json), .. }) = row else { continue };
            let value: serde_json::Value = serde_json::from_slice(json).unwrap();
            assert_eq!(String::from_utf8_lossy(json), value.to_string());
            seen += 1;
        }
    }
    assert!(seen > 300);
}

#[test]
fn a_copy_that_was_cut_off_is_begun_again() {
    let Some((_folder, file)) = golden() else { return };
    let source = RowStore::Sqlite(file);
    for server in servers() {
        let name = "rows_cut_off";
        let target = empty(server, name);
        run(async {
            let mut reader = source.reader(Stage::Published, RowScope::ALL).await.unwrap();
            let mut writer = target.writer().await.unwrap();
            writer.write(reader.next_batch().await.unwrap().unwrap()).await.unwrap();
        });
        assert_eq!(server.sql(name, "SELECT id FROM read_only"), ["1"]);
        let copied = run(async {
            let mut reader = source.reader(Stage::Published, RowScope::ALL).await.unwrap();
            let writer = target.writer().await.unwrap();
            rows::copy(reader.as_mut(), writer, |_| {}).await.unwrap()
        });
        assert_eq!(run(digest_of(&target, Stage::Loading)), copied);
        // A connection that ends in the middle is an error, and no hang.
        let kill = match server.engine() {
            "mysql" => None,
            _ => Some(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = 'rows_cut_off' AND pid <> pg_backend_pid()",
            ),
        };
        let Some(kill) = kill else { continue };
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let mut writer = runtime.block_on(target.writer()).unwrap();
        server.sql("", kill);
        let error = runtime.block_on(async {
            let mut reader = source.reader(Stage::Published, RowScope::ALL).await.unwrap();
            while let Some(batch) = reader.next_batch().await.unwrap() {
                writer.write(batch).await?;
            }
            writer.finish().await
        });
        assert!(matches!(error, Err(RowError::Server(_))), "{error:?}");
    }
}
