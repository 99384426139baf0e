//! The mark of a home: under another key, damaged, and taken away.

use rstest::rstest;

use super::tests::{NOW, World, name, project, put, simulated, world};
use super::token_tests::token_for;
use super::*;
use crate::api::ResourceLevel;
use crate::model::Scope;
use crate::store::SqliteStore;

/// Returns the authority of a process that opens the same home with a master key.
fn opened(world: &World, key: u8) -> Authority<SqliteStore> {
    let store = SqliteStore::open(&world.folder.path().join("store.sqlite3")).unwrap();
    Authority::new(store, Vault::new(MasterKey::new([key; 32])), |bytes| getrandom::fill(bytes).map_err(|_| EntropyError))
}

fn breaks(authority: &Authority<SqliteStore>) -> Vec<String> {
    authority.check_history(&ResourceLevel::Project(project()), None).unwrap().breaks
}

#[rstest]
#[case::another_text("UPDATE key_marks SET mark = 'nonsense'", true)]
#[case::no_text("UPDATE key_marks SET mark = ''", true)]
#[case::bytes_that_are_no_text("UPDATE key_marks SET mark = CAST(x'fffe' AS TEXT)", true)]
#[case::a_number_that_is_none("UPDATE key_marks SET mark = 'x', unbound = -1", false)]
#[case::nothing_but_a_number_that_is_none("UPDATE key_marks SET unbound = -1", false)]
#[case::a_seal_that_is_none("UPDATE key_marks SET mark = 'x', seal = CAST(x'ff' AS TEXT)", false)]
fn a_damaged_mark_is_told_from_another_key_and_named(#[case] damage: &str, #[case] history_holds: bool) {
    let world = world();
    let lease = world.lease();
    world.bring_up(&lease, "dev", put(simulated()));
    let issued = token_for(&world, Scope::Apply, None);
    world.execute_sql(damage);
    for authority in [opened(&world, 6), opened(&world, 7)] {
        let refused = [authority.check_key(), authority.record_key_check()];
        assert!(refused.iter().all(|it| matches!(it, Err(AuthorityError::Vault(VaultError::Locked)))), "{refused:?}");
    }
    let authority = opened(&world, 5);
    authority.check_key().unwrap();
    let named = authority.damaged_rows().unwrap();
    assert!(named.len() == 1 && named[0].table == "key_marks", "{named:?}");
    assert_eq!(breaks(&authority).is_empty(), history_holds, "a look at it makes nothing good");
    authority.record_key_check().unwrap();
    assert_eq!(authority.damaged_rows().unwrap().is_empty(), history_holds);
    assert_eq!(breaks(&authority).is_empty(), history_holds, "what bound the history is not made up");
    authority.credentials(&project(), &name("dev"), None).unwrap();
    authority.authenticate(&issued.token, NOW).unwrap();
    opened(&world, 6).check_key().unwrap_err();
}

#[rstest]
#[case::removed("DELETE FROM key_marks")]
#[case::damaged("UPDATE key_marks SET mark = 'x'")]
#[case::removed_with_the_ends_of_histories("DELETE FROM key_marks; DELETE FROM chains")]
fn a_token_that_no_key_bound_is_not_believed_for_want_of_a_mark(#[case] damage: &str) {
    let world = world();
    let own = token_for(&world, Scope::Operator, None);
    let stranger = token_for(&self::world(), Scope::Operator, None);
    // What is kept of a token can be made without the master key, but for what binds it.
    let hash = hex::encode(<sha2::Sha256 as sha2::Digest>::digest(stranger.token.expose()));
    world.execute_sql(&format!(
        "{damage}; INSERT INTO tokens (id, scope, note, hash, created_at) VALUES ('{}', '\"operator\"', '', x'{hash}', 1)",
        stranger.record.id
    ));
    let authority = opened(&world, 5);
    for open in [Authority::check_key, Authority::record_key_check, Authority::record_key_check] {
        open(&authority).unwrap();
        authority.authenticate(&own.token, NOW).unwrap();
        let refused = authority.authenticate(&stranger.token, NOW).unwrap_err();
        assert!(refused.to_string().contains("does not know the token"), "{refused}");
    }
    let again = opened(&world, 5);
    again.authenticate(&own.token, NOW).unwrap();
    again.check_key().unwrap();
    again.authenticate(&stranger.token, NOW).unwrap_err();
}

#[test]
fn rows_that_cannot_be_read_are_named_and_leave_the_other_projects_alone() {
    let world = world();
    let lease = world.lease();
    world.bring_up(&lease, "dev", put(simulated()));
    world.execute_sql(
        "INSERT INTO projects (name, revision, created_at) VALUES ('No Name', 1, 1);
         INSERT INTO leases (project, fence, holder, renewed_at) VALUES ('No Name', 1, 'x', 1);
         INSERT INTO tokens (id, scope, note, hash, created_at) VALUES ('t', 'nonsense', '', x'00', 1);
         DELETE FROM key_marks; DELETE FROM chains",
    );
    let authority = opened(&world, 5);
    authority.record_key_check().unwrap();
    assert_eq!(authority.projects().unwrap(), [project()]);
    let tables: Vec<_> = authority.damaged_rows().unwrap().into_iter().map(|row| (row.table, row.key)).collect();
    let expected = [("projects", "No Name"), ("leases", "No Name"), ("tokens", "t"), ("key_marks", "mark")];
    assert_eq!(tables, expected.map(|(table, key)| (table, key.to_owned())));
    world.authority.renew(&lease, NOW).unwrap();
}
