//! What others change by hand: named one by one, repaired where it is ours, and left where it is not.

#![allow(clippy::unwrap_used, clippy::panic)]

use convexinfra::model::{DataState, RunState};
use convexinfra::provider::fly::FlyError;
use convexinfra::provider::{Provider, ProviderError};
use serde_json::{Value, json};

use super::fixture::Fixture;
use fake_fly::settings::TOKEN;
use fake_fly::{FakeFly, Settings};
use fixture::CliFixture;

#[tokio::test]
async fn a_changed_guest_is_named_and_put_right() {
    let mut fixture = Fixture::friendly();
    fixture.ensure().await;
    let machine = fixture.machines()[0].clone();
    let mut config = fixture.config();
    config["guest"]["memory_mb"] = 2048.into();
    config["env"]["DISABLE_METRICS_ENDPOINT"] = "false".into();
    config["env"]["ADDED"] = "by somebody".into();
    fixture.meddle("POST", &format!("/apps/APP/machines/{machine}"), json!({ "config": config })).await;
    let mut drift = fixture.drift().await;
    drift.sort();
    assert_eq!(drift, ["env.DISABLE_METRICS_ENDPOINT: true → false", "guest.memory_mb: 1024 → 2048"]);
    fixture.ensure().await;
    assert_eq!(fixture.drift().await, Vec::<String>::new());
    assert_eq!((fixture.config()["guest"]["memory_mb"].as_u64(), fixture.machines()), (Some(1024), vec![machine]));
}

