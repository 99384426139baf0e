//! Every rule of the policy, both ways: what a plan refuses the authority refuses in the same words, and what a plan lets
//! through it accepts.

use std::collections::BTreeMap;

use super::tests::{NOW, World, name, project, put, refusal_code, simulated, world};
use super::*;
use crate::api::{Lease, Work};
use crate::model::{
    BackendSpec, ByteSize, ControlPlaneInfo, DatabaseReclaim, Desired, DesiredBackend, Digest, DowngradeConsent, Expiry,
    FieldPath, Files, FingerprintKey, MoveConsent, Moved, ProviderKind, Release, Revision, Secret, SecretRef, SecretSource,
    SecretState, ServerStorage, Snapshot, Storage, TimeSpan, VolumeReclaim,
};
use crate::plan::{ObservedState, PlanOptions, build};
use crate::policy;

/// A specification that no rule is about: it exists as a record only, so that accepting it ends at once.
pub(super) fn recorded() -> BackendSpec {
    let mut spec = simulated();
    spec.settings.simulated.listen = false;
    spec
}

pub(super) fn with(change: impl FnOnce(&mut BackendSpec)) -> BackendSpec {
    let mut spec = recorded();
    change(&mut spec);
    spec
}

fn release(text: &str) -> Option<Release> {
    Some(Release::parse(text).unwrap())
}

fn docker(change: impl FnOnce(&mut BackendSpec)) -> BackendSpec {
    let mut spec = BackendSpec::new(ProviderKind::Docker);
    change(&mut spec);
    spec
}

fn fly(change: impl FnOnce(&mut BackendSpec)) -> BackendSpec {
    let mut spec = BackendSpec::new(ProviderKind::Fly);
    spec.region = Some("iad".to_owned());
    change(&mut spec);
    spec
}

fn postgres(server: ServerStorage) -> Storage {
    Storage::Postgres(server)
}

impl World {
    pub(super) fn snapshot(&self) -> Snapshot {
        let view = self.authority.view(&project()).unwrap();
        Snapshot {
            project: project(),
            revision: Revision(view.revision.0),
            control_plane: ControlPlaneInfo {
                name: "embedded".to_owned(),
                providers: ProviderKind::ALL.to_vec(),
                expiry: Expiry::Enforced,
                scope: None,
            },
            origin: view.origin,
            backends: view.backends,
            quota: view.quota,
            operations: Vec::new(),
            retained: view.retained,
            expired: view.expired,
        }
    }

    /// Plans one backend, and returns the code and the text of the first refusal.
    fn planned(
        &self,
        spec: &BackendSpec,
        secrets: &BTreeMap<FieldPath, Secret>,
        options: &PlanOptions,
    ) -> Option<(String, String)> {
        let key = self.authority.vault().fingerprint_key(&project());
        let states = states(&key, spec, secrets);
        let backend = DesiredBackend {
            spec: spec.clone(),
            env_files: Vec::new(),
            secrets: states,
            templates: BTreeMap::new(),
            certificate_file: None,
        };
        let mut desired = desired();
        if !options.destroy {
            desired.backends.insert(name("dev"), backend);
        }
        let actual = ObservedState { snapshot: self.snapshot(), env_files: BTreeMap::new(), remembered: Vec::new() };
        let plan = build(&desired, &actual, options);
        plan.refusals.into_iter().next().map(|refusal| (refusal.code, refusal.message))
    }

    fn sent(&self, lease: &Lease, work: Work) -> Option<(String, String)> {
        match self.accept(lease, &format!("raw/{}", super::tests::now_key()), "dev", work) {
            Ok(_) => None,
            Err(AuthorityError::Control(ControlError::Refused(finding))) => Some((finding.code, finding.message)),
            Err(other) => panic!("{other:?}"),
        }
    }
}

pub(super) fn desired() -> Desired {
    Desired {
        project: project(),
        control_plane: None,
        budget: crate::model::Budget::default(),
        backends: BTreeMap::new(),
        moved: Vec::<Moved>::new(),
        manifest: Digest::of(b""),
        origin: String::new(),
    }
}

