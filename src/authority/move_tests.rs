//! Moves of rows as operations: the order of their steps, the record until their end, their resumption and the way back.

use std::collections::BTreeMap;

use super::step_tests::{code_of, failed};
use super::tests::{NOW, World, name, now_key, project, put, world};
use super::*;
use crate::api::{Lease, OperationOutcome, Work};
use crate::model::{
    BackendSpec, DowngradeConsent, FieldPath, MoveConsent, OperationStep, Phase, ProviderKind, ProviderState, STORAGE_URL,
    Secret, SecretRef, ServerStorage, Storage,
};

fn local() -> BackendSpec {
    BackendSpec::new(ProviderKind::Local)
}

fn moved(consent: MoveConsent) -> Work {
    let server = ServerStorage { url: Some(SecretRef::Env("U".into())), ..ServerStorage::default() };
    let spec = BackendSpec { storage: Storage::Postgres(server), ..local() };
    let secrets = BTreeMap::from([(FieldPath::new(STORAGE_URL), Secret::new("postgres://me:pw@db"))]);
    Work::Put { spec: Box::new(spec), secrets, renamed_from: None, downgrade: DowngradeConsent::Missing, moves: consent }
}

fn engine(world: &World) -> (&'static str, Phase) {
    let backend = world.authority.view(&project()).unwrap().backends.remove(0);
    (backend.recorded.storage.engine(), backend.phase)
}

fn answer(effect: &Effect) -> EffectResult {
    match effect {
        Effect::Move(part, _) => EffectResult::Moved(*part),
        Effect::PrepareStorage(_) => EffectResult::StoragePrepared,
        Effect::Ensure(_) => EffectResult::Ensured(ProviderState::new()),
        Effect::AwaitReady(_) => EffectResult::Ready,
        other => panic!("{other:?} is no effect of a move"),
    }
}

/// Performs an operation, whose steps fail once where they are named, and returns each with the engine that it was about.
fn perform(
    world: &World,
    (mut operation, mut next): (Operation, Transition),
    failing: Option<OperationStep>,
) -> (Vec<(OperationStep, &'static str)>, OperationOutcome) {
    let (mut steps, mut failing) = (Vec::new(), failing);
    loop {
        let effect = match next {
            Transition::Ended(outcome) => return (steps, outcome),
            Transition::Perform(effect) => effect,
        };
        let about = match &effect {
            Effect::Move(_, data) => {
                assert_eq!((data.source.spec.storage.engine(), data.target.spec.storage.engine()), ("sqlite", "postgres"));
                assert_eq!(data.target.secrets[&FieldPath::new(STORAGE_URL)].expose(), "postgres://me:pw@db");
                "both"
            }
            Effect::PrepareStorage(one) | Effect::Ensure(one) | Effect::AwaitReady(one) => one.spec.storage.engine(),
            other => panic!("{other:?}"),
        };
        let step = effect.step();
        steps.push((step, about));
        let end = if failing == Some(step) { failed("data.no_space") } else { answer(&effect) };
        failing = failing.filter(|failing| *failing != step);
        next = world.authority.advance(&mut operation, end, NOW).unwrap();
    }
}

fn began(world: &World, lease: &Lease, work: Work) -> (Operation, Transition) {
    world.started(lease, &format!("plan/{}", now_key()), work)
}

fn ready() -> (World, Lease) {
    let world = world();
    let lease = world.lease();
    world.bring_up(&lease, "dev", put(local()));
    (world, lease)
}

#[test]
fn the_record_changes_once_the_backend_answers_on_the_target() {
    use OperationStep::{
        AwaitReady, CopyRows, Ensure, FinishMove, LockSource, PrepareMove, PrepareStorage, PublishTarget, VerifyRows,
    };
    let (world, lease) = ready();
    let refused = world.accept(&lease, "plan/k", "dev", moved(MoveConsent::Missing)).unwrap_err();
    assert!(
        matches!(&refused, AuthorityError::Control(ControlError::Refused(finding)) if finding.code == "plan.move_not_allowed")
    );
    let started = began(&world, &lease, moved(MoveConsent::Given));
    assert_eq!(engine(&world), ("sqlite", Phase::Updating));
    let (steps, outcome) = perform(&world, started, None);
    assert_eq!(code_of(&outcome), "");
    let both = [PrepareMove, LockSource, CopyRows, VerifyRows, PublishTarget].map(|step| (step, "both"));
    let there = [PrepareStorage, Ensure, AwaitReady].map(|step| (step, "postgres"));
    assert_eq!(steps, [both.as_slice(), &there, &[(FinishMove, "both")]].concat());
    assert_eq!(engine(&world), ("postgres", Phase::Ready));
}

#[rstest::rstest]
fn a_move_that_fails_anywhere_is_undone(
    #[values(
        OperationStep::PrepareMove,
        OperationStep::LockSource,
        OperationStep::CopyRows,
        OperationStep::VerifyRows,
        OperationStep::PublishTarget,
        OperationStep::PrepareStorage,
        OperationStep::Ensure,
        OperationStep::AwaitReady
    )]
    failing: OperationStep,
) {
    let (world, lease) = ready();
    let started = began(&world, &lease, moved(MoveConsent::Given));
    let (steps, outcome) = perform(&world, started, Some(failing));
    assert_eq!(code_of(&outcome), "data.no_space");
    let back = [(OperationStep::RevertMove, "both"), (OperationStep::Ensure, "sqlite")];
    assert!(steps.ends_with(&back), "{steps:?}");
    assert_eq!(engine(&world), ("sqlite", Phase::Ready));
    // Nothing of it is left: the next one is a move like the first.
    let started = began(&world, &lease, moved(MoveConsent::Given));
    assert_eq!(code_of(&perform(&world, started, None).1), "");
}

