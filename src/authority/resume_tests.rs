//! Operations that go on without their client: resumed from every step, superseded, read in spite of bad rows.

use std::collections::{BTreeMap, BTreeSet};

use super::tests::{NOW, World, alive, holder, me, name, project, put, refusal_code, simulated, world};
use super::*;
use crate::api::{Lease, OperationOutcome, OperationRequest, ResourceLevel, Work};
use crate::model::{
    BackendSpec, DatabaseReclaim, DowngradeConsent, FieldPath, MoveConsent, ProviderKind, ProviderState, Secret, SecretRef,
    SecretSource, StepKey, Timestamp, VolumeReclaim,
};
use crate::store::Durability;

impl World {
    pub(super) fn record(&self, step: &str) -> crate::model::OperationRecord {
        let operations = self.authority.operations(&project(), 1000).unwrap();
        operations.into_iter().find(|operation| operation.step == StepKey::parse(step)).unwrap()
    }

    fn begin(&self, lease: &Lease, step: &str, backend: &str, work: Work) -> (Operation, Transition) {
        let request = OperationRequest { step: StepKey::parse(step), backend: name(backend), work, origin: None };
        let (operation, next) =
            self.authority.accept(lease, ExecutionMode::ControlPlane, Principal::Trusted(&me()), &request, NOW).unwrap();
        (operation.unwrap(), next)
    }

    pub(super) fn resumed(&self) -> Vec<(Operation, Transition)> {
        let resumed = self.authority.resume(&BTreeSet::new(), NOW).unwrap();
        assert!(resumed.failed.is_empty(), "{:?}", resumed.failed);
        resumed.resumed.into_iter().map(|(_, operation, next)| (operation, next)).collect()
    }

    pub(super) fn expire(&self, backend: &str, now: Timestamp) -> Option<(Option<Operation>, Transition)> {
        self.authority.expire(&project(), &name(backend), &holder(1), now).unwrap()
    }

    /// Begins a removal that is due, and has it fail.
    pub(super) fn fail_to_expire(&self, backend: &str, now: Timestamp) {
        let (operation, next) = self.expire(backend, now).expect("it is due");
        assert!(matches!(next, Transition::Perform(Effect::Remove(_))), "{next:?}");
        let finding = crate::model::Diagnostic::new("test.obstacle", "something is in the way");
        let end = EffectResult::Failed(EffectFailure { finding, conflict: None });
        let next = self.authority.advance(&mut operation.unwrap(), end, now).unwrap();
        assert!(matches!(next, Transition::Ended(OperationOutcome::Failed { .. })), "{next:?}");
    }

    pub(super) fn through(&self, operation: &mut Operation, mut next: Transition) -> OperationOutcome {
        loop {
            let end = match next {
                Transition::Ended(outcome) => return outcome,
                Transition::Perform(Effect::Ensure(_)) => EffectResult::Ensured(ProviderState::new()),
                Transition::Perform(Effect::AwaitReady(_)) => EffectResult::Ready,
                Transition::Perform(Effect::SetEnvironment(..)) => EffectResult::EnvironmentSet,
                Transition::Perform(Effect::Stop(_)) => EffectResult::Stopped,
                Transition::Perform(Effect::SetAside(_)) => EffectResult::SetAside,
                Transition::Perform(Effect::Remove(_)) => EffectResult::Removed(None),
                Transition::Perform(Effect::PrepareStorage(_)) => EffectResult::StoragePrepared,
                Transition::Perform(Effect::ReleaseStorage(..)) => {
                    EffectResult::StorageReleased(crate::authority::DatabaseState::Present)
                }
                Transition::Perform(other) => panic!("{other:?} is tested in `data_tests`"),
            };
            next = self.authority.advance(operation, end, NOW).unwrap();
        }
    }
}

#[test]
fn an_operation_of_the_control_plane_continues_without_its_lease() {
    let world = world();
    let lease = world.lease();
    let (mut operation, next) = world.begin(&lease, "plan/create", "dev", put(simulated()));
    world.authority.release(&lease, NOW).unwrap();
    world.authority.acquire(&project(), &holder(7), NOW, alive).unwrap();
    assert!(matches!(world.through(&mut operation, next), OperationOutcome::Done { .. }));
    assert!(world.resumed().is_empty());
    let record = world.record("plan/create");
    assert_eq!((record.state, record.actor), (crate::model::OperationState::Done, me()));
}

#[test]
fn an_interrupted_operation_is_resumed_from_every_step() {
    // After acceptance, after each effect, and twice in a row.
    for effects in 0..3 {
        let world = world();
        let lease = world.lease();
        let mut spec = simulated();
        spec.env.insert("A".into(), SecretSource::Literal("b".into()));
        let secrets = BTreeMap::from([(FieldPath::new("env.A"), Secret::new("b"))]);
        let work = Work::Put {
            spec: Box::new(spec),
            secrets,
            renamed_from: None,
            downgrade: DowngradeConsent::Missing,
            moves: MoveConsent::Missing,
        };
        let (mut operation, mut next) = world.begin(&lease, "plan/create", "dev", work);
        for _ in 0..effects {
            let end = match next {
                Transition::Perform(Effect::Ensure(_)) => EffectResult::Ensured(ProviderState::new()),
                Transition::Perform(Effect::AwaitReady(_)) => EffectResult::Ready,
                other => panic!("{other:?}"),
            };
            next = world.authority.advance(&mut operation, end, NOW).unwrap();
        }
        let running = BTreeSet::from([operation.id().clone()]);
        assert!(world.authority.resume(&running, NOW).unwrap().resumed.is_empty(), "what runs is let be");
        drop(operation);
        world.resumed();
        let mut resumed = world.resumed();
        assert_eq!(resumed.len(), 1);
        let (mut operation, next) = resumed.remove(0);
        assert!(matches!(&next, Transition::Perform(Effect::Ensure(_))), "{next:?}");
        assert!(matches!(world.through(&mut operation, next), OperationOutcome::Done { .. }));
        assert!(world.resumed().is_empty());
        assert!(world.authority.check_history(&ResourceLevel::Project(project()), None).unwrap().breaks.is_empty());
    }
}

