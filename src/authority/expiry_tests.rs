//! Expiry: backends whose time is over are removed, once, and not by whom may not.

use super::tests::{NOW, World, alive, holder, name, now_key, project, put, refusal_code, remove, simulated, world};
use super::token_tests::token_for;
use super::*;
use crate::api::{HistoryPage, OperationOutcome, OperationRequest, ResourceLevel, Work};
use crate::model::{
    BackendSpec, DatabaseReclaim, DowngradeConsent, MoveConsent, ProviderKind, Scope, StepKey, TimeSpan, Timestamp,
    VolumeReclaim,
};

#[test]
fn an_expired_backend_is_removed_unless_it_is_protected_or_extended() {
    let world = world();
    let lease = world.lease();
    let with_ttl = |protected: bool| {
        let mut spec = simulated();
        (spec.ttl, spec.protected) = (Some(TimeSpan::from_seconds(60)), protected);
        put(spec)
    };
    world.bring_up(&lease, "old", with_ttl(false));
    world.bring_up(&lease, "kept", with_ttl(true));
    world.bring_up(&lease, "young", put(simulated()));
    let later = NOW.plus_milliseconds(60_000);
    assert!(world.authority.expired(NOW.plus_milliseconds(59_999)).unwrap().is_empty());
    assert_eq!(world.authority.expired(later).unwrap(), [(project(), name("old"))]);
    let held = world.authority.expire(&project(), &name("old"), &holder(2), later.plus_milliseconds(-50_000));
    assert!(held.unwrap().is_none(), "whoever has the lease is not even asked before the time is over");
    world.authority.release(&lease, NOW).unwrap();
    assert!(world.expire("young", later).is_none() && world.expire("kept", later).is_none());
    assert!(world.expire("old", NOW).is_none());
    let (operation, next) = world.expire("old", later).unwrap();
    assert!(matches!(world.through(&mut operation.unwrap(), next), OperationOutcome::Done { .. }));
    assert!(world.authority.expired(later).unwrap().is_empty());
    let last = world.authority.history(&ResourceLevel::Project(project()), HistoryPage::last(1)).unwrap().swap_remove(0);
    assert_eq!((last.kind.as_str(), last.actor), ("backend_removed", Some(crate::model::Actor::control_plane())));
}

/// Creates a backend with a `ttl` of a minute, and returns the time at which it expires; the lease is free.
fn short_lived(world: &World) -> Timestamp {
    let lease = world.lease();
    let mut spec = simulated();
    spec.ttl = Some(TimeSpan::from_seconds(60));
    world.bring_up(&lease, "dev", put(spec));
    world.authority.release(&lease, NOW).unwrap();
    NOW.plus_milliseconds(60_000)
}

#[test]
fn a_failed_removal_is_retried_with_growing_backoff() {
    let world = world();
    let mut now = short_lived(&world);
    assert_eq!(world.authority.next_expiry().unwrap(), Some(now));
    let mut pauses = Vec::new();
    for attempt in 0..9 {
        assert_eq!(world.authority.expired(now).unwrap().len(), 1, "attempt {attempt}");
        world.fail_to_expire("dev", now);
        let next = world.authority.next_expiry().unwrap().unwrap();
        let before = next.plus_milliseconds(-1);
        assert!(world.authority.expired(before).unwrap().is_empty(), "attempt {attempt}");
        assert!(world.expire("dev", before).is_none(), "attempt {attempt}");
        pauses.push(next.since(now) / 1000);
        now = next;
    }
    assert_eq!(pauses, [5, 10, 20, 40, 80, 160, 300, 300, 300]);
    // The obstacle is gone.
    let (operation, next) = world.expire("dev", now).unwrap();
    assert!(matches!(world.through(&mut operation.unwrap(), next), OperationOutcome::Done { .. }));
    assert_eq!(world.authority.next_expiry().unwrap(), None);
    let history = world.authority.history(&ResourceLevel::Project(project()), HistoryPage::last(100)).unwrap();
    let count = |kind: &str| history.iter().filter(|entry| entry.kind == kind).count();
    assert_eq!((count("removal_accepted"), count("operation_failed"), count("backend_removed")), (10, 9, 1));
}

#[test]
fn an_expiry_that_does_not_begin_takes_no_lease() {
    let world = world();
    let end = short_lived(&world);
    let fence = || {
        let lease = world.authority.acquire(&project(), &holder(1), end, |_| Liveness::Dead).unwrap();
        world.authority.release(&lease, end).unwrap();
        // The low bits are random.
        lease.fence >> 31
    };
    let begun = fence();
    world.fail_to_expire("dev", end);
    assert_eq!(fence(), begun + 2, "an attempt takes it");
    for second in 0..5 {
        assert!(world.expire("dev", end.plus_milliseconds(second * 1000 - 1)).is_none());
    }
    assert_eq!(fence(), begun + 3, "waiting does not");
    // A holder that is changing the project keeps the lease.
    let due = end.plus_milliseconds(5_000);
    let lease = world.authority.acquire(&project(), &holder(7), due, alive).unwrap();
    let refused = world.authority.expire(&project(), &name("dev"), &holder(1), due);
    assert!(matches!(refused, Err(AuthorityError::Control(ControlError::LeaseHeld { .. }))), "{refused:?}");
    world.authority.renew(&lease, due).unwrap();
    // What a human asks for goes on meanwhile as ever: here, to remove it at once.
    let remove = Work::Remove { volume: VolumeReclaim::Delete, database: DatabaseReclaim::Retain, final_snapshot: false };
    assert!(matches!(world.bring_up(&lease, "dev", remove), OperationOutcome::Done { .. }));
    assert_eq!(world.authority.next_expiry().unwrap(), None);
}

