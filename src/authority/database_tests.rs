//! Databases of backends on servers: made before them, and removed after them.

use std::collections::BTreeMap;

use super::tests::{NOW, name, project, simulated, world};
use super::*;
use crate::api::{ControlError, OperationOutcome, Work};
use crate::model::{
    BackendSpec, Certificates, DatabaseReclaim, DatabaseRole, DowngradeConsent, FieldPath, MoveConsent, Secret, SecretRef,
    ServerStorage, Storage, Tls, VolumeReclaim,
};
use crate::store::Durability;

/// A backend on a server, with the URL's value.
pub(super) fn on_server(url: &str, role: DatabaseRole) -> Work {
    let mut spec = simulated();
    let reference = Some(SecretRef::Env("DATABASE".into()));
    spec.storage = Storage::Postgres(ServerStorage { url: reference, role, ..ServerStorage::default() });
    let secrets = BTreeMap::from([(FieldPath::new("storage.url"), Secret::new(url))]);
    Work::Put {
        spec: Box::new(spec),
        secrets,
        renamed_from: None,
        downgrade: DowngradeConsent::Missing,
        moves: MoveConsent::Missing,
    }
}

#[test]
fn only_what_talks_to_a_server_carries_its_certificates() {
    let body = "A".repeat(64 << 10);
    let text = format!("-----BEGIN CERTIFICATE-----\n{body}\n-----END CERTIFICATE-----\n");
    let pem = Tls::Pem(Certificates::parse(&text).unwrap());
    let with = |tls: Tls| {
        let mut work = on_server("postgres://me@db", DatabaseRole::Url);
        if let Work::Put { spec, .. } = &mut work
            && let Storage::Postgres(server) = &mut spec.storage
        {
            server.tls = tls;
        }
        work
    };
    let world = world();
    let lease = world.lease();
    world.bring_up(&lease, "dev", with(pem.clone()));
    let tls = |spec: &BackendSpec| spec.storage.server().unwrap().tls.clone();
    let shown = || world.authority.view(&project()).unwrap().backends.swap_remove(0).recorded;
    let recorded = shown();
    assert!(serde_json::to_string(&recorded).unwrap().len() < 2000, "{recorded:?}");
    assert!(matches!(tls(&recorded), Tls::Sealed(_)), "{recorded:?}");
    let resolved = || world.authority.resolve_backend(&project(), &name("dev")).unwrap();
    assert_eq!(tls(&resolved().spec), pem);
    // What came from outside is the text, never the digest.
    match world.accept(&lease, "digest", "dev", with(tls(&recorded))) {
        Err(AuthorityError::Control(ControlError::Refused(finding))) => assert_eq!(finding.code, "control.certificate_path"),
        other => panic!("{:?}", other.map(drop)),
    }
    // A row from before has the text itself: it is used as it is, shown as a digest, and sealed with the next change.
    let row = || world.authority.store.read(|rows| rows.backend(&project(), &name("dev"))).unwrap().unwrap();
    let mut older = row();
    let mut secrets = world.authority.open_secrets(&older).unwrap();
    assert_eq!(secrets.remove("certificates").map(|text| text.expose().to_owned()), Some(text.clone()));
    older.sealed = world.authority.seal_for(&older, &secrets).unwrap();
    older.spec.storage.put_certificates(Certificates::parse(&text).unwrap());
    world.authority.store.write(Durability::NoFsync, |rows| rows.put_backend(&older)).unwrap();
    assert_eq!(tls(&row().spec), pem);
    assert_eq!((tls(&shown()), tls(&resolved().spec)), (tls(&recorded), pem.clone()));
    world.bring_up(&lease, "dev", with(pem.clone()));
    assert_eq!((tls(&row().spec), tls(&resolved().spec)), (tls(&recorded), pem));
    world.bring_up(&lease, "dev", with(Tls::Verify));
    assert_eq!(tls(&resolved().spec), Tls::Verify);
    assert!(!world.authority.open_secrets(&row()).unwrap().contains_key("certificates"));
}

