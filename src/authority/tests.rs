//! The authority over a real SQLite file, with effects answered by hand.

use std::collections::BTreeMap;

use super::*;
use crate::api::{LEASE_SECONDS, Lease, LeaseHolder, LeaseNonce, OperationOutcome, OperationRequest, Work};
use crate::model::{
    Actor, BackendName, BackendSpec, DatabaseReclaim, DatabaseRole, DowngradeConsent, FieldPath, Phase, ProjectName,
    ProviderKind, ProviderState, Secret, SecretRef, SecretSource, ServerStorage, StepKey, Storage, Timestamp, VolumeReclaim,
};
use crate::store::SqliteStore;

pub(super) struct World {
    pub(super) authority: Authority<SqliteStore>,
    pub(super) folder: tempfile::TempDir,
}

fn entropy(bytes: &mut [u8]) -> Result<(), EntropyError> {
    getrandom::fill(bytes).map_err(|_| EntropyError)
}

pub(super) fn world() -> World {
    let folder = tempfile::tempdir().unwrap();
    let store = SqliteStore::open(&folder.path().join("store.sqlite3")).unwrap();
    let authority = Authority::new(store, Vault::new(MasterKey::new([5; 32])), entropy);
    authority.record_key_check().unwrap();
    World { authority, folder }
}

pub(super) fn project() -> ProjectName {
    ProjectName::parse("gremlin").unwrap()
}

pub(super) fn name(text: &str) -> BackendName {
    BackendName::parse(text).unwrap()
}

pub(super) fn holder(process: u32) -> LeaseHolder {
    LeaseHolder {
        user: "me".into(),
        host: "here".into(),
        process,
        process_start: Some("1".into()),
        since: Timestamp(0),
        nonce: None,
    }
}

pub(super) fn me() -> Actor {
    Actor { token: None, name: "me on here".into() }
}

pub(super) const NOW: Timestamp = Timestamp(1_800_000_000_000);

pub(super) fn alive(_: &LeaseHolder) -> Liveness {
    Liveness::Alive
}

impl World {
    pub(super) fn lease(&self) -> Lease {
        self.authority.acquire(&project(), &holder(1), NOW, |_| Liveness::Dead).unwrap()
    }

    pub(super) fn accept(
        &self,
        lease: &Lease,
        key: &str,
        backend: &str,
        work: Work,
    ) -> Result<(Option<Operation>, Transition), AuthorityError> {
        self.authority.accept(
            lease,
            ExecutionMode::LeaseHolder,
            Principal::Trusted(&me()),
            &OperationRequest { step: StepKey::parse(key), backend: name(backend), work, origin: None },
            NOW,
        )
    }

    /// Carries an operation out with effects that all succeed, and returns the ports it ended with.
    pub(super) fn bring_up(&self, lease: &Lease, backend: &str, work: Work) -> OperationOutcome {
        let (mut operation, mut next) = self.accept(lease, &format!("plan/{backend}-{}", now_key()), backend, work).unwrap();
        loop {
            let end = match next {
                Transition::Ended(outcome) => return outcome,
                Transition::Perform(Effect::PrepareStorage(_)) => EffectResult::StoragePrepared,
                Transition::Perform(Effect::ReleaseStorage(..)) => {
                    EffectResult::StorageReleased(crate::authority::DatabaseState::Present)
                }
                Transition::Perform(Effect::Ensure(_)) => EffectResult::Ensured(ProviderState::new()),
                Transition::Perform(Effect::AwaitReady(_)) => EffectResult::Ready,
                Transition::Perform(Effect::SetEnvironment(..)) => EffectResult::EnvironmentSet,
                Transition::Perform(Effect::Stop(_)) => EffectResult::Stopped,
                Transition::Perform(Effect::SetAside(_)) => EffectResult::SetAside,
                Transition::Perform(Effect::Remove(_)) => EffectResult::Removed(None),
                Transition::Perform(other) => panic!("{other:?} is tested in `data_tests`"),
            };
            next = self.authority.advance(operation.as_mut().unwrap(), end, NOW).unwrap();
        }
    }
}

