//! The history: tampering shows, and old entries and operations are pruned.

use rstest::rstest;

use super::acceptance_tests::sized;
use super::tests::{NOW, World, me, project, put, simulated, world};
use super::*;
use crate::api::{HistoryPage, HistoryVerification, Lease, ResourceLevel};
use crate::model::{Cpus, ProjectName, Quota};
use crate::store::Durability;

#[rstest]
#[case::another_detail("UPDATE events SET detail = 'nothing to see' WHERE sequence = 2")]
#[case::another_actor("UPDATE events SET actor = replace(actor, 'on here', 'on there') WHERE sequence = 3")]
#[case::an_entry_removed("DELETE FROM events WHERE sequence = 2")]
#[case::the_last_entry_removed("DELETE FROM events WHERE sequence = (SELECT max(sequence) FROM events)")]
#[case::the_last_entry_removed_and_the_length_with_it(
    "DELETE FROM events WHERE sequence = (SELECT max(sequence) FROM events); UPDATE chains SET length = length - 1"
)]
#[case::another_time("UPDATE events SET at = at + 1 WHERE sequence = 1")]
#[case::the_head_set_back_without_the_key(
    "DELETE FROM events WHERE position > 1; UPDATE chains SET (length, head) = (SELECT position, hash FROM events) WHERE project = 'gremlin'"
)]
#[case::an_unchained_entry("INSERT INTO events (project, at, kind, detail) VALUES ('gremlin', 5, 'origin_set', '')")]
#[case::an_unchained_entry_before_all_others(
    "INSERT INTO events (sequence, project, at, kind, detail) VALUES (0, 'gremlin', 5, 'origin_set', '')"
)]
#[case::no_links("UPDATE events SET position = NULL, hash = NULL; DELETE FROM chains WHERE project = 'gremlin'")]
#[case::no_links_and_no_actors(
    "UPDATE events SET position = NULL, hash = NULL, actor = NULL, plan = NULL; DELETE FROM chains WHERE project = 'gremlin'"
)]
#[case::no_links_and_a_key_check_that_allows_it(
    "UPDATE events SET position = NULL, hash = NULL, actor = NULL, plan = NULL; DELETE FROM chains; UPDATE key_marks SET unbound = 99"
)]
#[case::no_links_and_no_key_check(
    "UPDATE events SET position = NULL, hash = NULL, actor = NULL, plan = NULL; DELETE FROM chains; DELETE FROM key_marks"
)]
#[case::no_entries("DELETE FROM events; DELETE FROM chains WHERE project = 'gremlin'")]
#[case::no_entries_and_no_key_check("DELETE FROM events; DELETE FROM chains; DELETE FROM key_marks")]
fn tampering_with_the_history_shows(#[case] statements: &str) {
    let (world, lease) = world_with_history();
    let rows = rusqlite::Connection::open(world.folder.path().join("store.sqlite3")).unwrap();
    if !statements.starts_with("INSERT") {
        let kept = rows.execute_batch(statements).unwrap_err();
        assert!(kept.to_string().contains("only ever appended"), "{kept}");
    }
    rows.execute_batch("DROP TRIGGER events_are_not_changed; DROP TRIGGER events_are_not_removed;").unwrap();
    rows.execute_batch(statements).unwrap();
    assert_ne!(breaks(&world, None), Vec::<String>::new());
    // Neither opening the home again nor going on with its work repairs it.
    world.authority.record_key_check().unwrap();
    world.bring_up(&lease, "c", put(sized(1.0, 1)));
    assert_ne!(breaks(&world, None), Vec::<String>::new());
}

