//! The driver over a port whose answers are written down and whose clock is turned by hand.

#![allow(clippy::unwrap_used, clippy::panic)]

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::future::BoxFuture;
use serde_json::{Value, json};

use super::api_error::ApiErrorKind;
use super::apps::{AppReconciler, BACKEND_ROLE, resolve_org};
use super::client::{ApiClient, CallError, call_failed};
use super::images::{BACKEND_IMAGE_KEYS, resolve_image};
use super::*;
use crate::convex::release::BACKEND_IMAGE;
use crate::model::fly::{APP_KEY, app_url};
use crate::model::{
    BackendId, BackendName, BackendSpec, Endpoints, Generation, INTERNAL_URL, InstanceName, PortPair, ProjectName, Release,
    Secret, Timestamp,
};

type Answer = Result<ApiResponse, ApiTransportError>;

/// Answers in the order in which they were written down, for requests that contain a text; the last one stays.
#[derive(Default)]
struct Script {
    answers: Mutex<Vec<(String, VecDeque<Answer>)>>,
    calls: Mutex<Vec<(String, ApiRequest)>>,
    now: Mutex<i64>,
}

fn reply(status: u16, body: Value) -> Answer {
    Ok(ApiResponse { status, headers: BTreeMap::new(), body: if body.is_null() { String::new() } else { body.to_string() } })
}

impl Script {
    fn on(self, line: &str, answers: impl IntoIterator<Item = Answer>) -> Self {
        self.answers.lock().unwrap().push((line.to_owned(), answers.into_iter().collect()));
        self
    }

    fn client(self) -> (Arc<Self>, ApiClient) {
        let script = Arc::new(self);
        let port: Arc<dyn ApiTransport> = Arc::<Self>::clone(&script);
        (script, ApiClient::new(port))
    }

    /// How often something was asked.
    fn count(&self, line: &str) -> usize {
        self.calls.lock().unwrap().iter().filter(|(asked, _)| asked.contains(line)).count()
    }

    fn seconds(&self) -> i64 {
        *self.now.lock().unwrap() / 1000
    }
}

impl ApiTransport for Script {
    fn send(&self, call: ApiRequest) -> BoxFuture<'_, Answer> {
        let line = call.label();
        let mut answers = self.answers.lock().unwrap();
        let found = answers.iter_mut().find(|(wanted, _)| line.contains(wanted.as_str()));
        let answer = match found {
            Some((_, answers)) if answers.len() > 1 => answers.pop_front().unwrap(),
            Some((_, answers)) => answers[0].clone(),
            None => panic!("nobody wrote down an answer to {line}"),
        };
        self.calls.lock().unwrap().push((line, call));
        Box::pin(async move { answer })
    }

    fn now(&self) -> Timestamp {
        Timestamp(*self.now.lock().unwrap())
    }

    fn sleep(&self, time: Duration) -> BoxFuture<'_, ()> {
        *self.now.lock().unwrap() += i64::try_from(time.as_millis()).unwrap();
        Box::pin(async {})
    }
}

fn placement() -> ResolvedBackend {
    let (project, name) = (ProjectName::parse("gremlin").unwrap(), BackendName::parse("dev").unwrap());
    let mut spec = BackendSpec::new(ProviderKind::Fly);
    spec.region = Some("iad".to_owned());
    ResolvedBackend {
        id: BackendId::new("b1"),
        instance_name: InstanceName::preferred(&project, &name).unwrap(),
        project,
        name,
        spec,
        generation: Generation(1),
        instance_secret: Secret::new("5a".repeat(32)),
        admin_key: Secret::new("gremlin-dev|00"),
        secrets: BTreeMap::new(),
        ports: PortPair { api: 0, site: 0 },
        endpoints: Endpoints { url: app_url("a"), site_url: format!("{}/http", app_url("a")) },
        has_been_ready: true,
        provider_state: ProviderState::from([(APP_KEY.to_owned(), "a".to_owned()), (INTERNAL_URL.to_owned(), app_url("a"))]),
    }
}

fn work<'a>(client: &'a ApiClient, placement: &'a ResolvedBackend) -> AppReconciler<'a> {
    AppReconciler { client, placement, app: "a".to_owned(), notice: NO_NOTICE, journal: None, role: BACKEND_ROLE }
}

