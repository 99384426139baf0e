//! Snapshots of folders: what a second one costs, what damage is found, what a deletion keeps.

use std::fs;
use std::path::Path;

use super::*;
use crate::model::{BackendId, ProviderKind, SnapshotId, Timestamp};

struct World {
    folder: tempfile::TempDir,
    store: SnapshotStore,
}

fn silent(_: u64) {}

fn id(text: &str) -> SnapshotId {
    SnapshotId::parse(text).unwrap()
}

impl World {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let data = folder.path().join("data");
        fs::create_dir_all(data.join("storage/files")).unwrap();
        fs::create_dir_all(data.join("storage/exports")).unwrap();
        fs::write(data.join("storage/files/one.blob"), vec![7; 700_000]).unwrap();
        fs::write(data.join("storage/files/none.blob"), b"").unwrap();
        fs::write(data.join("storage/exports/old.blob"), b"zip").unwrap();
        let database = rusqlite::Connection::open(data.join(DATABASE_FILE)).unwrap();
        database.execute_batch("CREATE TABLE t (x); INSERT INTO t VALUES ('hunter2')").unwrap();
        let store = SnapshotStore::new(folder.path().join("snapshots"), ChunkCodec::sealed(&[1; 32]));
        Self { folder, store }
    }

    fn data(&self) -> std::path::PathBuf {
        self.folder.path().join("data")
    }

    fn take(&self, name: &str, at: i64) -> Result<SnapshotManifest, SnapshotError> {
        let id = id(name);
        self.store.copy(&id).take(&self.data(), Some(Timestamp(at)))?;
        let backend = SnapshotSubject {
            project: "gremlin".parse().unwrap(),
            name: "dev".parse().unwrap(),
            id: BackendId::new("b1"),
            instance: "gremlin-dev".parse().unwrap(),
            provider: ProviderKind::Simulated,
            engine: "sqlite",
        };
        let data = self.data();
        let source = SnapshotSource {
            id: &id,
            backend,
            files: StoredFiles::Folder(&data),
            release: None,
            note: None,
            before_upgrade_to: None,
            created_at: Timestamp(at),
        };
        self.store.write(source, Timestamp(at + 250), &silent)
    }

    fn chunks(&self) -> Vec<std::path::PathBuf> {
        let groups = fs::read_dir(self.folder.path().join("snapshots/chunks")).unwrap();
        let mut files: Vec<_> =
            groups.flat_map(|group| fs::read_dir(group.unwrap().path()).unwrap()).map(|entry| entry.unwrap().path()).collect();
        files.sort();
        files
    }
}

fn rows(database: &Path) -> Vec<String> {
    let database = rusqlite::Connection::open(database).unwrap();
    let mut statement = database.prepare("SELECT x FROM t ORDER BY rowid").unwrap();
    statement.query_map([], |row| row.get(0)).unwrap().map(Result::unwrap).collect()
}

#[test]
fn a_snapshot_comes_back_as_it_was_and_shows_nothing_on_the_disk() {
    let world = World::new();
    let taken = world.take("dev-1", 1000).unwrap();
    assert_eq!((taken.content.files, taken.content.file_bytes, taken.downtime_ms), (2, 700_000, Some(250)));
    assert_eq!(world.store.get(&id("dev-1")).unwrap(), taken);
    let target = world.folder.path().join("unpacked");
    world.store.unpack(&id("dev-1"), &target, &silent).unwrap();
    assert_eq!(rows(&target.join(DATABASE_FILE)), ["hunter2"]);
    assert_eq!(fs::read(target.join("storage/files/one.blob")).unwrap(), vec![7; 700_000]);
    assert_eq!(fs::read(target.join("storage/files/none.blob")).unwrap(), b"");
    assert!(!target.join("storage/exports").exists());
    for chunk in world.chunks() {
        assert!(!fs::read(&chunk).unwrap().windows(7).any(|window| window == b"hunter2"));
    }
    assert_eq!(fs::read_dir(world.folder.path().join("snapshots/copies")).unwrap().count(), 0);
}

#[test]
fn the_second_snapshot_costs_what_is_new() {
    let world = World::new();
    let first = world.take("dev-1", 1000).unwrap();
    let again = world.take("dev-2", 2000).unwrap();
    assert_eq!(again.content.stored_bytes, 0);
    fs::write(world.data().join("storage/files/two.blob"), [9; 10]).unwrap();
    let third = world.take("dev-3", 3000).unwrap();
    assert!(third.content.stored_bytes > 0 && third.content.stored_bytes < first.content.stored_bytes);
    assert_eq!(world.store.list().unwrap().snapshots.len(), 3);
    // What the others name stays.
    world.store.delete(&id("dev-1")).unwrap();
    for name in ["dev-2", "dev-3"] {
        assert_eq!(world.store.verify(&id(name), &silent).unwrap().damaged, 0);
    }
    world.store.delete(&id("dev-2")).unwrap();
    world.store.delete(&id("dev-3")).unwrap();
    assert_eq!(world.chunks(), Vec::<std::path::PathBuf>::new());
}

