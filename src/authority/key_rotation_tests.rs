//! Rotation of the master key: everything goes on under the new key, and nothing under the old one.

use std::collections::{BTreeMap, BTreeSet};

use super::tests::{NOW, World, me, name, project, put, refusal_code, simulated, world};
use super::*;
use crate::api::{ResourceLevel, Work};
use crate::model::{
    DatabaseReclaim, DowngradeConsent, FieldPath, MoveConsent, ProjectName, Scope, Secret, SecretRef, ServerStorage, Storage,
    TokenRequest, VolumeReclaim,
};
use crate::store::SqliteStore;

const URL: &str = "postgres://me:hunter2@db";

fn on_server() -> Work {
    let mut spec = simulated();
    let url = Some(SecretRef::Env("DATABASE".into()));
    spec.storage = Storage::Postgres(ServerStorage { url, ..ServerStorage::default() });
    let secrets = BTreeMap::from([(FieldPath::new("storage.url"), Secret::new(URL))]);
    let (downgrade, moves) = (DowngradeConsent::Missing, MoveConsent::Missing);
    Work::Put { spec: Box::new(spec), secrets, renamed_from: None, downgrade, moves }
}

/// The same rows as they are opened under a key.
fn opened(world: &World, byte: u8) -> Authority<SqliteStore> {
    let store = SqliteStore::open(&world.folder.path().join("store.sqlite3")).unwrap();
    Authority::new(store, Vault::new(MasterKey::new([byte; 32])), world.authority.entropy)
}

fn rotate(from: &Authority<SqliteStore>, byte: u8, with_snapshots: &[ProjectName]) -> Result<(), AuthorityError> {
    let with_snapshots: BTreeSet<_> = with_snapshots.iter().cloned().collect();
    from.rotate_master_key(MasterKey::new([byte; 32]), &with_snapshots, &me(), NOW)
}

fn verified(authority: &Authority<SqliteStore>, level: &ResourceLevel, noted: Option<&str>) -> Option<String> {
    let check = authority.check_history(level, noted).unwrap();
    assert_eq!(check.breaks, Vec::<String>::new(), "{level:?}");
    check.head
}

#[test]
fn everything_goes_on_under_the_new_key_and_nothing_under_the_old_one() {
    let world = world();
    let lease = world.lease();
    world.bring_up(&lease, "dev", on_server());
    world.bring_up(&lease, "left", on_server());
    let id_of = |authority: &Authority<SqliteStore>, wanted: &str| {
        let view = authority.view(&project()).unwrap();
        view.backends.into_iter().find(|backend| backend.name == name(wanted)).unwrap().id
    };
    let left = id_of(&world.authority, "left");
    world.bring_up(
        &lease,
        "left",
        Work::Remove { volume: VolumeReclaim::Retain, database: DatabaseReclaim::Retain, final_snapshot: false },
    );
    let request = TokenRequest { project: None, scope: Scope::Operator, note: "op".to_owned(), ttl: None };
    let token = world.authority.create_token(&request, &[], &me(), NOW).unwrap().token;
    let level = ResourceLevel::Project(project());
    let noted = verified(&world.authority, &level, None).unwrap();
    let before = world.authority.resolve_backend(&project(), &name("dev")).unwrap();
    let snapshots = world.authority.snapshot_key(&project()).unwrap();
    let other = ProjectName::parse("other").unwrap();

    rotate(&world.authority, 6, &[project()]).unwrap();
    assert!(matches!(opened(&world, 5).check_key(), Err(AuthorityError::Vault(VaultError::Locked))));
    let mut now = opened(&world, 6);
    // A second time, so that keys of two times are kept.
    for byte in [7, 8] {
        now.check_key().unwrap();
        let known = now.resolve_backend(&project(), &name("dev")).unwrap();
        assert_eq!(
            (&known.instance_secret, &known.admin_key, &known.secrets),
            (&before.instance_secret, &before.admin_key, &before.secrets)
        );
        let view = now.view(&project()).unwrap().backends.swap_remove(0);
        let key = now.vault().fingerprint_key(&project());
        assert_eq!(view.admin_key, Some(key.fingerprint(before.admin_key.expose())));
        assert_eq!(view.secrets[&FieldPath::new("storage.url")], key.fingerprint(URL));
        assert!(view.secrets.len() > 1, "which server it is on is known as well");
        now.authenticate(&token, NOW).unwrap();
        verified(&now, &level, Some(&noted));
        verified(&now, &ResourceLevel::ControlPlane, None);
        assert_eq!(now.snapshot_key(&project()).unwrap(), snapshots);
        assert_eq!(now.snapshot_key(&other).unwrap(), now.vault().snapshot_key(&other));
        rotate(&now, byte, &[project()]).unwrap();
        now = opened(&world, byte);
    }
    // Once the snapshots are gone, the next rotation gives their project a new key.
    rotate(&now, 9, &[]).unwrap();
    let world = World { authority: opened(&world, 9), folder: world.folder };
    assert_ne!(world.authority.snapshot_key(&project()).unwrap(), snapshots);
    // What a destroyed backend left is still known by its server, and the history goes on.
    let lease = world.lease();
    world.bring_up(&lease, "left", on_server());
    assert_eq!(id_of(&world.authority, "left"), left);
    verified(&world.authority, &level, Some(&noted));
}

#[test]
fn a_history_from_before_a_rotation_cannot_be_rewritten_with_the_old_key() {
    let world = world();
    let lease = world.lease();
    world.bring_up(&lease, "dev", put(simulated()));
    rotate(&world.authority, 6, &[]).unwrap();
    let rows = rusqlite::Connection::open(world.folder.path().join("store.sqlite3")).unwrap();
    rows.execute_batch("DROP TRIGGER events_are_not_changed; DROP TRIGGER events_are_not_removed;").unwrap();
    // The last entry with the hash that the old key gives it.
    let last = world.authority.store.read(|rows| rows.events_after(Some(&project()), None, 100)).unwrap().pop().unwrap();
    let link = last.link.clone().unwrap();
    let before: String = rows
        .query_row("SELECT hash FROM events WHERE project = 'gremlin' AND position = ?1", [link.position - 1], |row| row.get(0))
        .unwrap();
    let forged = crate::store::EventRow { detail: "nothing to see".to_owned(), ..last.clone() };
    let hash = world.authority.hash(&forged, link.position, &before).unwrap();
    rows.execute("UPDATE events SET detail = ?1, hash = ?2 WHERE sequence = ?3", (&forged.detail, &hash, last.sequence))
        .unwrap();
    rows.execute("UPDATE chains SET head = ?1 WHERE project = 'gremlin'", [&hash]).unwrap();
    let check = opened(&world, 6).check_history(&ResourceLevel::Project(project()), None).unwrap();
    assert_ne!(check.breaks, Vec::<String>::new());
}

#[test]
fn an_operation_that_is_open_keeps_the_key_from_being_rotated() {
    let world = world();
    let lease = world.lease();
    let _open = world.accept(&lease, "k", "dev", put(simulated())).unwrap();
    assert_eq!(refusal_code(rotate(&world.authority, 6, &[]).unwrap_err()), "key.operation_open");
    world.authority.check_key().unwrap();
}