#[tokio::test]
async fn a_look_is_repeated_for_a_while_and_a_creation_is_not() {
    let lost = || Err(ApiTransportError::NoAnswer("reset".to_owned()));
    let (script, client) = Script::default().on("GET", [lost(), lost(), reply(200, json!({}))]).on("POST", [lost()]).client();
    client.call(requests::get_app("a")).await.unwrap();
    assert_eq!(script.count("GET"), 3);
    let declined = client.call(requests::create_machine("a", json!({}))).await.unwrap_err();
    assert!(matches!(declined, CallError::Uncertain(_)), "{declined:?}");
    assert_eq!(script.count("POST"), 1, "a creation whose answer was lost was sent again without a look");

    let (script, client) = Script::default().on("GET", [reply(503, Value::Null)]).client();
    assert!(matches!(client.call(requests::get_app("a")).await, Err(CallError::Rejected(ApiErrorKind::Uncertain, _))));
    assert!(script.seconds() <= 60 && script.seconds() > 40, "{} s", script.seconds());
    assert!(script.count("GET") < 20, "it hammers");
}

#[tokio::test]
async fn a_request_that_never_arrived_is_always_retried() {
    let refused = || Err(ApiTransportError::NotSent("connection refused".to_owned()));
    let (script, client) = Script::default().on("POST", [refused(), refused(), reply(200, json!({}))]).client();
    client.call(requests::create_machine("a", json!({}))).await.unwrap();
    assert_eq!(script.count("POST"), 3);
}

#[tokio::test]
async fn a_retry_after_is_kept_to_and_has_an_end() {
    let limited = |seconds: &str| {
        let headers = BTreeMap::from([("retry-after".to_owned(), seconds.to_owned())]);
        Ok(ApiResponse { status: 429, headers, body: String::new() })
    };
    let (script, client) = Script::default().on("POST", [limited("7"), reply(200, json!({}))]).client();
    client.call(requests::create_machine("a", json!({}))).await.unwrap();
    assert_eq!(script.seconds(), 7);
    let (script, client) = Script::default().on("POST", [limited("86400")]).client();
    assert!(client.call(requests::create_machine("a", json!({}))).await.is_err());
    assert!(script.seconds() <= 60);
}

#[tokio::test]
async fn waiting_is_done_over_there_in_pieces_that_it_allows() {
    let machine = |state: &str, status: &str| {
        let checks = json!([{ "name": "servicecheck-00-http-3210", "status": status, "output": "connect: refused" }]);
        reply(200, json!({ "id": "m1", "name": "convex", "state": state, "instance_id": "v1", "checks": checks }))
    };
    // An image may take longer to be pulled than a machine takes to restart.
    let pulling = std::iter::repeat_with(|| machine("created", "critical")).take(90);
    let failing = std::iter::repeat_with(|| machine("started", "critical")).take(100);
    let waited = reply(408, json!({ "error": "deadline_exceeded: machine failed to reach desired state, currently created" }));
    let (script, client) = Script::default()
        .on("/wait", [waited.clone(), waited, reply(200, json!({ "ok": true }))])
        .on("GET /v1/apps/a/machines/m1", pulling.chain(failing).chain([machine("started", "passing")]))
        .client();
    let placement = placement();
    work(&client, &placement).wait_until_ready("m1", Some("v1")).await.unwrap();
    assert!(script.seconds() >= 180, "{} s", script.seconds());
    let calls = script.calls.lock().unwrap();
    let (_, wait) = calls.iter().find(|(line, _)| line.contains("/wait")).unwrap();
    let seconds: u64 = wait.query.iter().find(|(name, _)| *name == "timeout").unwrap().1.parse().unwrap();
    assert!(seconds <= 60 && wait.within > Duration::from_secs(seconds));
    assert!(wait.query.contains(&("version", "v1".to_owned())) && wait.query.contains(&("state", "settled".to_owned())));
}

#[tokio::test]
async fn a_machine_that_never_passes_its_checks_fails_with_their_output() {
    let checks = json!([{ "name": "servicecheck-00", "status": "critical", "output": "connect: refused\nmore" }]);
    let (script, client) = Script::default()
        .on(
            "/wait",
            [
                reply(408, json!({ "error": "deadline_exceeded: machine failed to reach desired state" })),
                reply(200, json!({ "ok": true })),
            ],
        )
        .on("GET /v1/apps/a/machines/m1", [reply(200, json!({ "id": "m1", "state": "started", "checks": checks }))])
        .client();
    let placement = placement();
    let error = work(&client, &placement).wait_until_ready("m1", None).await.unwrap_err();
    assert!(matches!(&error, FlyError::NotReady { why, .. } if why.ends_with("critical: connect: refused")), "{error:?}");
    assert!((300..320).contains(&script.seconds()), "{} s", script.seconds());
}