#[test]
fn the_history_names_actor_and_plan_and_verifies() {
    let (world, lease) = world_with_history();
    let level = ResourceLevel::Project(project());
    let HistoryVerification { breaks, head, entries, unbound, noted, .. } =
        world.authority.check_history(&level, None).unwrap();
    assert!(breaks.is_empty(), "{breaks:?}");
    assert_eq!((unbound, noted), (0, None));
    let entry = world.authority.history(&level, HistoryPage::last(1)).unwrap().swap_remove(0);
    assert_eq!((entry.hash, entries), (head, 3));
    assert_eq!((entry.actor, entry.plan.as_deref()), (Some(me()), Some("plan")));
    world.authority.record_key_check().unwrap();
    world.bring_up(&lease, "c", put(sized(1.0, 1)));
    assert!(world.authority.check_history(&level, None).unwrap().breaks.is_empty());
}

#[test]
fn a_damaged_index_ends_a_verification_and_shows() {
    let (world, _) = world_with_history();
    let rows = rusqlite::Connection::open(world.folder.path().join("store.sqlite3")).unwrap();
    // An index whose keys are all after any that is asked for, as one flipped bit makes it: every page finds the first one.
    rows.execute_batch(
        "DROP INDEX events_by_project;
         CREATE INDEX events_by_project ON events (project, sequence + 1000000);
         PRAGMA writable_schema = ON;
         UPDATE sqlite_schema SET sql = 'CREATE INDEX events_by_project ON events (project, sequence)'
         WHERE name = 'events_by_project';",
    )
    .unwrap();
    let breaks = world.authority.check_history(&ResourceLevel::Project(project()), None).unwrap().breaks;
    assert!(breaks.iter().any(|text| text.contains("the index of the history is damaged")), "{breaks:?}");
}

/// A world with two backends and their entries.
fn world_with_history() -> (World, Lease) {
    let world = world();
    let lease = world.lease();
    world.bring_up(&lease, "a", put(sized(1.0, 1)));
    world.bring_up(&lease, "b", put(simulated()));
    (world, lease)
}

#[test]
fn the_beginning_of_a_long_history_is_pruned_and_the_rest_still_holds() {
    let world = world();
    let lease = world.lease();
    let reach = ResourceLevel::Project(project());
    for name in ["a", "b", "c", "d", "e"] {
        world.bring_up(&lease, name, put(sized(0.1, 1)));
    }
    let check = |noted: Option<&str>| world.authority.check_history(&reach, noted).unwrap();
    let numbers =
        |page| -> Vec<u64> { world.authority.history(&reach, page).unwrap().into_iter().map(|entry| entry.sequence).collect() };
    let hash = |number: u64| {
        let page = HistoryPage { limit: 1, before: Some(number + 1) };
        world.authority.history(&reach, page).unwrap().swap_remove(0).hash.unwrap()
    };
    let (first, second, third) = (hash(1), hash(2), hash(3));
    let path = world.folder.path().join("store.sqlite3");
    let rows = rusqlite::Connection::open(&path).unwrap();

    // One that was changed stays, because it is what shows that.
    rows.execute_batch("DROP TRIGGER events_are_not_changed").unwrap();
    rows.execute("UPDATE events SET detail = 'x' WHERE position = 1", []).unwrap();
    world.authority.prune_history(Some(&project()), 3).unwrap();
    assert_eq!(numbers(HistoryPage::last(9)), [1, 2, 3, 4, 5]);
    rows.execute("UPDATE events SET detail = '' WHERE position = 1", []).unwrap();
    assert_eq!(check(None).breaks, Vec::<String>::new());

    world.authority.prune_history(Some(&project()), 3).unwrap();
    assert_eq!(numbers(HistoryPage::last(9)), [3, 4, 5]);
    assert_eq!(numbers(HistoryPage { limit: 2, before: Some(5) }), [3, 4]);
    let after = check(Some(&third));
    assert_eq!((after.pruned, after.entries, after.noted, after.breaks), (2, 3, Some(3), Vec::new()));
    assert_eq!(check(Some(&second)).noted, Some(2), "what it ended with is still known");
    let gone = check(Some(&first)).breaks;
    assert!(gone.len() == 1 && gone[0].contains("one of the first 2 entries, which are not kept any more"), "{gone:?}");
    // It goes on, is pruned again, and nothing else may be deleted.
    world.bring_up(&lease, "f", put(sized(0.1, 1)));
    world.authority.prune_history(Some(&project()), 2).unwrap();
    assert_eq!((numbers(HistoryPage::last(9)), check(None).breaks), (vec![5, 6], Vec::new()));
    assert!(rows.execute("DELETE FROM events WHERE position = 5", []).is_err());
    // Nor is anything pruned by who has no key.
    rows.execute("UPDATE chains SET pruned = 5, pruned_head = head WHERE project = 'gremlin'", []).unwrap();
    rows.execute("DELETE FROM events WHERE position = 5", []).unwrap();
    assert!(!check(None).breaks.is_empty());
}