/// What a command knows of the secrets of a specification, as it would tell the plan.
fn states(key: &FingerprintKey, spec: &BackendSpec, secrets: &BTreeMap<FieldPath, Secret>) -> BTreeMap<FieldPath, SecretState> {
    let mut states = BTreeMap::new();
    for (path, value) in secrets {
        if let Some(variable) = path.as_str().strip_prefix("env.")
            && let Err(error) = crate::convex::environment::check_one(variable, value.expose())
        {
            states.insert(path.clone(), SecretState::Unusable(error.to_string()));
            continue;
        }
        if path.as_str() == crate::model::STORAGE_URL {
            match crate::convex::database_url::server_endpoint(&spec.storage, value) {
                Ok(part) => {
                    let server = FieldPath::new(crate::model::STORAGE_SERVER);
                    states.insert(server, SecretState::Known(key.fingerprint(&part)));
                }
                Err(error) => {
                    states.insert(path.clone(), SecretState::Unusable(error.to_string()));
                    continue;
                }
            }
        }
        states.insert(path.clone(), SecretState::Known(key.fingerprint(value.expose())));
    }
    states
}

struct Case {
    rule: &'static str,
    before: BackendSpec,
    after: BackendSpec,
    consent: DowngradeConsent,
    pub(super) code: Option<&'static str>,
}

fn case(rule: &'static str, before: BackendSpec, after: BackendSpec, code: Option<&'static str>) -> Case {
    Case { rule, before, after, consent: DowngradeConsent::Missing, code }
}

fn changes() -> Vec<Case> {
    let old = "precompiled-2026-06-26-903b8b9";
    let new = "precompiled-2026-08-21-652b828";
    let unknown = "aaaaaaa000000000000000000000000000000000";
    let to = |text: &'static str| with(|spec| spec.release = release(text));
    let disk = |bytes: u64| with(|spec| spec.resources.disk = Some(ByteSize::from_bytes(bytes << 30)));
    let mut cases = vec![
        case("an upgrade", to(old), to(new), None),
        case("a downgrade", to(new), to(old), Some("plan.downgrade")),
        case("a downgrade by commit", to(new), to("903b8b9000000000000000000000000000000000"), Some("plan.downgrade")),
        case("a commit of unknown age", to(new), to(unknown), Some("plan.release_order_unknown")),
        case("a larger disk", disk(10), disk(20), None),
        case("a smaller disk", disk(20), disk(10), Some("plan.disk_shrinks")),
        case("another provider", recorded(), docker(|_| {}), Some("plan.moves_data")),
        case(
            "another engine",
            recorded(),
            with(|spec| spec.storage = postgres(ServerStorage { url: Some(SecretRef::Env("U".into())), ..Default::default() })),
            Some("plan.moves_data"),
        ),
        case(
            "another engine of what can move",
            BackendSpec::new(ProviderKind::Local),
            BackendSpec {
                storage: postgres(ServerStorage { url: Some(SecretRef::Env("U".into())), ..Default::default() }),
                ..BackendSpec::new(ProviderKind::Local)
            },
            Some("plan.move_not_allowed"),
        ),
        case(
            "other files",
            recorded(),
            with(|spec| {
                spec.files = Files::S3(crate::model::S3Files {
                    buckets: crate::model::BucketNames::Single("gremlin-files".to_owned()),
                    region: "auto".to_owned(),
                    endpoint: None,
                    path_style: false,
                    create_buckets: false,
                    credentials: None,
                });
            }),
            Some("plan.moves_data"),
        ),
        case("another ttl", with(|spec| spec.ttl = Some(TimeSpan::from_seconds(60))), recorded(), None),
    ];
    cases.push(Case { consent: DowngradeConsent::Given, ..case("a commit, allowed by name", to(new), to(unknown), None) });
    cases.push(Case {
        consent: DowngradeConsent::Given,
        ..case("a known downgrade, whatever is allowed", to(new), to(old), Some("plan.downgrade"))
    });
    cases
}

#[test]
fn a_change_that_a_plan_refuses_is_refused_to_a_raw_client_in_the_same_words() {
    for Case { rule, before, after, consent, code } in changes() {
        let world = world();
        let lease = world.lease();
        world.bring_up(&lease, "dev", put(before));
        let secrets: BTreeMap<FieldPath, Secret> = match &after.storage {
            Storage::Postgres(_) => [(FieldPath::new(crate::model::STORAGE_URL), Secret::new("postgres://me:pw@db"))].into(),
            _ => BTreeMap::new(),
        };
        let mut options = PlanOptions::default();
        if consent == DowngradeConsent::Given {
            options.allow_downgrade.insert(name("dev"));
        }
        let planned = world.planned(&after, &secrets, &options);
        assert_eq!(planned.as_ref().map(|(code, _)| code.as_str()), code, "{rule}: {planned:?}");
        let revision = world.authority.view(&project()).unwrap().revision;
        let work =
            Work::Put { spec: Box::new(after), secrets, renamed_from: None, downgrade: consent, moves: MoveConsent::Missing };
        assert_eq!(world.sent(&lease, work), planned, "{rule}");
        let moved = world.authority.view(&project()).unwrap().revision != revision;
        assert_eq!(moved, code.is_none(), "{rule}: what is refused leaves the record as it is");
    }
}

