//! The authority over a real SQLite file, with effects answered by hand.

use std::collections::BTreeMap;

use super::*;
use crate::api::{LEASE_SECONDS, Lease, LeaseHolder, LeaseNonce, OperationOutcome, OperationRequest, Work};
use crate::model::{
    Actor, BackendName, BackendSpec, DatabaseReclaim, DowngradeConsent, FieldPath, MoveConsent, Phase, ProjectName,
    ProviderKind, ProviderState, Secret, SecretRef, SecretSource, StepKey, Timestamp, VolumeReclaim,
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
    Work::Put {
        spec: Box::new(spec),
        secrets: BTreeMap::new(),
        renamed_from: None,
        downgrade: DowngradeConsent::Missing,
        moves: MoveConsent::Missing,
    }
}

pub(super) fn simulated() -> BackendSpec {
    BackendSpec::new(ProviderKind::Simulated)
}

pub(super) fn refusal_code(error: AuthorityError) -> String {
    match error {
        AuthorityError::Control(error) => error.report().errors.swap_remove(0).code,
        other => panic!("{other:?}"),
    }
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
        Work::Put {
            spec: Box::new(spec.clone()),
            secrets,
            renamed_from: None,
            downgrade: DowngradeConsent::Missing,
            moves: MoveConsent::Missing,
        },
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
        moves: MoveConsent::Missing,
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
    Work::Remove { volume: VolumeReclaim::Delete, database: DatabaseReclaim::Retain, final_snapshot: false }
}
