//! Changes that need a right of their own: to take over a project, to take protection off.

use std::collections::BTreeMap;

use super::policy_tests::{desired, recorded, with};
use super::tests::{NOW, me, name, project, put, world};
use super::*;
use crate::api::{OperationRequest, OriginPolicy, Work};
use crate::model::{BackendSpec, DatabaseReclaim, DesiredBackend, Scope, StepKey, TimeSpan, TokenRequest, VolumeReclaim};
use crate::plan::{ObservedState, PlanOptions, build};

#[test]
fn another_repository_with_the_same_name_changes_nothing_unless_it_takes_over() {
    let (shop, blog, folder) = ("repository github.com/acme/shop", "repository github.com/acme/blog", "folder /tmp/x");
    let world = world();
    let lease = world.lease();
    world.bring_up(&lease, "dev", put(recorded()));
    world.authority.set_origin(&lease, shop, OriginPolicy::IfUnclaimed, &me(), NOW).unwrap();
    let ask = |origin: Option<&str>, work: Work| {
        let step = StepKey::parse(&format!("raw/{}", super::tests::now_key()));
        let request = OperationRequest { step, backend: name("dev"), work, origin: origin.map(str::to_owned) };
        world.authority.accept(&lease, ExecutionMode::LeaseHolder, Principal::Trusted(&me()), &request, NOW).map(drop)
    };
    let refused = |result: Result<(), AuthorityError>| match result {
        Err(AuthorityError::Control(ControlError::Refused(finding))) => finding,
        other => panic!("{other:?}"),
    };
    let remove = || Work::Remove { volume: VolumeReclaim::Delete, database: DatabaseReclaim::Retain, final_snapshot: false };
    for work in [put(with(|spec| spec.dashboard = true)), remove()] {
        let finding = refused(ask(Some(blog), work));
        assert_eq!(finding.code, "plan.other_repository");
        assert!(finding.message.contains("--take-over") && finding.message.contains(shop), "{}", finding.message);
    }
    let mut desired = desired();
    blog.clone_into(&mut desired.origin);
    desired.backends.insert(
        name("dev"),
        DesiredBackend {
            spec: with(|spec| spec.dashboard = true),
            env_files: Vec::new(),
            secrets: BTreeMap::new(),
            templates: BTreeMap::new(),
            certificate_file: None,
        },
    );
    let actual = ObservedState { snapshot: world.snapshot(), env_files: BTreeMap::new(), remembered: Vec::new() };
    let plan = build(&desired, &actual, &PlanOptions::default());
    assert_eq!(plan.refusals[0].code, "plan.other_repository");
    let taken = build(&desired, &actual, &PlanOptions { take_over: true, ..PlanOptions::default() });
    assert_eq!((taken.refusals.len(), taken.steps.len()), (0, 1));
    // The same repository, a folder that may be a copy of it, and a client that does not say where it is.
    for origin in [Some(shop), Some(folder), None] {
        ask(origin, put(recorded())).unwrap();
    }
    world.authority.set_origin(&lease, blog, OriginPolicy::TakeOver, &me(), NOW).unwrap();
    ask(Some(blog), remove()).unwrap();
}

#[test]
fn taking_protection_off_needs_the_right_to_destroy_and_a_ttl_lends_it() {
    let allowed = |scope: Scope, before: BackendSpec, work: Work| {
        let world = world();
        let lease = world.lease();
        world.bring_up(&lease, "dev", put(before));
        let request = TokenRequest { project: Some(project()), scope, note: String::new(), ttl: None };
        let issued = world.authority.create_token(&request, &[], &me(), NOW).unwrap();
        let token = world.authority.authenticate(&issued.token, NOW).unwrap();
        let request = OperationRequest { step: StepKey::parse("raw/1"), backend: name("dev"), work, origin: None };
        let accepted = world.authority.accept(&lease, ExecutionMode::ControlPlane, Principal::Token(&token), &request, NOW);
        match accepted {
            Ok(_) => true,
            Err(AuthorityError::Control(ControlError::NotAuthorised(_))) => false,
            Err(other) => panic!("{other:?}"),
        }
    };
    let protected = || with(|spec| spec.protected = true);
    let short = || with(|spec| spec.ttl = Some(TimeSpan::from_seconds(3600)));
    let remove = || Work::Remove { volume: VolumeReclaim::Delete, database: DatabaseReclaim::Retain, final_snapshot: false };
    let drop_database =
        || Work::Remove { volume: VolumeReclaim::Delete, database: DatabaseReclaim::Delete, final_snapshot: false };
    assert!(!allowed(Scope::Apply, protected(), put(recorded())));
    assert!(allowed(Scope::Destroy, protected(), put(recorded())));
    assert!(allowed(
        Scope::Apply,
        protected(),
        put(with(|spec| {
            spec.protected = true;
            spec.dashboard = true;
        }))
    ));
    assert!(!allowed(Scope::Apply, recorded(), remove()));
    assert!(allowed(Scope::Apply, short(), remove()));
    assert!(!allowed(Scope::Apply, short(), drop_database()));
}