#[test]
fn a_release_that_was_taken_back_is_not_in_the_way_of_the_one_from_before() {
    let (old, new) = ("precompiled-2026-06-26-903b8b9", "precompiled-2026-08-21-652b828");
    for (code, refusal) in [(crate::model::NOT_REPLACED, None), ("provider.not_rolled_back", Some("plan.downgrade"))] {
        let world = world();
        let lease = world.lease();
        let run = |key: &str, work: Work, code: Option<&str>| {
            let (mut operation, mut next) = world.accept(&lease, key, "dev", work)?;
            loop {
                let end = match (next, code) {
                    (Transition::Ended(outcome), _) => return Ok::<_, AuthorityError>(outcome),
                    (Transition::Perform(Effect::Ensure(_)), Some(code)) => {
                        EffectResult::Failed(Diagnostic::new(code, "it did not come up").into())
                    }
                    (Transition::Perform(Effect::Ensure(_)), None) => EffectResult::Ensured(Default::default()),
                    (Transition::Perform(Effect::PrepareStorage(_)), _) => EffectResult::StoragePrepared,
                    (Transition::Perform(Effect::AwaitReady(_)), _) => EffectResult::Ready,
                    (Transition::Perform(_), _) => EffectResult::EnvironmentSet,
                };
                next = world.authority.advance(operation.as_mut().unwrap(), end, NOW)?;
            }
        };
        // With a snapshot as the way back, the record of before would come back as a whole.
        let to = |text: &str| {
            put(docker(|spec| {
                spec.release = release(text);
                spec.storage = postgres(ServerStorage { managed: true, ..Default::default() });
            }))
        };
        run("p/1", to(old), None).unwrap();
        run("p/2", to(new), Some(code)).unwrap();
        let back = run("p/3", to(old), None).map(drop);
        assert_eq!(back.err().map(refusal_code).as_deref(), refusal, "{code}");
    }
}

#[test]
fn a_provider_is_asked_only_for_what_it_has() {
    let managed = || ServerStorage { managed: true, ..ServerStorage::default() };
    let cases = [
        ("no region", fly(|spec| spec.region = None), Some("plan.region_missing")),
        ("an unknown region", fly(|spec| spec.region = Some("moon".to_owned())), Some("plan.unknown_region")),
        ("an unknown size", fly(|spec| spec.resources.memory = Some(ByteSize::from_bytes(1 << 50))), Some("plan.unknown_size")),
        ("a server on Fly", fly(|spec| spec.storage = postgres(managed())), Some("plan.storage_unavailable")),
        ("a server of MySQL", docker(|spec| spec.storage = Storage::Mysql(managed())), Some("plan.storage_unavailable")),
        ("a server on this machine", with(|spec| spec.storage = postgres(managed())), Some("plan.storage_unavailable")),
        ("a server of PostgreSQL", docker(|spec| spec.storage = postgres(managed())), None),
        ("a region", fly(|_| {}), None),
    ];
    for (rule, spec, code) in cases {
        let world = world();
        let lease = world.lease();
        let planned = world.planned(&spec, &BTreeMap::new(), &PlanOptions::default());
        assert_eq!(planned.as_ref().map(|(code, _)| code.as_str()), code, "{rule}: {planned:?}");
        assert_eq!(world.sent(&lease, put(spec)), planned, "{rule}");
    }
}

