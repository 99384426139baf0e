//! The routes without a listener: who is let in, what comes back, what is refused, and how.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::http::{HeaderMap, Method, Request, StatusCode};
use futures_util::stream;
use rstest::rstest;
use serde_json::{Value, json};
use tokio::sync::Semaphore;
use tower::ServiceExt;

use super::{ApiServer, RequestLimits, ServerPhase, router, routes};
use crate::api::endpoint::HttpMethod;
use crate::api::endpoints::ALL;
use crate::api::{Administration, OriginMatch, TokenOrigin, match_origin};
use crate::convex::deployment::DeploymentClient;
use crate::host::{Host, HostParts, NativePlatform, Serving};
use crate::model::{
    Actor, Observation, ProjectName, ProviderKind, ProviderState, ResolvedBackend, RunState, Scope, Secret, TimeSpan, TokenId,
    TokenRequest,
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

struct Response {
    status: u16,
    headers: HeaderMap,
    body: String,
}

impl Response {
    fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.body))
    }

    /// The code of the one thing that is wrong, in a document as all have it.
    fn code(&self) -> String {
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

    async fn with(limits: RequestLimits) -> Self {
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

    fn request(&self, token: &str, method: &str, path: &str) -> axum::http::request::Builder {
        let request = Request::builder().method(Method::from_bytes(method.as_bytes()).unwrap()).uri(path);
        match self.tokens.get(token) {
            Some(token) => request.header("authorization", format!("Bearer {token}")),
            None => request,
        }
    }

    async fn send(&self, request: Request<Body>) -> Response {
        let response = self.router.clone().oneshot(request).await.unwrap();
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        let body = to_bytes(response.into_body(), 1 << 24).await.unwrap();
        Response { status, headers, body: String::from_utf8(body.to_vec()).unwrap() }
    }

    async fn get(&self, token: &str, path: &str) -> Response {
        self.send(self.request(token, "GET", path).body(Body::empty()).unwrap()).await
    }

    async fn write(&self, token: &str, method: &str, path: &str, fence: u64, document: &Value) -> Response {
        let request = self.request(token, method, path).header("convexinfra-fence", fence);
        let request = request.header("content-type", "application/json").body(Body::from(document.to_string()));
        self.send(request.unwrap()).await
    }

    async fn lease(&self) -> u64 {
        let request = json!({ "user": "u", "host": "h", "process": 1 });
        let response = self.write("apply", "POST", "/v1/projects/demo/lease", 0, &request).await;
        assert_eq!(response.status, 201, "{}", response.body);
        response.json()["fence"].as_u64().unwrap()
    }

    async fn put(&self, fence: u64, step: &str, listen: bool) -> Response {
        let spec = json!({ "provider": "simulated", "settings": { "simulated": { "listen": listen } } });
        let work = json!({ "kind": "put", "spec": spec, "secrets": {} });
        let request = json!({ "step": { "plan": "p", "step": step }, "backend": "dev", "work": work });
        self.write("apply", "POST", "/v1/projects/demo/operations", fence, &request).await
    }
}

/// What each route needs, written down once more: the table of routes must not become weaker unnoticed.
const NEEDS: [(&str, &str); 33] = [
    ("listProjects", "token"),
    ("getProject", "read"),
    ("getFingerprintKey", "apply"),
    ("putOrigin", "apply"),
    ("getLease", "read"),
    ("acquireLease", "apply"),
    ("renewLease", "apply"),
    ("releaseLease", "apply"),
    ("preflight", "apply"),
    ("startOperation", "apply"),
    ("listOperations", "read"),
    ("getOperation", "read"),
    ("watchOperation", "read"),
    ("listBackends", "read"),
    ("getBackend", "read"),
    ("getCredentials", "apply"),
    ("readLogs", "read"),
    ("listEvents", "read"),
    ("checkEvents", "read"),
    ("listAllEvents", "operator"),
    ("checkAllEvents", "operator"),
    ("getQuota", "read"),
    ("putQuota", "operator"),
    ("getDefaultQuota", "operator"),
    ("putDefaultQuota", "operator"),
    ("listTokens", "operator"),
    ("createToken", "operator"),
    ("revokeToken", "operator"),
    ("getCatalog", "token"),
    ("getCapacity", "operator"),
    ("getHealth", "nothing"),
    ("getReadiness", "nothing"),
    ("getContract", "nothing"),
];

#[tokio::test]
async fn every_endpoint_admits_exactly_the_tokens_that_its_scope_names() {
    let fixture = Fixture::new().await;
    let routes = ALL;
    let mut ids: Vec<_> = routes.iter().map(|route| route.id).collect();
    let mut known: Vec<_> = NEEDS.iter().map(|(id, _)| *id).collect();
    ids.sort_unstable();
    known.sort_unstable();
    assert_eq!(ids, known);
    for route in routes {
        let needs = NEEDS.iter().find(|(id, _)| *id == route.id).unwrap().1;
        let path = route.path.replace("{project}", "demo").replace("{backend}", "dev");
        let path = path.replace("{operation}", "1").replace("{token}", "nobody");
        for token in ["none", "malformed", "unknown", "revoked", "expired", "read", "apply", "destroy", "operator", "stranger"]
        {
            let response =
                fixture.send(fixture.request(token, route.method.as_str(), &path).body(Body::empty()).unwrap()).await;
            let good = ["read", "apply", "destroy", "operator", "stranger"].contains(&token);
            let own = token != "stranger" || !route.path.contains("{project}");
            let enough = match needs {
                "token" | "read" => true,
                "apply" => ["apply", "destroy", "operator"].contains(&token),
                _ => token == "operator",
            };
            let expected = match (needs, good, own && enough) {
                ("nothing", ..) | (_, true, true) => None,
                (_, false, _) => Some((401, "not_authenticated")),
                (_, true, false) => Some((403, "not_authorised")),
            };
            let place = format!("{} with {token}: {} {}", route.id, response.status, response.body);
            match expected {
                // It is authorized, and then refused for its missing body.
                None => assert!(![401, 403, 405, 500].contains(&response.status), "{place}"),
                Some((status, situation)) => {
                    assert_eq!(response.status, status, "{place}");
                    assert_eq!(response.json()["situation"]["kind"], situation, "{place}");
                    assert!(response.code().starts_with("auth."), "{place}");
                    assert_eq!(response.headers.contains_key("www-authenticate"), status == 401, "{place}");
                }
            }
            // The contract is the only document that is worth keeping: it is compared by its tag.
            let caching = if route.id == "getContract" { "no-cache" } else { "no-store" };
            assert_eq!(response.headers["cache-control"], caching, "{place}");
        }
    }
}

#[tokio::test]
async fn a_project_out_of_reach_looks_like_a_missing_one() {
    let fixture = Fixture::new().await;
    fixture.put(fixture.lease().await, "s", false).await;
    let there = fixture.get("stranger", "/v1/projects/demo/backends/dev").await;
    let nowhere = fixture.get("stranger", "/v1/projects/none/backends/dev").await;
    let without_id = |response: &Response| {
        response.body.replace(response.json()["request_id"].as_str().unwrap(), "").replace("none", "demo")
    };
    assert_eq!((there.status, without_id(&there)), (nowhere.status, without_id(&nowhere)));
    assert_eq!(fixture.get("stranger", "/v1/projects").await.json(), json!(["other"]));
    assert_eq!(fixture.get("operator", "/v1/projects").await.json(), json!(["demo", "other"]));
}

#[tokio::test]
async fn removing_a_backend_needs_the_scope_destroy() {
    let fixture = Fixture::new().await;
    let fence = fixture.lease().await;
    assert_eq!(fixture.put(fence, "make", false).await.status, 200);
    let remove = json!({ "step": { "plan": "p", "step": "go" }, "backend": "dev", "work": { "kind": "remove" } });
    let path = "/v1/projects/demo/operations";
    let refused = fixture.write("apply", "POST", path, fence, &remove).await;
    assert_eq!((refused.status, refused.code().as_str()), (403, "auth.scope"));
    assert_eq!(fixture.get("read", "/v1/projects/demo/backends/dev").await.status, 200);
    assert_eq!(fixture.write("destroy", "POST", path, fence, &remove).await.status, 200);
    assert_eq!(fixture.get("read", "/v1/projects/demo/backends/dev").await.status, 404);
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

#[rstest]
#[case::the_root("GET", "/", 404, "wire.no_such_path")]
#[case::a_trailing_slash("GET", "/v1/projects/demo/", 404, "wire.no_such_path")]
#[case::an_unknown_version("GET", "/v2/projects", 404, "wire.no_such_path")]
#[case::a_method_of_another_path("DELETE", "/v1/projects/demo", 405, "wire.method")]
#[case::an_unknown_method("BREW", "/v1/projects", 405, "wire.method")]
#[case::a_name_with_a_capital("GET", "/v1/projects/Demo", 400, "wire.name")]
#[case::a_name_that_leaves_the_path("GET", "/v1/projects/..%2fdemo", 400, "wire.name")]
#[case::a_name_that_begins_with_a_digit("GET", "/v1/projects/demo/backends/1", 400, "wire.name")]
#[case::an_id_with_a_null_byte("GET", "/v1/projects/demo/operations/a%00b", 400, "wire.id")]
#[case::an_unknown_parameter("GET", "/v1/projects/demo?deep=1", 400, "wire.query")]
#[case::a_negative_limit("GET", "/v1/projects/demo/events?limit=-1", 400, "wire.query")]
#[case::a_repeated_parameter("GET", "/v1/projects/demo/events?limit=1&limit=2", 400, "wire.query")]
#[case::a_limit_of_nothing("GET", "/v1/projects/demo/operations?limit=0", 400, "wire.query")]
#[case::parameters_that_exclude_each_other("GET", "/v1/projects/demo/backends/dev/logs?tail=1&from=2", 400, "wire.query")]
#[case::no_fence("PUT", "/v1/projects/demo/lease", 400, "wire.fence")]
#[case::no_content_type("POST", "/v1/tokens", 415, "wire.content_type")]
#[case::an_unknown_token("DELETE", "/v1/tokens/nobody", 404, "control.no_such_token")]
#[tokio::test]
async fn a_wrong_request_is_answered_with_one_document(
    #[case] method: &str,
    #[case] path: &str,
    #[case] status: u16,
    #[case] code: &str,
) {
    let fixture = Fixture::new().await;
    let response = fixture.send(fixture.request("operator", method, path).body(Body::empty()).unwrap()).await;
    assert_eq!((response.status, response.code().as_str()), (status, code), "{}", response.body);
    assert_eq!(response.headers.contains_key("allow"), status == 405);
}

#[rstest]
#[case::empty(&b""[..], 400, "wire.body")]
#[case::cut_off(b"{", 400, "wire.body")]
#[case::null(b"null", 400, "wire.body")]
#[case::an_array(b" [\"demo\",\"read\",\"\",null]", 400, "wire.body")]
#[case::not_utf8(b"\xff\xfe", 400, "wire.body")]
#[case::two_documents(br#"{"scope":"read","project":"demo"} {}"#, 400, "wire.body")]
#[case::a_repeated_key(br#"{"scope":"read","scope":"operator","project":"demo"}"#, 400, "wire.body")]
#[case::an_unknown_key(br#"{"scope":"read","project":"demo","admin":true}"#, 400, "wire.body")]
#[case::a_missing_key(br#"{"scope":"read"}"#, 422, "token.request")]
#[case::too_deep(&[[b'['; 2000], [b']'; 2000]].concat(), 400, "wire.body")]
#[case::too_large(&[b' '; 5000], 413, "wire.too_large")]
#[tokio::test]
async fn a_wrong_body_is_answered_with_one_document(#[case] body: &[u8], #[case] status: u16, #[case] code: &str) {
    let fixture = Fixture::with(RequestLimits { body: 4096, ..RequestLimits::default() }).await;
    let request = fixture.request("operator", "POST", "/v1/tokens").header("content-type", "application/json; charset=utf-8");
    let response = fixture.send(request.body(Body::from(body.to_vec())).unwrap()).await;
    assert_eq!((response.status, response.code().as_str()), (status, code), "{}", response.body);
}

#[tokio::test]
async fn a_body_without_a_length_is_read_up_to_the_limit() {
    let fixture = Fixture::with(RequestLimits { body: 4096, ..RequestLimits::default() }).await;
    let endless = Body::from_stream(stream::repeat_with(|| Ok::<_, std::io::Error>(vec![b' '; 1024])));
    let request = fixture.request("operator", "POST", "/v1/tokens").header("content-type", "application/json");
    assert_eq!(fixture.send(request.body(endless).unwrap()).await.code(), "wire.too_large");
}

#[tokio::test]
async fn an_idempotency_key_that_is_not_the_step_is_refused() {
    let fixture = Fixture::new().await;
    let fence = fixture.lease().await;
    let request = fixture.request("apply", "POST", "/v1/projects/demo/operations").header("content-type", "application/json");
    let document = json!({ "step": { "plan": "p", "step": "s" }, "backend": "dev", "work": { "kind": "remove" } }).to_string();
    let request = request.header("convexinfra-fence", fence).header("idempotency-key", "p/other");
    assert_eq!(fixture.send(request.body(Body::from(document)).unwrap()).await.code(), "wire.idempotency_key");
}

#[tokio::test]
async fn the_default_quota_is_not_lifted_by_an_empty_document() {
    let fixture = Fixture::new().await;
    let nothing = fixture.write("operator", "PUT", "/v1/quota", 0, &json!([])).await;
    assert_eq!((nothing.status, nothing.code().as_str()), (400, "wire.body"));
}

/// What stands in everybody's plans leads no terminal astray; values of variables may have lines.
#[rstest]
#[case::an_escape_sequence(json!({ "provider": "simulated", "region": "a\u{1b}[2J" }), Some("wire.text"))]
#[case::a_line_break(json!({ "provider": "simulated", "origins": { "api": "http://x\nEVIL=1" } }), Some("wire.text"))]
#[case::an_unavailable_provider(json!({ "provider": "kubernetes" }), Some("plan.provider_unavailable"))]
#[case::a_variable_with_lines(
    json!({ "provider": "simulated", "env": { "LINES": { "literal": "a\nb" } }, "settings": { "simulated": { "listen": false } } }),
    None
)]
#[tokio::test]
async fn a_spec_is_accepted_only_with_printable_text(#[case] spec: Value, #[case] code: Option<&str>) {
    let fixture = Fixture::new().await;
    let fence = fixture.lease().await;
    let work = json!({ "kind": "put", "spec": spec, "secrets": { "env.LINES": "a\nb" } });
    let request = json!({ "step": { "plan": "p", "step": "s" }, "backend": "dev", "work": work });
    let response = fixture.write("apply", "POST", "/v1/projects/demo/operations", fence, &request).await;
    assert_eq!((response.status >= 400).then(|| response.code()).as_deref(), code, "{}", response.body);
}