#[test]
fn an_interrupted_expiry_is_resumed_and_not_started_twice() {
    let world = world();
    let end = short_lived(&world);
    world.fail_to_expire("dev", end);
    let due = end.plus_milliseconds(5_000);
    world.expire("dev", due).unwrap();
    assert!(world.authority.expired(due.plus_milliseconds(3_600_000)).unwrap().is_empty());
    assert_eq!(world.authority.next_expiry().unwrap(), None);
    let (mut operation, next) = world.resumed().remove(0);
    assert!(matches!(world.through(&mut operation, next), OperationOutcome::Done { .. }));
    assert!(world.authority.view(&project()).unwrap().backends.is_empty());
}

#[test]
fn an_expiry_retains_a_volume_that_was_to_be_retained() {
    let world = world();
    let lease = world.lease();
    let mut short = BackendSpec::new(ProviderKind::Fly);
    short.region = Some("iad".into());
    short.ttl = Some(TimeSpan::from_seconds(60));
    world.bring_up(&lease, "dev", put(short));
    let keep = Work::Remove { volume: VolumeReclaim::Retain, database: DatabaseReclaim::Retain, final_snapshot: false };
    world.accept(&lease, "keep", "dev", keep).unwrap();
    world.authority.release(&lease, NOW).unwrap();
    let (_, next) = world.expire("dev", NOW.plus_milliseconds(60_000)).unwrap();
    let Transition::Perform(Effect::Remove(placement)) = next else { panic!("{next:?}") };
    assert_eq!(crate::authority::volume_disposal(&placement.provider_state), VolumeReclaim::Retain);
}

#[test]
fn an_earlier_ttl_needs_the_scope_to_destroy() {
    let world = world();
    let lease = world.lease();
    let with = |ttl: Option<u64>, protected: bool| {
        let mut spec = simulated();
        (spec.ttl, spec.protected) = (ttl.map(TimeSpan::from_seconds), protected);
        OperationRequest {
            step: StepKey::parse(&format!("plan/{}", now_key())),
            backend: name("dev"),
            work: put(spec),
            origin: None,
        }
    };
    let bearer = |scope| world.authority.authenticate(&token_for(&world, scope, None).token, NOW).unwrap();
    let (applies, destroys) = (bearer(Scope::Apply), bearer(Scope::Destroy));
    let refused = |request: &OperationRequest| {
        let accepted = world.authority.accept(&lease, ExecutionMode::ControlPlane, Principal::Token(&applies), request, NOW);
        accepted.map_err(refusal_code).map_or_else(|code| code == ControlError::SCOPE_MISSING, |_| false)
    };
    assert!(!refused(&with(Some(1), false)), "what is new has nothing to lose");
    world.bring_up(&lease, "dev", with(Some(60), false).work);
    assert!(refused(&with(Some(59), false)));
    assert!(!refused(&with(Some(60), false)) && !refused(&with(Some(61), false)));
    world.bring_up(&lease, "dev", with(Some(60), true).work);
    assert!(refused(&with(Some(60), false)), "without its protection its time is over");
    world.bring_up(&lease, "dev", with(Some(60), false).work);
    // Under a name that was free a moment ago it is still the same backend.
    let renamed = OperationRequest {
        step: StepKey::parse("plan/rename"),
        backend: name("new"),
        work: with(Some(60), false).work,
        origin: None,
    };
    let Work::Put { spec, secrets, .. } = renamed.work else { panic!() };
    let renamed = OperationRequest {
        work: Work::Put {
            spec,
            secrets,
            renamed_from: Some(name("dev")),
            downgrade: DowngradeConsent::Missing,
            moves: MoveConsent::Missing,
        },
        ..renamed
    };
    assert!(!refused(&renamed));
    let sooner = OperationRequest { backend: name("new"), step: StepKey::parse("plan/sooner"), ..with(Some(1), false) };
    assert!(refused(&sooner));
    let gone = OperationRequest { step: StepKey::parse("plan/gone"), backend: name("new"), work: remove(), origin: None };
    assert!(!refused(&gone), "what has a `ttl` may go before it ends");
    world.bring_up(&lease, "other", with(None, false).work);
    let gone = OperationRequest { step: StepKey::parse("plan/other"), backend: name("other"), ..gone };
    assert!(refused(&gone));
    world.authority.accept(&lease, ExecutionMode::ControlPlane, Principal::Token(&destroys), &gone, NOW).unwrap();
}

#[test]
fn a_renewed_lease_delays_an_expiry_by_a_bounded_time() {
    let world = world();
    let end = short_lived(&world);
    let lease = world.authority.acquire(&project(), &holder(7), end, alive).unwrap();
    let try_at = |now: Timestamp| {
        world.authority.renew(&lease, now).unwrap();
        world.authority.expire(&project(), &name("dev"), &holder(1), now)
    };
    let refused = try_at(end.plus_milliseconds(60_000));
    assert!(matches!(refused, Err(AuthorityError::Control(ControlError::LeaseHeld { .. }))), "{refused:?}");
    let late = end.plus_milliseconds(60_001);
    let (operation, next) = try_at(late).unwrap().unwrap();
    assert!(matches!(world.through(&mut operation.unwrap(), next), OperationOutcome::Done { .. }));
    assert!(world.authority.view(&project()).unwrap().backends.is_empty());
    // The holder of before has it still.
    world.authority.renew(&lease, late).unwrap();
}
