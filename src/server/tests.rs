//! The routes without a listener: what comes back, what is refused, and how.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::http::{HeaderMap, Method, Request};
use serde_json::{Value, json};
use tokio::sync::Semaphore;
use tower::ServiceExt;

use super::{ApiServer, RequestLimits, ServerPhase, router, routes};
use crate::api::Administration;
use crate::api::endpoint::HttpMethod;
use crate::api::endpoints::ALL;
use crate::convex::deployment::DeploymentClient;
use crate::host::{Host, HostParts, NativePlatform, Serving};
use crate::model::{
    Actor, Observation, ProjectName, ProviderKind, ProviderState, ResolvedBackend, RunState, Scope, TimeSpan, TokenRequest,
};
use crate::provider::{LogChunk, LogPosition, ProgressFn, Provider, ProviderError, async_trait};

/// A provider that says something, waits to be let on, and then says that the backend ended.
struct Gate(Arc<Semaphore>);

#[async_trait]
impl Provider for Gate {
    fn kind(&self) -> ProviderKind {
        ProviderKind::Simulated
    }

    async fn observe(&self, _: &ResolvedBackend) -> Result<Observation, ProviderError> {
        Ok(Observation::as_recorded(RunState::Running))
    }

    async fn ensure(&self, _: &ResolvedBackend, notice: ProgressFn<'_>) -> Result<ProviderState, ProviderError> {
        notice("one".to_owned());
        notice("two".to_owned());
        if let Ok(permit) = self.0.acquire().await {
            permit.forget();
        }
        Err(ProviderError::Exited { status: "as the test wants it".to_owned(), log: Vec::new() })
    }

    async fn remove(&self, _: &ResolvedBackend, _: ProgressFn<'_>) -> Result<(), ProviderError> {
        Ok(())
    }

    async fn logs(&self, _: &ResolvedBackend, from: LogPosition) -> Result<LogChunk, ProviderError> {
        Ok(LogChunk { text: format!("{from:?}\n"), next: 7 })
    }
}

pub(super) struct Fixture {
    pub(super) server: Arc<ApiServer>,
    pub(super) router: Router,
    gate: Arc<Semaphore>,
    serving: Option<Serving>,
    tokens: BTreeMap<&'static str, String>,
    _folder: tempfile::TempDir,
}

pub(super) struct Response {
    pub(super) status: u16,
    pub(super) headers: HeaderMap,
    pub(super) body: String,
}

impl Response {
    pub(super) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.body))
    }

    /// The code of the one thing that is wrong, in a document as all have it.
    pub(super) fn code(&self) -> String {
        let document = self.json();
        assert_eq!(document["format"], "convexinfra.error/1", "{}", self.body);
        assert_eq!(document["request_id"].as_str(), self.headers["x-request-id"].to_str().ok(), "{}", self.body);
        assert_eq!(document["errors"].as_array().map(Vec::len), Some(1), "{}", self.body);
        assert!(document["situation"]["kind"].is_string(), "{}", self.body);
        document["errors"][0]["code"].as_str().unwrap().to_owned()
    }
}

fn project(name: &str) -> ProjectName {
    ProjectName::parse(name).unwrap()
}

impl Fixture {
    pub(super) async fn new() -> Self {
        Self::with(RequestLimits::default()).await
    }

