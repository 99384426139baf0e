//! Snapshots and restores as operations: the order of their steps, their resumption, and the way back from a failure.

use super::step_tests::{code_of, failed};
use super::tests::{NOW, World, me, name, project, put, simulated, world};
use super::*;
use crate::api::{Lease, OperationOutcome, OperationRequest, Work};
use crate::model::{OperationStep, ProviderState, Scope, SnapshotId, StepKey, TokenRequest};

fn snapshot() -> Work {
    Work::Snapshot { id: id(), note: Some("a note".to_owned()) }
}

fn restore() -> Work {
    Work::Restore { snapshot: id() }
}

fn id() -> SnapshotId {
    SnapshotId::parse("dev-1").unwrap()
}

/// Performs the steps of an operation, of which those that are named fail, and returns them with the outcome.
fn perform(world: &World, lease: &Lease, work: Work, failing: &[OperationStep]) -> (Vec<OperationStep>, OperationOutcome) {
    let key = format!("{}/{}", work.kind().as_str(), super::tests::now_key());
    let (mut operation, mut next) = world.started(lease, &key, work);
    let (mut steps, mut failing) = (Vec::new(), failing.to_vec());
    loop {
        let effect = match next {
            Transition::Ended(outcome) => return (steps, outcome),
            Transition::Perform(effect) => effect,
        };
        steps.push(effect.step());
        let end = match effect.step() {
            step if failing.first() == Some(&step) => {
                failing.remove(0);
                failed(if step == OperationStep::AwaitReady { "convex.not_ready" } else { "snapshot.file" })
            }
            OperationStep::CopyData => EffectResult::DataCopied,
            OperationStep::WriteSnapshot => EffectResult::SnapshotWritten,
            OperationStep::StageData => EffectResult::DataStaged,
            OperationStep::SwitchData => EffectResult::DataSwitched,
            OperationStep::ConfirmData => EffectResult::DataConfirmed,
            OperationStep::RevertData => EffectResult::DataReverted,
            OperationStep::Ensure => EffectResult::Ensured(ProviderState::new()),
            OperationStep::AwaitReady => EffectResult::Ready,
            OperationStep::Stop => EffectResult::Stopped,
            other => panic!("{other:?}"),
        };
        next = world.authority.advance(&mut operation, end, NOW).unwrap();
    }
}

#[test]
fn a_backend_runs_again_before_its_snapshot_is_written() {
    use OperationStep::{AwaitReady, CopyData, Ensure, WriteSnapshot};
    let world = world();
    let lease = world.lease();
    world.bring_up(&lease, "dev", put(simulated()));
    let (steps, outcome) = perform(&world, &lease, snapshot(), &[]);
    assert_eq!((steps, code_of(&outcome)), (vec![CopyData, Ensure, AwaitReady, WriteSnapshot], ""));
    let (steps, outcome) = perform(&world, &lease, snapshot(), &[CopyData]);
    assert_eq!((steps, code_of(&outcome)), (vec![CopyData, Ensure], "snapshot.file"), "it is brought up again");
    perform(&world, &lease, Work::Stop {}, &[]);
    let (steps, outcome) = perform(&world, &lease, snapshot(), &[]);
    assert_eq!((steps, code_of(&outcome)), (vec![CopyData, WriteSnapshot], ""), "what was stopped on purpose stays so");
    let (steps, outcome) = perform(&world, &lease, snapshot(), &[CopyData]);
    assert_eq!((steps, code_of(&outcome)), (vec![CopyData], "snapshot.file"));
}

#[test]
fn data_that_does_not_come_up_is_taken_back_and_that_is_the_failure() {
    use OperationStep::{AwaitReady, ConfirmData, Ensure, RevertData, StageData, SwitchData};
    let world = world();
    let lease = world.lease();
    world.bring_up(&lease, "dev", put(simulated()));
    let (steps, outcome) = perform(&world, &lease, restore(), &[]);
    assert_eq!((steps, code_of(&outcome)), (vec![StageData, SwitchData, Ensure, AwaitReady, ConfirmData], ""));
    let (steps, outcome) = perform(&world, &lease, restore(), &[StageData]);
    assert_eq!((steps, code_of(&outcome)), (vec![StageData, Ensure], "snapshot.file"));
    let (steps, outcome) = perform(&world, &lease, restore(), &[AwaitReady]);
    let back = vec![StageData, SwitchData, Ensure, AwaitReady, RevertData, Ensure];
    assert_eq!((steps, code_of(&outcome)), (back, "convex.not_ready"));
    let (_, outcome) = perform(&world, &lease, restore(), &[AwaitReady, RevertData]);
    let OperationOutcome::Failed { finding, .. } = outcome else { panic!("it failed") };
    assert!(finding.code == "convex.not_ready" && finding.message.contains("failed, too"), "{}", finding.message);
}

#[test]
fn an_interrupted_snapshot_is_resumed_with_its_name_and_note() {
    let world = world();
    let lease = world.lease();
    world.bring_up(&lease, "dev", put(simulated()));
    world.started(&lease, "snapshot/1", snapshot());
    let (operation, next) = world.resumed_one();
    let Transition::Perform(Effect::CopyData(_, request)) = next else { panic!("{next:?}") };
    assert_eq!((request.id, request.note.as_deref(), request.created_at), (id(), Some("a note"), NOW));
    drop(operation);
}

#[test]
fn replacing_data_needs_the_scope_destroy_and_a_snapshot_does_not() {
    let world = world();
    let lease = world.lease();
    world.bring_up(&lease, "dev", put(simulated()));
    let request = TokenRequest { project: Some(project()), scope: Scope::Apply, note: String::new(), ttl: None };
    let issued = world.authority.create_token(&request, &[], &me(), NOW).unwrap();
    let token = world.authority.authenticate(&issued.token, NOW).unwrap();
    let asked = |work: Work| {
        let step = StepKey::parse(&format!("{}/token", work.kind().as_str()));
        let request = OperationRequest { step, backend: name("dev"), work, origin: None };
        world.authority.accept(&lease, ExecutionMode::ControlPlane, Principal::Token(&token), &request, NOW)
    };
    assert!(asked(restore()).is_err());
    assert!(asked(snapshot()).is_ok());
    let many_lines = Work::Snapshot { id: id(), note: Some("two\nlines".to_owned()) };
    assert!(matches!(world.accept(&lease, "snapshot/2", "dev", many_lines), Err(AuthorityError::Control(_))));
}
