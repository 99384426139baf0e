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
    let mut fixture = Fixture::new();
    let seen = fixture.observe().await;
    assert_eq!((seen.state, seen.data), (RunState::Absent, DataState::None));
    assert_eq!(fixture.writes(), 0, "a look changed something");

    fixture.ensure().await;
    fixture.one_of_each();
    let app = fixture.app();
    assert_eq!(fixture.fly.world().apps[&app].network, "convexinfra-abcdefghijkmnpqr", "a network of its own");
    let config = fixture.config();
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

    let seen = fixture.observe().await;
    assert_eq!((seen.state, seen.data, seen.drift), (RunState::Running, DataState::Present, Vec::new()));
    assert_eq!(fixture.placement.provider_state["region"], "iad");
}

#[tokio::test]
async fn secrets_are_in_the_vault_and_nowhere_else() {
    let mut fixture = Fixture::new();
    let url = FieldPath::new("storage.url");
    fixture.placement.spec.storage =
        Storage::Postgres(ServerStorage { url: Some(SecretRef::Env("X".to_owned())), ..ServerStorage::default() });
    fixture.placement.secrets.insert(url, Secret::new("postgres://me:hunter2@db.example.com:5432"));
    fixture.ensure().await;

    let instance_secret = fixture.placement.instance_secret.expose().to_owned();
    let config = fixture.config().to_string();
    let references = format!("{:?}", fixture.placement.provider_state);
    for hidden in ["hunter2", instance_secret.as_str(), fixture.placement.admin_key.expose()] {
        assert!(!config.contains(hidden) && !references.contains(hidden) && !fixture.said().contains(hidden));
    }
    let world = fixture.fly.world();
    let machine = &world.apps[&fixture.placement.provider_state["app"]].machines[0];
    // The vault lags behind; the machine waited for the version that has them.
    assert_eq!(machine.secrets["INSTANCE_SECRET"], instance_secret);
    assert!(machine.secrets["POSTGRES_URL"].contains("hunter2"));
}

#[tokio::test]
async fn it_takes_few_requests() {
    let mut fixture = Fixture::friendly();
    fixture.ensure().await;
    let lines: Vec<String> = fixture.fly.requests().into_iter().map(|seen| seen.line).collect();
    let made = lines.len();
    // Checks are asked for until they pass, however long that takes.
    let looks = lines.iter().filter(|line| line.starts_with("GET ") && line.contains("/machines/")).count();
    assert!(made - looks <= 16, "{} requests to make one: {lines:#?}", made - looks);
    fixture.ensure().await;
    assert!(fixture.fly.requests().len() - made <= 5, "{} requests to change nothing", fixture.fly.requests().len() - made);
    let before = fixture.fly.requests().len();
    fixture.observe().await;
    assert!(fixture.fly.requests().len() - before <= 5, "{} requests for a look", fixture.fly.requests().len() - before);
}

#[tokio::test]
async fn asking_again_changes_nothing() {
    let mut fixture = Fixture::new();
    fixture.ensure().await;
    let (before, machines) = (fixture.writes(), fixture.machines());
    let references = fixture.try_ensure().await.unwrap();
    assert_eq!((fixture.writes(), fixture.machines()), (before, machines));
    assert_eq!(references, fixture.placement.provider_state);
}

#[tokio::test]
async fn resources_of_a_lost_state_are_adopted() {
    let mut fixture = Fixture::new();
    let fresh = fixture.placement.clone();
    fixture.ensure().await;
    let (machines, volumes) = (fixture.machines(), fixture.volumes());
    fixture.placement = fresh;
    fixture.ensure().await;
    assert_eq!((fixture.machines(), fixture.volumes()), (machines, volumes));
    fixture.one_of_each();
    assert_eq!(fixture.drift().await, Vec::<String>::new());
}