#[tokio::test]
async fn a_stopped_machine_is_named_and_started() {
    let mut fixture = Fixture::friendly();
    fixture.ensure().await;
    let machine = fixture.machines()[0].clone();
    fixture.meddle("POST", &format!("/apps/APP/machines/{machine}/stop"), json!({})).await;
    while fixture.observe().await.state != RunState::Stopped {
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    assert_eq!(fixture.drift().await, ["machine.state: started → stopped"]);
    fixture.ensure().await;
    assert_eq!(fixture.observe().await.state, RunState::Running);
    assert_eq!(fixture.machines(), [machine]);
}

#[tokio::test]
async fn missing_addresses_are_named_and_assigned() {
    let mut fixture = Fixture::friendly();
    fixture.ensure().await;
    let app = fixture.app();
    fixture.fly.world().apps.get_mut(&app).unwrap().addresses.clear();
    assert_eq!(fixture.drift().await, ["addresses.v6: assigned → missing", "addresses.shared_v4: assigned → missing"]);
    fixture.ensure().await;
    fixture.one_of_each();
}

#[tokio::test]
async fn changed_secrets_are_drift_and_repaired() {
    let mut fixture = Fixture::friendly();
    fixture.ensure().await;
    fixture.meddle("POST", "/apps/APP/secrets/INSTANCE_SECRET", json!({ "value": "00".repeat(32) })).await;
    fixture.meddle("POST", "/apps/APP/secrets/OTHER", json!({ "value": "left alone" })).await;
    assert_eq!(fixture.drift().await, ["secrets.INSTANCE_SECRET: as set → set to something else"]);
    fixture.ensure().await;
    assert_eq!(fixture.drift().await, Vec::<String>::new());
    let expected = fixture.placement.instance_secret.expose().to_owned();
    {
        let world = fixture.fly.world();
        let secrets = &world.apps[&fixture.placement.provider_state["app"]].machines[0].secrets;
        assert_eq!((secrets["INSTANCE_SECRET"].as_str(), secrets["OTHER"].as_str()), (expected.as_str(), "left alone"));
    }
    fixture.meddle("DELETE", "/apps/APP/secrets/INSTANCE_SECRET", Value::Null).await;
    assert_eq!(fixture.drift().await, ["secrets.INSTANCE_SECRET: set → missing"]);
    fixture.ensure().await;
    assert_eq!(fixture.drift().await, Vec::<String>::new());
}

#[tokio::test]
async fn a_destroyed_machine_is_made_again_over_its_data() {
    let mut fixture = Fixture::new();
    fixture.ensure().await;
    let (machine, volumes) = (fixture.machines()[0].clone(), fixture.volumes());
    fixture.meddle("DELETE", &format!("/apps/APP/machines/{machine}?force=true"), Value::Null).await;
    let seen = fixture.observe().await;
    assert_eq!((seen.state, seen.data), (RunState::Absent, DataState::Present));
    fixture.ensure().await;
    assert_eq!(fixture.volumes(), volumes);
    fixture.one_of_each();
}

#[tokio::test]
async fn lost_data_is_never_replaced_by_none() {
    let mut fixture = Fixture::friendly();
    fixture.ensure().await;
    let (machine, volume) = (fixture.machines()[0].clone(), fixture.volumes()[0].clone());
    fixture.meddle("DELETE", &format!("/apps/APP/machines/{machine}?force=true"), Value::Null).await;
    // It is listed for a day more, and it is gone all the same.
    fixture.meddle("DELETE", &format!("/apps/APP/volumes/{volume}"), Value::Null).await;
    assert_eq!(fixture.observe().await.data, DataState::Missing);
    let writes = fixture.writes();
    assert!(matches!(fixture.try_ensure().await, Err(ProviderError::DataMissing { .. })));
    assert_eq!(fixture.writes(), writes, "a refusal has made something");
    let app = fixture.app();
    fixture.fly.world().apps.remove(&app);
    assert_eq!(fixture.observe().await.data, DataState::Missing);
}

#[tokio::test]
async fn machines_and_volumes_of_others_are_named_and_left() {
    let mut fixture = Fixture::friendly();
    fixture.ensure().await;
    let ours = (fixture.machines(), fixture.volumes());
    let machine = strange_machine(&fixture).await;
    let volume = strange_volume(&fixture).await;
    let named =
        [format!("foreign.volumes.{volume}: absent → present"), format!("foreign.machines.{machine}: absent → started")];
    assert_eq!(fixture.drift().await, named);
    assert!(fixture.observe().await.drift.iter().all(|deviation| !deviation.is_repaired_by_apply()));
    // They stay unmanaged: what is asked for is brought about beside them.
    fixture.placement.spec.tuning.max_concurrent_queries = Some(8);
    fixture.ensure().await;
    {
        let world = fixture.fly.world();
        let machines = &world.apps[&fixture.placement.provider_state["app"]].machines;
        let own = machines.iter().find(|machine| machine.id == ours.0[0]).unwrap();
        assert_eq!(own.config.value["env"]["APPLICATION_MAX_CONCURRENT_QUERIES"], "8");
    }
    assert_eq!(fixture.drift().await, named);
    assert!(fixture.volumes().contains(&ours.1[0]));
    assert_eq!((fixture.machines().len(), fixture.volumes().len()), (2, 2));
}

#[tokio::test]
async fn foreign_resources_in_the_app_are_never_removed() {
    let mut fixture = Fixture::friendly();
    fixture.ensure().await;
    let ours = fixture.machines();
    let (machine, volume) = (strange_machine(&fixture).await, strange_volume(&fixture).await);
    let writes = fixture.writes();
    let refused = fixture.provider.remove(&fixture.placement, &|_| {}).await;
    match refused {
        Err(ProviderError::Fly(error @ FlyError::ForeignResource { .. })) => {
            let help = error.help().unwrap();
            assert!(help.contains(&format!("fly machine destroy {machine}")), "{help}");
            assert!(help.contains(&format!("fly volumes destroy {volume}")), "{help}");
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(fixture.writes(), writes, "a refusal has taken something away");

    let notice = |text: String| fixture.said.lock().unwrap().push(text);
    fixture.provider.remove_keeping_data(&fixture.placement, &notice).await.unwrap();
    assert_eq!(fixture.machines(), std::slice::from_ref(&machine));
    assert_eq!(fixture.volumes().len(), 2);
    assert!(!fixture.machines().contains(&ours[0]) && fixture.said().contains(&machine), "{}", fixture.said());

    fixture.meddle("DELETE", &format!("/apps/APP/machines/{machine}?force=true"), Value::Null).await;
    fixture.meddle("DELETE", &format!("/apps/APP/volumes/{volume}"), Value::Null).await;
    fixture.remove().await;
    assert!(fixture.fly.world().apps.is_empty());
}

#[test]
fn a_volume_of_others_keeps_no_command_from_its_end_but_one_that_would_destroy_it() {
    const MANIFEST: &str = "project = \"gremlin\"\n\n[backends.dev]\nprovider = \"fly\"\nregion = \"iad\"\n\
                            release = \"652b828b5129e6cdbcaa3c20efa8d116d09ff3bf\"\n";
    let fly = FakeFly::start(Settings::friendly().with_processes().hurried(50));
    let cli = CliFixture::new(MANIFEST).with_variables(fly.environment());
    cli.run_ok("apply --yes");
    let app = fly.world().apps.keys().next().unwrap().clone();
    let ask = |method: reqwest::Method, path: String, body: Value| {
        let request = reqwest::Client::new().request(method, format!("{}{path}", fly.url())).bearer_auth(TOKEN).json(&body);
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let answer = runtime.block_on(async { request.send().await.unwrap().error_for_status().unwrap().text().await });
        serde_json::from_str::<Value>(&answer.unwrap()).unwrap()
    };
    let request = json!({ "name": "precious", "region": "iad", "size_gb": 1 });
    let volume = ask(reqwest::Method::POST, format!("/apps/{app}/volumes"), request)["id"].as_str().unwrap().to_owned();

    let plan = cli.run_ok("plan --detailed-exitcode");
    assert!(plan.out.contains(&format!("foreign.volumes.{volume}")) && !plan.out.contains("restart"), "{}", plan.out);
    let drift = cli.run("drift");
    assert!(drift.exit == 3 && drift.out.contains(&volume), "{}{}", drift.out, drift.err);
    cli.edit("region", "tuning.max_concurrent_queries = 8\nregion");
    cli.run_ok("apply --yes");
    assert!(fly.world().apps[&app].volumes.iter().all(|volume| volume.state.is_live()));

    let refused = cli.run("destroy dev --allow-destroy dev");
    let said = format!("{}{}", refused.out, refused.err);
    assert!(refused.exit == 1 && said.contains(&format!("fly volumes destroy {volume}")), "{said}");
    assert!(fly.world().apps.contains_key(&app));
    ask(reqwest::Method::DELETE, format!("/apps/{app}/volumes/{volume}"), Value::Null);
    cli.run_ok("destroy dev --allow-destroy dev");
    assert!(fly.world().apps.is_empty());
}

/// A machine that was made by hand in the app of the backend, for something else.
async fn strange_machine(fixture: &Fixture) -> String {
    let mut config = fixture.config();
    config["metadata"] = json!({});
    config["mounts"] = json!([]);
    let made =
        fixture.meddle("POST", "/apps/APP/machines", json!({ "name": "other", "region": "iad", "config": config })).await;
    made["id"].as_str().unwrap().to_owned()
}

/// A volume that was made by hand in the app of the backend, for something else.
async fn strange_volume(fixture: &Fixture) -> String {
    let request = json!({ "name": "precious", "region": "iad", "size_gb": 1 });
    fixture.meddle("POST", "/apps/APP/volumes", request).await["id"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn a_second_volume_of_our_name_is_left_to_the_user() {
    let mut fixture = Fixture::friendly();
    fixture.ensure().await;
    let request = json!({ "name": "convex_data", "region": "iad", "size_gb": 1 });
    let volume = fixture.meddle("POST", "/apps/APP/volumes", request).await["id"].as_str().unwrap().to_owned();
    assert_eq!(fixture.drift().await, [format!("volumes.{volume}: absent → present")]);
    match fixture.refusal().await {
        FlyError::ForeignResource { command, .. } => assert!(command.contains(&volume), "{command}"),
        error => panic!("{error:?}"),
    }
    assert_eq!(fixture.volumes().len(), 2);
    // With its data, all that is under our name goes.
    fixture.remove().await;
    assert!(fixture.fly.world().apps.is_empty());
}

#[tokio::test]
async fn a_copy_of_our_machine_is_one_too_many() {
    let mut fixture = Fixture::friendly();
    fixture.ensure().await;
    let machine = fixture.machines()[0].clone();
    let mut config = fixture.config();
    config["mounts"] = json!([]);
    fixture.meddle("POST", "/apps/APP/machines", json!({ "name": "copy", "region": "iad", "config": config })).await;
    assert_eq!(fixture.drift().await.len(), 1);
    fixture.ensure().await;
    assert_eq!(fixture.machines(), [machine]);
}

/// Fly makes no second machine of one name. Servers that speak its API may.
#[tokio::test]
async fn a_machine_of_the_same_name_is_one_too_many() {
    let mut fixture = Fixture::friendly();
    fixture.ensure().await;
    let machine = fixture.machines()[0].clone();
    let mut config = fixture.config();
    config["mounts"] = json!([]);
    fixture.meddle("POST", "/apps/APP/machines", json!({ "name": "copy", "region": "iad", "config": config })).await;
    fixture.fly.world().apps.get_mut(&fixture.app()).unwrap().machines.last_mut().unwrap().name = "convex".to_owned();
    fixture.ensure().await;
    assert_eq!(fixture.machines(), [machine]);
    assert_eq!(fixture.drift().await, Vec::<String>::new());
}

#[tokio::test]
async fn an_unreachable_host_is_named_and_nothing_is_done() {
    let mut fixture = Fixture::friendly();
    fixture.ensure().await;
    let host = fixture.host();
    fixture.fly.world().unreachable_hosts.insert(host);
    let seen = fixture.observe().await;
    assert_eq!((seen.state, seen.data), (RunState::Unready, DataState::Present));
    assert_eq!(fixture.drift().await, ["host: ok → unreachable"]);
    let writes = fixture.writes();
    fixture.placement.spec.tuning.max_concurrent_queries = Some(4);
    assert!(matches!(fixture.refusal().await, FlyError::HostUnreachable { .. }));
    assert_eq!(fixture.writes(), writes);
}

#[tokio::test]
async fn a_volume_whose_host_does_not_answer_is_not_touched() {
    let mut fixture = Fixture::friendly();
    fixture.ensure().await;
    let (machine, host) = (fixture.machines()[0].clone(), fixture.host());
    fixture.meddle("DELETE", &format!("/apps/APP/machines/{machine}?force=true"), Value::Null).await;
    fixture.fly.world().unreachable_hosts.insert(host);
    assert_eq!(fixture.observe().await.data, DataState::Present);
    assert_eq!(fixture.drift().await, ["host: ok → unreachable", "machine: running → absent"]);
    let writes = fixture.writes();
    fixture.placement.spec.resources.disk = convexinfra::model::ByteSize::parse("10 GiB").ok();
    match fixture.refusal().await {
        FlyError::HostUnreachable { what, .. } => assert!(what.contains("volume"), "{what}"),
        error => panic!("{error:?}"),
    }
    assert_eq!(fixture.writes(), writes);
}

#[tokio::test]
async fn a_drifted_dashboard_is_named_and_repaired() {
    let mut fixture = Fixture::friendly();
    fixture.placement.spec.dashboard = true;
    fixture.placement.spec.release = convexinfra::model::Release::parse(&"a".repeat(40)).ok();
    fixture.ensure().await;
    let dashboard = convexinfra::model::fly::dashboard_app_name(&fixture.app());
    let config = {
        let mut world = fixture.fly.world();
        let app = world.apps.get_mut(&dashboard).unwrap();
        app.addresses.clear();
        app.machines[0].config.value.clone()
    };
    let machines = format!("/apps/{dashboard}/machines");
    let copy = fixture.meddle("POST", &machines, json!({ "name": "copy", "region": "iad", "config": config })).await;
    let mut strange = config;
    strange["metadata"] = json!({});
    let other = fixture.meddle("POST", &machines, json!({ "name": "other", "region": "iad", "config": strange })).await;
    let id = |made: &Value| made["id"].as_str().unwrap().to_owned();
    let left = format!("foreign.dashboard.machines.{}: absent → started", id(&other));
    let named = [
        "dashboard.addresses.v6: assigned → missing".to_owned(),
        "dashboard.addresses.shared_v4: assigned → missing".to_owned(),
        format!("dashboard.machines.{}: absent → started", id(&copy)),
        left.clone(),
    ];
    assert_eq!(fixture.drift().await, named);
    fixture.ensure().await;
    assert_eq!(fixture.drift().await, [left]);
}

#[tokio::test]
async fn a_foreign_app_is_left_alone() {
    let fixture = Fixture::friendly();
    let app = fixture.app();
    fixture.fly.world().foreign_apps.insert(app);
    assert!(matches!(fixture.refusal().await, FlyError::AppTaken { .. }));
    fixture.remove().await;

    let fixture = Fixture::friendly();
    fixture.meddle("POST", "/apps", json!({ "app_name": fixture.app(), "org_slug": "acme" })).await;
    assert!(matches!(fixture.refusal().await, FlyError::AppForeign { .. }));
    fixture.remove().await;
    assert_eq!(fixture.fly.world().apps.len(), 1, "somebody's app was taken away");
}
