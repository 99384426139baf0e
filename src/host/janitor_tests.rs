//! The janitor: removals that fail are tried again, and hold nothing else up.

#![allow(clippy::unwrap_used, clippy::panic)]

use std::sync::atomic::Ordering;

use super::tests::{WORDS, host_fixture, name, project};

#[tokio::test]
async fn a_removal_that_fails_is_tried_again_later_and_said_in_the_log_without_its_words() {
    let fixture = host_fixture().with_backends(&["dev"]).await;
    assert_eq!(fixture.next_sweep(), Some(60));
    fixture.sweep().await.unwrap();
    assert_eq!(fixture.removals(), 0);
    fixture.pass(60);
    fixture.switches.in_the_way.store(true, Ordering::Relaxed);
    fixture.sweep().await.unwrap();
    assert_eq!((fixture.removals(), fixture.next_sweep()), (1, Some(5)));
    fixture.pass(4);
    fixture.sweep().await.unwrap();
    assert_eq!(fixture.removals(), 1);
    fixture.pass(1);
    fixture.sweep().await.unwrap();
    assert_eq!((fixture.removals(), fixture.next_sweep()), (2, Some(10)));
    fixture.switches.in_the_way.store(false, Ordering::Relaxed);
    fixture.pass(10);
    fixture.sweep().await.unwrap();
    assert_eq!((fixture.names(), fixture.next_sweep()), (Vec::new(), None));
    let log = fixture.log();
    let failed: Vec<_> = log.lines().filter(|line| line.contains("an operation failed")).collect();
    assert_eq!(failed.len(), 3, "the attempt to bring it up, and two to take it away: {log}");
    for line in failed {
        for part in ["WARN", "project=gremlin", "backend=dev", "operation=", "code=\"provider."] {
            assert!(line.contains(part), "{part} is not in {line}");
        }
    }
    assert!(!log.contains(WORDS), "{log}");
}

#[tokio::test]
async fn a_busy_backend_blocks_no_other_from_expiring() {
    let fixture = host_fixture().with_backends(&["a", "b"]).await;
    fixture.pass(60);
    let turn = fixture.host.registry.backend_lock(&(project(), name("a"))).lock_owned().await;
    fixture.sweep().await.unwrap();
    assert_eq!(fixture.names(), ["a"]);
    drop(turn);
    fixture.sweep().await.unwrap();
    assert!(fixture.names().is_empty());
}

#[tokio::test]
async fn a_removal_that_cannot_begin_blocks_no_other_and_is_logged_once() {
    let fixture = host_fixture().with_backends(&["a", "b"]).await;
    let store = rusqlite::Connection::open(fixture.folder.path().join("control-plane.sqlite3")).unwrap();
    store.execute("UPDATE backends SET sealed = x'00' WHERE name = 'a'", []).unwrap();
    drop(store);
    fixture.pass(60);
    for _ in 0..3 {
        let error = fixture.sweep().await.unwrap_err();
        assert_eq!(error.report().errors[0].code, "store.sealed");
    }
    assert_eq!(fixture.removals(), 1, "of the other one");
    assert_eq!(fixture.next_sweep(), Some(30), "there is no hurry");
    let log = fixture.log();
    let lines: Vec<_> = log.lines().filter(|line| line.contains("could not begin")).collect();
    let [line] = lines[..] else { panic!("{log}") };
    assert!(line.contains("backend=a") && line.contains("code=\"store.sealed\""), "{line}");
}
