//! The planner as a table: what is wanted, what there is, and the steps that follow.

use std::collections::BTreeMap;

use rstest::rstest;

use super::*;
use crate::model::{
    ActualBackend, BackendId, Budget, ByteSize, ControlPlaneInfo, Cpus, DataState, Desired, DesiredBackend, Endpoints,
    FingerprintKey, Generation, InstanceName, Moved, Observation, Phase, ProviderKind, Release, RunState, ServerStorage,
    Snapshot, Storage, Timestamp,
};

pub(super) fn name(text: &str) -> BackendName {
    BackendName::parse(text).unwrap()
}

pub(super) fn spec(provider: ProviderKind) -> BackendSpec {
    BackendSpec::new(provider)
}

pub(super) fn on_fly() -> BackendSpec {
    BackendSpec { region: Some("iad".into()), ..spec(ProviderKind::Fly) }
}

pub(super) fn wanted(spec: BackendSpec) -> DesiredBackend {
    DesiredBackend { spec, env_files: Vec::new(), secrets: BTreeMap::new(), templates: BTreeMap::new(), certificate_file: None }
}

pub(super) fn desired(backends: &[(&str, DesiredBackend)]) -> Desired {
    Desired {
        project: ProjectName::parse("gremlin").unwrap(),
        control_plane: None,
        budget: Budget::default(),
        backends: backends.iter().map(|(key, backend)| (name(key), backend.clone())).collect(),
        moved: Vec::new(),
        manifest: Digest::of(b"manifest"),
        origin: "folder /app".to_owned(),
    }
}

pub(super) fn existing(key: &str, spec: BackendSpec) -> ActualBackend {
    ActualBackend {
        id: BackendId::new(format!("id-{key}")),
        name: name(key),
        instance_name: InstanceName::parse(&format!("gremlin-{key}")).unwrap(),
        newest_release: spec.release.clone(),
        recorded: spec,
        secrets: BTreeMap::new(),
        phase: Phase::Ready,
        generation: Generation(1),
        region: None,
        dashboard_url: None,
        endpoints: Some(Endpoints { url: "http://127.0.0.1:4210".into(), site_url: "http://127.0.0.1:4211".into() }),
        admin_key: Some(FingerprintKey::new([1; 32]).fingerprint("key")),
        removal: None,
        created_at: Timestamp(0),
        expires_at: None,
        stopped: false,
        observation: Observation::as_recorded(RunState::Running),
        unmanaged_env: std::collections::BTreeSet::new(),
        data_size: None,
        last_snapshot: None,
        takes_snapshots: false,
        observe_error: None,
        internal_url: None,
        built_on: None,
    }
}

pub(super) fn actual(backends: Vec<ActualBackend>) -> ObservedState {
    ObservedState {
        snapshot: Snapshot {
            project: ProjectName::parse("gremlin").unwrap(),
            revision: Revision(7),
            control_plane: ControlPlaneInfo {
                name: "embedded".to_owned(),
                providers: vec![ProviderKind::Simulated, ProviderKind::Local, ProviderKind::Docker],
                expiry: crate::model::Expiry::Recorded,
                scope: None,
            },
            origin: Some("folder /app".to_owned()),
            backends,
            quota: crate::model::Quota::default(),
            operations: Vec::new(),
            retained: Vec::new(),
            expired: BTreeMap::new(),
        },
        env_files: BTreeMap::new(),
        remembered: Vec::new(),
    }
}

pub(super) fn planned(desired: &Desired, actual: &ObservedState) -> Plan {
    let plan = build(desired, actual, &PlanOptions::default());
    assert_eq!(validate(&plan), Ok(()));
    assert_eq!(build(desired, actual, &PlanOptions::default()), plan, "planning is deterministic");
    plan
}

pub(super) fn ids(plan: &Plan) -> Vec<&str> {
    plan.steps.iter().map(|step| step.id.as_str()).collect()
}

