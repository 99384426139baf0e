//! What the real API does beside its document: aliases, images that are pulled for a while, nodes that do not know a new app
//! or machine yet, answers without a body, and two runs at the same moment.

#![allow(clippy::unwrap_used, clippy::panic)]

use std::time::Duration;

use convexinfra::model::fly::{ADOPT_APP_KEY, RETAINED_BACKEND_KEY};
use convexinfra::model::{BackendId, RunState, Secret};
use convexinfra::provider::fly::{FlyError, Timeouts};
use convexinfra::provider::{Provider, ProviderError};
use serde_json::json;

use super::fixture::{Fixture, provider, timeouts};
use fake_fly::settings::TOKEN;
use fake_fly::{Fault, Reply, Settings};

async fn converges(fixture: &mut Fixture) {
    fixture.ensure().await;
    fixture.one_of_each();
    assert_eq!(fixture.drift().await, Vec::<String>::new());
    let before = fixture.writes();
    fixture.ensure().await;
    assert_eq!(fixture.writes(), before, "a second run changes something");
}

#[tokio::test]
async fn personal_is_an_alias_of_the_organisation_that_the_app_names() {
    let mut fixture = Fixture::with(Settings::friendly().personal("jane-doe-123").hurried(50));
    fixture.placement.spec.settings.fly.org = Some("personal".to_owned());
    converges(&mut fixture).await;
    assert_eq!(fixture.placement.provider_state["org"], "jane-doe-123");
    // A record of a release that took the alias for a slug.
    fixture.placement.provider_state.insert("org".to_owned(), "personal".to_owned());
    converges(&mut fixture).await;
    fixture.remove().await;
    assert!(fixture.fly.world().apps.is_empty());
}

#[tokio::test]
async fn a_machine_whose_image_is_being_pulled_is_waited_for() {
    let for_ever = Duration::from_secs(3600);
    let mut fixture = Fixture::with(Settings { pull_takes: for_ever, ..Settings::friendly().hurried(50) });
    // A run that gives up too early leaves a machine that is being launched: the next one waits for it.
    let short = Timeouts { ready: Duration::from_millis(200), settle: Duration::from_millis(100), ..timeouts() };
    let hasty = provider(&fixture.fly, TOKEN, short);
    let error = hasty.ensure(&fixture.placement, &|_| {}).await.unwrap_err();
    assert!(matches!(&error, ProviderError::Fly(FlyError::NotReady { why, .. }) if why.contains("created")), "{error:?}");
    fixture.fly.world().ahead += for_ever - Duration::from_millis(500);
    fixture.fly.world().settings.pull_takes = Duration::from_millis(1500);
    converges(&mut fixture).await;
    let versions = |fixture: &Fixture| fixture.fly.world().apps[&fixture.app()].machines[0].versions.len();
    let before = versions(&fixture);
    fixture.placement.spec.tuning.max_concurrent_queries = Some(8);
    converges(&mut fixture).await;
    assert_eq!(versions(&fixture), before + 1, "a good update was taken back");
}

#[tokio::test]
async fn a_new_machine_that_a_node_does_not_know_yet_is_not_gone() {
    let mut fixture = Fixture::with(Settings { machine_unknown_for: 4, ..Settings::friendly().hurried(50) });
    converges(&mut fixture).await;
}

#[tokio::test]
async fn requests_about_a_new_app_go_to_the_node_that_knows_it() {
    let for_ever = Settings { app_on_one_node_for: Duration::from_secs(3600), ..Settings::friendly().hurried(50) };
    let mut fixture = Fixture::with(for_ever);
    converges(&mut fixture).await;
    // Another process has no cookie; after a while every node knows the app.
    let soon = Settings { app_on_one_node_for: Duration::from_millis(500), ..Settings::friendly().hurried(50) };
    let mut fixture = Fixture::with(soon);
    fixture.meddle("POST", "/apps", json!({ "name": fixture.app(), "org_slug": "acme", "network": fixture.app() })).await;
    converges(&mut fixture).await;
}

/// The same backend of another home: another identity and other secrets, and the same name of an app in the manifest.
fn rival(fixture: &mut Fixture) -> convexinfra::model::ResolvedBackend {
    fixture.placement.spec.settings.fly.app = Some(fixture.app());
    fixture.placement.provider_state.insert(ADOPT_APP_KEY.to_owned(), "true".to_owned());
    let mut rival = fixture.placement.clone();
    rival.id = BackendId::new("zyxwvutsrqpnmkjh");
    rival.instance_secret = Secret::new("cd".repeat(32));
    rival
}

