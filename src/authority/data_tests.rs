//! Snapshots and restores as operations: the order of their steps, their resumption, and the way back from a failure.

use super::step_tests::{code_of, failed};
use super::tests::{NOW, World, me, name, project, put, simulated, world};
use super::*;
use crate::api::{Lease, OperationOutcome, OperationRequest, StartMode, Work};
use crate::model::{OperationStep, Phase, ProviderState, Scope, SnapshotId, StepKey, TokenRequest};

fn snapshot() -> Work {
    Work::Snapshot { id: id(), note: Some("a note".to_owned()) }
}

fn restore() -> Work {
    Work::Restore { snapshot: id(), release: None, start: StartMode::AsItWas }
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
            OperationStep::SwitchData => EffectResult::DataSwitched(ProviderState::new()),
            OperationStep::ConfirmData => EffectResult::DataConfirmed(ProviderState::new()),
            OperationStep::RevertData => EffectResult::DataReverted(ProviderState::new()),
            OperationStep::Ensure => EffectResult::Ensured(ProviderState::new()),
            OperationStep::StartRelease => EffectResult::ReleaseStarted(ProviderState::new()),
            OperationStep::AwaitReady => EffectResult::Ready,
            OperationStep::Stop => EffectResult::Stopped,
            OperationStep::Remove => EffectResult::Removed(None),
            OperationStep::DropPrevious => EffectResult::PreviousDropped(ProviderState::new()),
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
    assert_eq!((steps, code_of(&outcome)), (vec![CopyData, Ensure, AwaitReady], "snapshot.file"), "it is brought up again");
    perform(&world, &lease, Work::Stop {}, &[]);
    let (steps, outcome) = perform(&world, &lease, snapshot(), &[]);
    assert_eq!((steps, code_of(&outcome)), (vec![CopyData, WriteSnapshot], ""), "what was stopped on purpose stays so");
    let (steps, outcome) = perform(&world, &lease, snapshot(), &[CopyData]);
    assert_eq!((steps, code_of(&outcome)), (vec![CopyData], "snapshot.file"));
}

#[test]
fn nothing_is_removed_before_the_last_snapshot_is_there_and_nothing_is_started_after_it() {
    use OperationStep::{AwaitReady, CopyData, Ensure, Remove, WriteSnapshot};
    let removal = |final_snapshot: bool| Work::Remove {
        volume: crate::model::VolumeReclaim::Delete,
        database: crate::model::DatabaseReclaim::Retain,
        final_snapshot,
    };
    let world = world();
    let lease = world.lease();
    world.bring_up(&lease, "dev", put(simulated()));
    let phase = || world.authority.view(&project()).unwrap().backends.first().map(|backend| backend.phase);
    for failing in [CopyData, WriteSnapshot] {
        let (steps, outcome) = perform(&world, &lease, removal(true), &[failing]);
        assert!(steps.ends_with(&[failing, Ensure, AwaitReady]), "{steps:?}");
        let OperationOutcome::Failed { finding, .. } = outcome else { panic!("{outcome:?}") };
        assert!(finding.message.starts_with("`dev` was not destroyed, as its last snapshot could not be taken"), "{finding:?}");
        assert!(finding.help.unwrap().contains("--no-last-snapshot --allow-destroy dev"));
        assert_eq!(phase(), Some(Phase::Ready));
    }
    // Once it is there, a removal goes forward only, and takes no other one.
    let (steps, _) = perform(&world, &lease, removal(true), &[Remove]);
    assert_eq!((steps, phase()), (vec![CopyData, WriteSnapshot, Remove], Some(Phase::Removing)));
    let (steps, outcome) = perform(&world, &lease, removal(true), &[]);
    assert_eq!((steps, code_of(&outcome), phase()), (vec![Remove], "", None));

    // One that was cut off before it is there takes it, unless the next request declines it.
    for (declined, expected) in [(false, vec![CopyData, WriteSnapshot, Remove]), (true, vec![Remove])] {
        world.bring_up(&lease, "dev", put(simulated()));
        let (_, begun) = world.started(&lease, &format!("cut/{declined}"), removal(true));
        let Transition::Perform(Effect::CopyData(_, first)) = begun else { panic!("{begun:?}") };
        let (_, Transition::Perform(Effect::CopyData(_, again))) = world.resumed_one() else { panic!("not resumed") };
        assert_eq!(first, again, "it is the same snapshot");
        let (steps, _) = perform(&world, &lease, removal(!declined), &[]);
        assert_eq!((steps, phase()), (expected, None));
    }

    // What nothing takes snapshots of is not removed in the belief that one was taken.
    let mut elsewhere = crate::model::BackendSpec::new(crate::model::ProviderKind::Fly);
    elsewhere.region = Some("ams".to_owned());
    world.bring_up(&lease, "dev", put(elsewhere));
    let refused = world.accept(&lease, "plan/refused", "dev", removal(true)).unwrap_err();
    assert_eq!(super::tests::refusal_code(refused), "snapshot.unsupported");
}

