//! Operations as persisted step machines: digests, progress, stopping, forgetting, and rows that cannot be read.

use std::collections::{BTreeMap, BTreeSet};

use super::tests::{NOW, World, alive, holder, me, name, project, put, remove, simulated, world};
use super::*;
use crate::api::{Lease, LeaseHolder, LeaseNonce, OperationOutcome, OperationRequest, Work};
use crate::model::{
    BackendSpec, Diagnostic, DowngradeConsent, FieldPath, MoveConsent, OperationState, OperationStep, Phase, ProviderState,
    Quota, Scope, Secret, SecretSource, StepKey, TimeSpan, TokenRequest,
};

impl World {
    pub(super) fn started(&self, lease: &Lease, step: &str, work: Work) -> (Operation, Transition) {
        let request = OperationRequest { step: StepKey::parse(step), backend: name("dev"), work, origin: None };
        let mode = ExecutionMode::ControlPlane;
        let (operation, next) = self.authority.accept(lease, mode, Principal::Trusted(&me()), &request, NOW).unwrap();
        (operation.unwrap(), next)
    }

    pub(super) fn resumed_one(&self) -> (Operation, Transition) {
        let mut resumption = self.authority.resume(&BTreeSet::new(), NOW).unwrap();
        let (_, operation, next) = resumption.resumed.swap_remove(0);
        (operation, next)
    }

    pub(super) fn execute_sql(&self, statements: &str) {
        rusqlite::Connection::open(self.folder.path().join("store.sqlite3")).unwrap().execute_batch(statements).unwrap();
    }
}

pub(super) fn failed(code: &str) -> EffectResult {
    EffectResult::Failed(EffectFailure { finding: Diagnostic::new(code, "something is in the way"), conflict: None })
}

pub(super) fn code_of(outcome: &OperationOutcome) -> &str {
    match outcome {
        OperationOutcome::Failed { finding, .. } => &finding.code,
        OperationOutcome::Done { .. } => "",
    }
}

#[test]
fn a_server_that_stops_in_order_uses_no_attempt_up() {
    let world = world();
    let lease = world.lease();
    world.started(&lease, "plan/create", put(simulated()));
    for _ in 0..20 {
        let (resumed, _) = world.resumed_one();
        assert_eq!(world.authority.begin_attempt(&resumed, NOW).unwrap(), None);
        world.authority.refund_attempt(resumed.id()).unwrap();
    }
}

#[test]
fn a_step_that_is_sent_again_has_to_ask_for_the_same() {
    let world = world();
    let lease = world.lease();
    let with = |value: &str, dashboard: bool| {
        let mut spec = simulated();
        spec.settings.simulated.listen = false;
        spec.dashboard = dashboard;
        spec.env.insert("A".into(), SecretSource::Literal("x".into()));
        let secrets = BTreeMap::from([(FieldPath::new("env.A"), Secret::new(value))]);
        Work::Put {
            spec: Box::new(spec),
            secrets,
            renamed_from: None,
            downgrade: DowngradeConsent::Missing,
            moves: MoveConsent::Missing,
        }
    };
    world.accept(&lease, "plan/step", "dev", with("one", false)).unwrap();
    world.accept(&lease, "plan/step", "dev", with("one", false)).unwrap();
    for other in [with("two", false), with("one", true)] {
        let refused = world.accept(&lease, "plan/step", "dev", other).unwrap_err();
        assert!(refused.to_string().contains("sent before as another piece of work"), "{refused}");
    }
    let digests: String = {
        let rows = rusqlite::Connection::open(world.folder.path().join("store.sqlite3")).unwrap();
        rows.query_row("SELECT digest FROM operations", [], |row| row.get(0)).unwrap()
    };
    assert_eq!(digests.len(), 64);
}

#[test]
fn an_operation_says_its_furthest_step_while_it_runs() {
    let world = world();
    let lease = world.lease();
    let (mut operation, _) = world.started(&lease, "plan/create", put(simulated()));
    let id = operation.id().clone();
    let progress = || world.authority.operation(&project(), &id).unwrap().unwrap().progress;
    assert_eq!(progress(), Some(OperationStep::Ensure));
    world.authority.advance(&mut operation, EffectResult::Ensured(ProviderState::new()), NOW).unwrap();
    assert_eq!(progress(), Some(OperationStep::AwaitReady));
    world.resumed_one();
    assert_eq!(progress(), Some(OperationStep::AwaitReady), "a resumption begins at the first step, and has come as far");
    world.authority.advance(&mut operation, EffectResult::Ready, NOW).unwrap();
    assert_eq!(progress(), None, "it has ended");
}