pub(super) fn codes(refusals: &[Diagnostic]) -> Vec<&str> {
    refusals.iter().map(|refusal| refusal.code.as_str()).collect()
}

pub(super) fn lints(plan: &Plan) -> Vec<&str> {
    plan.lints.iter().map(|lint| lint.code.as_str()).collect()
}

/// The plan for one backend that was recorded as `before` and is wanted as `after`.
fn change(before: BackendSpec, after: BackendSpec) -> Plan {
    planned(&desired(&[("dev", wanted(after))]), &actual(vec![existing("dev", before)]))
}

pub(super) fn effects(plan: &Plan) -> Vec<(&str, ChangeImpact)> {
    plan.steps.iter().flat_map(|step| &step.changes).map(|change| (change.path.as_str(), change.effect)).collect()
}

#[test]
fn an_unchanged_backend_needs_no_step() {
    let plan = change(spec(ProviderKind::Simulated), spec(ProviderKind::Simulated));
    assert!(plan.is_empty());
    assert_eq!(plan.base, Revision(7));
}

#[test]
fn backends_are_created_after_their_dependencies() {
    let mut early = spec(ProviderKind::Simulated);
    early.depends_on.insert(name("zeta"));
    let plan = planned(&desired(&[("alpha", wanted(early)), ("zeta", wanted(spec(ProviderKind::Simulated)))]), &actual(vec![]));
    assert_eq!(ids(&plan), ["create:backend.zeta", "create:backend.alpha"]);
    assert_eq!(plan.steps[1].after, vec![plan.steps[0].id.clone()]);
    assert!(plan.steps.iter().all(|step| step.reason == Reason::New));
}

#[rstest]
#[case::memory_changes_in_place(|spec: &mut BackendSpec| spec.resources.memory = Some(ByteSize::from_bytes(1 << 30)),
    &[("resources.memory", ChangeImpact::InPlace)])]
#[case::cpus_change_in_place(|spec: &mut BackendSpec| spec.resources.cpus = Cpus::from_cores(1.0),
    &[("resources.cpus", ChangeImpact::InPlace)])]
#[case::tuning_restarts(|spec: &mut BackendSpec| spec.tuning.max_concurrent_queries = Some(32),
    &[("tuning.max_concurrent_queries", ChangeImpact::Restart)])]
#[case::protection_is_only_recorded(|spec: &mut BackendSpec| spec.protected = true, &[("protected", ChangeImpact::Record)])]
#[case::a_region_moves_data(|spec: &mut BackendSpec| spec.region = Some("iad".into()), &[("region", ChangeImpact::MovesData)])]
#[case::a_storage_engine_moves_data(
    |spec: &mut BackendSpec| spec.storage = Storage::Postgres(ServerStorage { managed: true, ..ServerStorage::default() }),
    &[("storage.engine", ChangeImpact::MovesData), ("storage.managed", ChangeImpact::MovesData)])]
#[case::an_origin_restarts(|spec: &mut BackendSpec| spec.origins.api = Some("https://api.example.com".into()),
    &[("origins.api", ChangeImpact::Restart)])]
fn a_changed_field_has_the_documented_impact(#[case] edit: fn(&mut BackendSpec), #[case] expected: &[(&str, ChangeImpact)]) {
    let mut changed = spec(ProviderKind::Docker);
    edit(&mut changed);
    assert_eq!(effects(&change(spec(ProviderKind::Docker), changed)), expected);
}

#[test]
fn a_limit_is_lifted_by_a_restart_and_nothing_limits_a_volume() {
    let mut limited = spec(ProviderKind::Docker);
    limited.resources.memory = Some(ByteSize::from_bytes(1 << 30));
    limited.resources.cpus = Cpus::from_cores(1.0);
    limited.resources.disk = Some(ByteSize::from_bytes(1 << 30));
    let lifted = [
        ("resources.cpus", ChangeImpact::Restart),
        ("resources.disk", ChangeImpact::Record),
        ("resources.memory", ChangeImpact::Restart),
    ];
    assert_eq!(effects(&change(limited, spec(ProviderKind::Docker))), lifted);
}