#[test]
fn operations_are_kept_for_a_time_and_not_without_end() {
    let world = world();
    let lease = world.lease();
    for number in 0..6 {
        world.bring_up(&lease, &format!("b{number}"), put(sized(0.1, 1)));
    }
    let count = || world.authority.operations(&project(), 100).unwrap().len();
    let prune = |before: i64, newest: u32, most: u32, most_before: i64| {
        let kept = crate::store::OperationRetention {
            before: NOW.plus_milliseconds(before),
            newest,
            most,
            most_before: NOW.plus_milliseconds(most_before),
        };
        world.authority.store.write(Durability::NoFsync, |rows| Ok::<_, AuthorityError>(rows.prune_operations(kept)?)).unwrap();
        count()
    };
    assert_eq!(prune(0, 0, 100, 0), 6, "they ended now");
    assert_eq!(prune(1, 5, 100, 0), 5, "old, but for the newest");
    assert_eq!(prune(0, 0, 3, 0), 5, "too many, and not a day old");
    assert_eq!(prune(0, 0, 3, 1), 3, "too many");
    let left: Vec<String> =
        world.authority.operations(&project(), 100).unwrap().iter().map(|operation| operation.backend.to_string()).collect();
    assert_eq!(left, ["b3", "b4", "b5"]);
    // Their numbers grow, and follow from the time.
    let ids: Vec<i64> = world
        .authority
        .operations(&project(), 100)
        .unwrap()
        .iter()
        .map(|operation| operation.id.as_str().parse().unwrap())
        .collect();
    assert!(ids.is_sorted() && ids[0] >= NOW.0 * 1000 && ids[2] < (NOW.0 + 10) * 1000, "{ids:?}");
}