    pub(super) async fn with(limits: RequestLimits) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let gate = Arc::new(Semaphore::new(0));
        let host = Arc::new(Host::new(HostParts {
            platform: Box::new(NativePlatform::new(folder.path().to_owned(), None, None)),
            name: "http://test".to_owned(),
            providers: vec![Box::new(Gate(Arc::clone(&gate)))],
            connections: DeploymentClient::default(),
            local_binaries: crate::host::LocalBinaries::ReleasesOnly,
        }));
        let serving = host.serve("http://test").await.unwrap();
        let control = host.session_for(Actor::control_plane());
        let mut tokens = BTreeMap::new();
        for (name, scope, of, ttl) in [
            ("read", Scope::Read, Some("demo"), None),
            ("apply", Scope::Apply, Some("demo"), None),
            ("destroy", Scope::Destroy, Some("demo"), None),
            ("operator", Scope::Operator, None, None),
            ("stranger", Scope::Destroy, Some("other"), None),
            ("revoked", Scope::Operator, None, None),
            ("expired", Scope::Operator, None, Some(TimeSpan::from_seconds(0))),
        ] {
            let request = TokenRequest { project: of.map(project), scope, note: name.to_owned(), ttl };
            let issued = control.create_token(&request).await.unwrap();
            if name == "revoked" {
                control.revoke_token(&issued.record.id).await.unwrap();
            }
            tokens.insert(name, issued.token.expose().to_owned());
        }
        let mut unknown = tokens["operator"].clone();
        // Well formed, down to its checksum, and made by nobody.
        let body = format!("aaaaaaaaaa_{}", "0".repeat(64));
        unknown.replace_range(.., &format!("cvxi_{body}{:08x}", crc32fast::hash(body.as_bytes())));
        tokens.insert("unknown", unknown);
        tokens.insert("malformed", "cvxi_nonsense".to_owned());
        let server = ApiServer::new(host, super::ShardRole::Projects, limits).unwrap();
        Self { router: router(&server), server, gate, serving: Some(serving), tokens, _folder: folder }
    }

    pub(super) fn request(&self, token: &str, method: &str, path: &str) -> axum::http::request::Builder {
        let request = Request::builder().method(Method::from_bytes(method.as_bytes()).unwrap()).uri(path);
        match self.tokens.get(token) {
            Some(token) => request.header("authorization", format!("Bearer {token}")),
            None => request,
        }
    }

    pub(super) async fn send(&self, request: Request<Body>) -> Response {
        let response = self.router.clone().oneshot(request).await.unwrap();
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        let body = to_bytes(response.into_body(), 1 << 24).await.unwrap();
        Response { status, headers, body: String::from_utf8(body.to_vec()).unwrap() }
    }

    pub(super) async fn get(&self, token: &str, path: &str) -> Response {
        self.send(self.request(token, "GET", path).body(Body::empty()).unwrap()).await
    }

    pub(super) async fn write(&self, token: &str, method: &str, path: &str, fence: u64, document: &Value) -> Response {
        let request = self.request(token, method, path).header("convexinfra-fence", fence);
        let request = request.header("content-type", "application/json").body(Body::from(document.to_string()));
        self.send(request.unwrap()).await
    }

    pub(super) async fn lease(&self) -> u64 {
        let request = json!({ "user": "u", "host": "h", "process": 1 });
        let response = self.write("apply", "POST", "/v1/projects/demo/lease", 0, &request).await;
        assert_eq!(response.status, 201, "{}", response.body);
        response.json()["fence"].as_u64().unwrap()
    }

    pub(super) async fn put(&self, fence: u64, step: &str, listen: bool) -> Response {
        let spec = json!({ "provider": "simulated", "settings": { "simulated": { "listen": listen } } });
        let work = json!({ "kind": "put", "spec": spec, "secrets": {} });
        let request = json!({ "step": { "plan": "p", "step": step }, "backend": "dev", "work": work });
        self.write("apply", "POST", "/v1/projects/demo/operations", fence, &request).await
    }
}

#[tokio::test]
async fn a_stale_fence_is_refused_everywhere() {
    let fixture = Fixture::new().await;
    let old = fixture.lease().await;
    let lease = "/v1/projects/demo/lease";
    let held = fixture.write("apply", "POST", lease, 0, &json!({ "user": "u", "host": "h", "process": 2 })).await;
    assert_eq!((held.status, held.code().as_str()), (409, "control.lease_held"));
    assert_eq!(held.json()["situation"]["holder"]["user"], "u");
    assert_eq!(fixture.write("apply", "DELETE", lease, old, &json!(null)).await.status, 204);
    let new = fixture.lease().await;
    assert!(new > old);
    for (method, path) in [("PUT", lease), ("PUT", "/v1/projects/demo/origin"), ("POST", "/v1/projects/demo/operations")] {
        let document = match path.rsplit('/').next() {
            Some("origin") => json!({ "origin": "o", "claim": "take_over" }),
            _ => json!({ "step": { "plan": "p", "step": "s" }, "backend": "dev", "work": { "kind": "remove" } }),
        };
        let lost = fixture.write("destroy", method, path, old, &document).await;
        assert_eq!((lost.status, lost.code().as_str()), (409, "control.lease_lost"), "{path}");
        assert_eq!(lost.json()["situation"]["kind"], "lease_lost");
    }
    // Giving back what was lost is no error, and takes nothing from the holder of now.
    assert_eq!(fixture.write("apply", "DELETE", lease, old, &json!(null)).await.status, 204);
    assert!(fixture.get("read", lease).await.json()["holder"].is_object());
    assert_eq!(fixture.get("read", "/v1/projects/demo").await.json()["revision"], 0);
    assert_eq!(fixture.get("read", "/v1/projects/demo/events").await.json().as_array().map(Vec::len), Some(3), "three tokens");
}

