//! What is made, changed and taken away when nothing goes wrong, on a service that is slow to show what it has.

#![allow(clippy::unwrap_used, clippy::panic)]

use convexinfra::convex::launch::DEFAULT_DOCUMENT_RETENTION_S;
use convexinfra::model::fly::dashboard_app_name;
use convexinfra::model::{ByteSize, DataState, FieldPath, RunState, Secret, SecretRef, ServerStorage, Storage};
use convexinfra::provider::{LogPosition, Provider, ProviderError};
use serde_json::json;

use super::fixture::{DIGEST, Fixture, provider, timeouts};
use fake_fly::settings::TOKEN;
use fake_fly::{Fault, Reply};

#[tokio::test]
async fn one_of_each_is_made_as_convex_wants_it() {
    let mut shore = Fixture::new();
    let seen = shore.observe().await;
    assert_eq!((seen.state, seen.data), (RunState::Absent, DataState::None));
    assert_eq!(shore.writes(), 0, "a look changed something");

    shore.ensure().await;
    shore.one_of_each();
    let app = shore.app();
    assert_eq!(shore.fly.world().apps[&app].network, "convexinfra-abcdefghijkmnpqr", "a network of its own");
    let config = shore.config();
    let url = format!("https://{app}.fly.dev");
    assert_eq!(config["image"], format!("ghcr.io/get-convex/convex-backend@{DIGEST}"));
    assert_eq!(config["env"]["CONVEX_CLOUD_ORIGIN"], url);
    assert_eq!(config["env"]["CONVEX_SITE_ORIGIN"], format!("{url}/http"));
    assert_eq!(config["env"]["INSTANCE_NAME"], "gremlin-dev");
    assert_eq!(config["env"]["TMPDIR"], "/convex/data/tmp");
    assert_eq!(config["env"]["DOCUMENT_RETENTION_DELAY"], DEFAULT_DOCUMENT_RETENTION_S.to_string());
    assert_eq!(config["env"]["DISABLE_METRICS_ENDPOINT"], "true");
    assert_eq!(config["guest"], json!({ "cpu_kind": "shared", "cpus": 4, "memory_mb": 1024 }));
    assert_eq!(config["stop_config"], json!({ "signal": "SIGINT", "timeout": "30s" }));
    assert_eq!(config["mounts"][0]["path"], "/convex/data");
    let service = &config["services"][0];
    assert_eq!((&service["internal_port"], &service["autostop"]), (&json!(3210), &json!(false)));
    assert_eq!(service["checks"][0]["path"], "/version");
    assert_eq!(config["metadata"].get("fly_platform_version"), None, "`fly deploy` would take it for its own");

    let seen = shore.observe().await;
    assert_eq!((seen.state, seen.data, seen.drift), (RunState::Running, DataState::Present, Vec::new()));
    assert_eq!(shore.placement.provider_state["region"], "iad");
}

#[tokio::test]
async fn secrets_are_in_the_vault_and_nowhere_else() {
    let mut shore = Fixture::new();
    let url = FieldPath::new("storage.url");
    shore.placement.spec.storage =
        Storage::Postgres(ServerStorage { url: Some(SecretRef::Env("X".to_owned())), ..ServerStorage::default() });
    shore.placement.secrets.insert(url, Secret::new("postgres://me:hunter2@db.example.com:5432"));
    shore.ensure().await;

    let instance_secret = shore.placement.instance_secret.expose().to_owned();
    let config = shore.config().to_string();
    let references = format!("{:?}", shore.placement.provider_state);
    for hidden in ["hunter2", instance_secret.as_str(), shore.placement.admin_key.expose()] {
        assert!(!config.contains(hidden) && !references.contains(hidden) && !shore.said().contains(hidden));
    }
    let world = shore.fly.world();
    let machine = &world.apps[&shore.placement.provider_state["app"]].machines[0];
    // The vault lags behind; the machine waited for the version that has them.
    assert_eq!(machine.secrets["INSTANCE_SECRET"], instance_secret);
    assert!(machine.secrets["POSTGRES_URL"].contains("hunter2"));
}