#[test]
fn the_numbers_of_a_history_say_nothing_of_other_histories() {
    let world = world();
    let lease = world.lease();
    world.bring_up(&lease, "a", put(sized(0.1, 1)));
    let other = ResourceLevel::Project(ProjectName::parse("other").unwrap());
    for cpus in [1.0, 2.0, 3.0] {
        let quota = Quota { cpus: Cpus::from_cores(cpus), ..Quota::default() };
        world.authority.set_quota(&ResourceLevel::Project(project()), &quota, &me(), NOW).unwrap();
        world.authority.set_quota(&other, &quota, &me(), NOW).unwrap();
    }
    let numbers = |reach: &ResourceLevel, page| -> Vec<u64> {
        world.authority.history(reach, page).unwrap().into_iter().map(|entry| entry.sequence).collect()
    };
    assert_eq!(numbers(&other, HistoryPage::last(9)), [1, 2, 3]);
    // Cores, as they were typed.
    assert_eq!(world.authority.history(&other, HistoryPage::last(1)).unwrap()[0].detail, r#"{"cpus":3.0}"#);
    assert_eq!(numbers(&other, HistoryPage { limit: 1, before: Some(3) }), [2]);
    let own = numbers(&ResourceLevel::Project(project()), HistoryPage::last(9));
    assert_eq!(own, (1..=u64::try_from(own.len()).unwrap()).collect::<Vec<_>>());
    // Nor do what is wrong with one.
    let rows = rusqlite::Connection::open(world.folder.path().join("store.sqlite3")).unwrap();
    rows.execute_batch(
        "DROP TRIGGER events_are_not_changed; UPDATE events SET detail = 'x' WHERE project = 'other' AND position = 2",
    )
    .unwrap();
    let broken = world.authority.check_history(&other, None).unwrap().breaks;
    assert!(broken.len() == 1 && broken[0].starts_with("entry 2 is not as it was written"), "{broken:?}");
}

/// What `check_history` says of the project.
fn breaks(world: &World, noted: Option<&str>) -> Vec<String> {
    world.authority.check_history(&ResourceLevel::Project(project()), noted).unwrap().breaks
}

#[test]
fn an_expected_head_reveals_a_history_that_was_rolled_back() {
    let world = world();
    let lease = world.lease();
    world.bring_up(&lease, "a", put(sized(1.0, 1)));
    let path = world.folder.path().join("store.sqlite3");
    let rows = rusqlite::Connection::open(&path).unwrap();
    let chain = "SELECT length, head, seal FROM chains WHERE project = 'gremlin'";
    let as_once: (i64, String, String) = rows.query_row(chain, [], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?))).unwrap();
    world.bring_up(&lease, "b", put(sized(1.0, 1)));
    let checked = world.authority.check_history(&ResourceLevel::Project(project()), None).unwrap();
    let noted = checked.head.unwrap();
    let again = world.authority.check_history(&ResourceLevel::Project(project()), Some(&noted)).unwrap();
    assert_eq!((again.noted, again.breaks), (Some(checked.entries), Vec::new()));
    world.bring_up(&lease, "c", put(sized(1.0, 1)));
    assert_eq!(breaks(&world, Some(&noted)), Vec::<String>::new(), "what came later changes nothing");
    rows.execute_batch("DROP TRIGGER events_are_not_removed").unwrap();
    rows.execute("DELETE FROM events WHERE position > ?1", [as_once.0]).unwrap();
    rows.execute("UPDATE chains SET length = ?1, head = ?2, seal = ?3 WHERE project = 'gremlin'", as_once).unwrap();
    assert_eq!(breaks(&world, None), Vec::<String>::new());
    let broken = breaks(&world, Some(&noted));
    assert!(broken.len() == 1 && broken[0].contains("no entry has the hash that was noted"), "{broken:?}");
}

#[test]
fn a_home_without_sealed_heads_is_trusted_once() {
    let world = world();
    let lease = world.lease();
    world.bring_up(&lease, "a", put(sized(1.0, 1)));
    let path = world.folder.path().join("store.sqlite3");
    let rows = rusqlite::Connection::open(&path).unwrap();
    rows.execute(
        "UPDATE key_marks SET mark = ?1, unbound = NULL, seal = NULL",
        [world.authority.vault().legacy_key_check_value()],
    )
    .unwrap();
    // Before entries were bound at all, none named its principal.
    rows.execute_batch(
        "UPDATE chains SET seal = NULL; DELETE FROM chains WHERE project = '';
         INSERT INTO events (sequence, project, at, kind, detail) SELECT sequence + 9, project, at, kind, detail FROM events;
         DROP TRIGGER events_are_not_changed;
         UPDATE events SET sequence = -sequence; UPDATE events SET sequence = sequence + 20;",
    )
    .unwrap();
    let check = || world.authority.check_history(&ResourceLevel::Project(project()), None).unwrap();
    world.authority.check_key().unwrap();
    let before = check();
    assert_eq!((before.breaks.clone(), before.unbound, before.entries), (Vec::new(), 1, 1));
    world.authority.record_key_check().unwrap();
    assert_eq!(check(), before);
    world.bring_up(&lease, "b", put(sized(1.0, 1)));
    let after = check();
    assert_eq!((after.breaks, after.unbound, after.entries), (Vec::new(), 1, 2));
    assert_eq!(world.authority.check_history(&ResourceLevel::ControlPlane, None).unwrap().breaks, Vec::<String>::new());
    rows.execute("UPDATE chains SET seal = NULL", []).unwrap();
    assert_eq!(breaks(&world, None).len(), 1);
}