#[test]
fn a_database_comes_before_its_backend_and_goes_after_it() {
    let world = world();
    let lease = world.lease();
    let (operation, next) = world.accept(&lease, "k", "dev", on_server("postgres://me@db", DatabaseRole::Url)).unwrap();
    assert!(matches!(next, Transition::Perform(Effect::PrepareStorage(_))), "{next:?}");
    let next = world.authority.advance(&mut operation.unwrap(), EffectResult::StoragePrepared, NOW).unwrap();
    assert!(matches!(next, Transition::Perform(Effect::Ensure(_))), "{next:?}");
    world.bring_up(&lease, "dev", on_server("postgres://me@db", DatabaseRole::Url));

    let remove = |database| Work::Remove { volume: VolumeReclaim::Delete, database, final_snapshot: false };
    let (_, next) = world.accept(&lease, "drop", "dev", remove(DatabaseReclaim::Delete)).unwrap();
    assert!(matches!(next, Transition::Perform(Effect::Remove(_))), "{next:?}");
    // It was cut off here. The next plan is told how it was begun, and resuming it goes on so.
    let begun = world.authority.view(&project()).unwrap().backends[0].removal.unwrap();
    assert_eq!(begun.database, DatabaseReclaim::Delete);
    let resumed = world.authority.resume(&std::collections::BTreeSet::new(), NOW).unwrap();
    let (_, mut operation, _) = resumed.resumed.into_iter().next().unwrap();
    let next = world.authority.advance(&mut operation, EffectResult::Removed(None), NOW).unwrap();
    assert!(matches!(next, Transition::Perform(Effect::ReleaseStorage(_, DatabaseReclaim::Delete))), "{next:?}");
    let next = world
        .authority
        .advance(&mut operation, EffectResult::StorageReleased(crate::authority::DatabaseState::Present), NOW)
        .unwrap();
    assert!(matches!(next, Transition::Ended(OperationOutcome::Done { .. })), "{next:?}");
    assert!(world.authority.view(&project()).unwrap().backends.is_empty());
}

#[test]
fn a_role_has_one_password_for_as_long_as_it_is_wanted() {
    let world = world();
    let lease = world.lease();
    let path = FieldPath::new(crate::convex::database_url::ROLE_PASSWORD);
    let password = || {
        let placement = world.authority.resolve_backend(&project(), &name("dev")).unwrap();
        placement.secrets.get(&path).map(|password| password.expose().to_owned())
    };
    world.bring_up(&lease, "dev", on_server("postgres://me:one@db", DatabaseRole::LeastPrivilege));
    let first = password().unwrap();
    assert_eq!(first.len(), 64);
    world.bring_up(&lease, "dev", on_server("postgres://me:two@db", DatabaseRole::LeastPrivilege));
    assert_eq!(password(), Some(first.clone()));
    assert!(!format!("{:?}", world.authority.view(&project()).unwrap()).contains(&first));
    world.bring_up(&lease, "dev", on_server("postgres://me:two@db", DatabaseRole::Url));
    assert_eq!(password(), None);
}

#[test]
fn a_record_from_before_servers_were_compared_knows_its_server() {
    let world = world();
    let lease = world.lease();
    let server = FieldPath::new("storage.server");
    let seen = || world.authority.view(&project()).unwrap().backends[0].secrets.clone();
    world.bring_up(&lease, "dev", on_server("postgres://me:one@db", DatabaseRole::Url));
    let first = seen();
    let forget = |rows: &dyn crate::store::Rows| {
        let mut row = rows.backend(&project(), &name("dev"))?.unwrap();
        row.fingerprints.remove(&server).unwrap();
        rows.put_backend(&row)
    };
    world.authority.store.write(crate::store::Durability::NoFsync, forget).unwrap();
    assert_eq!(seen(), first);
    world.bring_up(&lease, "dev", on_server("postgres://you:two@db:5432/", DatabaseRole::Url));
    assert_eq!(seen()[&server], first[&server]);
    assert_ne!(seen()[&FieldPath::new("storage.url")], first[&FieldPath::new("storage.url")]);
    let other = world.accept(&lease, "other", "dev", on_server("postgres://me:one@db:5433", DatabaseRole::Url)).unwrap_err();
    assert!(other.to_string().contains("`storage.server`"), "{other}");
}
