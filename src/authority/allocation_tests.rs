//! Ports that conflict with those of other processes: replaced until a client knows them, and kept from then on.

use super::data_tests::{NEW, OLD, at};
use super::database_tests::on_server;
use super::tests::{NOW, World, me, name, project, put, simulated, world};
use super::*;
use crate::api::{Lease, OperationOutcome, Work};
use crate::convex::admin_key::InstanceSecret;
use crate::model::{
    BackendSpec, DatabaseReclaim, DatabaseRole, Diagnostic, InstanceName, PortPair, ProviderKind, ProviderState, Release,
    ResolvedBackend, VolumeReclaim,
};

fn taken(placement: &ResolvedBackend) -> EffectResult {
    EffectResult::Failed(EffectFailure {
        finding: Diagnostic::new("provider.port_taken", "taken"),
        conflict: Some(AllocationConflict::Port(placement.ports.api)),
    })
}

/// Returns the ports that an operation starts its backend on, once those that it was given first were taken.
fn ports_after_conflict(world: &World, lease: &Lease, work: Work) -> Option<(PortPair, PortPair)> {
    let (mut operation, mut next) = world.started(lease, &format!("plan/{}", super::tests::now_key()), work);
    let mut first = None;
    loop {
        let end = match next {
            Transition::Ended(OperationOutcome::Failed { .. }) => return None,
            Transition::Ended(OperationOutcome::Done { .. }) => panic!("nothing was in its way"),
            Transition::Perform(Effect::Ensure(placement) | Effect::StartRelease(placement)) => match first {
                None => {
                    first = Some(placement.ports);
                    taken(&placement)
                }
                Some(first) if first != placement.ports => {
                    assert_eq!(placement.endpoints.url, format!("http://127.0.0.1:{}", placement.ports.api));
                    return Some((first, placement.ports));
                }
                // What is undone brings it up as before.
                Some(_) => EffectResult::Ensured(ProviderState::new()),
            },
            Transition::Perform(Effect::AwaitReady(_)) => EffectResult::Ready,
            Transition::Perform(Effect::PrepareStorage(_)) => EffectResult::StoragePrepared,
            Transition::Perform(Effect::CopyData(..)) => EffectResult::DataCopied,
            Transition::Perform(Effect::WriteSnapshot(..)) => EffectResult::SnapshotWritten,
            Transition::Perform(Effect::StageData(..)) => EffectResult::DataStaged,
            Transition::Perform(Effect::SwitchData(..)) => EffectResult::DataSwitched(ProviderState::new()),
            Transition::Perform(Effect::ConfirmData(..)) => EffectResult::DataConfirmed(ProviderState::new()),
            Transition::Perform(other) => panic!("{other:?}"),
        };
        next = world.authority.advance(&mut operation, end, NOW).unwrap();
    }
}

fn adopt(world: &World, lease: &Lease, spec: BackendSpec, ports: Option<PortPair>) {
    let adoption = Adoption {
        name: name("dev"),
        instance_name: InstanceName::parse("convex-self-hosted").unwrap(),
        instance_secret: Some(InstanceSecret::new([3; 32]).to_hex()),
        spec,
        secrets: Default::default(),
        ports,
        id: None,
        proof: AdoptionProof::OwnerLabels,
    };
    let note = |_: &ResolvedBackend| ProviderState::from([("volume".to_owned(), "data".to_owned())]);
    let adopted = world.authority.adopt(lease, &me(), adoption, note, NOW).unwrap();
    assert_eq!(adopted.provider_state.get("volume").map(String::as_str), Some("data"));
}

#[test]
fn a_new_backend_gets_other_ports_until_it_was_ready() {
    let world = world();
    let lease = world.lease();
    assert!(ports_after_conflict(&world, &lease, put(simulated())).is_some());
    world.bring_up(&lease, "dev", put(simulated()));
    assert_eq!(ports_after_conflict(&world, &lease, put(simulated())), None, "clients know them now");
}

#[test]
fn an_imported_backend_without_ports_of_its_own_gets_them_like_a_new_one() {
    let world = world();
    let lease = world.lease();
    adopt(&world, &lease, BackendSpec::new(ProviderKind::Docker), None);
    let docker = || put(BackendSpec::new(ProviderKind::Docker));
    let (_, second) = ports_after_conflict(&world, &lease, docker()).unwrap();
    world.bring_up(&lease, "dev", docker());
    assert_eq!(world.authority.resolve_backend(&project(), &name("dev")).unwrap().ports, second);
    assert_eq!(ports_after_conflict(&world, &lease, docker()), None);
}

#[test]
fn an_imported_backend_keeps_the_ports_that_it_is_published_on() {
    let world = world();
    let lease = world.lease();
    adopt(&world, &lease, BackendSpec::new(ProviderKind::Docker), Some(PortPair { api: 3210, site: 3211 }));
    assert_eq!(ports_after_conflict(&world, &lease, put(BackendSpec::new(ProviderKind::Docker))), None);
}

#[test]
fn an_upgrade_that_comes_first_gets_other_ports_as_well_and_keeps_them_when_it_is_undone() {
    let world = world();
    let lease = world.lease();
    let mut spec = simulated();
    spec.release = Some(Release::parse(OLD).unwrap());
    adopt(&world, &lease, spec, None);
    let (_, second) = ports_after_conflict(&world, &lease, at(NEW)).unwrap();
    let (mut operation, mut next) = world.resumed_one();
    while let Transition::Perform(effect) = next {
        let end = match effect {
            Effect::CopyData(..) => EffectResult::DataCopied,
            Effect::WriteSnapshot(..) => EffectResult::SnapshotWritten,
            Effect::StartRelease(_) => super::step_tests::failed("provider.exited"),
            Effect::StageData(..) => EffectResult::DataStaged,
            Effect::SwitchData(..) => EffectResult::DataSwitched(ProviderState::new()),
            Effect::ConfirmData(..) => EffectResult::DataConfirmed(ProviderState::new()),
            Effect::Ensure(placement) => {
                assert_eq!(placement.ports, second);
                assert_eq!(placement.endpoints.url, format!("http://127.0.0.1:{}", second.api));
                EffectResult::Ensured(ProviderState::new())
            }
            Effect::AwaitReady(_) => EffectResult::Ready,
            other => panic!("{other:?}"),
        };
        next = world.authority.advance(&mut operation, end, NOW).unwrap();
    }
}

#[test]
fn data_that_is_taken_up_again_gets_ports_like_a_new_backend() {
    let world = world();
    let lease = world.lease();
    let put = || on_server("postgres://me@db", DatabaseRole::Url);
    world.bring_up(&lease, "dev", put());
    let keep = Work::Remove { volume: VolumeReclaim::Retain, database: DatabaseReclaim::Retain, final_snapshot: false };
    world.bring_up(&lease, "dev", keep);
    assert!(ports_after_conflict(&world, &lease, put()).is_some());
}
