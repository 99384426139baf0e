//! The authority over a real SQLite file, with effects answered by hand.

use std::collections::BTreeMap;

use super::*;
use crate::control::{Holder, LEASE_SECONDS, Lease, Outcome, Request, Work};
use crate::model::{
    Actor, BackendName, BackendSpec, FieldPath, Phase, ProjectName, ProviderKind, References, Secret, SecretRef, SecretSource,
    StepKey, Timestamp, VolumeDisposal,
};
use crate::store::SqliteStore;

struct World {
    authority: Authority<SqliteStore>,
    folder: tempfile::TempDir,
}

fn entropy(bytes: &mut [u8]) -> Result<(), EntropyError> {
    getrandom::fill(bytes).map_err(|_| EntropyError)
}

fn world() -> World {
    let folder = tempfile::tempdir().unwrap();
    let store = SqliteStore::open(&folder.path().join("store.sqlite3")).unwrap();
    World { authority: Authority::new(store, Vault::new(MasterKey::new([5; 32])), entropy), folder }
}

fn project() -> ProjectName {
    ProjectName::parse("gremlin").unwrap()
}

fn name(text: &str) -> BackendName {
    BackendName::parse(text).unwrap()
}

fn holder(process: u32) -> Holder {
    Holder { user: "me".into(), host: "here".into(), process, process_start: Some("1".into()), since: Timestamp(0) }
}

fn me() -> Actor {
    Actor { token: None, name: "me on here".into() }
}

const NOW: Timestamp = Timestamp(1_800_000_000_000);

fn alive(_: &Holder) -> Liveness {
    Liveness::Alive
}

impl World {
    fn lease(&self) -> Lease {
        self.authority.acquire(&project(), &holder(1), NOW, |_| Liveness::Dead).unwrap()
    }

    fn accept(&self, lease: &Lease, key: &str, backend: &str, work: Work) -> Result<(Option<Operation>, Next), AuthorityError> {
        self.authority.accept(
            lease,
            Driver::Holder,
            &me(),
            &Request { step: StepKey::parse(key), backend: name(backend), work },
            NOW,
        )
    }

    /// Carries an operation out with effects that all succeed, and returns the ports it ended with.
    fn bring_up(&self, lease: &Lease, backend: &str, work: Work) -> Outcome {
        let (mut operation, mut next) = self.accept(lease, &format!("key-{backend}-{}", now_key()), backend, work).unwrap();
        loop {
            let end = match next {
                Next::Ended(outcome) => return outcome,
                Next::Do(Effect::Ensure(_)) => EffectEnd::Ensured(References::new()),
                Next::Do(Effect::AwaitReady(_)) => EffectEnd::Ready,
                Next::Do(Effect::SetEnvironment(..)) => EffectEnd::EnvironmentSet,
                Next::Do(Effect::Remove(_)) => EffectEnd::Removed,
            };
            next = self.authority.advance(operation.as_mut().unwrap(), end, NOW).unwrap();
        }
    }
}