#[test]
fn an_upgrade_restarts_and_a_downgrade_is_refused() {
    let release = |tag: &str| BackendSpec { release: Some(Release::parse(tag).unwrap()), ..spec(ProviderKind::Docker) };
    let (old, new) = (release("precompiled-2026-06-26-903b8b9"), release("precompiled-2026-08-22-652b828"));
    assert_eq!(effects(&change(old.clone(), new.clone())), [("release", ChangeImpact::Restart)]);
    assert_eq!(codes(&change(new, old).refusals), ["plan.downgrade"]);
}

#[test]
fn a_change_that_moves_data_is_refused_with_a_way_out() {
    let plan = change(spec(ProviderKind::Simulated), spec(ProviderKind::Docker));
    assert_eq!(ids(&plan), ["move:backend.dev"]);
    assert_eq!(plan.summary.moves, 1);
    assert_eq!(codes(&plan.refusals), ["plan.moves_data"]);
    assert!(plan.refusals[0].message.contains("convex export"));
}

#[test]
fn disks_only_grow() {
    let with = |size: u64| {
        let mut spec = spec(ProviderKind::Docker);
        spec.resources.disk = Some(ByteSize::from_bytes(size));
        spec
    };
    assert!(change(with(1 << 30), with(2 << 30)).refusals.is_empty());
    assert_eq!(codes(&change(with(2 << 30), with(1 << 30)).refusals), ["plan.disk_shrinks"]);
}

#[test]
fn an_unavailable_provider_is_refused_by_name() {
    let fly = on_fly();
    let plan = planned(&desired(&[("dev", wanted(fly))]), &actual(vec![]));
    assert_eq!(codes(&plan.refusals), ["plan.provider_unavailable"]);
    let message = &plan.refusals[0].message;
    assert!(message.starts_with("provider `fly` is not available in this control plane"), "{message}");
    assert!(message.contains("`FLY_API_TOKEN`"), "{message}");
}

#[test]
fn drift_has_a_reason_of_its_own_beside_changes() {
    let mut stopped = existing("dev", spec(ProviderKind::Simulated));
    stopped.observation.state = RunState::Stopped;
    stopped.observation.drift =
        vec![FieldDrift { path: FieldPath::new("process"), recorded: "running".into(), observed: "stopped".into() }];
    let same = planned(&desired(&[("dev", wanted(spec(ProviderKind::Simulated)))]), &actual(vec![stopped.clone()]));
    assert!(same.is_only_drift());
    assert_eq!(same.drift.len(), 1);
    let mut after = spec(ProviderKind::Simulated);
    after.protected = true;
    let both = planned(&desired(&[("dev", wanted(after))]), &actual(vec![stopped]));
    assert!(!both.is_only_drift());
    assert_eq!(both.steps[0].reason, Reason::Changed);
    assert_eq!(effects(&both), [("protected", ChangeImpact::Record), ("process", ChangeImpact::Restart)]);
}

#[test]
fn unmanaged_resources_are_drift_without_a_step() {
    let mut beside = existing("dev", spec(ProviderKind::Fly));
    let path = FieldPath::new("foreign.volumes.vol_1");
    beside.observation.drift = vec![FieldDrift { path, recorded: "absent".into(), observed: "present".into() }];
    let snapshot = actual(vec![beside]);
    let plan = planned(&desired(&[("dev", wanted(spec(ProviderKind::Fly)))]), &snapshot);
    assert_eq!((plan.drift.len(), plan.steps.len()), (1, 0));
    assert_eq!(detect_drift(&snapshot.snapshot).drift.len(), 1);
}

#[test]
fn missing_data_is_refused_instead_of_starting_empty() {
    let mut gone = existing("dev", spec(ProviderKind::Simulated));
    gone.observation.data = DataState::Missing;
    let plan = planned(&desired(&[("dev", wanted(spec(ProviderKind::Simulated)))]), &actual(vec![gone]));
    assert_eq!(codes(&plan.refusals), ["plan.data_missing"]);
}