#[tokio::test]
async fn it_takes_few_requests() {
    let mut shore = Fixture::friendly();
    shore.ensure().await;
    let lines: Vec<String> = shore.fly.requests().into_iter().map(|seen| seen.line).collect();
    let made = lines.len();
    // Checks are asked for until they pass, however long that takes.
    let looks = lines.iter().filter(|line| line.starts_with("GET ") && line.contains("/machines/")).count();
    assert!(made - looks <= 16, "{} requests to make one: {lines:#?}", made - looks);
    shore.ensure().await;
    assert!(shore.fly.requests().len() - made <= 5, "{} requests to change nothing", shore.fly.requests().len() - made);
    let before = shore.fly.requests().len();
    shore.observe().await;
    assert!(shore.fly.requests().len() - before <= 5, "{} requests for a look", shore.fly.requests().len() - before);
}

#[tokio::test]
async fn asking_again_changes_nothing() {
    let mut shore = Fixture::new();
    shore.ensure().await;
    let (before, machines) = (shore.writes(), shore.machines());
    let references = shore.try_ensure().await.unwrap();
    assert_eq!((shore.writes(), shore.machines()), (before, machines));
    assert_eq!(references, shore.placement.provider_state);
}

#[tokio::test]
async fn resources_of_a_lost_state_are_adopted() {
    let mut shore = Fixture::new();
    let fresh = shore.placement.clone();
    shore.ensure().await;
    let (machines, volumes) = (shore.machines(), shore.volumes());
    shore.placement = fresh;
    shore.ensure().await;
    assert_eq!((shore.machines(), shore.volumes()), (machines, volumes));
    shore.one_of_each();
    assert_eq!(shore.drift().await, Vec::<String>::new());
}

#[tokio::test]
async fn a_change_updates_the_machine_and_keeps_the_volume() {
    let mut shore = Fixture::new();
    shore.ensure().await;
    let (machines, volumes) = (shore.machines(), shore.volumes());
    shore.placement.spec.tuning.max_concurrent_queries = Some(32);
    shore.placement.spec.resources.memory = ByteSize::parse("2 GiB").ok();
    shore.placement.spec.resources.disk = ByteSize::parse("10 GiB").ok();
    assert!(!shore.drift().await.is_empty());
    shore.ensure().await;
    assert_eq!((shore.machines(), shore.volumes()), (machines.clone(), volumes));
    let config = shore.config();
    assert_eq!(config["env"]["APPLICATION_MAX_CONCURRENT_QUERIES"], "32");
    assert_eq!(config["guest"]["memory_mb"], 2048);
    assert_eq!(shore.fly.world().apps[&shore.app()].volumes[0].size_gb, 10);
    assert_eq!(shore.drift().await, Vec::<String>::new());
    let update =
        shore.fly.requests().into_iter().find(|seen| seen.line.ends_with(&machines[0]) && seen.line.starts_with("POST"));
    let update = update.unwrap().request;
    assert!(update.header("fly-machine-lease-nonce").is_some(), "an update without its lease");
    assert!(update.text("current_version").is_some(), "an update of whatever version there is");
    assert!(shore.fly.world().apps[&shore.app()].machines[0].lease.is_none(), "the lease was kept");

    // What is taken back goes too, though nothing that is asked for names it any more.
    shore.placement.spec.tuning.max_concurrent_queries = None;
    shore.ensure().await;
    assert_eq!(shore.config()["env"].get("APPLICATION_MAX_CONCURRENT_QUERIES"), None);
}

#[tokio::test]
async fn another_secret_restarts_the_machine_with_it() {
    let mut shore = Fixture::new();
    shore.ensure().await;
    let machines = shore.machines();
    shore.placement.instance_secret = Secret::new("ab".repeat(32));
    shore.ensure().await;
    assert_eq!(shore.machines(), machines);
    assert_eq!(shore.fly.world().apps[&shore.app()].machines[0].secrets["INSTANCE_SECRET"], "ab".repeat(32));
    assert_eq!(shore.drift().await, Vec::<String>::new());
}

