//! The planner as a table: what is wanted, what there is, and the steps that follow.

use std::collections::BTreeMap;

use rstest::rstest;

use super::*;
use crate::model::{
    ActualBackend, Address, BackendId, Budget, ByteSize, CertificateFile, Certificates, ControlPlaneInfo, Cpus, DataState,
    Desired, DesiredBackend, Endpoints, EnvFileContent, EnvFileContents, EnvFileState, FingerprintKey, Generation,
    InstanceName, Moved, Observation, Phase, ProviderKind, ReclaimPolicy, Release, RememberedEnvFile, RequestedBy, RunState,
    SecretRef, SecretSource, SecretState, ServerStorage, Snapshot, Storage, Timestamp, Tls, Usd, VolumeReclaim,
};

pub(super) fn name(text: &str) -> BackendName {
    BackendName::parse(text).unwrap()
}

pub(super) fn spec(provider: ProviderKind) -> BackendSpec {
    BackendSpec::new(provider)
}

pub(super) fn wanted(spec: BackendSpec) -> DesiredBackend {
    DesiredBackend { spec, env_files: Vec::new(), secrets: BTreeMap::new(), certificate_file: None }
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

fn lints(plan: &Plan) -> Vec<&str> {
    plan.lints.iter().map(|lint| lint.code.as_str()).collect()
}

/// The plan for one backend that was recorded as `before` and is wanted as `after`.
fn change(before: BackendSpec, after: BackendSpec) -> Plan {
    planned(&desired(&[("dev", wanted(after))]), &actual(vec![existing("dev", before)]))
}

fn effects(plan: &Plan) -> Vec<(&str, ChangeImpact)> {
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

#[test]
fn backends_are_destroyed_before_their_dependencies() {
    let mut late = spec(ProviderKind::Simulated);
    late.depends_on.insert(name("alpha"));
    let plan = planned(&desired(&[]), &actual(vec![existing("alpha", spec(ProviderKind::Simulated)), existing("zeta", late)]));
    assert_eq!(ids(&plan), ["destroy:backend.zeta", "destroy:backend.alpha"]);
    assert!(plan.steps.iter().all(|step| step.destroys_data && step.reason == Reason::RemovedFromManifest));
    assert_eq!(codes(&destruction_refusals(&plan, &[name("zeta")])), ["apply.destruction_not_allowed"]);
    assert!(destruction_refusals(&plan, &[name("zeta"), name("alpha")]).is_empty());
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
    let mut fly = spec(ProviderKind::Fly);
    fly.region = Some("iad".into());
    let plan = planned(&desired(&[("dev", wanted(fly))]), &actual(vec![]));
    assert_eq!(codes(&plan.refusals), ["plan.provider_unavailable"]);
    let message = &plan.refusals[0].message;
    assert!(message.starts_with("provider `fly` is not available in this control plane"), "{message}");
    assert!(message.contains("`FLY_API_TOKEN`"), "{message}");
}

#[test]
fn a_protected_backend_is_not_destroyed_with_its_block() {
    let mut protected = spec(ProviderKind::Simulated);
    protected.protected = true;
    let plan = planned(&desired(&[]), &actual(vec![existing("dev", protected)]));
    assert_eq!(codes(&plan.refusals), ["plan.protected"]);
}

#[test]
fn budgets_are_summed_over_all_backends() {
    let with = |cores: f64| {
        let mut spec = spec(ProviderKind::Docker);
        spec.resources.cpus = Cpus::from_cores(cores);
        wanted(spec)
    };
    let mut two = desired(&[("a", with(1.5)), ("b", with(0.5))]);
    two.budget.cpus = Cpus::from_cores(2.0);
    assert!(planned(&two, &actual(vec![])).refusals.is_empty());
    two.budget.cpus = Cpus::from_cores(1.999);
    assert_eq!(codes(&planned(&two, &actual(vec![])).refusals), ["plan.over_budget_cpus"]);
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
fn secrets_are_compared_by_fingerprint_and_only_where_they_are() {
    let key = FingerprintKey::new([3; 32]);
    let path = FieldPath::new("env.TOKEN");
    let with = |state: SecretState| {
        let mut spec = spec(ProviderKind::Simulated);
        spec.env.insert("TOKEN".into(), SecretSource::Reference(SecretRef::Env("TOKEN".into())));
        let mut backend = wanted(spec);
        backend.secrets.insert(path.clone(), state);
        backend
    };
    let mut recorded = existing("dev", with(SecretState::Unkeyed).spec);
    recorded.secrets.insert(path.clone(), key.fingerprint("one"));
    let plan_for = |state: SecretState| planned(&desired(&[("dev", with(state))]), &actual(vec![recorded.clone()]));

    assert!(plan_for(SecretState::Known(key.fingerprint("one"))).is_empty());
    let changed = plan_for(SecretState::Known(key.fingerprint("two")));
    assert_eq!(effects(&changed), [("env.TOKEN", ChangeImpact::Live)]);
    assert!(!serde_json::to_string(&changed).unwrap().contains("two"));
    let unseen = plan_for(SecretState::Unavailable(SecretRef::Env("TOKEN".into())));
    assert!(unseen.is_empty());
    assert_eq!(lints(&unseen), ["plan.secret_not_compared"]);
}

fn target(path: &str) -> EnvFileTarget {
    EnvFileTarget { path: path.to_owned(), contents: EnvFileContents::Pair }
}

fn with_env_file(path: &str) -> DesiredBackend {
    let mut backend = wanted(spec(ProviderKind::Simulated));
    backend.env_files = vec![target(path)];
    backend
}

fn file(content: EnvFileContent) -> EnvFileState {
    EnvFileState::Writable { content, outside: false, warnings: vec![] }
}

#[test]
fn an_env_file_is_written_when_it_differs_or_git_does_not_ignore_it() {
    let looks = |up_to_date: bool, needs_ignore_rule: bool| {
        let mut actual = actual(vec![existing("dev", spec(ProviderKind::Simulated))]);
        let content = EnvFileContent { up_to_date, needs_ignore_rule, ..EnvFileContent::default() };
        actual.env_files.insert(Address::env_file(&name("dev")), file(content));
        planned(&desired(&[("dev", with_env_file(".env.local"))]), &actual)
    };
    assert!(looks(true, false).is_empty());
    for (state, reason) in [(looks(false, false), Reason::EnvFileDiffers), (looks(true, true), Reason::EnvFileNotIgnored)] {
        assert_eq!((ids(&state), state.steps[0].reason), (vec!["write:env_file.dev"], reason));
    }
}

#[test]
fn each_env_file_of_a_backend_is_a_step_of_its_own() {
    let mut backend = with_env_file("packages/backend/.env.local");
    backend.env_files.push(EnvFileTarget { path: "apps/web/.env.local".to_owned(), contents: EnvFileContents::Client });
    let plan = planned(&desired(&[("dev", backend)]), &actual(vec![]));
    assert_eq!(
        ids(&plan),
        ["create:backend.dev", "write:env_file.dev", "write:env_file.dev:apps/web/.env.local"],
        "each waits for the backend alone"
    );
    let text = serde_json::to_string(&plan).unwrap();
    assert_eq!(serde_json::from_str::<Plan>(&text).unwrap().steps[2].address, plan.steps[2].address);
}

/// A plan for a project in which `path` was written for `dev`, and whether `dev` is there.
fn remembering(path: &str, desired: &Desired, there: bool, requested_by: RequestedBy) -> Plan {
    let mut actual = actual(if there { vec![existing("dev", spec(ProviderKind::Simulated))] } else { vec![] });
    let address = Address::env_file_at(&name("dev"), path);
    let content = EnvFileContent { has_block: true, ..EnvFileContent::default() };
    actual.env_files.insert(address.clone(), file(content));
    actual.remembered = vec![RememberedEnvFile { address, target: target(path), requested_by, elsewhere: false }];
    planned(desired, &actual)
}

#[test]
fn an_env_file_is_cleared_when_its_block_is_removed() {
    let clear = "write:env_file.dev:old.env";
    for requested_by in [RequestedBy::Manifest, RequestedBy::Command] {
        let gone = remembering("old.env", &desired(&[]), true, requested_by);
        assert_eq!(ids(&gone), [clear, "destroy:backend.dev"], "{requested_by:?}");
        let gone_before = remembering("old.env", &desired(&[]), false, requested_by);
        assert_eq!(ids(&gone_before), [clear], "{requested_by:?}");
    }
    let moved = desired(&[("dev", with_env_file("new.env"))]);
    assert!(ids(&remembering("old.env", &moved, true, RequestedBy::Manifest)).contains(&clear));
    assert!(!ids(&remembering("old.env", &moved, true, RequestedBy::Command)).contains(&clear), "it was asked for apart");
}

#[test]
fn an_env_file_that_is_no_longer_named_stays_with_a_warning() {
    let two = [("dev", wanted(spec(ProviderKind::Simulated))), ("other", wanted(spec(ProviderKind::Simulated)))];
    let plan = remembering(".env.local", &desired(&two), true, RequestedBy::Manifest);
    assert_eq!(ids(&plan), ["create:backend.other"]);
    assert_eq!(lints(&plan), ["plan.env_file_unnamed"]);
}

#[test]
fn an_env_file_that_cannot_be_written_is_refused_while_planning() {
    let mut actual = actual(vec![]);
    let refused = EnvFileState::Refused { code: "env_file.tracked_by_git".into(), message: "tracked".into() };
    actual.env_files.insert(Address::env_file(&name("dev")), refused);
    let plan = planned(&desired(&[("dev", with_env_file(".env.local"))]), &actual);
    assert_eq!(codes(&plan.refusals), ["env_file.tracked_by_git"]);
}

#[test]
fn an_env_file_of_two_backends_is_written_for_one_with_a_warning() {
    let plan = planned(&desired(&[("a", with_env_file(".env.local")), ("b", with_env_file("./.env.local"))]), &actual(vec![]));
    assert_eq!(ids(&plan), ["create:backend.a", "create:backend.b", "write:env_file.a"]);
    assert_eq!(lints(&plan), ["plan.shared_env_file"]);
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
fn destroy_removes_only_the_selected_backends() {
    let actual = actual(vec![existing("a", spec(ProviderKind::Simulated)), existing("b", spec(ProviderKind::Simulated))]);
    let wanted = desired(&[("a", wanted(spec(ProviderKind::Simulated))), ("b", wanted(spec(ProviderKind::Simulated)))]);
    let intent = PlanOptions { selection: BackendSelection::Only([name("b")].into()), destroy: true, ..PlanOptions::default() };
    let plan = build(&wanted, &actual, &intent);
    assert_eq!((ids(&plan), plan.steps[0].reason), (vec!["destroy:backend.b"], Reason::DestroyRequested));
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
fn budgets_and_pending_renames_do_not_prevent_destroying() {
    let mut hungry = spec(ProviderKind::Docker);
    hungry.resources.cpus = Cpus::from_cores(8.0);
    let mut wanted = desired(&[("prod", wanted(hungry.clone()))]);
    wanted.budget.cpus = Cpus::from_cores(1.0);
    wanted.moved = vec![Moved { from: name("dev"), to: name("prod") }];
    let destroy = |names: &[&str]| PlanOptions {
        selection: BackendSelection::Only(names.iter().map(|text| name(text)).collect()),
        destroy: true,
        ..PlanOptions::default()
    };
    let both = actual(vec![existing("dev", spec(ProviderKind::Docker)), existing("prod", hungry)]);
    let plan = build(&wanted, &both, &destroy(&["dev"]));
    assert_eq!((ids(&plan), codes(&plan.refusals)), (vec!["destroy:backend.dev"], vec![]));

    // While the rename is pending either name means the backend, and the name asked for is the name to allow.
    let pending = actual(vec![existing("dev", spec(ProviderKind::Docker))]);
    for asked in ["dev", "prod"] {
        let plan = build(&wanted, &pending, &destroy(&[asked]));
        assert_eq!(ids(&plan), [format!("destroy:backend.{asked}")]);
        assert!(destruction_refusals(&plan, &[name(asked)]).is_empty());
    }
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

/// A backend with one secret and one value of the manifest, and what is known of them.
fn with_values(token: SecretRef, greeting: &str, state: impl Fn(&str) -> SecretState) -> DesiredBackend {
    let mut spec = spec(ProviderKind::Simulated);
    spec.env.insert("TOKEN".into(), SecretSource::Reference(token));
    spec.env.insert("GREETING".into(), SecretSource::Literal(greeting.into()));
    let secrets = [("env.TOKEN", "token"), ("env.GREETING", greeting)];
    let secrets = secrets.into_iter().map(|(path, value)| (FieldPath::new(path), state(value))).collect();
    DesiredBackend { secrets, ..wanted(spec) }
}

fn fingerprinted(value: &str) -> SecretState {
    SecretState::Known(FingerprintKey::new([1; 32]).fingerprint(value))
}

/// The same backend as it was applied.
fn applied(backend: &DesiredBackend) -> ActualBackend {
    let mut existing = existing("dev", backend.spec.clone());
    for (path, state) in &backend.secrets {
        if let SecretState::Known(fingerprint) = state {
            existing.secrets.insert(path.clone(), fingerprint.clone());
        }
    }
    existing
}

#[test]
fn without_the_scope_for_secrets_literals_are_still_compared() {
    let token = || SecretRef::Env("TOKEN".into());
    let before = actual(vec![applied(&with_values(token(), "hello", fingerprinted))]);
    let withheld = |greeting: &str| with_values(token(), greeting, |_| SecretState::Withheld);
    let plan = planned(&desired(&[("dev", withheld("hello"))]), &before);
    assert!(plan.is_empty());
    assert_eq!(lints(&plan), [SECRET_NOT_COMPARED]);
    assert!(plan.lints[0].message.contains("scope `apply`"), "{}", plan.lints[0].message);
    let plan = planned(&desired(&[("dev", withheld("good morning"))]), &before);
    assert_eq!(effects(&plan), [("env.GREETING", ChangeImpact::Live)]);
}

#[test]
fn a_plan_without_compared_secrets_is_stale_once_a_secret_differs() {
    let token = || SecretRef::Env("TOKEN".into());
    let (blind, seeing) =
        (with_values(token(), "hello", |_| SecretState::Withheld), with_values(token(), "hello", fingerprinted));
    let plan = |wanted: &DesiredBackend, there: &ObservedState| planned(&desired(&[("dev", wanted.clone())]), there);
    // New: the values are filled in.
    let nothing = actual(vec![]);
    let promised = plan(&blind, &nothing);
    assert_ne!(promised.digest, plan(&seeing, &nothing).digest);
    assert!(still_matches(&promised, &plan(&seeing, &nothing)));
    // What was pinned stays pinned, and a plan that saw less now does not keep what was promised.
    let other = with_values(token(), "hello", |value| fingerprinted(&format!("other {value}")));
    assert!(!still_matches(&plan(&seeing, &nothing), &plan(&other, &nothing)));
    assert!(!still_matches(&plan(&seeing, &nothing), &promised));
    // A change that was seen, beside a secret that was not compared and is the same.
    let there = actual(vec![applied(&with_values(token(), "before", fingerprinted))]);
    assert!(still_matches(&plan(&blind, &there), &plan(&seeing, &there)));
    // The secret turns out to be another one: a change that nobody has seen.
    let mut changed = applied(&with_values(token(), "before", fingerprinted));
    changed.secrets.insert(FieldPath::new("env.TOKEN"), FingerprintKey::new([1; 32]).fingerprint("an earlier one"));
    let there = actual(vec![changed]);
    assert!(!still_matches(&plan(&blind, &there), &plan(&seeing, &there)));
}

#[test]
fn the_quota_of_the_control_plane_counts_every_backend_of_the_project() {
    let sized = |cpus: f64| {
        let mut spec = spec(ProviderKind::Simulated);
        spec.resources.cpus = Some(Cpus::from_cores(cpus).unwrap());
        spec
    };
    let with_quota = |quota: crate::model::Quota, backends: Vec<ActualBackend>| {
        let mut actual = actual(backends);
        actual.snapshot.quota = quota;
        actual
    };
    let quota = crate::model::Quota { backends: Some(2), cpus: Some(Cpus::from_cores(3.0).unwrap()), ..Default::default() };
    let one = vec![existing("a", sized(1_f64))];
    let plan = planned(&desired(&[("a", wanted(sized(2_f64))), ("b", wanted(sized(1_f64)))]), &with_quota(quota, one.clone()));
    assert_eq!(codes(&plan.refusals), Vec::<&str>::new());
    let wishes = desired(&[("a", wanted(sized(2_f64))), ("b", wanted(sized(1_f64))), ("c", wanted(sized(0.5_f64)))]);
    let plan = planned(&wishes, &with_quota(quota, one));
    assert_eq!(codes(&plan.refusals), ["plan.over_quota_backends", "plan.over_quota_cpus"]);
    assert!(plan.refusals[0].message.starts_with("`gremlin` would have 3 backends, and its quota allows 2"), "{plan:#?}");
    assert!(plan.refusals[1].message.contains("3.5 of cpus together, and its quota allows 3"), "{plan:#?}");
    // What the plan takes away makes room, a rename takes none, and a quota that was lowered keeps nobody from less.
    let renamed = |new: f64| {
        let mut renamed = desired(&[("c", wanted(sized(2.9_f64))), ("d", wanted(sized(new)))]);
        renamed.moved.push(Moved { from: name("a"), to: name("c") });
        let two = vec![existing("a", sized(3_f64)), existing("b", sized(3_f64))];
        planned(&renamed, &with_quota(quota, two))
    };
    assert_eq!(codes(&renamed(0.1_f64).refusals), ["plan.over_quota_cpus"; 0]);
    // The control plane counts when `d` begins, and then it grows beyond what is allowed, though less is used at the end.
    assert_eq!(codes(&renamed(0.2_f64).refusals), ["plan.over_quota_cpus"]);
}

#[test]
fn a_ttl_is_warned_about_where_the_control_plane_only_records_it() {
    let mut spec = BackendSpec::new(ProviderKind::Simulated);
    spec.ttl = Some(crate::model::TimeSpan::from_seconds(86_400));
    let desired = desired(&[("dev", wanted(spec))]);
    let codes = |actual: &ObservedState| -> Vec<(String, String)> {
        let plan = planned(&desired, actual);
        plan.lints.into_iter().filter(|lint| lint.code.contains("ttl")).map(|lint| (lint.code, lint.message)).collect()
    };
    let mut existing = actual(vec![existing("dev", crate::model::BackendSpec::new(ProviderKind::Simulated))]);
    assert_eq!(codes(&existing)[0].0, "plan.ttl_not_enforced");
    existing.snapshot.control_plane.expiry = crate::model::Expiry::Enforced;
    let end = existing.snapshot.backends[0].created_at.plus(crate::model::TimeSpan::from_seconds(86_400));
    let found = codes(&existing);
    assert_eq!(found[0].0, "plan.ttl_enforced");
    assert!(found[0].1.contains(&end.to_string()), "{found:?}");
    // What is only made now has its whole time before it.
    existing.snapshot.backends.clear();
    assert!(codes(&existing).is_empty());
}

#[test]
fn a_database_is_retained_without_its_own_flag() {
    let mut server = spec(ProviderKind::Simulated);
    server.storage = Storage::Postgres(ServerStorage { url: Some(SecretRef::Env("URL".into())), ..ServerStorage::default() });
    let mut silent = server.clone();
    silent.settings.simulated.listen = false;
    let mut managed = server.clone();
    managed.storage = Storage::Postgres(ServerStorage { managed: true, ..ServerStorage::default() });
    let plan = |spec: &BackendSpec, database| {
        let intent = PlanOptions { destroy: true, database_reclaim: database, ..PlanOptions::default() };
        let plan = build(&desired(&[]), &actual(vec![existing("dev", spec.clone())]), &intent);
        let change = plan.steps[0].changes.iter().find(|change| change.path.as_str() == "storage.database").cloned();
        (change.map(|change| (change.before, change.after)), plan.lints.iter().any(|lint| lint.code == "plan.database_stays"))
    };
    let name = Some("gremlin_dev".to_owned());
    let stays = (Some((name.clone(), Some("left on its server".to_owned()))), true);
    assert_eq!(plan(&server, DatabaseReclaim::Retain), stays);
    assert_eq!(plan(&server, DatabaseReclaim::Delete), (Some((name, None)), false));
    // Neither a record nor the provider's own server has a database that outlives it.
    for spec in [silent, managed, spec(ProviderKind::Simulated)] {
        assert_eq!(plan(&spec, DatabaseReclaim::Retain), (None, false));
    }
}

#[test]
fn what_stays_at_a_provider_that_bills_it_is_said_with_its_price() {
    let said = |provider, has_server: bool, volume, database| {
        let mut spec = spec(provider);
        spec.region = Some("iad".to_owned());
        spec.resources.disk = ByteSize::parse("10 GiB").ok();
        if has_server {
            let url = Some(SecretRef::Env("URL".into()));
            spec.storage = Storage::Postgres(ServerStorage { url, ..ServerStorage::default() });
        }
        let intent =
            PlanOptions { destroy: true, volume_reclaim: volume, database_reclaim: database, ..PlanOptions::default() };
        let plan = build(&desired(&[]), &actual(vec![existing("dev", spec)]), &intent);
        plan.lints.into_iter().find(|lint| lint.code == "plan.retained_billed").map(|lint| lint.message)
    };
    use {DatabaseReclaim as Database, VolumeReclaim as Volume};
    let files = said(ProviderKind::Fly, true, Volume::Delete, Database::Retain).unwrap();
    assert!(files.contains("about $1.50 a month") && files.contains("`--with-database` removes it"), "{files}");
    let kept = said(ProviderKind::Fly, false, Volume::Retain, Database::Retain).unwrap();
    assert!(kept.contains("$1.50") && kept.contains("without `--keep-data`"), "{kept}");
    assert_eq!(said(ProviderKind::Fly, true, Volume::Delete, Database::Delete), None);
    assert_eq!(said(ProviderKind::Fly, false, Volume::Delete, Database::Retain), None);
    assert_eq!(said(ProviderKind::Docker, true, Volume::Delete, Database::Retain), None);
}

#[test]
fn a_spec_that_convex_rejects_is_refused_while_planning() {
    let mut one = wanted(spec(ProviderKind::Simulated));
    one.spec.env.insert("A".into(), SecretSource::Reference(SecretRef::Env("A".into())));
    one.secrets.insert(FieldPath::new("env.A"), SecretState::Unusable("too large".into()));
    let plan = build(&desired(&[("dev", one)]), &actual(Vec::new()), &PlanOptions::default());
    assert_eq!(codes(&plan.refusals), ["plan.value_unusable"]);
    assert_eq!(plan.refusals[0].message, "`env.A` is of no use: too large");
}

#[test]
fn certificates_are_compared_by_content_and_an_old_row_by_the_file_that_it_names() {
    let pem = |body: &str| {
        let text = format!("-----BEGIN CERTIFICATE-----\n{body}\n-----END CERTIFICATE-----\n");
        Tls::Pem(Certificates::parse(&text).unwrap())
    };
    let on_server = |tls: Tls| {
        let mut spec = spec(ProviderKind::Docker);
        spec.storage = Storage::Postgres(ServerStorage { url: Some(SecretRef::Env("U".into())), tls, ..Default::default() });
        spec
    };
    let changed = |tls: Tls, file: &str, recorded: Tls| {
        let mut one = wanted(on_server(tls));
        one.certificate_file = Some(CertificateFile { path: file.to_owned(), problem: None });
        one.secrets.insert(FieldPath::new("storage.url"), SecretState::Unavailable(SecretRef::Env("U".into())));
        let actual = actual(vec![existing("dev", on_server(recorded))]);
        let plan = build(&desired(&[("dev", one)]), &actual, &PlanOptions::default());
        let changes = plan.steps.into_iter().flat_map(|step| step.changes);
        let changes = changes.filter(|change| change.path.as_str() == "storage.tls");
        changes.map(|change| (change.before.unwrap_or_default(), change.after.unwrap_or_default())).collect::<Vec<_>>()
    };
    let shown = |tls: &Tls| if let Tls::Pem(found) = tls { format!("ca {found}") } else { String::new() };
    let (one, two) = (pem("AAAA"), pem("BBBB"));
    assert_eq!(changed(one.clone(), "/here/ca.pem", one.clone()), []);
    assert_eq!(changed(two.clone(), "/here/ca.pem", one.clone()), [(shown(&one), shown(&two))]);
    // A row of a control plane up to 0.1 is no reason to touch anything, and is written anew with the next change.
    assert_eq!(changed(one.clone(), "/here/ca.pem", Tls::Ca("/here/ca.pem".into())), []);
    let elsewhere = Tls::Ca("/there/ca.pem".into());
    assert_eq!(changed(one.clone(), "/here/ca.pem", elsewhere), [("ca /there/ca.pem".to_owned(), shown(&one))]);

    let mut broken = wanted(on_server(Tls::Ca("/here/ca.pem".into())));
    let problem = Some("there is no such file".to_owned());
    broken.certificate_file = Some(CertificateFile { path: "/here/ca.pem".into(), problem });
    let plan = build(&desired(&[("dev", broken)]), &actual(Vec::new()), &PlanOptions::default());
    assert_eq!(codes(&plan.refusals), ["database.ca_file"]);
    assert!(plan.refusals[0].message.ends_with("`/here/ca.pem`: there is no such file"), "{}", plan.refusals[0].message);
}

#[test]
fn unmanaged_variables_are_named_and_left_alone() {
    let mut spec = spec(ProviderKind::Simulated);
    spec.env.insert("OURS".into(), SecretSource::Literal("x".into()));
    let mut there = existing("dev", spec.clone());
    there.secrets.insert(FieldPath::new("env.OURS"), FingerprintKey::new([1; 32]).fingerprint("x"));
    there.unmanaged_env = ["OURS_SOON".to_owned(), "THEIRS".to_owned()].into();
    let mut now = wanted(spec);
    let known = || SecretState::Known(FingerprintKey::new([1; 32]).fingerprint("x"));
    now.secrets.insert(FieldPath::new("env.OURS"), known());
    let look = |now: &DesiredBackend| {
        let plan = build(&desired(&[("dev", now.clone())]), &actual(vec![there.clone()]), &PlanOptions::default());
        (plan.steps.len(), plan.lints.first().map(|lint| lint.message.clone()).unwrap_or_default())
    };
    let (steps, said) = look(&now);
    assert!(steps == 0 && said.contains("`OURS_SOON`, `THEIRS`"), "{said}");
    now.spec.env.insert("OURS_SOON".into(), SecretSource::Literal("y".into()));
    now.secrets.insert(FieldPath::new("env.OURS_SOON"), known());
    let (steps, said) = look(&now);
    assert!(steps == 1 && said.contains("has `THEIRS`, "), "{said}");
}

/// A control plane that can carry everything out.
fn everywhere(backends: Vec<ActualBackend>) -> ObservedState {
    let mut all = actual(backends);
    all.snapshot.control_plane.providers = ProviderKind::ALL.to_vec();
    all
}

#[test]
fn a_plan_says_what_it_costs_before_and_after() {
    let mut fly = spec(ProviderKind::Fly);
    fly.region = Some("iad".into());
    let mut larger = fly.clone();
    larger.resources.memory = ByteSize::parse("2 GiB").ok();
    let kubernetes = spec(ProviderKind::Kubernetes);
    let plan = planned(
        &desired(&[
            ("a", wanted(larger)),
            ("b", wanted(fly.clone())),
            ("c", wanted(kubernetes)),
            ("d", wanted(spec(ProviderKind::Local))),
        ]),
        &everywhere(vec![existing("a", fly.clone()), existing("gone", fly.clone())]),
    );
    let cost = plan.cost.as_ref().unwrap();
    let usd = |dollars: f64| Some(Price { usd: Some(Usd::from_dollars(dollars)), at_most_usd: None });
    let shown: Vec<_> = cost.backends.iter().map(|cost| (cost.backend.as_str(), cost.before, cost.after)).collect();
    assert_eq!(
        shown,
        [
            ("a", usd(8.53), usd(13.53)),
            ("b", None, usd(8.53)),
            ("c", None, Some(Price { usd: None, at_most_usd: None })),
            ("gone", usd(8.53), None)
        ]
    );
    assert_eq!((cost.before.usd, cost.before.unknown.len()), (Usd::from_dollars(17.06), 0));
    assert_eq!((cost.after.usd, cost.after.unknown.as_slice()), (Usd::from_dollars(22.06), [name("c")].as_slice()));
    assert_eq!(cost.prices[0].as_of, "2026-08-05");
    let here = planned(&desired(&[("d", wanted(spec(ProviderKind::Local)))]), &everywhere(vec![]));
    assert_eq!(here.cost, None);
}

#[test]
fn a_budget_in_dollars_counts_known_prices_and_names_unknown_ones() {
    let mut fly = spec(ProviderKind::Fly);
    fly.region = Some("iad".into());
    let mut two = desired(&[("a", wanted(fly.clone())), ("b", wanted(fly)), ("c", wanted(spec(ProviderKind::Kubernetes)))]);
    two.budget.monthly_usd = Some(17.06);
    let plan = planned(&two, &everywhere(vec![]));
    assert_eq!(codes(&plan.refusals), Vec::<&str>::new());
    let lint = plan.lints.iter().find(|lint| lint.code == "plan.cost_unknown").unwrap();
    assert!(lint.message.contains("`c`") && !lint.message.contains("`a`"), "{}", lint.message);
    two.budget.monthly_usd = Some(17.05);
    let plan = planned(&two, &everywhere(vec![]));
    assert_eq!(codes(&plan.refusals), ["plan.over_budget_monthly_usd"]);
    assert!(plan.refusals[0].message.contains("at least $17.06"), "{}", plan.refusals[0].message);
}

#[test]
fn a_backend_costs_the_most_expensive_of_its_possible_regions() {
    let mut fly = spec(ProviderKind::Fly);
    fly.region = Some("iad".into());
    fly.settings.fly.fallback_regions = vec!["fra".into()];
    let mut one = desired(&[("a", wanted(fly.clone()))]);
    one.budget.monthly_usd = Some(9.0);
    let costs = |plan: &Plan| {
        let after = plan.cost.as_ref().unwrap().after.clone();
        (after.usd.to_string(), after.at_most_usd.map(|most| most.to_string()))
    };
    // $8.53 with 5 GB in iad, and $9.73 in fra: a ceiling holds wherever there is room.
    let new = planned(&one, &everywhere(vec![]));
    assert_eq!(costs(&new), ("$8.53".to_owned(), Some("$9.73".to_owned())));
    assert_eq!(codes(&new.refusals), ["plan.over_budget_monthly_usd"]);
    assert!(new.refusals[0].message.contains("up to $9.73"), "{}", new.refusals[0].message);

    let mut there = existing("a", fly.clone());
    for (region, cost, refused) in [("iad", "$8.53", 0), ("fra", "$9.73", 1)] {
        there.region = Some(region.into());
        let plan = planned(&one, &everywhere(vec![there.clone()]));
        assert_eq!(costs(&plan), (cost.to_owned(), None));
        assert_eq!(plan.refusals.len(), refused, "{:?}", plan.refusals);
    }
}

#[test]
fn a_quota_in_dollars_is_looked_at_while_planning() {
    let mut fly = spec(ProviderKind::Fly);
    fly.region = Some("iad".into());
    let two = desired(&[("a", wanted(fly.clone())), ("b", wanted(fly.clone()))]);
    let refused = |limit: f64, there: &[&str]| {
        let mut actual = everywhere(there.iter().map(|name| existing(name, fly.clone())).collect());
        actual.snapshot.quota.monthly_usd = Some(limit);
        planned(&two, &actual).refusals
    };
    assert_eq!(codes(&refused(17.06, &["a"])), Vec::<&str>::new());
    let refusals = refused(17.05, &["a"]);
    assert_eq!(codes(&refusals), ["plan.over_quota_monthly_usd"]);
    assert!(refusals[0].message.contains("would cost $17.06 a month together"), "{}", refusals[0].message);
    // A quota that was lowered keeps nobody from less.
    assert_eq!(codes(&refused(1.0, &["a", "b"])), Vec::<&str>::new());
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
    let mut fly = spec(ProviderKind::Fly);
    fly.region = Some("iad".into());
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

#[test]
fn only_fly_keeps_a_volume_without_its_backend() {
    let keep = PlanOptions { destroy: true, volume_reclaim: VolumeReclaim::Retain, ..PlanOptions::default() };
    let plan = build(&desired(&[]), &everywhere(vec![existing("a", spec(ProviderKind::Docker))]), &keep);
    assert_eq!(codes(&plan.refusals), ["plan.volume_not_kept"]);
    let plan = build(&desired(&[]), &everywhere(vec![existing("a", spec(ProviderKind::Fly))]), &keep);
    assert_eq!(codes(&plan.refusals), Vec::<&str>::new());
    assert!(!plan.steps[0].destroys_data);
    assert_eq!(destruction_refusals(&plan, &[]).len(), 1, "it goes all the same");
    assert!(plan.cost.unwrap().not_counted.contains(&"volumes that are kept".to_owned()));
}

#[test]
fn an_interrupted_removal_keeps_its_reclaim_policy_unless_asked_anew() {
    let mut fly = spec(ProviderKind::Fly);
    fly.storage = Storage::Postgres(ServerStorage { url: Some(SecretRef::Env("URL".into())), ..ServerStorage::default() });
    let mut cut_off = existing("a", fly.clone());
    cut_off.phase = Phase::Removing;
    cut_off.removal = Some(ReclaimPolicy { volume: VolumeReclaim::Retain, database: DatabaseReclaim::Delete });
    let there = everywhere(vec![cut_off]);
    let disposal = |plan: &Plan| match &plan.steps[0].task {
        Some(Task::Remove { volume, database, .. }) => (*volume, *database),
        other => panic!("{other:?}"),
    };

    // Nobody says anything about it.
    let plan = planned(&desired(&[]), &there);
    // Files without the documents that name them are no data.
    assert_eq!(disposal(&plan), (VolumeReclaim::Delete, DatabaseReclaim::Delete));
    assert!(plan.steps[0].destroys_data && plan.steps[0].reason == Reason::Unfinished);

    // It is named to be destroyed.
    let asked = build(&desired(&[]), &there, &PlanOptions { destroy: true, ..PlanOptions::default() });
    assert_eq!(disposal(&asked), (VolumeReclaim::Retain, DatabaseReclaim::Retain));
    assert!(!asked.steps[0].destroys_data);
    assert_eq!(lints(&asked), ["plan.database_stays", "plan.retained_billed"]);

    // It is declared again.
    let again = planned(&desired(&[("a", wanted(fly))]), &there);
    assert_eq!(again.steps[0].reason, Reason::RemovalUnfinished);
    for code in ["plan.kept_apart", "plan.database_goes"] {
        assert!(lints(&again).contains(&code), "{:?}", again.lints);
    }
}

#[test]
fn an_expired_backend_is_created_again_only_on_request() {
    let mut spec = BackendSpec::new(ProviderKind::Simulated);
    spec.ttl = Some(crate::model::TimeSpan::from_seconds(60));
    let mut desired = desired(&[("dev", wanted(spec))]);
    if let Some(backend) = desired.backends.get_mut(&name("dev")) {
        backend.env_files = with_env_file(".env.local").env_files;
    }
    let mut actual = actual(Vec::new());
    actual.snapshot.expired.insert(name("dev"), Timestamp(1_000));
    let plan = planned(&desired, &actual);
    assert_eq!(plan.steps, Vec::new());
    let lint = plan.lints.iter().find(|lint| lint.code == "plan.expired").unwrap();
    assert!(lint.message.contains("--renew"), "{}", lint.message);
    let renewed = build(&desired, &actual, &PlanOptions { renew: true, ..PlanOptions::default() });
    assert_eq!(renewed.steps[0].action, Action::Create);
}