#[test]
fn a_backend_is_stopped_started_and_forgotten_on_purpose() {
    let world = world();
    let lease = world.lease();
    world.bring_up(&lease, "dev", put(simulated()));
    let backend = || world.authority.view(&project()).unwrap().backends.into_iter().next();
    let (mut operation, next) = world.started(&lease, "stop/1", Work::Stop {});
    assert!(matches!(next, Transition::Perform(Effect::Stop(_))));
    let next = world.authority.advance(&mut operation, EffectResult::Stopped, NOW).unwrap();
    assert!(matches!(next, Transition::Ended(OperationOutcome::Done { .. })));
    assert!(backend().unwrap().stopped && backend().unwrap().phase == Phase::Ready);
    assert!(world.authority.restart(&project(), &name("dev"), &holder(9), NOW).unwrap().is_none(), "it stays stopped");
    let (_, next) = world.started(&lease, "start/1", Work::Start {});
    assert!(matches!(next, Transition::Perform(Effect::Ensure(_))));
    assert!(!backend().unwrap().stopped);
    let (mut operation, next) = world.started(&lease, "forget/1", Work::Forget {});
    assert!(matches!(next, Transition::Perform(Effect::SetAside(_))));
    assert!(backend().is_some(), "its record is there until it is set aside");
    let (_, resumed) = world.resumed_one();
    assert!(matches!(resumed, Transition::Perform(Effect::SetAside(_))));
    let next = world.authority.advance(&mut operation, EffectResult::SetAside, NOW).unwrap();
    assert!(matches!(next, Transition::Ended(OperationOutcome::Done { .. })));
    assert!(backend().is_none());
    world.bring_up(&lease, "engine", put(BackendSpec::new(crate::model::ProviderKind::Docker)));
    let gone = world.accept(&lease, "forget/2", "engine", Work::Forget {}).unwrap();
    assert!(matches!(gone, (None, Transition::Ended(OperationOutcome::Done { .. }))));
    assert!(backend().is_none());
    let unknown = world.accept(&lease, "stop/2", "engine", Work::Stop {}).unwrap_err();
    assert!(matches!(unknown, AuthorityError::Control(ControlError::NoSuchBackend { .. })), "{unknown:?}");
}

#[test]
fn a_key_is_rotated_once_per_request_and_only_of_what_runs() {
    let world = world();
    let lease = world.lease();
    world.bring_up(&lease, "dev", put(simulated()));
    let key = || world.authority.view(&project()).unwrap().backends[0].admin_key.clone();
    let before = key();
    let (mut operation, next) = world.started(&lease, "rotate/1", Work::RotateKey {});
    let Transition::Perform(Effect::Ensure(placement)) = next else { panic!("{next:?}") };
    let rotated = key();
    assert_ne!(before, rotated);
    let (_, again) = world.started(&lease, "rotate/1", Work::RotateKey {});
    let Transition::Perform(Effect::Ensure(same)) = again else { panic!("{again:?}") };
    assert_eq!(placement.instance_secret, same.instance_secret, "a repetition makes no other secret");
    world.authority.advance(&mut operation, EffectResult::Ensured(ProviderState::new()), NOW).unwrap();
    let next = world.authority.advance(&mut operation, EffectResult::Ready, NOW).unwrap();
    assert!(matches!(next, Transition::Ended(OperationOutcome::Done { .. })));
    assert_eq!(key(), rotated);
    let (mut operation, _) = world.started(&lease, "stop/1", Work::Stop {});
    world.authority.advance(&mut operation, EffectResult::Stopped, NOW).unwrap();
    let refused = world.accept(&lease, "rotate/2", "dev", Work::RotateKey {}).unwrap_err();
    assert!(refused.to_string().contains("is stopped"), "{refused}");
    let mut record = simulated();
    record.settings.simulated.listen = false;
    world.bring_up(&lease, "record", put(record));
    let refused = world.accept(&lease, "rotate/3", "record", Work::RotateKey {}).unwrap_err();
    assert!(refused.to_string().contains("only a record"), "{refused}");
}