#[tokio::test]
async fn a_volume_that_is_larger_stays_as_it_is() {
    let mut shore = Fixture::friendly();
    shore.placement.spec.resources.disk = ByteSize::parse("10 GiB").ok();
    shore.ensure().await;
    shore.placement.spec.resources.disk = None;
    assert_eq!(shore.drift().await, Vec::<String>::new());
    shore.ensure().await;
    assert_eq!(shore.fly.world().apps[&shore.app()].volumes[0].size_gb, 10);
}

#[tokio::test]
async fn a_volume_left_by_its_app_is_named_and_blocks_nothing() {
    let mut shore = Fixture::friendly();
    shore.ensure().await;
    let id = shore.volumes()[0].clone();
    let volume = {
        let mut world = shore.fly.world();
        let app = world.apps.get_mut(&shore.placement.provider_state["app"]).unwrap();
        app.machines.clear();
        let mut volume = app.volumes.pop().unwrap();
        volume.attached = None;
        volume
    };
    let app = shore.app();
    shore.fly.world().remains.push((app, volume));
    let short = convexinfra::provider::fly::Timeouts { deletion: std::time::Duration::from_millis(200), ..timeouts() };
    let said = std::sync::Mutex::new(Vec::new());
    let notice = |text: String| said.lock().unwrap().push(text);
    // With its app gone there is no way to it: nobody waits for ever for what somebody may have to pay for.
    provider(&shore.fly, TOKEN, short).remove(&shore.placement, &notice).await.unwrap();
    let said = said.into_inner().unwrap().join("\n");
    assert!(said.contains(&id) && said.contains("support"), "{said}");
    assert!(shore.fly.world().apps.is_empty());
}

#[tokio::test]
async fn the_volumes_of_an_organisation_may_come_as_a_bare_list() {
    for body in [json!([]), json!([{ "id": "vol_of_others", "state": "created", "app_name": "theirs" }])] {
        let mut shore = Fixture::friendly();
        shore.ensure().await;
        shore.fly.order(Fault::answer("GET", "/v1/orgs/*/volumes", Reply::ok(body)));
        shore.remove().await;
        assert!(shore.fly.world().apps.is_empty() && shore.fly.outstanding().is_empty());
    }
}

#[tokio::test]
async fn data_is_kept_when_that_is_asked_for_and_taken_up_again_by_name() {
    let mut shore = Fixture::friendly();
    shore.placement.spec.dashboard = true;
    shore.placement.spec.release = None;
    shore.ensure().await;
    let volumes = shore.volumes();
    let said = std::sync::Mutex::new(Vec::new());
    let notice = |text: String| said.lock().unwrap().push(text);
    shore.provider.remove_keeping_data(&shore.placement, &notice).await.unwrap();
    let said = said.into_inner().unwrap().join("\n");
    assert!(said.contains(&volumes[0]) && said.contains("kept") && said.contains(&shore.app()), "{said}");
    assert_eq!((shore.machines(), shore.volumes()), (Vec::new(), volumes.clone()));
    assert!(!shore.fly.world().apps.contains_key(&dashboard_app_name(&shore.app())));
    let stop = shore.fly.requests().into_iter().find(|seen| seen.line.ends_with("/stop")).unwrap();
    assert_eq!(stop.request.text("signal"), Some("SIGINT"));

    // Another backend later, with the app's name in its manifest.
    let app = shore.app();
    let mut again = super::fixture::placement();
    again.id = convexinfra::model::BackendId::new("another");
    let adopt = convexinfra::model::fly::ADOPT_APP_KEY.to_owned();
    again.provider_state =
        convexinfra::model::ProviderState::from([("app".to_owned(), app.clone()), (adopt, "true".to_owned())]);
    again.spec.settings.fly.app = Some(app);
    shore.placement = again;
    shore.ensure().await;
    assert_eq!(shore.volumes(), volumes);
}