#[test]
fn a_journal_of_a_killed_process_is_recovered_on_the_copy() {
    let world = World::new();
    let path = world.data().join(DATABASE_FILE);
    let database = rusqlite::Connection::open(&path).unwrap();
    database.execute_batch("PRAGMA journal_mode = WAL; INSERT INTO t VALUES ('committed')").unwrap();
    // Killed: what is in the log was never written into the database.
    world.take("dev-1", 1000).unwrap();
    let log = fs::read(world.data().join("db.sqlite3-wal")).unwrap();
    assert!(!log.is_empty(), "the original was written to");
    drop(database);
    let target = world.folder.path().join("unpacked");
    world.store.unpack(&id("dev-1"), &target, &silent).unwrap();
    assert_eq!(rows(&target.join(DATABASE_FILE)), ["hunter2", "committed"]);
}

#[test]
fn a_damaged_chunk_is_found_and_never_restored() {
    let world = World::new();
    world.take("dev-1", 1000).unwrap();
    for chunk in world.chunks() {
        let whole = fs::read(&chunk).unwrap();
        for damaged in [&whole[..whole.len() - 1], &[]] {
            fs::write(&chunk, damaged).unwrap();
            let found = world.store.verify(&id("dev-1"), &silent);
            assert!(found.is_err() || found.unwrap().damaged > 0, "{}", chunk.display());
            let target = world.folder.path().join("unpacked");
            assert!(world.store.unpack(&id("dev-1"), &target, &silent).is_err());
            assert!(!target.exists());
        }
        fs::write(&chunk, &whole).unwrap();
    }
    assert_eq!(world.store.verify(&id("dev-1"), &silent).unwrap().damaged, 0);
    // A chunk that is gone is written again by the next snapshot that has it.
    let lost = world.chunks().remove(0);
    fs::remove_file(&lost).unwrap();
    fs::write(world.data().join("storage/files/one.blob"), vec![7; 700_000]).unwrap();
    let _ = world.take("dev-2", 2000);
    assert_eq!(world.store.verify(&id("dev-2"), &silent).unwrap().damaged, 0);
}

#[test]
fn a_changed_manifest_is_no_snapshot() {
    let world = World::new();
    world.take("dev-1", 1000).unwrap();
    let path = world.folder.path().join("snapshots/manifests/dev-1.json");
    let text = fs::read_to_string(&path).unwrap();
    fs::write(&path, text.replace("\"created_at\":1000", "\"created_at\":9000")).unwrap();
    assert!(matches!(world.store.get(&id("dev-1")), Err(SnapshotError::Damaged { .. })));
    assert_eq!(world.store.list().unwrap().damaged.len(), 1);
    for end in 0..text.len() - 1 {
        fs::write(&path, &text[..end]).unwrap();
        assert!(world.store.get(&id("dev-1")).is_err(), "cut at {end}");
    }
}

#[test]
fn an_export_comes_back_sealed_and_in_the_clear() {
    let world = World::new();
    world.take("dev-1", 1000).unwrap();
    for (mode, name) in [(ExportMode::Sealed, "sealed"), (ExportMode::Plain, "plain")] {
        let out = world.folder.path().join(name);
        world.store.export(&id("dev-1"), &out, mode, &silent).unwrap();
        assert!(matches!(world.store.export(&id("dev-1"), &out, mode, &silent), Err(SnapshotError::NotEmpty(_))));
        assert!(matches!(world.store.import(out.clone(), &silent), Err(SnapshotError::Exists(_))));
        let other = SnapshotStore::new(world.folder.path().join(format!("{name}-2")), ChunkCodec::sealed(&[2; 32]));
        assert_eq!(other.import(out.clone(), &silent).is_ok(), mode == ExportMode::Plain);
        world.store.delete(&id("dev-1")).unwrap();
        world.store.import(out, &silent).unwrap();
        assert_eq!(world.store.verify(&id("dev-1"), &silent).unwrap().damaged, 0);
    }
}

/// Exports a snapshot in the clear, and changes its manifest and its listing as anybody can.
fn forged(
    world: &World,
    name: &str,
    change: impl FnOnce(&mut serde_json::Value),
    list: impl Fn(&mut Vec<String>),
) -> std::path::PathBuf {
    let out = world.folder.path().join(name);
    let manifest = world.store.export(&id("dev-1"), &out, ExportMode::Plain, &silent).unwrap();
    let plain = SnapshotStore::new(out.clone(), ChunkCodec::Plain);
    let listing: Vec<u8> = manifest.listing.iter().flat_map(|name| plain.chunk(&manifest.id, name).unwrap()).collect();
    let mut lines: Vec<String> = String::from_utf8(listing).unwrap().lines().map(str::to_owned).collect();
    list(&mut lines);
    let chunk = plain.put_chunk(format!("{}\n", lines.join("\n")).as_bytes()).unwrap().0;
    let mut json = serde_json::to_value(SnapshotManifest { listing: vec![chunk], ..manifest }).unwrap();
    change(&mut json);
    let text = json.to_string();
    let proof = ChunkCodec::Plain.proof(text.as_bytes());
    fs::write(out.join("manifests/dev-1.json"), format!("{text}\n{proof}\n")).unwrap();
    out
}