#[test]
fn a_failed_lookup_is_not_absence() {
    let mut unseen = existing("dev", spec(ProviderKind::Simulated));
    unseen.observation = Observation::unknown();
    unseen.observe_error = Some(crate::model::Diagnostic::new("fly.token", "Fly does not take the token"));
    let plan = planned(&desired(&[("dev", wanted(spec(ProviderKind::Simulated)))]), &actual(vec![unseen]));
    assert!(plan.is_empty());
    assert_eq!(lints(&plan), ["plan.not_observed"]);
    assert!(plan.lints[0].message.ends_with(": Fly does not take the token"), "{}", plan.lints[0].message);
}

#[rstest]
#[case::of_a_creation(Phase::Creating, "create:backend.dev", Reason::Unfinished)]
#[case::of_an_update(Phase::Updating, "update:backend.dev", Reason::Unfinished)]
#[case::that_failed(Phase::Failed, "update:backend.dev", Reason::Unfinished)]
#[case::of_a_removal(Phase::Removing, "create:backend.dev", Reason::RemovalUnfinished)]
fn an_interrupted_operation_is_resumed(#[case] phase: Phase, #[case] step: &str, #[case] reason: Reason) {
    let interrupted = ActualBackend { phase, ..existing("dev", spec(ProviderKind::Simulated)) };
    let plan = planned(&desired(&[("dev", wanted(spec(ProviderKind::Simulated)))]), &actual(vec![interrupted]));
    assert_eq!((ids(&plan), plan.steps[0].reason), (vec![step], reason));
}

#[test]
fn a_rename_keeps_the_backend() {
    let mut renamed = desired(&[("prod", wanted(spec(ProviderKind::Simulated)))]);
    renamed.moved = vec![Moved { from: name("dev"), to: name("prod") }];
    let plan = planned(&renamed, &actual(vec![existing("dev", spec(ProviderKind::Simulated))]));
    assert_eq!((ids(&plan), plan.steps[0].reason), (vec!["update:backend.prod"], Reason::Renamed));
    let both = actual(vec![existing("dev", spec(ProviderKind::Simulated)), existing("prod", spec(ProviderKind::Simulated))]);
    assert_eq!(codes(&planned(&renamed, &both).refusals), ["plan.moved_onto_existing"]);
}

#[test]
fn a_project_of_another_repository_is_refused_unless_it_is_taken_over() {
    let mut elsewhere = desired(&[]);
    elsewhere.origin = "folder /other".to_owned();
    let actual = actual(vec![existing("dev", spec(ProviderKind::Simulated))]);
    assert_eq!(codes(&planned(&elsewhere, &actual).refusals), ["plan.other_repository"]);
    let taking_over = PlanOptions { take_over: true, ..PlanOptions::default() };
    let plan = build(&elsewhere, &actual, &taking_over);
    assert_eq!((codes(&plan.refusals), lints(&plan)), (vec![], vec!["plan.other_repository"]));
}

#[test]
fn nothing_is_shown_of_a_project_of_another_remote() {
    let mut actual =
        actual(vec![existing("dev", spec(ProviderKind::Simulated)), existing("shop", spec(ProviderKind::Simulated))]);
    actual.snapshot.origin = Some("repository github.com/acme/shop".to_owned());
    let mut elsewhere = desired(&[("dev", wanted(spec(ProviderKind::Simulated)))]);
    elsewhere.origin = "repository github.com/acme/blog".to_owned();
    for destroy in [false, true] {
        let plan = build(&elsewhere, &actual, &PlanOptions { destroy, ..PlanOptions::default() });
        assert_eq!(codes(&plan.refusals), ["plan.other_repository"]);
        assert_eq!((plan.steps.len(), plan.drift.len(), lints(&plan).len(), plan.at_stake.len()), (0, 0, 0, 0));
        assert!(!format!("{plan:?}").contains("backend.shop"));
    }
    let taking_over = PlanOptions { take_over: true, ..PlanOptions::default() };
    assert_eq!(ids(&build(&elsewhere, &actual, &taking_over)), ["destroy:backend.shop"]);
}