#[tokio::test]
async fn a_dashboard_is_an_app_of_its_own() {
    let mut shore = Fixture::new();
    shore.placement.spec.dashboard = true;
    shore.placement.spec.release = convexinfra::model::Release::parse(&"a".repeat(40)).ok();
    shore.ensure().await;
    let dashboard = dashboard_app_name(&shore.app());
    let url = format!("https://{dashboard}.fly.dev");
    assert_eq!(shore.placement.provider_state["dashboard_url"], url);
    assert!(shore.said().contains(&url), "{}", shore.said());
    {
        let world = shore.fly.world();
        let machine = &world.apps[&dashboard].machines[0];
        assert_eq!(machine.config.image().split([':', '@']).next(), Some("ghcr.io/get-convex/convex-dashboard"));
        assert_eq!(machine.config.value["env"]["NEXT_PUBLIC_DEPLOYMENT_URL"], shore.placement.endpoints.url);
        assert_eq!(machine.config.value["env"].get("NEXT_PUBLIC_ADMIN_KEY"), None);
    }
    assert_eq!(shore.drift().await, Vec::<String>::new());
    shore.fly.world().apps.get_mut(&dashboard).unwrap().machines.clear();
    assert_eq!(shore.drift().await, ["dashboard: running → absent"]);
    shore.ensure().await;
    assert_eq!(shore.drift().await, Vec::<String>::new());
    shore.placement.spec.dashboard = false;
    shore.ensure().await;
    assert!(!shore.fly.world().apps.contains_key(&dashboard));
}

#[tokio::test]
async fn custom_domains_name_what_they_wait_for() {
    let mut shore = Fixture::friendly();
    shore.placement.endpoints.url = "https://api.gremlin.dev".to_owned();
    shore.placement.endpoints.site_url = "https://api.gremlin.dev/http".to_owned();
    shore.ensure().await;
    assert!(shore.said().contains("api.gremlin.dev. CNAME "), "{}", shore.said());
    let seen = shore.observe().await;
    assert_eq!((seen.state, seen.drift.len()), (RunState::Unready, 0));
    assert!(seen.notes.iter().any(|note| note.contains("api.gremlin.dev. CNAME ")), "{:?}", seen.notes);

    let target = format!("{}.fly.dev", shore.app());
    let ips: Vec<String> = shore.fly.world().apps[&shore.app()].addresses.iter().map(|address| address.ip.clone()).collect();
    shore.fly.world().dns.insert("api.gremlin.dev".to_owned(), [vec![target], ips].concat());
    let seen = shore.observe().await;
    assert_eq!((seen.state, seen.notes), (RunState::Running, Vec::new()));
}

#[tokio::test]
async fn a_release_by_tag_is_pinned_to_the_digest_that_fly_found() {
    let mut shore = Fixture::friendly();
    shore.placement.spec.release = convexinfra::model::Release::parse(&"a".repeat(40)).ok();
    shore.ensure().await;
    let pinned = shore.placement.provider_state["image"].clone();
    assert!(pinned.starts_with("ghcr.io/get-convex/convex-backend@sha256:"), "{pinned}");
    let writes = shore.writes();
    shore.ensure().await;
    assert_eq!(shore.writes(), writes, "pinning restarted it");
    shore.placement.spec.tuning.max_concurrent_queries = Some(4);
    shore.ensure().await;
    assert_eq!(shore.config()["image"], pinned);
}

#[tokio::test]
async fn logs_are_where_fly_has_them() {
    let shore = Fixture::friendly();
    let refused = shore.provider.logs(&shore.placement, LogPosition::Tail(5)).await;
    assert!(matches!(refused, Err(ProviderError::Unsupported(message)) if message.contains("fly logs --app gremlin-dev-")));
}