fn now_key() -> u64 {
    use std::sync::atomic::{AtomicU64, Ordering};
    static NEXT: AtomicU64 = AtomicU64::new(0);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

fn put(spec: BackendSpec) -> Work {
    Work::Put { spec: Box::new(spec), secrets: BTreeMap::new(), renamed_from: None }
}

fn simulated() -> BackendSpec {
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
    let unknown = |_: &Holder| Liveness::Unknown;
    world.authority.acquire(&project(), &holder(1), NOW, unknown).unwrap();
    let lease = i64::try_from(LEASE_SECONDS).unwrap() * 1000;
    assert!(world.authority.acquire(&project(), &holder(2), NOW.plus_milliseconds(lease), unknown).is_err());
    world.authority.acquire(&project(), &holder(2), NOW.plus_milliseconds(lease + 1), unknown).unwrap();
    let long_before = NOW.plus_milliseconds(-3_600_000);
    world.authority.acquire(&project(), &holder(3), long_before, unknown).unwrap();
}

#[test]
fn a_backend_gets_all_it_needs_once_and_keeps_it() {
    let world = world();
    let lease = world.lease();
    assert!(matches!(world.bring_up(&lease, "dev", put(simulated())), Outcome::Done { .. }));
    let first = world.authority.credentials(&project(), &name("dev")).unwrap();
    let mut changed = simulated();
    changed.tuning.max_concurrent_queries = Some(3);
    world.bring_up(&lease, "dev", put(changed));
    let second = world.authority.credentials(&project(), &name("dev")).unwrap();
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
    let request = Request { step: StepKey::parse("k"), backend: name("c"), work: put(simulated()) };
    let (_, next) = world.authority.accept(&other_lease, Driver::Holder, &me(), &request, NOW).unwrap();
    let Next::Do(Effect::Ensure(placement)) = next else { panic!("{next:?}") };
    assert_eq!(placement.instance_name.as_str(), "gremlin-b-c-2");
    let taken = world.authority.place_of(&project(), &name("b-c")).unwrap().ports;
    assert_ne!(placement.ports, taken);
}

#[test]
fn ports_of_strangers_are_passed_over_while_nobody_knows_them() {
    let world = world();
    let lease = world.lease();
    let (operation, next) = world.accept(&lease, "k", "dev", put(simulated())).unwrap();
    let Next::Do(Effect::Ensure(placement)) = next else { panic!("{next:?}") };
    let failure =
        EffectFailure { finding: Finding::new("provider.port_taken", "taken"), taken: Some(Taken::Port(placement.ports.api)) };
    let next = world.authority.advance(&mut operation.unwrap(), EffectEnd::Failed(failure), NOW).unwrap();
    let Next::Do(Effect::Ensure(again)) = next else { panic!("{next:?}") };
    assert_ne!(again.ports, placement.ports);
    assert_eq!(again.endpoints.url, format!("http://127.0.0.1:{}", again.ports.api));
}

#[test]
fn a_failure_is_on_record_and_the_next_attempt_goes_on() {
    let world = world();
    let lease = world.lease();
    let (operation, _) = world.accept(&lease, "k", "dev", put(simulated())).unwrap();
    let failure = EffectFailure { finding: Finding::new("provider.exited", "it stopped"), taken: None };
    let next = world.authority.advance(&mut operation.unwrap(), EffectEnd::Failed(failure), NOW).unwrap();
    assert!(matches!(next, Next::Ended(Outcome::Failed { .. })));
    let before = world.authority.place_of(&project(), &name("dev")).unwrap();
    assert_eq!(world.authority.view(&project()).unwrap().backends[0].phase, Phase::Creating);
    assert!(world.authority.credentials(&project(), &name("dev")).is_err());
    world.bring_up(&lease, "dev", put(simulated()));
    let after = world.authority.place_of(&project(), &name("dev")).unwrap();
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
    let (Next::Ended(first), Next::Ended(second)) = (first, second) else { panic!() };
    assert_eq!(first, second);
    assert_eq!(world.authority.view(&project()).unwrap().revision, crate::model::Revision(1));
}

#[test]
fn removal_is_finished_before_the_name_is_used_again() {
    let world = world();
    let lease = world.lease();
    world.bring_up(&lease, "dev", put(simulated()));
    let old = world.authority.place_of(&project(), &name("dev")).unwrap();
    world.accept(&lease, "cut-off", "dev", Work::Remove { volume: VolumeDisposal::Destroy }).unwrap();
    assert_eq!(world.authority.view(&project()).unwrap().backends[0].phase, Phase::Removing);
    let (_, next) = world.accept(&lease, "anew", "dev", put(simulated())).unwrap();
    assert!(matches!(&next, Next::Do(Effect::Remove(placement)) if placement.id == old.id), "{next:?}");
    world.bring_up(&lease, "dev", put(simulated()));
    assert_ne!(world.authority.place_of(&project(), &name("dev")).unwrap().id, old.id);
}

#[test]
fn a_protected_backend_is_not_removed_whatever_a_client_says() {
    let world = world();
    let lease = world.lease();
    let mut protected = simulated();
    protected.protected = true;
    world.bring_up(&lease, "dev", put(protected));
    assert!(matches!(
        world.accept(&lease, "k", "dev", Work::Remove { volume: VolumeDisposal::Destroy }),
        Err(AuthorityError::Control(ControlError::Refused(finding))) if finding.code == "control.protected"
    ));
    assert!(matches!(
        world.accept(&lease, "k2", "dev", put(BackendSpec::new(ProviderKind::Local))),
        Err(AuthorityError::Control(ControlError::Refused(finding))) if finding.code == "control.moves_data"
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
    world.bring_up(&lease, "dev", Work::Put { spec: Box::new(spec.clone()), secrets, renamed_from: None });
    world.bring_up(&lease, "dev", put(spec));
    assert_eq!(world.authority.place_of(&project(), &name("dev")).unwrap().secrets[&path].expose(), "hunter2-hunter2");

    let placement = world.authority.place_of(&project(), &name("dev")).unwrap();
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
    let old = world.authority.place_of(&project(), &name("dev")).unwrap();
    let work = Work::Put { spec: Box::new(simulated()), secrets: BTreeMap::new(), renamed_from: Some(name("dev")) };
    world.bring_up(&lease, "prod", work);
    let new = world.authority.place_of(&project(), &name("prod")).unwrap();
    assert_eq!((old.id, old.instance_name, old.admin_key), (new.id, new.instance_name, new.admin_key));
    assert!(world.authority.place_of(&project(), &name("dev")).is_err());
}

#[test]
fn a_backend_that_is_told_not_to_run_keeps_its_place_until_it_is_removed() {
    let world = world();
    let lease = world.lease();
    let mut silent = simulated();
    silent.settings.simulated.listen = false;
    // From a record to a process: nothing was there, so nothing can be missing.
    world.bring_up(&lease, "dev", put(silent.clone()));
    assert!(!world.authority.place_of(&project(), &name("dev")).unwrap().has_been_ready);
    world.bring_up(&lease, "dev", put(simulated()));
    let ports = world.authority.place_of(&project(), &name("dev")).unwrap().ports;
    // And back: the provider has to stop it, and its ports stay its own.
    let (operation, next) = world.accept(&lease, "stop", "dev", put(silent)).unwrap();
    assert!(matches!(&next, Next::Do(Effect::Ensure(placement)) if placement.ports == ports), "{next:?}");
    let ended = world.authority.advance(&mut operation.unwrap(), EffectEnd::Ensured(References::new()), NOW).unwrap();
    assert!(matches!(ended, Next::Ended(Outcome::Done { .. })));
    assert!(world.authority.view(&project()).unwrap().backends[0].endpoints.is_none());
    // Removing it still has something to remove.
    let (_, next) = world.accept(&lease, "gone", "dev", Work::Remove { volume: VolumeDisposal::Destroy }).unwrap();
    assert!(matches!(next, Next::Do(Effect::Remove(_))), "{next:?}");
}
