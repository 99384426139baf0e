//! Apps of a platform: named before they are made, counted, retained, and replaced.

use super::tests::{NOW, me, project, put, remove, simulated, world};
use super::*;
use crate::api::{OperationOutcome, Work};
use crate::model::{BackendSpec, DatabaseReclaim, ProviderKind, VolumeReclaim};

fn fly() -> BackendSpec {
    let mut spec = BackendSpec::new(ProviderKind::Fly);
    spec.region = Some("iad".into());
    spec
}

fn placed(next: &Transition) -> crate::model::ResolvedBackend {
    match next {
        Transition::Perform(Effect::Ensure(placement)) => (**placement).clone(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn an_app_is_named_before_it_is_made_and_keeps_its_name() {
    let world = world();
    let lease = world.lease();
    let (operation, next) = world.accept(&lease, "k", "dev", put(fly())).unwrap();
    let placement = placed(&next);
    let app = placement.provider_state["app"].clone();
    assert!(app.starts_with("gremlin-dev-"), "{app}");
    assert_eq!(placement.endpoints.url, format!("https://{app}.fly.dev"));
    assert_eq!(placement.endpoints.site_url, format!("https://{app}.fly.dev/http"));
    assert_eq!((placement.ports.api, placement.provider_state["reach"].as_str()), (0, placement.endpoints.url.as_str()));
    // A command that was killed here finds the same name again.
    let (_, next) = world.accept(&lease, "k2", "dev", put(fly())).unwrap();
    assert_eq!(placed(&next).provider_state["app"], app);

    // Another organization has that name: another one is taken, as long as no client knows it.
    let failure =
        |taken| EffectResult::Failed(EffectFailure { finding: Diagnostic::new("fly.app_taken", "taken"), conflict: taken });
    let mut operation = operation.unwrap();
    let next = world.authority.advance(&mut operation, failure(Some(AllocationConflict::App)), NOW).unwrap();
    let other = placed(&next);
    assert_ne!(other.provider_state["app"], app);
    assert_eq!(other.endpoints.url, format!("https://{}.fly.dev", other.provider_state["app"]));
    let mut tries = 1;
    while let Transition::Perform(_) =
        world.authority.advance(&mut operation, failure(Some(AllocationConflict::App)), NOW).unwrap()
    {
        tries += 1;
        assert!(tries < 20, "it looks for names for ever");
    }
}

#[test]
fn own_origins_stand_before_the_apps() {
    let world = world();
    let lease = world.lease();
    let mut spec = fly();
    spec.origins.api = Some("https://api.gremlin.dev".into());
    spec.origins.site = Some("https://api.gremlin.dev/http".into());
    spec.settings.fly.app = Some("named".into());
    let (_, next) = world.accept(&lease, "k", "dev", put(spec)).unwrap();
    let placement = placed(&next);
    assert_eq!(placement.provider_state["app"], "named");
    assert_eq!(placement.provider_state["reach"], "https://named.fly.dev");
    assert_eq!(placement.endpoints.url, "https://api.gremlin.dev");
    assert_eq!(placement.endpoints.site_url, "https://api.gremlin.dev/http");
}

#[test]
fn a_quota_in_dollars_counts_what_machines_cost() {
    let world = world();
    let lease = world.lease();
    let quota = crate::model::Quota { monthly_usd: Some(10.0), ..crate::model::Quota::default() };
    world.authority.set_quota(&crate::api::ResourceLevel::Project(project()), &quota, &me(), NOW).unwrap();
    world.accept(&lease, "one", "one", put(fly())).unwrap();
    let refused = world.accept(&lease, "two", "two", put(fly())).unwrap_err();
    assert!(refused.to_string().contains("would cost $17.06 a month together, and its quota allows $10.00"), "{refused}");
    world.accept(&lease, "three", "three", put(simulated())).unwrap();
    world.accept(&lease, "four", "one", put(fly())).unwrap();
}

#[test]
fn a_removal_that_keeps_the_volume_is_finished_as_it_was_begun() {
    let world = world();
    let lease = world.lease();
    assert!(matches!(world.bring_up(&lease, "dev", put(fly())), OperationOutcome::Done { .. }));
    let keep = Work::Remove { volume: VolumeReclaim::Retain, database: DatabaseReclaim::Retain, final_snapshot: false };
    let (_, next) = world.accept(&lease, "keep", "dev", keep).unwrap();
    let kept = |next: &Transition| match next {
        Transition::Perform(Effect::Remove(placement)) => volume_disposal(&placement.provider_state),
        other => panic!("{other:?}"),
    };
    assert_eq!(kept(&next), VolumeReclaim::Retain);
    // As the next server finds it after a crash.
    let resumed = world.authority.resume(&std::collections::BTreeSet::new(), NOW).unwrap();
    assert_eq!(kept(&resumed.resumed[0].2), VolumeReclaim::Retain);
    let begun = || world.authority.view(&project()).unwrap().backends[0].removal.map(|removal| removal.volume);
    assert_eq!(begun(), Some(VolumeReclaim::Retain));
    // It is declared again: what is there goes first, as it was begun.
    let (_, next) = world.accept(&lease, "again", "dev", put(fly())).unwrap();
    assert_eq!(kept(&next), VolumeReclaim::Retain);
    // A later request has another policy.
    let (_, next) = world.accept(&lease, "all", "dev", remove()).unwrap();
    assert_eq!((kept(&next), begun()), (VolumeReclaim::Delete, Some(VolumeReclaim::Delete)));
}

#[test]
fn a_first_attempt_in_an_app_that_was_named_is_replaced_without_its_data() {
    for (app, kept) in [(Some("named".to_owned()), VolumeReclaim::Retain), (None, VolumeReclaim::Delete)] {
        let world = world();
        let lease = world.lease();
        let mut first = fly();
        first.settings.fly.app = app;
        world.accept(&lease, "fly", "dev", put(first)).unwrap();
        // It was never ready, so another provider may take its place; but who knows what was in that app.
        let (operation, next) = world.accept(&lease, "here", "dev", put(simulated())).unwrap();
        let Transition::Perform(Effect::Remove(placement)) = next else { panic!("{next:?}") };
        assert_eq!(volume_disposal(&placement.provider_state), kept);
        let next = world.authority.advance(&mut operation.unwrap(), EffectResult::Removed(None), NOW).unwrap();
        assert!(!placed(&next).provider_state.contains_key("app"), "{next:?}");
    }
}