#[test]
fn forgetting_a_backend_needs_the_scope_destroy_and_no_protection() {
    let world = world();
    let lease = world.lease();
    let mut spec = simulated();
    spec.settings.simulated.listen = false;
    spec.protected = true;
    world.bring_up(&lease, "dev", put(spec.clone()));
    let refused = world.accept(&lease, "forget/1", "dev", Work::Forget {}).unwrap_err();
    assert!(refused.to_string().contains("is protected"), "{refused}");
    spec.protected = false;
    world.bring_up(&lease, "dev", put(spec));
    let request = TokenRequest { project: Some(project()), scope: Scope::Apply, note: String::new(), ttl: None };
    let issued = world.authority.create_token(&request, &[], &me(), NOW).unwrap();
    let token = world.authority.authenticate(&issued.token, NOW).unwrap();
    let request =
        OperationRequest { step: StepKey::parse("forget/2"), backend: name("dev"), work: Work::Forget {}, origin: None };
    let asked = world.authority.accept(&lease, ExecutionMode::ControlPlane, Principal::Token(&token), &request, NOW);
    assert!(matches!(asked, Err(AuthorityError::Control(ControlError::NotAuthorised(_)))), "{asked:?}");
}

#[test]
fn a_backend_that_reached_no_provider_is_removed_without_one() {
    for (code, gone_at_once) in [("provider.unreachable", true), ("provider.exited", false)] {
        let world = world();
        let lease = world.lease();
        let (mut operation, _) = world.started(&lease, "plan/create", put(simulated()));
        let next = world.authority.advance(&mut operation, failed(code), NOW).unwrap();
        assert!(matches!(next, Transition::Ended(OperationOutcome::Failed { .. })));
        let (operation, next) = world.accept(&lease, "plan/destroy", "dev", remove()).unwrap();
        assert_eq!(operation.is_none(), gone_at_once, "{code}");
        assert_eq!(matches!(next, Transition::Ended(_)), gone_at_once, "{code}");
        assert_eq!(world.authority.view(&project()).unwrap().backends.is_empty(), gone_at_once, "{code}");
    }
    // One that was cut off may have made something.
    let world = world();
    let lease = world.lease();
    world.started(&lease, "plan/create", put(simulated()));
    let (operation, _) = world.accept(&lease, "plan/destroy", "dev", remove()).unwrap();
    assert!(operation.is_some());
}

#[test]
fn a_row_that_cannot_be_read_is_named_and_stops_nothing_else() {
    let world = world();
    let lease = world.lease();
    world.started(&lease, "plan/create", put(simulated()));
    world.execute_sql(
        "INSERT INTO operations (id, project, backend, key, kind, accepted_at, actor)
         VALUES (7, 'gremlin', 'broken', 'plan/broken', 'put', 1, '{\"name\":')",
    );
    let resumption = world.authority.resume(&BTreeSet::new(), NOW).unwrap();
    assert_eq!(resumption.resumed.len(), 1);
    let [row] = &resumption.unreadable[..] else { panic!("{:?}", resumption.unreadable) };
    let words = row.to_string();
    assert!(words.contains("table `operations`") && words.contains("row `7`") && words.contains("column 8"), "{words}");
}

#[test]
fn a_fence_cannot_be_guessed_and_a_lease_that_was_given_back_is_not_taken_by_an_echo() {
    let world = world();
    let nonce = |byte: u8| LeaseHolder { nonce: Some(LeaseNonce::new([byte; 16])), ..holder(1) };
    let first = world.authority.acquire(&project(), &nonce(1), NOW, alive).unwrap();
    world.authority.release(&first, NOW).unwrap();
    let echo = world.authority.acquire(&project(), &nonce(1), NOW, alive).unwrap_err();
    assert!(matches!(echo, AuthorityError::Control(ControlError::LeaseLost { .. })), "{echo:?}");
    let second = world.authority.acquire(&project(), &nonce(2), NOW, alive).unwrap();
    assert!(second.fence > first.fence && second.fence < 1 << 53);
    assert!(second.fence - first.fence > 1 && first.fence > 1 << 31);
    let guessed = Lease { fence: first.fence + 1, ..second };
    assert!(world.accept(&guessed, "k", "dev", put(simulated())).is_err());
}