/// A line of a manifest that breaks a rule, and the specification that says the same.
fn specifications() -> Vec<(&'static str, BackendSpec)> {
    let api = |text: &str| {
        let text = text.to_owned();
        with(|spec| {
            spec.origins.api = Some(text);
            spec.origins.site = Some("https://site.example.com".to_owned());
        })
    };
    vec![
        ("simulated = { listen = false }\nregion = \"a b\"", with(|spec| spec.region = Some("a b".to_owned()))),
        (
            "simulated = { listen = false }\norigins = { api = \"http://$(id)\", site = \"https://site.example.com\" }",
            api("http://$(id)"),
        ),
        (
            "simulated = { listen = false }\norigins = { api = \"https://a\u{2028}b\", site = \"https://site.example.com\" }",
            api("https://a\u{2028}b"),
        ),
        (
            "simulated = { listen = false }\norigins = { api = \"https://api.example.com\" }",
            with(|spec| spec.origins.api = Some("https://api.example.com".to_owned())),
        ),
        (
            "simulated = { listen = false }\norigins = { api = \"https://x.example.com\", site = \"https://x.example.com\" }",
            with(|spec| {
                spec.origins.api = Some("https://x.example.com".to_owned());
                spec.origins.site = Some("https://x.example.com".to_owned());
            }),
        ),
        (
            "simulated = { listen = false }\nenv = { CONVEX_SITE_URL = \"x\" }",
            with(|spec| drop(spec.env.insert("CONVEX_SITE_URL".into(), SecretSource::Literal("x".into())))),
        ),
        (
            "simulated = { listen = false }\ntuning = { max_concurrent_queries = 0 }",
            with(|spec| spec.tuning.max_concurrent_queries = Some(0)),
        ),
        (
            "simulated = { listen = false }\nstorage = { engine = \"postgres\" }",
            with(|spec| spec.storage = postgres(ServerStorage::default())),
        ),
    ]
}

#[test]
fn a_specification_that_no_manifest_may_have_is_refused_in_the_words_of_the_manifest() {
    for (lines, spec) in specifications() {
        let text = format!("project = \"gremlin\"\n[backends.dev]\nprovider = \"simulated\"\n{lines}\n");
        let problems = crate::manifest::parse(&text, None).expect_err(lines);
        let problem = &problems[0];
        let world = world();
        let lease = world.lease();
        let sent = world.sent(&lease, put(spec.clone()));
        assert_eq!(sent, Some((problem.code.clone(), problem.message.clone())), "{lines}");
        let help = policy::violations(&name("dev"), &spec).swap_remove(0).help;
        assert_eq!(help, problem.help, "{lines}");
    }
    // A manifest names a file, whose content its command sends.
    let tls = crate::model::Tls::Ca("/etc/shadow".into());
    let spec = with(|spec| {
        spec.storage = postgres(ServerStorage { url: Some(SecretRef::Env("U".into())), tls, ..Default::default() });
    });
    let world = world();
    let lease = world.lease();
    assert_eq!(world.sent(&lease, put(spec)).unwrap().0, "control.certificate_path");
    let spec = docker(|spec| spec.settings.fly.org = Some("acme".to_owned()));
    assert_eq!(policy::violations(&name("dev"), &spec)[0].code, "manifest.other_provider");
    assert_eq!(policy::violations(&name("dev"), &recorded()), Vec::new());
}

#[test]
fn values_that_convex_does_not_take_are_refused() {
    let spec = with(|spec| drop(spec.env.insert("A".into(), SecretSource::Reference(SecretRef::Env("A".into())))));
    for (value, code) in [("fine".to_owned(), None), ("x".repeat(9000), Some("plan.value_unusable"))] {
        let world = world();
        let lease = world.lease();
        let secrets = BTreeMap::from([(FieldPath::new("env.A"), Secret::new(value))]);
        let planned = world.planned(&spec, &secrets, &PlanOptions::default());
        assert_eq!(planned.as_ref().map(|(code, _)| code.as_str()), code);
        let work = Work::Put {
            spec: Box::new(spec.clone()),
            secrets,
            renamed_from: None,
            downgrade: DowngradeConsent::Missing,
            moves: MoveConsent::Missing,
        };
        assert_eq!(world.sent(&lease, work), planned);
    }
}

#[test]
fn removing_a_protected_backend_or_an_unretainable_volume_is_refused() {
    let cases = [
        ("protected", with(|spec| spec.protected = true), VolumeReclaim::Delete, Some("plan.protected")),
        ("kept without a provider for it", simulated(), VolumeReclaim::Retain, Some("plan.volume_not_kept")),
        ("taken away", simulated(), VolumeReclaim::Delete, None),
    ];
    for (rule, spec, volume, code) in cases {
        let world = world();
        let lease = world.lease();
        world.bring_up(&lease, "dev", put(spec.clone()));
        let options = PlanOptions { destroy: true, volume_reclaim: volume, ..PlanOptions::default() };
        let planned = world.planned(&spec, &BTreeMap::new(), &options);
        assert_eq!(planned.as_ref().map(|(code, _)| code.as_str()), code, "{rule}: {planned:?}");
        assert_eq!(
            world.sent(&lease, Work::Remove { volume, database: DatabaseReclaim::Retain, final_snapshot: false }),
            planned,
            "{rule}"
        );
        let phase = world.authority.view(&project()).unwrap().backends[0].phase;
        assert_eq!(phase == crate::model::Phase::Removing, code.is_none(), "{rule}");
    }
}