#[test]
fn a_folder_in_the_clear_is_no_part_of_a_backends_past() {
    let world = World::new();
    world.take("dev-1", 1000).unwrap();
    let out = forged(
        &world,
        "forged",
        |manifest| {
            manifest["before_upgrade_to"] = "precompiled-2026-08-21-652b828".into();
            manifest["created_at"] = i64::MAX.into();
        },
        |_| {},
    );
    world.store.delete(&id("dev-1")).unwrap();
    let imported = world.store.import(out, &silent).unwrap();
    assert_eq!((imported.before_upgrade_to, imported.backend_id), (None, BackendId::new("unproven")));
    assert!(world.store.list().unwrap().newest(&"dev".parse().unwrap()).is_none());
    // The next snapshot reads the backend's own files again, and takes none from the folder.
    fs::write(world.data().join("storage/files/one.blob"), vec![8; 700_000]).unwrap();
    world.take("dev-2", 2000).unwrap();
    let target = world.folder.path().join("unpacked");
    world.store.unpack(&id("dev-2"), &target, &silent).unwrap();
    assert_eq!(fs::read(target.join("storage/files/one.blob")).unwrap(), vec![8; 700_000]);
}

#[test]
fn a_hostile_folder_is_refused_and_leaves_nothing() {
    type Change = (&'static str, fn(&mut serde_json::Value), fn(&mut Vec<String>));
    let world = World::new();
    world.take("dev-1", 1000).unwrap();
    let keep = |_: &mut serde_json::Value| {};
    let changes: [Change; 9] = [
        ("outside of the data", keep, |lines| lines[1] = lines[1].replace("storage/files/", "storage/../../")),
        ("outside of the data", keep, |lines| lines[1] = lines[1].replace("storage/files/", "/etc/")),
        ("twice", keep, |lines| lines.push(lines[1].clone())),
        ("more in it", keep, |lines| lines.push(lines[1].replace("storage/files/", "storage/files/more-"))),
        // One chunk named a thousand times.
        ("is not what it was", keep, |lines| {
            let mut line: serde_json::Value = serde_json::from_str(&lines[2]).unwrap();
            let first = line["chunks"][0].clone();
            line["chunks"] = vec![first; 1000].into();
            lines[2] = line.to_string();
        }),
        ("more in it", keep, |lines| {
            let mut line: serde_json::Value = serde_json::from_str(&lines[2]).unwrap();
            line["bytes"] = u64::MAX.into();
            lines[2] = line.to_string();
        }),
        ("what its manifest says", |manifest| manifest["content"]["files"] = u64::MAX.into(), |_| {}),
        ("what its manifest says", keep, |lines| drop(lines.remove(0))),
        ("none of one line", |manifest| manifest["note"] = "a\nsnapshot `prod` is whole".into(), |_| {}),
    ];
    let folders: Vec<_> = changes
        .iter()
        .enumerate()
        .map(|(number, (_, change, list))| forged(&world, &format!("forged-{number}"), *change, *list))
        .collect();
    world.store.delete(&id("dev-1")).unwrap();
    for ((what, ..), folder) in changes.iter().zip(folders) {
        let refused = world.store.import(folder, &silent).unwrap_err();
        assert!(matches!(&refused, SnapshotError::Damaged { .. }) && refused.to_string().contains(what), "{what}: {refused}");
        assert_eq!((world.store.ids().unwrap().len(), world.chunks().len()), (0, 0), "{what}");
    }
    // A folder of links leads to nothing that a chunk would be.
    world.take("dev-1", 1000).unwrap();
    let out = forged(&world, "links", |_| {}, |_| {});
    for group in fs::read_dir(out.join("chunks")).unwrap() {
        for chunk in fs::read_dir(group.unwrap().path()).unwrap() {
            let chunk = chunk.unwrap().path();
            fs::remove_file(&chunk).unwrap();
            std::os::unix::fs::symlink("/dev/zero", &chunk).unwrap();
        }
    }
    world.store.delete(&id("dev-1")).unwrap();
    world.store.import(out, &silent).unwrap_err();
    assert_eq!(world.store.ids().unwrap().len(), 0);
}

#[test]
fn the_size_of_data_counts_what_is_written_beside_the_database() {
    let data = tempfile::tempdir().unwrap();
    assert_eq!(super::measure(data.path()), None, "there is no database");
    fs::create_dir_all(data.path().join("storage/files")).unwrap();
    for (name, bytes) in [("db.sqlite3", 10), ("db.sqlite3-wal", 5), ("db.sqlite3-shm", 100), ("storage/files/a.blob", 3)] {
        fs::write(data.path().join(name), vec![0; bytes]).unwrap();
    }
    let size = super::measure(data.path()).unwrap();
    assert_eq!((size.database_bytes, size.files, size.file_bytes), (15, 1, 3));
}
