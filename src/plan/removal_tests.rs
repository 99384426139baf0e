//! Backends that a plan destroys, and what stays of them.

use super::env_file_tests::with_env_file;
use super::tests::{actual, codes, desired, everywhere, existing, ids, lints, name, planned, spec, wanted};
use super::*;
use crate::model::{
    ByteSize, Cpus, Moved, Phase, ProviderKind, ReclaimPolicy, SecretRef, ServerStorage, Storage, Timestamp, VolumeReclaim,
};

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

#[test]
fn a_protected_backend_is_not_destroyed_with_its_block() {
    let mut protected = spec(ProviderKind::Simulated);
    protected.protected = true;
    let plan = planned(&desired(&[]), &actual(vec![existing("dev", protected)]));
    assert_eq!(codes(&plan.refusals), ["plan.protected"]);
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

    // Neither declared nor named to be destroyed.
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

#[test]
fn a_last_snapshot_is_taken_of_what_has_data_to_lose_and_otherwise_the_plan_says_why_not() {
    let decided = |change: fn(&mut crate::model::ActualBackend), skip: bool| {
        let mut backend = existing("dev", spec(ProviderKind::Simulated));
        backend.takes_snapshots = true;
        change(&mut backend);
        let intent = PlanOptions { skip_final_snapshot: skip, ..PlanOptions::default() };
        let plan = build(&desired(&[]), &actual(vec![backend]), &intent);
        let Some(Task::Remove { final_snapshot, .. }) = plan.steps[0].task else { panic!("{plan:?}") };
        (plan.at_stake[0].final_snapshot.unwrap(), final_snapshot)
    };
    assert_eq!(decided(|_| {}, false), (FinalSnapshot::Taken, true));
    assert_eq!(decided(|_| {}, true), (FinalSnapshot::Declined, false));
    assert_eq!(decided(|backend| backend.expires_at = Some(Timestamp(1)), false), (FinalSnapshot::Expires, false));
    assert_eq!(decided(|backend| backend.takes_snapshots = false, false), (FinalSnapshot::Unsupported, false));
    assert_eq!(decided(|backend| backend.phase = Phase::Creating, false), (FinalSnapshot::NoData, false));
    let missing = |backend: &mut crate::model::ActualBackend| backend.observation.data = crate::model::DataState::Missing;
    assert_eq!(decided(missing, false), (FinalSnapshot::NoData, false));
}