#[tokio::test]
async fn an_error_does_not_repeat_a_misplaced_secret() {
    let fixture = Fixture::new().await;
    let fence = fixture.lease().await;
    for work in [
        json!({ "kind": "put", "spec": "hunter2", "secrets": {} }),
        json!({ "kind": "put", "spec": { "provider": "simulated", "ttl": "hunter2" }, "secrets": {} }),
        json!({ "kind": "put", "spec": { "provider": "simulated" }, "secrets": "hunter2" }),
        json!({ "kind": "hunter2" }),
        json!("hunter2"),
    ] {
        let request = json!({ "step": { "plan": "p", "step": "s" }, "backend": "dev", "work": work });
        let response = fixture.write("apply", "POST", "/v1/projects/demo/operations", fence, &request).await;
        assert_eq!((response.status, response.body.contains("hunter2")), (400, false), "{}", response.body);
    }
}

#[tokio::test]
async fn a_rate_limited_token_is_told_when_to_retry() {
    let fixture = Fixture::with(RequestLimits { rate: std::num::NonZeroU32::new(2), ..RequestLimits::default() }).await;
    let mut refused = None;
    for _ in 0..5 {
        let response = fixture.get("read", "/v1/projects").await;
        if response.status == 429 {
            refused = Some(response);
        }
    }
    let refused = refused.expect("four at once are allowed, the fifth is not");
    assert_eq!((refused.code().as_str(), &refused.headers["retry-after"]), ("server.rate", &"1".parse().unwrap()));
    assert_eq!(refused.json()["situation"]["kind"], "unavailable");
    assert_eq!(fixture.get("apply", "/v1/projects").await.status, 200, "each token for itself");
    assert_eq!(fixture.get("none", "/healthz").await.status, 200);
}