#[test]
fn what_was_published_is_not_copied_again_and_another_request_takes_it_back() {
    let (world, lease) = ready();
    for (passed, first) in [(0, OperationStep::PrepareMove), (3, OperationStep::PrepareMove), (4, OperationStep::PublishTarget)]
    {
        let (mut operation, mut next) = began(&world, &lease, moved(MoveConsent::Given));
        for _ in 0..passed {
            let Transition::Perform(effect) = next else { panic!("{next:?}") };
            next = world.authority.advance(&mut operation, answer(&effect), NOW).unwrap();
        }
        let (_, next) = world.resumed_one();
        assert!(matches!(&next, Transition::Perform(effect) if effect.step() == first), "{passed}: {next:?}");
        // The same request, of another plan, goes on with it.
        let (same, next) = began(&world, &lease, moved(MoveConsent::Given));
        assert_eq!(same.id(), operation.id());
        assert!(matches!(&next, Transition::Perform(effect) if effect.step() == first), "{passed}: {next:?}");
        // Any other one is in its turn once the move is undone.
        let (undone, next) = began(&world, &lease, put(local()));
        assert!(undone.id() == operation.id() && undone.is_being_undone());
        let (steps, outcome) = perform(&world, (undone, next), None);
        let back = [(OperationStep::RevertMove, "both"), (OperationStep::Ensure, "sqlite")];
        assert_eq!((steps.as_slice(), code_of(&outcome)), (back.as_slice(), "control.superseded"));
        assert_eq!(engine(&world), ("sqlite", Phase::Ready));
    }
}

#[test]
fn a_lock_that_could_not_be_released_is_released_by_the_next_put() {
    let (world, lease) = ready();
    let (mut operation, next) = began(&world, &lease, moved(MoveConsent::Given));
    let Transition::Perform(effect) = next else { panic!("{next:?}") };
    let fail = |operation: &mut Operation| world.authority.advance(operation, failed("database.unreachable"), NOW).unwrap();
    assert_eq!(effect.step(), OperationStep::PrepareMove);
    for expected in [OperationStep::RevertMove, OperationStep::Ensure] {
        let next = fail(&mut operation);
        assert!(matches!(&next, Transition::Perform(effect) if effect.step() == expected), "{next:?}");
    }
    assert!(matches!(fail(&mut operation), Transition::Ended(_)));
    assert_eq!(engine(&world), ("sqlite", Phase::Failed));
    let (steps, _) = perform(&world, began(&world, &lease, put(local())), None);
    assert_eq!(steps[0], (OperationStep::PrepareStorage, "sqlite"));
    assert_eq!(engine(&world), ("sqlite", Phase::Ready));
    let (steps, _) = perform(&world, began(&world, &lease, put(local())), None);
    assert_eq!(steps[0], (OperationStep::Ensure, "sqlite"));
    assert_eq!(world.authority.resolve_backend(&project(), &name("dev")).unwrap().provider_state, ProviderState::new());
}