#[tokio::test]
async fn a_change_updates_the_machine_and_keeps_the_volume() {
    let mut fixture = Fixture::new();
    fixture.ensure().await;
    let (machines, volumes) = (fixture.machines(), fixture.volumes());
    fixture.placement.spec.tuning.max_concurrent_queries = Some(32);
    fixture.placement.spec.resources.memory = ByteSize::parse("2 GiB").ok();
    fixture.placement.spec.resources.disk = ByteSize::parse("10 GiB").ok();
    assert!(!fixture.drift().await.is_empty());
    fixture.ensure().await;
    assert_eq!((fixture.machines(), fixture.volumes()), (machines.clone(), volumes));
    let config = fixture.config();
    assert_eq!(config["env"]["APPLICATION_MAX_CONCURRENT_QUERIES"], "32");
    assert_eq!(config["guest"]["memory_mb"], 2048);
    assert_eq!(fixture.fly.world().apps[&fixture.app()].volumes[0].size_gb, 10);
    assert_eq!(fixture.drift().await, Vec::<String>::new());
    let update =
        fixture.fly.requests().into_iter().find(|seen| seen.line.ends_with(&machines[0]) && seen.line.starts_with("POST"));
    let update = update.unwrap().request;
    assert!(update.header("fly-machine-lease-nonce").is_some(), "an update without its lease");
    assert!(update.text("current_version").is_some(), "an update of whatever version there is");
    assert!(fixture.fly.world().apps[&fixture.app()].machines[0].lease.is_none(), "the lease was kept");

    // What is taken back goes too, though nothing that is asked for names it any more.
    fixture.placement.spec.tuning.max_concurrent_queries = None;
    fixture.ensure().await;
    assert_eq!(fixture.config()["env"].get("APPLICATION_MAX_CONCURRENT_QUERIES"), None);
}

#[tokio::test]
async fn another_secret_restarts_the_machine_with_it() {
    let mut fixture = Fixture::new();
    fixture.ensure().await;
    let machines = fixture.machines();
    fixture.placement.instance_secret = Secret::new("ab".repeat(32));
    fixture.ensure().await;
    assert_eq!(fixture.machines(), machines);
    assert_eq!(fixture.fly.world().apps[&fixture.app()].machines[0].secrets["INSTANCE_SECRET"], "ab".repeat(32));
    assert_eq!(fixture.drift().await, Vec::<String>::new());
}

#[tokio::test]
async fn a_volume_that_is_larger_stays_as_it_is() {
    let mut fixture = Fixture::friendly();
    fixture.placement.spec.resources.disk = ByteSize::parse("10 GiB").ok();
    fixture.ensure().await;
    fixture.placement.spec.resources.disk = None;
    assert_eq!(fixture.drift().await, Vec::<String>::new());
    fixture.ensure().await;
    assert_eq!(fixture.fly.world().apps[&fixture.app()].volumes[0].size_gb, 10);
}

#[tokio::test]
async fn a_volume_left_by_its_app_is_named_and_blocks_nothing() {
    let mut fixture = Fixture::friendly();
    fixture.ensure().await;
    let id = fixture.volumes()[0].clone();
    let volume = {
        let mut world = fixture.fly.world();
        let app = world.apps.get_mut(&fixture.placement.provider_state["app"]).unwrap();
        app.machines.clear();
        let mut volume = app.volumes.pop().unwrap();
        volume.attached = None;
        volume
    };
    let app = fixture.app();
    fixture.fly.world().remains.push((app, volume));
    let short = convexinfra::provider::fly::Timeouts { deletion: std::time::Duration::from_millis(200), ..timeouts() };
    let said = std::sync::Mutex::new(Vec::new());
    let notice = |text: String| said.lock().unwrap().push(text);
    // With its app gone there is no way to it: it is named, because it may be billed, and no operation waits for it for ever.
    provider(&fixture.fly, TOKEN, short).remove(&fixture.placement, &notice).await.unwrap();
    let said = said.into_inner().unwrap().join("\n");
    assert!(said.contains(&id) && said.contains("support"), "{said}");
    assert!(fixture.fly.world().apps.is_empty());
}

#[tokio::test]
async fn the_volumes_of_an_organisation_may_come_as_a_bare_list() {
    for body in [json!([]), json!([{ "id": "vol_of_others", "state": "created", "app_name": "theirs" }])] {
        let mut fixture = Fixture::friendly();
        fixture.ensure().await;
        fixture.fly.order(Fault::answer("GET", "/v1/orgs/*/volumes", Reply::ok(body)));
        fixture.remove().await;
        assert!(fixture.fly.world().apps.is_empty() && fixture.fly.outstanding().is_empty());
    }
}

#[tokio::test]
async fn data_is_kept_when_that_is_asked_for_and_taken_up_again_by_name() {
    let mut fixture = Fixture::friendly();
    fixture.placement.spec.dashboard = true;
    fixture.placement.spec.release = None;
    fixture.ensure().await;
    let volumes = fixture.volumes();
    let said = std::sync::Mutex::new(Vec::new());
    let notice = |text: String| said.lock().unwrap().push(text);
    fixture.provider.remove_keeping_data(&fixture.placement, &notice).await.unwrap();
    let said = said.into_inner().unwrap().join("\n");
    assert!(said.contains(&volumes[0]) && said.contains("kept") && said.contains(&fixture.app()), "{said}");
    assert_eq!((fixture.machines(), fixture.volumes()), (Vec::new(), volumes.clone()));
    assert!(!fixture.fly.world().apps.contains_key(&dashboard_app_name(&fixture.app())));
    let stop = fixture.fly.requests().into_iter().find(|seen| seen.line.ends_with("/stop")).unwrap();
    assert_eq!(stop.request.text("signal"), Some("SIGINT"));

    // Another backend later, with the app's name in its manifest.
    let app = fixture.app();
    let mut again = super::fixture::placement();
    again.id = convexinfra::model::BackendId::new("another");
    let adopt = convexinfra::model::fly::ADOPT_APP_KEY.to_owned();
    again.provider_state =
        convexinfra::model::ProviderState::from([("app".to_owned(), app.clone()), (adopt, "true".to_owned())]);
    again.spec.settings.fly.app = Some(app);
    fixture.placement = again;
    fixture.ensure().await;
    assert_eq!(fixture.volumes(), volumes);
}