#[test]
fn data_from_before_a_restore_is_dropped_by_an_operation_that_resumes() {
    let world = world();
    let lease = world.lease();
    world.bring_up(&lease, "dev", put(simulated()));
    world.started(&lease, "drop/1", Work::DropPrevious {});
    let (_, resumed) = world.resumed_one();
    assert!(matches!(resumed, Transition::Perform(Effect::DropPrevious(_))), "{resumed:?}");
    let (steps, outcome) = perform(&world, &lease, Work::DropPrevious {}, &[]);
    assert_eq!((steps, code_of(&outcome)), (vec![OperationStep::DropPrevious], ""));
    let phase = world.authority.view(&project()).unwrap().backends[0].phase;
    assert_eq!(phase, Phase::Ready);
    let refused = world.accept(&lease, "drop/2", "never", Work::DropPrevious {}).unwrap_err();
    assert!(matches!(refused, AuthorityError::Control(ControlError::NoSuchBackend { .. })), "{refused:?}");
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
    assert_eq!((steps, code_of(&outcome)), (vec![StageData, Ensure, AwaitReady], "snapshot.file"));
    let (steps, outcome) = perform(&world, &lease, restore(), &[AwaitReady]);
    let back = vec![StageData, SwitchData, Ensure, AwaitReady, RevertData, Ensure, AwaitReady];
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

pub(super) fn at(release: &str) -> Work {
    put(crate::model::BackendSpec { release: Some(crate::model::Release::parse(release).unwrap()), ..simulated() })
}

pub(super) const OLD: &str = "precompiled-2026-06-26-903b8b9";
pub(super) const NEW: &str = "precompiled-2026-08-21-652b828";

/// Returns the release and the phase that are recorded.
fn recorded(world: &World) -> (String, crate::model::Phase) {
    let view = world.authority.view(&project()).unwrap();
    let backend = &view.backends[0];
    (backend.recorded.release.as_ref().unwrap().to_string(), backend.phase)
}

#[test]
fn another_release_starts_once_the_snapshot_is_there_and_goes_back_with_it() {
    use OperationStep::{AwaitReady, ConfirmData, CopyData, Ensure, StageData, StartRelease, SwitchData, WriteSnapshot};
    let world = world();
    let lease = world.lease();
    world.bring_up(&lease, "dev", at(OLD));
    let (steps, outcome) = perform(&world, &lease, at(NEW), &[CopyData]);
    assert_eq!((steps, code_of(&outcome)), (vec![CopyData, Ensure, AwaitReady], "snapshot.file"), "nothing was begun");
    let forward = [CopyData, WriteSnapshot, StartRelease, AwaitReady];
    let back = [StageData, SwitchData, ConfirmData, Ensure, AwaitReady];
    let (steps, outcome) = perform(&world, &lease, at(NEW), &[AwaitReady]);
    assert_eq!((steps, code_of(&outcome)), ([forward.as_slice(), &back].concat(), "convex.not_ready"));
    let OperationOutcome::Failed { finding, .. } = outcome else { panic!("it failed") };
    assert!(finding.message.contains(&format!("it is back at `{OLD}`")), "{}", finding.message);
    assert_eq!(recorded(&world), (OLD.to_owned(), crate::model::Phase::Ready));
    // The release from before never starts on data that another one may have changed.
    let (steps, outcome) = perform(&world, &lease, at(NEW), &[StartRelease, SwitchData]);
    let stopped = vec![CopyData, WriteSnapshot, StartRelease, StageData, SwitchData];
    assert_eq!((steps, code_of(&outcome)), (stopped, "snapshot.file"));
    assert_eq!(recorded(&world), (NEW.to_owned(), crate::model::Phase::Failed));
}

#[test]
fn an_interrupted_upgrade_goes_on_before_other_work() {
    let world = world();
    let lease = world.lease();
    world.bring_up(&lease, "dev", at(OLD));
    let (operation, _) = world.started(&lease, "plan/update", at(NEW));
    let id = operation.id().clone();
    drop(operation);
    let (resumed, next) = world.resumed_one();
    assert!(matches!(next, Transition::Perform(Effect::CopyData(..))) && *resumed.id() == id, "{next:?}");
    let (earlier, next) = world.started(&lease, "start/1", Work::Start {});
    assert!(matches!(next, Transition::Perform(Effect::CopyData(..))) && *earlier.id() == id, "{next:?}");
    let (removal, next) = world.started(&lease, "plan/destroy", super::tests::remove());
    assert!(matches!(next, Transition::Perform(Effect::Remove(_))) && *removal.id() != id, "{next:?}");
}

#[test]
fn a_restore_with_a_release_goes_back_to_the_one_from_before() {
    use OperationStep::{AwaitReady, Ensure, RevertData, StageData, SwitchData};
    let world = world();
    let lease = world.lease();
    world.bring_up(&lease, "dev", at(NEW));
    let rollback = || Work::Restore {
        snapshot: id(),
        release: Some(crate::model::Release::parse(OLD).unwrap()),
        start: StartMode::AsItWas,
    };
    let (steps, outcome) = perform(&world, &lease, rollback(), &[AwaitReady]);
    let back = vec![StageData, SwitchData, Ensure, AwaitReady, RevertData, Ensure, AwaitReady];
    assert_eq!((steps, code_of(&outcome)), (back, "convex.not_ready"));
    assert_eq!(recorded(&world), (NEW.to_owned(), crate::model::Phase::Ready));
    let (_, outcome) = perform(&world, &lease, rollback(), &[]);
    assert_eq!((code_of(&outcome), recorded(&world)), ("", (OLD.to_owned(), crate::model::Phase::Ready)));
}