#[test]
fn an_interrupted_replacement_is_resumed_with_its_spec_and_secrets() {
    let world = world();
    let lease = world.lease();
    world.begin(&lease, "plan/first", "dev", put(BackendSpec::new(ProviderKind::Local)));
    let mut spec = simulated();
    spec.env.insert("TOKEN".into(), SecretSource::Reference(SecretRef::Env("TOKEN".into())));
    let secrets = BTreeMap::from([(FieldPath::new("env.TOKEN"), Secret::new("hunter2-hunter2"))]);
    let work = Work::Put {
        spec: Box::new(spec),
        secrets,
        renamed_from: None,
        downgrade: DowngradeConsent::Missing,
        moves: MoveConsent::Missing,
    };
    let (_, next) = world.begin(&lease, "plan/second", "dev", work);
    assert!(matches!(&next, Transition::Perform(Effect::Remove(_))), "another provider: what is there goes first; {next:?}");
    let bytes = std::fs::read(world.folder.path().join("store.sqlite3-wal")).unwrap();
    assert!(!bytes.windows(15).any(|window| window == b"hunter2-hunter2"), "what is pending is sealed");

    let mut resumed = world.resumed();
    let (mut operation, next) = resumed.remove(0);
    assert!(resumed.is_empty(), "the first one was superseded");
    assert!(matches!(&next, Transition::Perform(Effect::Remove(_))), "{next:?}");
    assert!(matches!(world.through(&mut operation, next), OperationOutcome::Done { .. }));
    let place = world.authority.resolve_backend(&project(), &name("dev")).unwrap();
    assert_eq!(place.spec.provider, ProviderKind::Simulated);
    assert_eq!(place.secrets[&FieldPath::new("env.TOKEN")].expose(), "hunter2-hunter2");
}

#[test]
fn a_later_request_supersedes_an_abandoned_one() {
    let world = world();
    let lease = world.lease();
    let (mut left, _) = world.begin(&lease, "plan-1/create", "dev", put(simulated()));
    let (mut later, next) = world.begin(&lease, "plan-2/create", "dev", put(simulated()));
    let late = world.authority.advance(&mut left, EffectResult::Ensured(ProviderState::new()), NOW);
    assert!(matches!(late, Err(AuthorityError::Control(ControlError::LeaseLost { .. }))), "{late:?}");
    assert!(matches!(world.through(&mut later, next), OperationOutcome::Done { .. }));
    let first = world.record("plan-1/create");
    assert_eq!(first.error.map(|finding| finding.code).as_deref(), Some("control.superseded"));
}

#[test]
fn an_interrupted_removal_is_finished() {
    let world = world();
    let lease = world.lease();
    world.bring_up(&lease, "dev", put(simulated()));
    world.begin(
        &lease,
        "plan/remove",
        "dev",
        Work::Remove { volume: VolumeReclaim::Delete, database: DatabaseReclaim::Retain, final_snapshot: false },
    );
    let (mut operation, next) = world.resumed().remove(0);
    assert!(matches!(&next, Transition::Perform(Effect::Remove(_))), "{next:?}");
    assert!(matches!(world.through(&mut operation, next), OperationOutcome::Done { .. }));
    assert!(world.authority.view(&project()).unwrap().backends.is_empty());
    assert!(world.resumed().is_empty());
}

#[test]
fn notices_are_numbered_and_pruned_after_their_operation_ended() {
    let world = world();
    let lease = world.lease();
    let (mut operation, next) = world.begin(&lease, "plan/create", "dev", put(simulated()));
    let id = operation.id().clone();
    assert_eq!(world.authority.append_notice(&id, "one").unwrap(), 1);
    assert_eq!(world.authority.append_notice(&id, "two").unwrap(), 2);
    assert_eq!(world.authority.notices(&id, 1).unwrap(), [(2, "two".to_owned())]);
    assert!(world.authority.notices(&id, u64::MAX).unwrap().is_empty());
    world.authority.prune_notices(NOW.plus_milliseconds(1)).unwrap();
    assert_eq!(world.authority.notices(&id, 0).unwrap().len(), 2, "it has not ended");
    world.through(&mut operation, next);
    world.authority.prune_notices(NOW.plus_milliseconds(1)).unwrap();
    assert!(world.authority.notices(&id, 0).unwrap().is_empty());
}

#[test]
fn an_unreadable_operation_does_not_block_the_others() {
    let world = world();
    let lease = world.lease();
    world.begin(&lease, "plan/one", "one", put(simulated()));
    world.begin(&lease, "plan/two", "two", put(simulated()));
    world
        .authority
        .store
        .write(Durability::NoFsync, |rows| {
            let mut row = rows.backend(&project(), &name("one")).unwrap().unwrap();
            row.sealed = vec![0];
            rows.put_backend(&row)
        })
        .unwrap();
    let Resumption { resumed, failed, .. } = world.authority.resume(&BTreeSet::new(), NOW).unwrap();
    assert_eq!(resumed.into_iter().map(|(place, ..)| place).collect::<Vec<_>>(), [(project(), name("two"))]);
    let failed: Vec<_> =
        failed.into_iter().map(|(place, error)| (place, refusal_code(ControlError::from(error).into()))).collect();
    assert_eq!(failed, [((project(), name("one")), "store.sealed".to_owned())]);
}