#[tokio::test]
async fn a_dashboard_is_an_app_of_its_own() {
    let mut fixture = Fixture::new();
    fixture.placement.spec.dashboard = true;
    fixture.placement.spec.release = convexinfra::model::Release::parse(&"a".repeat(40)).ok();
    fixture.ensure().await;
    let dashboard = dashboard_app_name(&fixture.app());
    let url = format!("https://{dashboard}.fly.dev");
    assert_eq!(fixture.placement.provider_state["dashboard_url"], url);
    assert!(fixture.said().contains(&url), "{}", fixture.said());
    {
        let world = fixture.fly.world();
        let machine = &world.apps[&dashboard].machines[0];
        assert_eq!(machine.config.image().split([':', '@']).next(), Some("ghcr.io/get-convex/convex-dashboard"));
        assert_eq!(machine.config.value["env"]["NEXT_PUBLIC_DEPLOYMENT_URL"], fixture.placement.endpoints.url);
        assert_eq!(machine.config.value["env"].get("NEXT_PUBLIC_ADMIN_KEY"), None);
    }
    assert_eq!(fixture.drift().await, Vec::<String>::new());
    fixture.fly.world().apps.get_mut(&dashboard).unwrap().machines.clear();
    assert_eq!(fixture.drift().await, ["dashboard: running → absent"]);
    fixture.ensure().await;
    assert_eq!(fixture.drift().await, Vec::<String>::new());
    fixture.placement.spec.dashboard = false;
    fixture.ensure().await;
    assert!(!fixture.fly.world().apps.contains_key(&dashboard));
}

#[tokio::test]
async fn custom_domains_name_what_they_wait_for() {
    let mut fixture = Fixture::friendly();
    fixture.placement.endpoints.url = "https://api.gremlin.dev".to_owned();
    fixture.placement.endpoints.site_url = "https://api.gremlin.dev/http".to_owned();
    fixture.ensure().await;
    assert!(fixture.said().contains("api.gremlin.dev. CNAME "), "{}", fixture.said());
    let seen = fixture.observe().await;
    assert_eq!((seen.state, seen.drift.len()), (RunState::Unready, 0));
    assert!(seen.notes.iter().any(|note| note.contains("api.gremlin.dev. CNAME ")), "{:?}", seen.notes);

    let target = format!("{}.fly.dev", fixture.app());
    let ips: Vec<String> =
        fixture.fly.world().apps[&fixture.app()].addresses.iter().map(|address| address.ip.clone()).collect();
    fixture.fly.world().dns.insert("api.gremlin.dev".to_owned(), [vec![target], ips].concat());
    let seen = fixture.observe().await;
    assert_eq!((seen.state, seen.notes), (RunState::Running, Vec::new()));
}

#[tokio::test]
async fn a_release_by_tag_is_pinned_to_the_digest_that_fly_found() {
    let mut fixture = Fixture::friendly();
    fixture.placement.spec.release = convexinfra::model::Release::parse(&"a".repeat(40)).ok();
    fixture.ensure().await;
    let pinned = fixture.placement.provider_state["image"].clone();
    assert!(pinned.starts_with("ghcr.io/get-convex/convex-backend@sha256:"), "{pinned}");
    let writes = fixture.writes();
    fixture.ensure().await;
    assert_eq!(fixture.writes(), writes, "pinning restarted it");
    fixture.placement.spec.tuning.max_concurrent_queries = Some(4);
    fixture.ensure().await;
    assert_eq!(fixture.config()["image"], pinned);
}

#[tokio::test]
async fn logs_are_where_fly_has_them() {
    let fixture = Fixture::friendly();
    let refused = fixture.provider.logs(&fixture.placement, LogPosition::Tail(5)).await;
    assert!(matches!(refused, Err(ProviderError::Unsupported(message)) if message.contains("fly logs --app gremlin-dev-")));
}