#[tokio::test]
async fn a_repeated_step_returns_the_same_operation() {
    let fixture = Fixture::new().await;
    let fence = fixture.lease().await;
    let first = fixture.put(fence, "s", true).await;
    assert_eq!((first.status, first.json()["state"].as_str()), (202, Some("running")));
    let again = fixture.put(fence, "s", true).await;
    assert_eq!((again.status, &again.json()["id"]), (202, &first.json()["id"]));
    fixture.gate.add_permits(1);
    let path = format!("/v1/projects/demo/operations/{}", first.json()["id"].as_str().unwrap());
    assert_eq!(first.headers["location"], path);
    let events = fixture.get("read", &format!("{path}/events")).await;
    assert_eq!(events.headers["content-type"], "text/event-stream");
    let ended = fixture.put(fence, "s", true).await;
    assert_eq!((ended.status, ended.json()["state"].as_str()), (200, Some("failed")));
    assert_eq!(fixture.get("read", &path).await.json(), ended.json());
    assert_eq!(fixture.get("read", "/v1/projects/demo/operations").await.json(), json!([ended.json()]));
}

#[tokio::test]
async fn a_step_key_of_the_janitor_is_reserved() {
    let fixture = Fixture::new().await;
    let fence = fixture.lease().await;
    let request = json!({ "step": { "plan": "expiry", "step": "x:1" }, "backend": "dev", "work": { "kind": "remove" } });
    let response = fixture.write("destroy", "POST", "/v1/projects/demo/operations", fence, &request).await;
    assert_eq!((response.status, response.code().as_str()), (400, "control.reserved_step"));
    assert_eq!(fixture.get("read", "/v1/projects/demo/operations").await.json(), json!([]));
}