#[tokio::test]
async fn of_two_homes_that_name_the_same_app_one_gets_it_whole() {
    for settings in [Settings::friendly(), Settings::default()] {
        let mut fixture = Fixture::with(settings.hurried(50));
        let rival = rival(&mut fixture);
        let other = provider(&fixture.fly, TOKEN, timeouts());
        let (one, two) = tokio::join!(fixture.try_ensure(), other.ensure(&rival, &|_| {}));
        let refused = match (one, two) {
            (Ok(state), Err(error)) => {
                fixture.placement.provider_state = state;
                error
            }
            (Err(error), Ok(state)) => {
                fixture.placement = rival;
                fixture.placement.provider_state = state;
                error
            }
            other => panic!("{other:?}"),
        };
        assert!(matches!(refused, ProviderError::Fly(FlyError::AppForeign { .. })), "{refused:?}");
        fixture.placement.has_been_ready = true;
        let secret = fixture.placement.instance_secret.expose().to_owned();
        assert_eq!(fixture.fly.world().apps[&fixture.app()].machines[0].secrets["INSTANCE_SECRET"], secret);
        converges(&mut fixture).await;
    }
}

#[tokio::test]
async fn what_a_run_created_in_an_app_of_another_backend_goes_again() {
    let mut fixture = Fixture::friendly();
    let rival = rival(&mut fixture);
    // An app from a release that did not mark its networks.
    fixture.meddle("POST", "/apps", json!({ "name": fixture.app(), "org_slug": "acme", "network": fixture.app() })).await;
    let mut theirs = convexinfra_machine(rival.id.as_str());
    theirs["name"] = json!("convex");
    // It comes between the last look and the creation.
    fixture.fly.order(Fault::late("POST", "/v1/apps/*/volumes", Duration::from_secs(3)));
    let meddling = async {
        while fixture.fly.count("POST", "/v1/apps/*/volumes") == 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        fixture.meddle("POST", "/apps/APP/machines", theirs).await
    };
    let (refused, _) = tokio::join!(fixture.try_ensure(), meddling);
    assert!(matches!(refused, Err(ProviderError::Fly(FlyError::ForeignResource { .. }))), "{refused:?}");
    assert_eq!(fixture.volumes(), Vec::<String>::new(), "a volume that nobody uses is paid for");
}

fn convexinfra_machine(owner: &str) -> serde_json::Value {
    json!({ "region": "iad", "config": {
        "image": "ghcr.io/get-convex/convex-backend:latest",
        "guest": { "cpu_kind": "shared", "cpus": 1, "memory_mb": 1024 },
        "metadata": { "convexinfra_backend": owner },
    } })
}

#[tokio::test]
async fn an_app_that_another_backend_retained_is_not_taken_without_proof() {
    let mut fixture = Fixture::friendly();
    fixture.ensure().await;
    let volumes = fixture.volumes();
    fixture.provider.remove_keeping_data(&fixture.placement, &|_| {}).await.unwrap();
    let retained = fixture.placement.id.clone();
    let mut rival = rival(&mut fixture);
    rival.provider_state = [("app".to_owned(), fixture.app())].into();
    rival.has_been_ready = false;
    let writes = fixture.writes();
    let refused = fixture.provider.ensure(&rival, &|_| {}).await.unwrap_err();
    assert!(matches!(refused, ProviderError::Fly(FlyError::AppForeign { .. })), "{refused:?}");
    assert_eq!((fixture.writes(), fixture.volumes()), (writes, volumes.clone()), "it was touched");
    // Nor may the rival take it away.
    fixture.provider.remove(&rival, &|_| {}).await.unwrap();
    assert_eq!((fixture.writes(), fixture.volumes()), (writes, volumes.clone()), "it was touched");

    // The control plane says whose it was.
    rival.provider_state.insert(RETAINED_BACKEND_KEY.to_owned(), retained.to_string());
    fixture.placement = rival;
    fixture.ensure().await;
    assert_eq!(fixture.volumes(), volumes);
    assert_eq!(fixture.observe().await.state, RunState::Running);
    assert_eq!(fixture.drift().await, Vec::<String>::new());
    converges(&mut fixture).await;
}

#[tokio::test]
async fn a_user_takes_up_what_was_retained_and_nothing_that_is_being_created() {
    let mut fixture = Fixture::friendly();
    fixture.ensure().await;
    let volumes = fixture.volumes();
    fixture.provider.remove_keeping_data(&fixture.placement, &|_| {}).await.unwrap();
    let mut other = rival(&mut fixture);
    other.provider_state = [("app".to_owned(), fixture.app()), (ADOPT_APP_KEY.to_owned(), "true".to_owned())].into();
    other.has_been_ready = false;
    fixture.placement = other;
    converges(&mut fixture).await;
    assert_eq!(fixture.volumes(), volumes);

    let mut fixture = Fixture::friendly();
    let rival = rival(&mut fixture);
    fixture.meddle("POST", "/apps", json!({ "name": fixture.app(), "org_slug": "acme", "network": "convexinfra-x" })).await;
    let refused = fixture.provider.ensure(&rival, &|_| {}).await.unwrap_err();
    assert!(matches!(refused, ProviderError::Fly(FlyError::AppForeign { .. })), "{refused:?}");
}