#[tokio::test]
async fn a_body_that_stalls_times_out() {
    let fixture = Fixture::with(RequestLimits { request: Duration::from_millis(50), ..RequestLimits::default() }).await;
    let never = Body::from_stream(stream::pending::<Result<Vec<u8>, std::io::Error>>());
    let request = fixture.request("operator", "POST", "/v1/tokens").header("content-type", "application/json");
    let response = fixture.send(request.body(never).unwrap()).await;
    assert_eq!((response.status, response.code().as_str()), (408, "server.timeout"));
}

#[tokio::test]
async fn a_timeout_and_a_panic_are_answered_with_one_document() {
    let fixture = Fixture::with(RequestLimits { request: Duration::from_millis(50), ..RequestLimits::default() }).await;
    let routes = Router::new()
        .route("/slow", axum::routing::get(std::future::pending::<StatusCode>))
        .route("/bug", axum::routing::get(|| async { panic!("a bug of the test's own") as StatusCode }));
    let router = super::router::with_layers(routes, &fixture.server);
    for (path, status, code) in [("/bug", 500, "bug"), ("/slow", 503, "server.timeout"), ("/bug", 500, "bug")] {
        let response = router.clone().oneshot(fixture.request("none", "GET", path).body(Body::empty()).unwrap()).await.unwrap();
        let (found, headers) = (response.status().as_u16(), response.headers().clone());
        let body = String::from_utf8(to_bytes(response.into_body(), 1 << 16).await.unwrap().to_vec()).unwrap();
        let response = Response { status: found, headers, body };
        assert_eq!((response.status, response.code().as_str()), (status, code));
        assert!(!response.body.contains("of the test's own"), "{}", response.body);
    }
}