#[tokio::test]
async fn the_organisation_is_named_noted_or_the_only_one() {
    let tokens = |slugs: &[&str]| {
        let tokens: Vec<Value> = slugs.iter().map(|slug| json!({ "org_slug": slug })).collect();
        Script::default().on("GET /v1/tokens/current", [reply(200, json!({ "tokens": tokens }))]).client().1
    };
    let (placement, settings) = (placement(), FlyConfig::default());
    assert_eq!(resolve_org(&tokens(&["acme", "acme"]), &settings, &placement).await.unwrap(), "acme");
    assert_eq!(resolve_org(&tokens(&[]), &settings, &placement).await.unwrap(), "personal");
    let unclear = resolve_org(&tokens(&["acme", "other"]), &settings, &placement).await.unwrap_err();
    assert!(matches!(&unclear, FlyError::Organisation { count: 2, .. }) && unclear.help().unwrap().contains("acme, other"));
    let mut named = placement.clone();
    named.spec.settings.fly.org = Some("mine".to_owned());
    let (script, client) = Script::default().client();
    assert_eq!(resolve_org(&client, &settings, &named).await.unwrap(), "mine");
    named.provider_state.insert("org".to_owned(), "noted".to_owned());
    assert_eq!(resolve_org(&client, &settings, &named).await.unwrap(), "noted");
    assert_eq!(script.count(""), 0);
}

#[tokio::test]
async fn a_tag_is_pinned_by_the_registry_and_asked_for_once() {
    let hex = "2".repeat(64);
    let mut manifest = reply(200, json!({})).unwrap();
    manifest.headers.insert("docker-content-digest".to_owned(), format!("sha256:{hex}"));
    let commit = format!("652b828{}", "0".repeat(33));
    let (script, client) = Script::default()
        .on("GET /652b828", [Ok(ApiResponse { status: 200, body: commit.clone(), ..ApiResponse::default() })])
        .on("GET /token", [reply(200, json!({ "token": "anonymous" }))])
        .on(&format!("GET /v2/get-convex/convex-backend/manifests/{commit}"), [Ok(manifest)])
        .client();
    let mut placement = placement();
    placement.spec.release = Release::parse("precompiled-2026-08-21-652b828").ok();
    let mut references = ProviderState::new();
    let found = resolve_image(&client, &placement, BACKEND_IMAGE, None, BACKEND_IMAGE_KEYS, &mut references).await.unwrap();
    assert_eq!(found.reference(), format!("{BACKEND_IMAGE}@sha256:{hex}"));
    found.record(BACKEND_IMAGE_KEYS, &mut references);
    let asked = script.count("");
    placement.provider_state.extend(references);
    let again =
        resolve_image(&client, &placement, BACKEND_IMAGE, None, BACKEND_IMAGE_KEYS, &mut ProviderState::new()).await.unwrap();
    assert_eq!((again.reference(), script.count("")), (found.reference(), asked));
    let calls = script.calls.lock().unwrap();
    assert!(calls.iter().all(|(_, call)| call.service != Service::Machines), "Fly was asked about an image");
}

#[tokio::test]
async fn why_nobody_says_the_commit_is_said() {
    let limited = reply(403, json!({ "message": "API rate limit exceeded for 192.0.2.1" }));
    let lost = Err(ApiTransportError::NotSent("the proxy does not answer".to_owned()));
    for (answer, reason) in [(limited, "status 403: API rate limit exceeded"), (lost, "the proxy does not answer")] {
        let (_, client) = Script::default().on("GET /652b828", [answer]).client();
        let mut placement = placement();
        placement.spec.release = Release::parse("precompiled-2026-08-21-652b828").ok();
        let found =
            resolve_image(&client, &placement, BACKEND_IMAGE, None, BACKEND_IMAGE_KEYS, &mut ProviderState::new()).await;
        let error = found.unwrap_err().to_string();
        assert!(error.contains(reason), "{error}");
    }
}