#[test]
fn a_replacement_is_counted_again_when_its_predecessor_is_gone() {
    let world = world();
    let lease = world.lease();
    let quota = Quota { backends: Some(1), ..Quota::default() };
    world.authority.set_quota(&crate::api::ResourceLevel::Project(project()), &quota, &me(), NOW).unwrap();
    world.bring_up(&lease, "dev", put(simulated()));
    world.started(&lease, "plan/destroy", remove());
    let (mut replacing, _) = world.started(&lease, "plan/again", put(simulated()));
    world.execute_sql("UPDATE quotas SET quota = '{\"backends\":0}'");
    let next = world.authority.advance(&mut replacing, EffectResult::Removed(None), NOW).unwrap();
    let Transition::Ended(outcome) = next else { panic!("{next:?}") };
    assert_eq!(code_of(&outcome), "plan.over_quota_backends");
}

#[test]
fn an_expired_backend_is_remembered_until_it_is_created_again() {
    let world = world();
    let lease = world.lease();
    let mut spec: BackendSpec = simulated();
    spec.settings.simulated.listen = false;
    spec.ttl = Some(TimeSpan::from_seconds(60));
    world.bring_up(&lease, "dev", put(spec.clone()));
    world.authority.release(&lease, NOW).unwrap();
    let late = NOW.plus_milliseconds(61_000);
    world.authority.expire(&project(), &name("dev"), &holder(2), late).unwrap().unwrap();
    let expired = || world.authority.view(&project()).unwrap().expired;
    assert_eq!(expired().get(&name("dev")), Some(&NOW.plus_milliseconds(60_000)));
    let lease = world.lease();
    world.bring_up(&lease, "dev", put(spec));
    assert!(expired().is_empty());
}

#[test]
fn a_process_that_ended_is_started_in_the_name_of_the_control_plane() {
    let world = world();
    let lease = world.lease();
    world.bring_up(&lease, "dev", put(simulated()));
    let held = world.authority.restart(&project(), &name("dev"), &holder(2), NOW).unwrap_err();
    assert!(matches!(held, AuthorityError::Control(ControlError::LeaseHeld { .. })), "{held:?}");
    world.authority.release(&lease, NOW).unwrap();
    let (operation, next) = world.authority.restart(&project(), &name("dev"), &holder(2), NOW).unwrap().unwrap();
    assert!(operation.is_some() && matches!(next, Transition::Perform(Effect::Ensure(_))));
    let record = world.authority.operations(&project(), 1).unwrap().swap_remove(0);
    assert_eq!((record.state, record.actor.name.as_str()), (OperationState::Running, "the control plane"));
    assert_eq!(world.authority.holder(&project(), NOW, alive).unwrap(), None, "the lease is given back");
}

#[test]
fn rows_that_another_hand_moved_or_made_open_nothing() {
    let world = world();
    let lease = world.lease();
    world.bring_up(&lease, "dev", put(simulated()));
    world.authority.credentials(&project(), &name("dev"), None).unwrap();
    let request = TokenRequest { project: Some(project()), scope: Scope::Read, note: String::new(), ttl: None };
    let issued = world.authority.create_token(&request, &[], &me(), NOW).unwrap();
    world.authority.authenticate(&issued.token, NOW).unwrap();
    // A token that was given more than it was made with, and a backend that was moved to another project.
    world.execute_sql("UPDATE tokens SET scope = '\"operator\"', project = NULL");
    let raised = world.authority.authenticate(&issued.token, NOW).unwrap_err();
    assert!(raised.to_string().contains("does not know the token"), "{raised}");
    world.execute_sql("UPDATE tokens SET mac = NULL");
    world.authority.authenticate(&issued.token, NOW).unwrap_err();
    world.execute_sql(
        "INSERT INTO projects (name, revision, created_at) VALUES ('other', 1, 1); UPDATE backends SET project = 'other'",
    );
    let other = crate::model::ProjectName::parse("other").unwrap();
    let moved = world.authority.credentials(&other, &name("dev"), None).unwrap_err();
    assert!(matches!(moved, AuthorityError::Vault(_)), "{moved:?}");
}