#[test]
fn a_changed_document_is_noticed() {
    let plan = planned(&desired(&[("dev", wanted(spec(ProviderKind::Simulated)))]), &actual(vec![]));
    let text = serde_json::to_string(&plan).unwrap();
    let mut read: Plan = serde_json::from_str(&text).unwrap();
    assert_eq!(validate(&read), Ok(()));
    read.steps[0].changes[0].after = Some("docker".into());
    assert_eq!(validate(&read), Err(PlanError::Digest));
}

#[test]
fn omitting_the_release_in_between_does_not_allow_a_downgrade() {
    let mut unpinned = existing("dev", spec(ProviderKind::Docker));
    unpinned.newest_release = Some(Release::parse("precompiled-2026-08-22-652b828").unwrap());
    let mut older = spec(ProviderKind::Docker);
    older.release = Some(Release::parse("precompiled-2026-06-26-903b8b9").unwrap());
    let plan = planned(&desired(&[("dev", wanted(older))]), &actual(vec![unpinned]));
    assert_eq!(codes(&plan.refusals), ["plan.downgrade"]);
}

#[test]
fn a_backend_that_is_being_changed_is_unfinished_and_not_drift() {
    let mut changing = existing("dev", spec(ProviderKind::Simulated));
    changing.phase = Phase::Updating;
    changing.observation.state = RunState::Stopped;
    changing.observation.drift =
        vec![FieldDrift { path: FieldPath::new("process"), recorded: "running".into(), observed: "stopped".into() }];
    let report = detect_drift(&actual(vec![changing]).snapshot);
    assert_eq!((report.drift.len(), report.unfinished.len()), (0, 1));
}

/// A control plane that can carry everything out.
pub(super) fn everywhere(backends: Vec<ActualBackend>) -> ObservedState {
    let mut all = actual(backends);
    all.snapshot.control_plane.providers = ProviderKind::ALL.to_vec();
    all
}

#[test]
fn settings_that_fly_does_not_have_are_refused() {
    let mut fly = spec(ProviderKind::Fly);
    let refused = |spec: &BackendSpec| {
        let plan = planned(&desired(&[("a", wanted(spec.clone()))]), &everywhere(vec![]));
        plan.refusals.iter().map(|refusal| refusal.code.clone()).collect::<Vec<_>>()
    };
    assert_eq!(refused(&fly), ["plan.region_missing"]);
    fly.region = Some("iad".into());
    assert_eq!(refused(&fly), Vec::<String>::new());
    fly.settings.fly.fallback_regions = vec!["atlantis".into()];
    assert_eq!(refused(&fly), ["plan.unknown_region"]);
    fly.settings.fly.fallback_regions.clear();
    fly.resources.memory = ByteSize::parse("100 GiB").ok();
    assert_eq!(refused(&fly), ["plan.unknown_size"]);
    fly.resources.memory = None;
    fly.dashboard = true;
    fly.release = Release::parse(&format!("sha256:{}", "a".repeat(64))).ok();
    assert_eq!(refused(&fly), ["plan.dashboard_release_unknown"]);
}

#[test]
fn another_organisation_or_app_would_move_the_data() {
    let fly = on_fly();
    for change in [
        |spec: &mut BackendSpec| spec.settings.fly.org = Some("other".into()),
        |spec: &mut BackendSpec| spec.settings.fly.app = Some("other".into()),
        |spec: &mut BackendSpec| spec.region = Some("fra".into()),
    ] {
        let mut other = fly.clone();
        change(&mut other);
        let plan = planned(&desired(&[("a", wanted(other))]), &everywhere(vec![existing("a", fly.clone())]));
        assert_eq!(codes(&plan.refusals), ["plan.moves_data"]);
    }
}
