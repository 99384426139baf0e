//! A store that is damaged, a key that is missing, a lease that lies: said with what to do, and nothing is taken for gone.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stdout)]

use std::fs;

use super::bad_environment::{ONE, STORE, fails};
use fixture::ProjectFixture;

#[test]
fn a_store_that_is_no_store() {
    let world = ProjectFixture::new(ONE);
    world.apply();
    let store = world.home.join(STORE);
    let sound = fs::read(&store).unwrap();
    let verbs: [&[&str]; 5] = [&["plan"], &["status"], &["drift"], &["apply", "--yes"], &["destroy", "--allow-destroy", "dev"]];
    let mut torn = sound.clone();
    torn.truncate(sound.len() / 2);
    let mut wild = sound.clone();
    wild[4096..12288].fill(0x5a);
    for (content, codes) in [
        (vec![b'x'; 5000], &["store.damaged"][..]),
        (b"SQLite format 3\0 and then nothing of the kind".to_vec(), &["store.damaged"]),
        (torn, &["store.damaged"]),
        (wild, &["store.damaged"]),
    ] {
        fs::write(&store, &content).unwrap();
        for words in verbs {
            let run = world.run_expecting(1, &[words, &["--json"]].concat());
            assert!(run.errors().iter().all(|code| codes.contains(&code.as_str())), "{run}");
            assert!(run.out.contains("left as it is"), "{run}");
            assert!(fs::read(&store).unwrap() == content, "`{}` changed the store", words.join(" "));
        }
        // Not even a journal beside it, which would be taken for the restored file's.
        for suffix in ["-wal", "-shm", "-journal"] {
            let _ = fs::remove_file(world.home.join(format!("{STORE}{suffix}")));
        }
    }
    fs::write(&store, &sound).unwrap();
    world.assert_reachable(".env.local", "gremlin-dev");
    world.assert_converged();

    let connection = rusqlite::Connection::open(&store).unwrap();
    connection.pragma_update(None, "user_version", 99).unwrap();
    drop(connection);
    for words in verbs {
        fails(&world, 1, words, "store.newer");
    }
    let connection = rusqlite::Connection::open(&store).unwrap();
    connection.pragma_update(None, "user_version", 1).unwrap();
    connection.pragma_update(None, "application_id", 7).unwrap();
    drop(connection);
    for words in verbs {
        assert_eq!(world.run_expecting(1, &[words, &["--json"]].concat()).errors().len(), 1);
    }
    fs::write(&store, &sound).unwrap();
    world.assert_converged();
}

#[test]
fn a_row_that_cannot_be_read() {
    let world = ProjectFixture::new(ONE);
    world.apply();
    let connection = rusqlite::Connection::open(world.home.join(STORE)).unwrap();
    for (column, broken) in
        [("spec", "{"), ("phase", "\"odd\""), ("name", "Not A Name"), ("instance_name", ""), ("provider_references", "[]")]
    {
        let old: String = connection.query_row(&format!("SELECT {column} FROM backends"), [], |row| row.get(0)).unwrap();
        connection.execute(&format!("UPDATE backends SET {column} = ?1"), [broken]).unwrap();
        for words in [&["plan"][..], &["status"], &["apply", "--yes"], &["destroy", "--allow-destroy", "dev"]] {
            fails(&world, 1, words, "store.row");
        }
        connection.execute(&format!("UPDATE backends SET {column} = ?1"), [old]).unwrap();
    }
    drop(connection);
    world.assert_converged();
}

/// Writes a key that only its owner may read, as a home demands.
fn write_key(path: &std::path::Path, text: &str) {
    use std::os::unix::fs::PermissionsExt;
    fs::write(path, text).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
}

#[test]
fn a_master_key_that_is_missing_or_wrong() {
    let mut world = ProjectFixture::new(ONE);
    world.apply();
    let path = world.home.join("master.key");
    let key = fs::read_to_string(&path).unwrap();
    let verbs: [&[&str]; 4] = [&["plan"], &["status"], &["apply", "--yes"], &["env"]];
    for words in verbs {
        fs::remove_file(&path).unwrap();
        fails(&world, 1, words, "home.master_key_missing");
        assert!(!path.exists(), "a new key would make the old secrets unreadable for ever");
        write_key(&path, "not a key\n");
        fails(&world, 1, words, "home.master_key_shape");
        write_key(&path, &"5a".repeat(32));
        fails(&world, 1, words, "store.sealed");
        fs::remove_file(&path).unwrap();
        write_key(&path, &key);
    }
    world.set("CONVEXINFRA_MASTER_KEY", "short");
    fails(&world, 1, &["plan"], "home.master_key_shape");
    fs::remove_file(&path).unwrap();
    world.set("CONVEXINFRA_MASTER_KEY", key.trim());
    world.assert_reachable(".env.local", "gremlin-dev");
    world.assert_converged();
}

#[test]
fn a_lease_from_the_future_or_from_far_away() {
    let world = ProjectFixture::new(ONE);
    world.apply();
    let now = i64::try_from(std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_millis()).unwrap();
    let connection = rusqlite::Connection::open(world.home.join(STORE)).unwrap();
    let lease = |holder: &str, at: i64| {
        connection.execute("UPDATE leases SET holder = ?1, renewed_at = ?2", rusqlite::params![holder, at]).unwrap();
    };
    let elsewhere = r#"{"user":"ann","host":"another-machine","process":1,"process_start":"ticks 5","since":0}"#;
    // A holder on another machine, just now: wait for it.
    world.manifest(&format!("{ONE}ttl = \"7d\"\n"));
    lease(elsewhere, now);
    let run = fails(&world, 5, &["apply", "--yes"], "control.lease_held");
    assert!(run.out.contains("ann") && run.out.contains("another-machine"), "{run}");
    // A clock that went back by a year keeps no command waiting.
    lease(elsewhere, now + 365 * 24 * 3_600_000);
    world.apply();
    world.manifest(ONE);
    lease(elsewhere, now - 60_000);
    world.apply();
    world.manifest(&format!("{ONE}ttl = \"7d\"\n"));
    lease("not a holder", now);
    world.apply();
    drop(connection);
    world.assert_converged();
}