#[rstest]
#[case::printable("abc-1.2_3", true)]
#[case::with_a_space("a b", false)]
#[case::empty("", false)]
#[case::too_long(&"x".repeat(65), false)]
#[tokio::test]
async fn a_request_id_is_kept_where_it_is_fit_for_a_log(#[case] given: &str, #[case] kept: bool) {
    let fixture = Fixture::new().await;
    let request = fixture.request("none", "GET", "/healthz").header("x-request-id", given).body(Body::empty()).unwrap();
    let id = fixture.send(request).await.headers["x-request-id"].to_str().unwrap().to_owned();
    assert_eq!(id == given, kept, "{id}");
    assert!(!id.is_empty());
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

#[tokio::test]
async fn a_token_is_created_shown_once_and_revoked() {
    let fixture = Fixture::new().await;
    let made =
        fixture.write("operator", "POST", "/v1/tokens", 0, &json!({ "scope": "read", "project": "demo", "note": "ci" })).await;
    assert_eq!(made.status, 201);
    let token = made.json()["token"].as_str().unwrap().to_owned();
    let id = made.json()["record"]["id"].as_str().unwrap().to_owned();
    let open = async || {
        let request = Request::builder().uri("/v1/projects/demo").header("authorization", format!("bearer {token}"));
        fixture.send(request.body(Body::empty()).unwrap()).await.status
    };
    assert_eq!(open().await, 200);
    let listed = fixture.get("operator", "/v1/tokens").await;
    assert!(listed.body.contains(&id) && !listed.body.contains(&token));
    let ended =
        fixture.send(fixture.request("operator", "DELETE", &format!("/v1/tokens/{id}")).body(Body::empty()).unwrap()).await;
    assert!(ended.json()["revoked_at"].is_i64(), "{}", ended.body);
    assert_eq!(open().await, 401);
    assert_eq!(TokenId::new(id).as_str().len(), 10);
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
async fn a_token_is_bound_to_its_control_plane() {
    let fixture = Fixture::new().await;
    let body = json!({ "scope": "read", "project": "demo" });
    let request = fixture.request("operator", "POST", "/v1/tokens").header("host", "control.test:7310");
    let request = request.header("content-type", "application/json").body(Body::from(body.to_string())).unwrap();
    let issued = fixture.send(request).await.json();
    assert_eq!(issued["origins"], json!(["http://control.test:7310"]));
    let token = Secret::new(issued["token"].as_str().unwrap());
    let origin = |url| TokenOrigin::parse(url).unwrap();
    assert_eq!(match_origin(&token, &origin("http://control.test:7310/")), OriginMatch::Bound);
    assert_eq!(match_origin(&token, &origin("https://evil.test")), OriginMatch::Foreign);
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