#[tokio::test]
async fn a_lease_is_renewed_for_as_long_as_a_change_takes() {
    let mut fixture = Fixture::friendly();
    fixture.ensure().await;
    fixture.fly.world().settings.pull_takes = Duration::from_secs(15);
    fixture.provider = provider(&fixture.fly, TOKEN, Timeouts { lease: Duration::from_secs(4), ..timeouts() });
    fixture.placement.spec.tuning.max_concurrent_queries = Some(8);
    let lease = format!("{}/apps/{}/machines/{}/lease", fixture.fly.url(), fixture.app(), fixture.machines()[0]);
    let rival = async {
        while fixture.fly.count("POST", "/v1/apps/*/machines/*") == 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        // Long after the lease would have ended by itself.
        tokio::time::sleep(Duration::from_secs(7)).await;
        let request = reqwest::Client::new().post(lease).bearer_auth(TOKEN).json(&json!({ "ttl": 30 }));
        request.send().await.unwrap().status().as_u16()
    };
    let (updated, status) = tokio::join!(fixture.try_ensure(), rival);
    fixture.placement.provider_state = updated.unwrap();
    assert_eq!(status, 409, "somebody else got the lease in the middle of an update");
    assert!(fixture.fly.world().apps[&fixture.app()].machines[0].lease.is_none(), "the lease was kept");
    assert_eq!(fixture.drift().await, Vec::<String>::new());
}

#[tokio::test]
async fn a_volume_that_is_listed_after_its_app_is_gone_stands_in_nobodys_way() {
    let mut fixture = Fixture::friendly();
    fixture.ensure().await;
    let volume = json!({ "id": fixture.volumes()[0], "name": "convex_data", "state": "created", "app_name": fixture.app(),
        "region": "iad", "size_gb": 5 });
    let page = json!({ "volumes": [volume], "next_cursor": "", "error_regions": [] });
    fixture.fly.order(Fault::answer("GET", "/v1/orgs/*/volumes", Reply::ok(page)).times(2));
    fixture.remove().await;
    assert!(fixture.fly.outstanding().is_empty());
    assert!(fixture.fly.count("DELETE", "/v1/apps/*/volumes/*") > 1, "it was not tried");
}

#[tokio::test]
async fn a_foreign_update_is_awaited_for_every_status() {
    for status in [409, 412] {
        let mut fixture = Fixture::friendly();
        fixture.ensure().await;
        let busy = Reply::error(status, "failed_precondition: concurrent update in progress");
        fixture.fly.order(Fault::answer("POST", "/v1/apps/*/machines/*", busy).times(12));
        fixture.placement.spec.tuning.max_concurrent_queries = Some(8);
        converges(&mut fixture).await;
        assert!(fixture.fly.outstanding().is_empty());
    }
}

#[tokio::test]
async fn the_digests_that_are_recorded_are_those_of_what_was_set() {
    let mut fixture = Fixture::friendly();
    fixture.fly.order(Fault::answer("POST", "/v1/apps/*/secrets", Reply::error(404, "not found")).always());
    fixture.ensure().await;
    assert_eq!(fixture.fly.count("GET", "/v1/apps/*/secrets"), 1, "what is listed later may be somebody else's");
    assert!(fixture.placement.provider_state.contains_key("secret.INSTANCE_SECRET"));
    converges(&mut fixture).await;
}

#[tokio::test]
async fn a_creation_without_an_id_is_malformed_and_is_looked_for() {
    for path in ["/v1/apps/*/volumes", "/v1/apps/*/machines"] {
        let mut fixture = Fixture::friendly();
        fixture.fly.order(Fault::answer("POST", path, Reply::ok(json!({}))).after_the_effect());
        assert!(matches!(fixture.refusal().await, FlyError::Unreadable { .. }), "{path}");
        converges(&mut fixture).await;
    }
}

#[tokio::test]
async fn an_answer_without_a_body_says_that_it_was_done() {
    let mut fixture = Fixture::friendly();
    fixture.fly.order(Fault::answer("POST", "/v1/apps/*/secrets", Reply::empty(200)).after_the_effect());
    converges(&mut fixture).await;
}

#[tokio::test]
async fn names_that_are_taken_are_said_to_be_with_more_than_one_status() {
    let mut fixture = Fixture::friendly();
    let taken = Reply::error(422, "Name is already taken");
    fixture.fly.order(Fault::answer("POST", "/v1/apps", taken).after_the_effect());
    converges(&mut fixture).await;

    let mut fixture = Fixture::friendly();
    let taken = Reply::error(422, "already_exists: unique machine name violation");
    fixture.fly.order(Fault::answer("POST", "/v1/apps/*/machines", taken).after_the_effect());
    converges(&mut fixture).await;
}