#[tokio::test]
async fn an_event_stream_resumes_after_the_last_event_id() {
    let fixture = Fixture::new().await;
    let fence = fixture.lease().await;
    let id = fixture.put(fence, "s", true).await.json()["id"].as_str().unwrap().to_owned();
    fixture.gate.add_permits(1);
    let path = format!("/v1/projects/demo/operations/{id}/events");
    let all = fixture.get("read", &path).await.body;
    let ids: Vec<&str> = all.lines().filter_map(|line| line.strip_prefix("id: ")).collect();
    assert_eq!(ids, ["1", "2", "3"], "{all}");
    assert!(all.contains(r#"data: {"type":"notice","message":"one"}"#), "{all}");
    assert!(all.contains(r#"data: {"type":"ended","operation":{"#), "{all}");
    let later = |after: &str| {
        fixture.send(fixture.request("read", "GET", &path).header("last-event-id", after).body(Body::empty()).unwrap())
    };
    let rest = later("1").await.body;
    assert!(all.ends_with(&rest) && rest.starts_with("id: 2\n"), "{rest}");
    assert_eq!(later("one").await.code(), "wire.last_event_id");
    assert_eq!(fixture.get("read", "/v1/projects/demo/operations/99/events").await.code(), "control.no_such_operation");
}

#[tokio::test]
async fn a_draining_server_refuses_work_and_ends_event_streams() {
    let mut fixture = Fixture::new().await;
    let fence = fixture.lease().await;
    let id = fixture.put(fence, "s", true).await.json()["id"].as_str().unwrap().to_owned();
    assert_eq!(fixture.get("none", "/readyz").await.status, 200);
    fixture.server.set_phase(ServerPhase::Draining);
    for response in [fixture.get("none", "/readyz").await, fixture.put(fence, "more", false).await] {
        assert_eq!((response.status, response.code().as_str()), (503, "server.draining"));
        assert!(response.headers.contains_key("retry-after"));
        assert_eq!(response.json()["situation"]["kind"], "unavailable");
    }
    assert_eq!(fixture.get("none", "/healthz").await.status, 200);
    assert_eq!(fixture.get("read", "/v1/projects/demo").await.status, 200);
    assert_eq!(fixture.serving.take().unwrap().stop(Duration::from_millis(10)).await, 1, "it waits at the gate");
    fixture.server.set_phase(ServerPhase::Closing);
    let watched = fixture.get("read", &format!("/v1/projects/demo/operations/{id}/events")).await.body;
    assert!(watched.contains("two") && !watched.contains("ended"), "{watched}");
}

#[tokio::test]
async fn metrics_count_events_and_name_no_project() {
    let fixture = Fixture::new().await;
    fixture.put(fixture.lease().await, "s", false).await;
    fixture.get("malformed", "/v1/projects/demo").await;
    fixture.get("none", "/v1/projects/secret-name").await;
    fixture.send(fixture.request("none", "BREW", "/nowhere").body(Body::empty()).unwrap()).await;
    let figures = fixture.server.render_metrics();
    for line in [
        r#"convexinfra_requests_total{method="POST",route="/v1/projects/{project}/operations",status="200"} 1"#,
        r#"convexinfra_requests_total{method="other",route="unknown",status="404"} 1"#,
        r#"convexinfra_tokens_refused_total{code="auth.token_malformed"} 1"#,
        r#"convexinfra_tokens_refused_total{code="auth.token_missing"} 1"#,
        r#"convexinfra_operations{state="done"} 1"#,
        "convexinfra_leases 1",
        "convexinfra_store_up 1",
    ] {
        assert!(figures.lines().any(|found| found == line), "{line} is not in\n{figures}");
    }
    for name in ["demo", "secret-name", "cvxi_", "BREW"] {
        assert!(!figures.contains(name), "{name}");
    }
}

#[tokio::test]
async fn an_operator_sets_a_quota_and_it_holds() {
    let fixture = Fixture::new().await;
    let fence = fixture.lease().await;
    assert_eq!(fixture.write("operator", "PUT", "/v1/projects/demo/quota", 0, &json!({ "backends": 0 })).await.status, 204);
    let refused = fixture.put(fence, "s", false).await;
    assert_eq!((refused.status, refused.code().as_str()), (422, "plan.over_quota_backends"));
    assert_eq!(fixture.get("read", "/v1/projects/demo/quota").await.json(), json!({ "backends": 0 }));
    assert_eq!(fixture.write("operator", "PUT", "/v1/quota", 0, &json!({ "monthly_usd": -1 })).await.code(), "wire.quota");
    assert_eq!(fixture.get("operator", "/v1/quota").await.json(), json!({}));
}

#[test]
fn every_endpoint_is_served_and_documented() {
    let contract = super::openapi();
    let mut served: Vec<_> = routes::routes().iter().map(|route| route.endpoint.id).collect();
    let mut known: Vec<_> = ALL.iter().map(|endpoint| endpoint.id).collect();
    served.sort_unstable();
    known.sort_unstable();
    assert_eq!(served, known);
    for endpoint in ALL {
        let operation = &contract["paths"][endpoint.path][endpoint.method.as_str().to_lowercase()];
        assert_eq!(operation["operationId"], endpoint.id);
        assert_eq!(endpoint.body.is_some(), operation["requestBody"].is_object(), "{}", endpoint.id);
        assert!(!(endpoint.body.is_some() && endpoint.method == HttpMethod::Get), "{}", endpoint.id);
        for status in endpoint.error_statuses() {
            let name = operation["responses"][status.to_string()]["$ref"].as_str().and_then(|path| path.rsplit('/').next());
            assert!(contract["components"]["responses"][name.unwrap()].is_object(), "{}: {status}", endpoint.id);
        }
    }
}

#[tokio::test]
async fn the_contract_is_cached_by_its_etag() {
    let fixture = Fixture::new().await;
    let first = fixture.get("none", "/openapi.json").await;
    assert_eq!((first.status, &first.headers["cache-control"]), (200, &"no-cache".parse().unwrap()));
    let request = fixture.request("none", "GET", "/openapi.json").header("if-none-match", &first.headers["etag"]);
    let again = fixture.send(request.body(Body::empty()).unwrap()).await;
    assert_eq!((again.status, again.body.as_str()), (304, ""));
    let request = fixture.request("none", "GET", "/openapi.json").header("if-none-match", "\"another\"");
    assert_eq!(fixture.send(request.body(Body::empty()).unwrap()).await.body, first.body);
}

#[tokio::test]
async fn the_history_is_read_in_pages() {
    let fixture = Fixture::new().await;
    for number in 0..7 {
        let body = json!({ "scope": "read", "project": "demo", "note": number.to_string() });
        fixture.write("operator", "POST", "/v1/tokens", 0, &body).await;
    }
    let sequences = |response: &Response| -> Vec<u64> {
        response.json().as_array().unwrap().iter().map(|entry| entry["sequence"].as_u64().unwrap()).collect()
    };
    let all = sequences(&fixture.get("read", "/v1/projects/demo/events").await);
    let mut pages = Vec::new();
    let mut before = String::new();
    loop {
        let page = sequences(&fixture.get("read", &format!("/v1/projects/demo/events?limit=3{before}")).await);
        let Some(first) = page.first() else { break };
        before = format!("&before={first}");
        pages.splice(0..0, page);
    }
    assert_eq!(pages, all);
    assert_eq!(fixture.get("read", "/v1/projects/demo/events?limit=1001").await.code(), "wire.query");
    assert_eq!(fixture.get("read", "/v1/projects/demo/events?before=0").await.code(), "wire.query");
}

#[tokio::test]
async fn unused_keys_of_the_rate_limiter_are_dropped() {
    let fixture = Fixture::new().await;
    let rate = std::num::NonZeroU32::new(100_000).unwrap();
    let limiter = super::rate_limits::KeyedLimiter::new(rate, rate, &fixture.server.host);
    for number in 0..10_000_u32 {
        limiter.check(&number).unwrap();
    }
    assert!(limiter.len() < 5_000, "{} keys are kept", limiter.len());
}