pub(super) fn now_key() -> u64 {
    use std::sync::atomic::{AtomicU64, Ordering};
    static NEXT: AtomicU64 = AtomicU64::new(0);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

pub(super) fn put(spec: BackendSpec) -> Work {
    Work::Put { spec: Box::new(spec), secrets: BTreeMap::new(), renamed_from: None, downgrade: DowngradeConsent::Missing }
}

pub(super) fn simulated() -> BackendSpec {
    BackendSpec::new(ProviderKind::Simulated)
}

#[test]
fn one_holder_at_a_time_and_the_dead_make_room() {
    let world = world();
    let first = world.authority.acquire(&project(), &holder(1), NOW, alive).unwrap();
    let refused = world.authority.acquire(&project(), &holder(2), NOW, alive).unwrap_err();
    assert!(matches!(refused, AuthorityError::Control(ControlError::LeaseHeld { holder, .. }) if holder.process == 1));
    let second = world.authority.acquire(&project(), &holder(2), NOW, |_| Liveness::Dead).unwrap();
    assert!(second.fence > first.fence);
    assert!(matches!(world.authority.renew(&first, NOW), Err(AuthorityError::Control(ControlError::LeaseLost { .. }))));
    assert!(matches!(
        world.accept(&first, "k", "dev", put(simulated())),
        Err(AuthorityError::Control(ControlError::LeaseLost { .. }))
    ));
    world.authority.release(&second, NOW).unwrap();
    world.authority.acquire(&project(), &holder(3), NOW, alive).unwrap();
}

#[test]
fn a_lease_from_elsewhere_runs_out_even_when_the_clock_goes_backwards() {
    let world = world();
    let unknown = |_: &LeaseHolder| Liveness::Unknown;
    world.authority.acquire(&project(), &holder(1), NOW, unknown).unwrap();
    let lease = i64::try_from(LEASE_SECONDS).unwrap() * 1000;
    assert!(world.authority.acquire(&project(), &holder(2), NOW.plus_milliseconds(lease), unknown).is_err());
    world.authority.acquire(&project(), &holder(2), NOW.plus_milliseconds(lease + 1), unknown).unwrap();
    let long_before = NOW.plus_milliseconds(-3_600_000);
    world.authority.acquire(&project(), &holder(3), long_before, unknown).unwrap();
}

#[test]
fn a_repeated_attempt_acquires_the_same_lease() {
    let world = world();
    let with = |byte: u8| LeaseHolder { nonce: Some(LeaseNonce::new([byte; 16])), ..holder(1) };
    let first = world.authority.acquire(&project(), &with(1), NOW, alive).unwrap();
    assert_eq!(world.authority.acquire(&project(), &with(1), NOW, alive).unwrap(), first);
    world.authority.renew(&first, NOW).unwrap();
    // The same process with another nonce is another holder, and so is one without a nonce.
    assert!(world.authority.acquire(&project(), &with(2), NOW, alive).is_err());
    assert!(world.authority.acquire(&project(), &holder(1), NOW, alive).is_err());
    let shown = world.authority.holder(&project(), NOW, alive).unwrap().unwrap();
    assert!(!serde_json::to_string(&shown).unwrap().contains("0101"), "what it was asked for with is nobody else's");
    world.authority.release(&first, NOW).unwrap();
    // What arrives once more after it was given back is an echo.
    assert!(world.authority.acquire(&project(), &with(1), NOW, alive).is_err());
    assert!(world.authority.acquire(&project(), &with(2), NOW, alive).unwrap().fence > first.fence);
}

#[test]
fn a_backend_gets_all_it_needs_once_and_keeps_it() {
    let world = world();
    let lease = world.lease();
    assert!(matches!(world.bring_up(&lease, "dev", put(simulated())), OperationOutcome::Done { .. }));
    let first = world.authority.credentials(&project(), &name("dev"), None).unwrap();
    let mut changed = simulated();
    changed.tuning.max_concurrent_queries = Some(3);
    world.bring_up(&lease, "dev", put(changed));
    let second = world.authority.credentials(&project(), &name("dev"), None).unwrap();
    assert_eq!((first.url, first.admin_key), (second.url, second.admin_key.clone()));
    let view = world.authority.view(&project()).unwrap();
    assert_eq!(view.backends[0].phase, Phase::Ready);
    assert_eq!(
        view.backends[0].admin_key,
        Some(world.authority.vault().fingerprint_key(&project()).fingerprint(second.admin_key.expose()))
    );
}

#[test]
fn ports_and_instance_names_are_given_once() {
    let world = world();
    let lease = world.lease();
    world.bring_up(&lease, "b-c", put(simulated()));
    let other = ProjectName::parse("gremlin-b").unwrap();
    let other_lease = world.authority.acquire(&other, &holder(1), NOW, alive).unwrap();
    let request = OperationRequest { step: StepKey::parse("k"), backend: name("c"), work: put(simulated()), origin: None };
    let (_, next) =
        world.authority.accept(&other_lease, ExecutionMode::LeaseHolder, Principal::Trusted(&me()), &request, NOW).unwrap();
    let Transition::Perform(Effect::Ensure(placement)) = next else { panic!("{next:?}") };
    assert_eq!(placement.instance_name.as_str(), "gremlin-b-c-2");
    let taken = world.authority.resolve_backend(&project(), &name("b-c")).unwrap().ports;
    assert_ne!(placement.ports, taken);
}

#[test]
fn ports_of_unknown_processes_are_skipped() {
    let world = world();
    let lease = world.lease();
    let (operation, next) = world.accept(&lease, "k", "dev", put(simulated())).unwrap();
    let Transition::Perform(Effect::Ensure(placement)) = next else { panic!("{next:?}") };
    let failure = EffectFailure {
        finding: Diagnostic::new("provider.port_taken", "taken"),
        conflict: Some(AllocationConflict::Port(placement.ports.api)),
    };
    let next = world.authority.advance(&mut operation.unwrap(), EffectResult::Failed(failure), NOW).unwrap();
    let Transition::Perform(Effect::Ensure(again)) = next else { panic!("{next:?}") };
    assert_ne!(again.ports, placement.ports);
    assert_eq!(again.endpoints.url, format!("http://127.0.0.1:{}", again.ports.api));
}

#[test]
fn a_failure_is_on_record_and_the_next_attempt_goes_on() {
    let world = world();
    let lease = world.lease();
    let (operation, _) = world.accept(&lease, "k", "dev", put(simulated())).unwrap();
    let failure = EffectFailure { finding: Diagnostic::new("provider.exited", "it stopped"), conflict: None };
    let next = world.authority.advance(&mut operation.unwrap(), EffectResult::Failed(failure), NOW).unwrap();
    assert!(matches!(next, Transition::Ended(OperationOutcome::Failed { .. })));
    let before = world.authority.resolve_backend(&project(), &name("dev")).unwrap();
    assert_eq!(world.authority.view(&project()).unwrap().backends[0].phase, Phase::Creating);
    assert!(world.authority.credentials(&project(), &name("dev"), None).is_err());
    world.bring_up(&lease, "dev", put(simulated()));
    let after = world.authority.resolve_backend(&project(), &name("dev")).unwrap();
    assert_eq!((before.id, before.instance_secret), (after.id, after.instance_secret));
}

#[test]
fn asking_twice_with_one_key_is_one_piece_of_work() {
    let world = world();
    let lease = world.lease();
    let mut record = simulated();
    record.settings.simulated.listen = false;
    let (none, first) = world.accept(&lease, "same", "dev", put(record.clone())).unwrap();
    let (_, second) = world.accept(&lease, "same", "dev", put(record)).unwrap();
    assert!(none.is_none());
    let (Transition::Ended(first), Transition::Ended(second)) = (first, second) else { panic!() };
    assert_eq!(first, second);
    assert_eq!(world.authority.view(&project()).unwrap().revision, crate::model::Revision(1));
}

#[test]
fn removal_is_finished_before_the_name_is_used_again() {
    let world = world();
    let lease = world.lease();
    world.bring_up(&lease, "dev", put(simulated()));
    let old = world.authority.resolve_backend(&project(), &name("dev")).unwrap();
    world.accept(&lease, "cut-off", "dev", remove()).unwrap();
    assert_eq!(world.authority.view(&project()).unwrap().backends[0].phase, Phase::Removing);
    let (_, next) = world.accept(&lease, "anew", "dev", put(simulated())).unwrap();
    assert!(matches!(&next, Transition::Perform(Effect::Remove(placement)) if placement.id == old.id), "{next:?}");
    world.bring_up(&lease, "dev", put(simulated()));
    assert_ne!(world.authority.resolve_backend(&project(), &name("dev")).unwrap().id, old.id);
}

#[test]
fn a_protected_backend_is_not_removed_for_any_client() {
    let world = world();
    let lease = world.lease();
    let mut protected = simulated();
    protected.protected = true;
    world.bring_up(&lease, "dev", put(protected));
    assert!(matches!(
        world.accept(&lease, "k", "dev", remove()),
        Err(AuthorityError::Control(ControlError::Refused(finding))) if finding.code == "plan.protected"
    ));
    assert!(matches!(
        world.accept(&lease, "k2", "dev", put(BackendSpec::new(ProviderKind::Local))),
        Err(AuthorityError::Control(ControlError::Refused(finding))) if finding.code == "plan.moves_data"
    ));
    assert_eq!(world.authority.view(&project()).unwrap().backends[0].phase, Phase::Ready);
}

#[test]
fn secrets_are_kept_sealed_and_used_again_when_they_are_not_at_hand() {
    let world = world();
    let lease = world.lease();
    let mut spec = simulated();
    spec.env.insert("TOKEN".into(), SecretSource::Reference(SecretRef::Env("TOKEN".into())));
    let missing = world.accept(&lease, "k", "dev", put(spec.clone())).unwrap_err();
    assert!(
        matches!(missing, AuthorityError::Control(ControlError::Refused(finding)) if finding.code == "control.secret_missing")
    );
    let path = FieldPath::new("env.TOKEN");
    let secrets = BTreeMap::from([(path.clone(), Secret::new("hunter2-hunter2"))]);
    world.bring_up(
        &lease,
        "dev",
        Work::Put { spec: Box::new(spec.clone()), secrets, renamed_from: None, downgrade: DowngradeConsent::Missing },
    );
    world.bring_up(&lease, "dev", put(spec));
    assert_eq!(world.authority.resolve_backend(&project(), &name("dev")).unwrap().secrets[&path].expose(), "hunter2-hunter2");

    let placement = world.authority.resolve_backend(&project(), &name("dev")).unwrap();
    for entry in std::fs::read_dir(world.folder.path()).unwrap() {
        let bytes = std::fs::read(entry.unwrap().path()).unwrap();
        for secret in ["hunter2-hunter2", placement.instance_secret.expose(), placement.admin_key.expose()] {
            assert!(!bytes.windows(secret.len()).any(|window| window == secret.as_bytes()));
        }
    }
}

#[test]
fn a_rename_keeps_identity_and_instance_name() {
    let world = world();
    let lease = world.lease();
    world.bring_up(&lease, "dev", put(simulated()));
    let old = world.authority.resolve_backend(&project(), &name("dev")).unwrap();
    let work = Work::Put {
        spec: Box::new(simulated()),
        secrets: BTreeMap::new(),
        renamed_from: Some(name("dev")),
        downgrade: DowngradeConsent::Missing,
    };
    world.bring_up(&lease, "prod", work);
    let new = world.authority.resolve_backend(&project(), &name("prod")).unwrap();
    assert_eq!((old.id, old.instance_name, old.admin_key), (new.id, new.instance_name, new.admin_key));
    assert!(world.authority.resolve_backend(&project(), &name("dev")).is_err());
}

#[test]
fn a_stopped_backend_keeps_its_allocation_until_it_is_removed() {
    let world = world();
    let lease = world.lease();
    let mut silent = simulated();
    silent.settings.simulated.listen = false;
    // From a record to a process: nothing was there, so nothing can be missing.
    world.bring_up(&lease, "dev", put(silent.clone()));
    assert!(!world.authority.resolve_backend(&project(), &name("dev")).unwrap().has_been_ready);
    world.bring_up(&lease, "dev", put(simulated()));
    let ports = world.authority.resolve_backend(&project(), &name("dev")).unwrap().ports;
    // And back: the provider has to stop it, and its ports stay its own.
    let (operation, next) = world.accept(&lease, "stop", "dev", put(silent)).unwrap();
    assert!(matches!(&next, Transition::Perform(Effect::Ensure(placement)) if placement.ports == ports), "{next:?}");
    let ended = world.authority.advance(&mut operation.unwrap(), EffectResult::Ensured(ProviderState::new()), NOW).unwrap();
    assert!(matches!(ended, Transition::Ended(OperationOutcome::Done { .. })));
    assert!(world.authority.view(&project()).unwrap().backends[0].endpoints.is_none());
    // Removing it still has something to remove.
    let (_, next) = world.accept(&lease, "gone", "dev", remove()).unwrap();
    assert!(matches!(next, Transition::Perform(Effect::Remove(_))), "{next:?}");
}

/// Takes a backend away, volume and all; its database stays.
pub(super) fn remove() -> Work {
    Work::Remove { volume: VolumeReclaim::Delete, database: DatabaseReclaim::Retain }
}

/// A backend on a server, with the URL's value.
fn on_server(url: &str, role: DatabaseRole) -> Work {
    let mut spec = simulated();
    let reference = Some(SecretRef::Env("DATABASE".into()));
    spec.storage = Storage::Postgres(ServerStorage { url: reference, role, ..ServerStorage::default() });
    let secrets = BTreeMap::from([(FieldPath::new("storage.url"), Secret::new(url))]);
    Work::Put { spec: Box::new(spec), secrets, renamed_from: None, downgrade: DowngradeConsent::Missing }
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

    let remove = |database| Work::Remove { volume: VolumeReclaim::Delete, database };
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

fn fly() -> BackendSpec {
    let mut spec = BackendSpec::new(ProviderKind::Fly);
    spec.region = Some("iad".into());
    spec
}

fn placed(next: &Transition) -> crate::model::ResolvedBackend {
    match next {
        Transition::Perform(Effect::Ensure(placement)) => (**placement).clone(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn an_app_is_named_before_it_is_made_and_keeps_its_name() {
    let world = world();
    let lease = world.lease();
    let (operation, next) = world.accept(&lease, "k", "dev", put(fly())).unwrap();
    let placement = placed(&next);
    let app = placement.provider_state["app"].clone();
    assert!(app.starts_with("gremlin-dev-"), "{app}");
    assert_eq!(placement.endpoints.url, format!("https://{app}.fly.dev"));
    assert_eq!(placement.endpoints.site_url, format!("https://{app}.fly.dev/http"));
    assert_eq!((placement.ports.api, placement.provider_state["reach"].as_str()), (0, placement.endpoints.url.as_str()));
    // A command that was killed here finds the same name again.
    let (_, next) = world.accept(&lease, "k2", "dev", put(fly())).unwrap();
    assert_eq!(placed(&next).provider_state["app"], app);

    // Another organization has that name: another one is taken, as long as no client knows it.
    let failure =
        |taken| EffectResult::Failed(EffectFailure { finding: Diagnostic::new("fly.app_taken", "taken"), conflict: taken });
    let mut operation = operation.unwrap();
    let next = world.authority.advance(&mut operation, failure(Some(AllocationConflict::App)), NOW).unwrap();
    let other = placed(&next);
    assert_ne!(other.provider_state["app"], app);
    assert_eq!(other.endpoints.url, format!("https://{}.fly.dev", other.provider_state["app"]));
    let mut tries = 1;
    while let Transition::Perform(_) =
        world.authority.advance(&mut operation, failure(Some(AllocationConflict::App)), NOW).unwrap()
    {
        tries += 1;
        assert!(tries < 20, "it looks for names for ever");
    }
}

#[test]
fn own_origins_stand_before_the_apps() {
    let world = world();
    let lease = world.lease();
    let mut spec = fly();
    spec.origins.api = Some("https://api.gremlin.dev".into());
    spec.origins.site = Some("https://api.gremlin.dev/http".into());
    spec.settings.fly.app = Some("named".into());
    let (_, next) = world.accept(&lease, "k", "dev", put(spec)).unwrap();
    let placement = placed(&next);
    assert_eq!(placement.provider_state["app"], "named");
    assert_eq!(placement.provider_state["reach"], "https://named.fly.dev");
    assert_eq!(placement.endpoints.url, "https://api.gremlin.dev");
    assert_eq!(placement.endpoints.site_url, "https://api.gremlin.dev/http");
}

#[test]
fn a_quota_in_dollars_counts_what_machines_cost() {
    let world = world();
    let lease = world.lease();
    let quota = crate::model::Quota { monthly_usd: Some(10.0), ..crate::model::Quota::default() };
    world.authority.set_quota(&crate::api::ResourceLevel::Project(project()), &quota, &me(), NOW).unwrap();
    world.accept(&lease, "one", "one", put(fly())).unwrap();
    let refused = world.accept(&lease, "two", "two", put(fly())).unwrap_err();
    assert!(refused.to_string().contains("would cost $17.06 a month together, and its quota allows $10.00"), "{refused}");
    world.accept(&lease, "three", "three", put(simulated())).unwrap();
    world.accept(&lease, "four", "one", put(fly())).unwrap();
}

#[test]
fn a_removal_that_keeps_the_volume_is_finished_as_it_was_begun() {
    let world = world();
    let lease = world.lease();
    assert!(matches!(world.bring_up(&lease, "dev", put(fly())), OperationOutcome::Done { .. }));
    let keep = Work::Remove { volume: VolumeReclaim::Retain, database: DatabaseReclaim::Retain };
    let (_, next) = world.accept(&lease, "keep", "dev", keep).unwrap();
    let kept = |next: &Transition| match next {
        Transition::Perform(Effect::Remove(placement)) => volume_disposal(&placement.provider_state),
        other => panic!("{other:?}"),
    };
    assert_eq!(kept(&next), VolumeReclaim::Retain);
    // As the next server finds it after a crash.
    let resumed = world.authority.resume(&std::collections::BTreeSet::new(), NOW).unwrap();
    assert_eq!(kept(&resumed.resumed[0].2), VolumeReclaim::Retain);
    let begun = || world.authority.view(&project()).unwrap().backends[0].removal.map(|removal| removal.volume);
    assert_eq!(begun(), Some(VolumeReclaim::Retain));
    // It is declared again: what is there goes first, as it was begun.
    let (_, next) = world.accept(&lease, "again", "dev", put(fly())).unwrap();
    assert_eq!(kept(&next), VolumeReclaim::Retain);
    // A later request has another policy.
    let (_, next) = world.accept(&lease, "all", "dev", remove()).unwrap();
    assert_eq!((kept(&next), begun()), (VolumeReclaim::Delete, Some(VolumeReclaim::Delete)));
}

#[test]
fn a_first_attempt_in_an_app_that_was_named_is_replaced_without_its_data() {
    for (app, kept) in [(Some("named".to_owned()), VolumeReclaim::Retain), (None, VolumeReclaim::Delete)] {
        let world = world();
        let lease = world.lease();
        let mut first = fly();
        first.settings.fly.app = app;
        world.accept(&lease, "fly", "dev", put(first)).unwrap();
        // It was never ready, so another provider may take its place; but who knows what was in that app.
        let (operation, next) = world.accept(&lease, "here", "dev", put(simulated())).unwrap();
        let Transition::Perform(Effect::Remove(placement)) = next else { panic!("{next:?}") };
        assert_eq!(volume_disposal(&placement.provider_state), kept);
        let next = world.authority.advance(&mut operation.unwrap(), EffectResult::Removed(None), NOW).unwrap();
        assert!(!placed(&next).provider_state.contains_key("app"), "{next:?}");
    }
}
