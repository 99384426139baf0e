//! Operations that fail: undone from the last step on, and ended with their first failure.

use std::collections::{BTreeMap, BTreeSet};

use super::operation::StepRow;
use super::step_tests::{code_of, failed};
use super::tests::{NOW, World, put, remove, simulated, world};
use super::*;
use crate::api::{OperationOutcome, Work};
use crate::model::{DowngradeConsent, FieldPath, MoveConsent, OperationStep, ProviderState, Secret, SecretSource, StepKey};

/// An operation with undo steps: `Ensure` is undone by `Remove`, and `AwaitReady` by `Stop`.
fn undoable(phase: &operation::OperationPhase) -> &'static [StepRow] {
    const PUT: &[StepRow] = &[
        StepRow::new(OperationStep::PrepareStorage).undone_by(OperationStep::ReleaseStorage),
        StepRow::new(OperationStep::Ensure).undone_by(OperationStep::Remove),
        StepRow::new(OperationStep::AwaitReady).undone_by(OperationStep::Stop),
        StepRow::new(OperationStep::SetEnvironment),
    ];
    if matches!(phase, operation::OperationPhase::Put) { PUT } else { operation::steps_of(phase) }
}

fn undoing_world() -> World {
    let mut world = world();
    world.authority.steps = undoable;
    world
}

fn with_variables() -> Work {
    let mut spec = simulated();
    spec.env.insert("A".into(), SecretSource::Literal("x".into()));
    let secrets = BTreeMap::from([(FieldPath::new("env.A"), Secret::new("x"))]);
    Work::Put {
        spec: Box::new(spec),
        secrets,
        renamed_from: None,
        downgrade: DowngradeConsent::Missing,
        moves: MoveConsent::Missing,
    }
}

fn succeeded(step: OperationStep) -> EffectResult {
    match step {
        OperationStep::Ensure => EffectResult::Ensured(ProviderState::new()),
        OperationStep::AwaitReady => EffectResult::Ready,
        OperationStep::Stop => EffectResult::Stopped,
        OperationStep::Remove => EffectResult::Removed(None),
        other => panic!("{other:?} is no step of this test"),
    }
}

#[test]
fn an_operation_that_comes_no_further_is_failed_and_its_backend_is_free() {
    let world = world();
    let lease = world.lease();
    let (mut operation, _) = world.started(&lease, "plan/create", put(simulated()));
    for _ in 0..3 {
        let (resumed, _) = world.resumed_one();
        assert_eq!(world.authority.begin_attempt(&resumed, NOW).unwrap(), None);
        operation = resumed;
    }
    // Coming further than ever before gives it all its attempts again; coming as far as before does not.
    let next = world.authority.advance(&mut operation, EffectResult::Ensured(ProviderState::new()), NOW).unwrap();
    assert!(matches!(next, Transition::Perform(Effect::AwaitReady(_))));
    for attempt in 0..20 {
        let (mut resumed, _) = world.resumed_one();
        assert_eq!(world.authority.begin_attempt(&resumed, NOW).unwrap(), None, "attempt {attempt}");
        world.authority.note_interruption(resumed.id(), "it ended in a test").unwrap();
        world.authority.advance(&mut resumed, EffectResult::Ensured(ProviderState::new()), NOW).unwrap();
    }
    let (resumed, _) = world.resumed_one();
    let outcome = world.authority.begin_attempt(&resumed, NOW).unwrap().expect("its attempts are used up");
    assert_eq!(code_of(&outcome), "control.attempts_exhausted");
    let OperationOutcome::Failed { finding, .. } = outcome else { panic!() };
    assert!(finding.message.contains("waiting until it is ready"), "{}", finding.message);
    assert!(finding.message.contains("it ended in a test"), "{}", finding.message);
    assert!(world.authority.resume(&BTreeSet::new(), NOW).unwrap().resumed.is_empty());
    let (_, next) = world.started(&lease, "plan/destroy", remove());
    assert!(matches!(next, Transition::Perform(Effect::Remove(_))), "{next:?}");
}

/// What is undone after a failure, in this order, also when an undo step fails and when every step is interrupted once.
#[rstest::rstest]
#[case::a_step_that_made_nothing_is_undone_itself(OperationStep::Ensure, &[OperationStep::Remove])]
#[case::the_last_step_first(OperationStep::AwaitReady, &[OperationStep::Stop, OperationStep::Remove])]
#[case::a_step_without_an_undo_step(OperationStep::SetEnvironment, &[OperationStep::Stop, OperationStep::Remove])]
fn a_failed_operation_is_undone_and_ends_with_its_first_failure(
    #[case] failing: OperationStep,
    #[case] undone: &[OperationStep],
    #[values(None, Some(OperationStep::Stop), Some(OperationStep::Remove))] failing_undo: Option<OperationStep>,
    #[values(false, true)] interrupted: bool,
) {
    let world = undoing_world();
    let lease = world.lease();
    let (mut operation, mut next) = world.started(&lease, "plan/create", with_variables());
    let (mut seen, mut has_failed) = (Vec::new(), false);
    let outcome = loop {
        if interrupted && has_failed {
            (operation, next) = world.resumed_one();
        }
        let step = match next {
            Transition::Ended(outcome) => break outcome,
            Transition::Perform(effect) => effect.step(),
        };
        if has_failed {
            seen.push(step);
        }
        let end = match step {
            step if step == failing => failed("provider.exited"),
            step if Some(step) == failing_undo => failed("provider.unreachable"),
            step => succeeded(step),
        };
        has_failed |= step == failing;
        next = world.authority.advance(&mut operation, end, NOW).unwrap();
        if let Transition::Ended(outcome) = next {
            break outcome;
        }
    };
    assert_eq!(seen, undone);
    assert_eq!(code_of(&outcome), "provider.exited");
    let OperationOutcome::Failed { finding, .. } = outcome else { panic!() };
    let undo_failed = failing_undo.is_some_and(|step| undone.contains(&step));
    assert_eq!(finding.message.contains("failed, too"), undo_failed, "{}", finding.message);
}

#[test]
fn an_operation_that_is_being_undone_ends_before_another_one_begins() {
    let world = undoing_world();
    let lease = world.lease();
    let (mut operation, _) = world.started(&lease, "plan/create", put(simulated()));
    let next = world.authority.advance(&mut operation, failed("provider.exited"), NOW).unwrap();
    assert!(matches!(next, Transition::Perform(Effect::Remove(_))), "{next:?}");
    for _ in 0..20 {
        let (resumed, _) = world.resumed_one();
        assert_eq!(world.authority.begin_attempt(&resumed, NOW).unwrap(), None);
    }
    let (mut earlier, next) = world.started(&lease, "plan/destroy", remove());
    assert!(matches!(next, Transition::Perform(Effect::Remove(_))), "{next:?}");
    assert!(earlier.is_of(&StepKey::parse("plan/create")));
    let outcome = world.authority.begin_attempt(&earlier, NOW).unwrap().expect("its attempts are used up");
    assert_eq!(code_of(&outcome), "provider.exited");
    world.authority.advance(&mut earlier, EffectResult::Removed(None), NOW).unwrap_err();
    let (later, _) = world.started(&lease, "plan/destroy", remove());
    assert!(later.is_of(&StepKey::parse("plan/destroy")));
}