#[tokio::test]
async fn a_fault_of_this_machine_is_told_at_once() {
    let (script, client) = Script::default().on("GET", [Err(ApiTransportError::NoAuthorities)]).client();
    let declined = client.call(requests::get_app("a")).await.unwrap_err();
    assert_eq!((script.count("GET"), script.seconds()), (1, 0), "it was tried again");
    let error = call_failed("GET /v1/apps/a", declined);
    assert_eq!(error.code(), "local.no_authorities");
    assert!(error.to_string().contains("ca-certificates"), "{error}");
}

#[tokio::test]
async fn without_a_registry_fly_finds_the_digest() {
    let (_, client) = Script::default().on("GET /token", [Err(ApiTransportError::NotSent("no route".to_owned()))]).client();
    let mut placement = placement();
    placement.spec.release = Release::parse(&"a".repeat(40)).ok();
    let found =
        resolve_image(&client, &placement, BACKEND_IMAGE, None, BACKEND_IMAGE_KEYS, &mut ProviderState::new()).await.unwrap();
    assert_eq!((found.digest(), found.reference()), (None, format!("{BACKEND_IMAGE}:{}", "a".repeat(40)).as_str()));
}

#[tokio::test]
async fn answers_that_are_none_are_errors_and_no_panic() {
    for body in ["", "null", "[]", "\"x\"", "{\"machines\":", "<html>", "{\"ips\":[{\"ip\":5}]}"] {
        let garbled = || Ok(ApiResponse { status: 200, headers: BTreeMap::new(), body: body.to_owned() });
        let (_, client) = Script::default().on("", [garbled()]).client();
        let placement = placement();
        let fly = Fly { client, config: FlyConfig::default() };
        let looked = fly.observe(&placement).await;
        assert!(looked.is_err(), "{body}: {looked:?}");
        assert!(fly.ensure(&placement, &|_| {}).await.is_err(), "{body}");
    }
}

#[test]
fn fields_that_the_api_omits_are_no_drift() {
    let mut placement = placement();
    let wanted = desired::backend_spec(&placement).unwrap();
    let mut config = wanted.configuration("image", Some("vol_1"));
    config["services"][0].as_object_mut().unwrap().remove("checks");
    config.as_object_mut().unwrap().remove("stop_config");
    let machine = |config: &Value| serde_json::from_value(json!({ "id": "m1", "state": "started", "config": config })).unwrap();
    let paths = |placement: &ResolvedBackend, config: &Value| -> Vec<String> {
        let found = drift::config_drift(placement, &wanted, None, &machine(config), Some("vol_1"));
        found.into_iter().map(|difference| difference.path).collect()
    };
    let mut dropped = paths(&placement, &config);
    dropped.sort();
    assert_eq!(dropped, ["services.checks", "stop_config"]);
    placement.provider_state.insert("unsaid".to_owned(), dropped.join("\n"));
    assert_eq!(paths(&placement, &config), Vec::<String>::new());
    // What it does give back is compared all the same.
    config["stop_config"] = json!({ "signal": "SIGTERM", "timeout": "30s" });
    config["guest"]["cpus"] = 8.into();
    let mut found = paths(&placement, &config);
    found.sort();
    assert_eq!(found, ["guest.cpus", "stop_config.signal"]);
}

#[tokio::test]
async fn orphans_are_looked_for_on_every_page() {
    let page = |name: &str, next: &str| {
        reply(200, json!({ "volumes": [{ "id": "vol_1", "app_name": name, "state": "created" }], "next_cursor": next }))
    };
    let (script, client) = Script::default()
        .on("GET /v1/apps/a", [reply(404, json!({ "error": "not_found: app" }))])
        .on("GET /v1/orgs/acme/volumes", [page("other", "2"), page("a", ""), page("other", "")])
        .on("DELETE /v1/apps/a/volumes/vol_1", [reply(200, json!({}))])
        .on("GET /v1/apps/a-d", [reply(404, json!({}))])
        .client();
    let mut placement = placement();
    placement.provider_state.insert("org".to_owned(), "acme".to_owned());
    remove::remove_app(&work(&client, &placement)).await.unwrap();
    assert_eq!(script.count("DELETE /v1/apps/a/volumes/vol_1"), 1);
    assert!(script.calls.lock().unwrap().iter().any(|(_, call)| call.query.contains(&("cursor", "2".to_owned()))));
}
