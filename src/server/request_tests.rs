//! Requests that are refused: paths, parameters, bodies, limits and deadlines, each with one document.

use std::time::Duration;

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::http::StatusCode;
use futures_util::stream;
use rstest::rstest;
use serde_json::{Value, json};
use tower::ServiceExt;

use super::RequestLimits;
use super::tests::{Fixture, Response};

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

/// Texts that plans show have no control characters; values of variables may have lines.
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
    let fixture = Fixture::with(RequestLimits { request: Duration::from_secs(2), ..RequestLimits::default() }).await;
    let never = Body::from_stream(stream::pending::<Result<Vec<u8>, std::io::Error>>());
    let request = fixture.request("operator", "POST", "/v1/tokens").header("content-type", "application/json");
    let response = fixture.send(request.body(never).unwrap()).await;
    assert_eq!((response.status, response.code().as_str()), (408, "server.timeout"));
}

#[tokio::test]
async fn a_timeout_and_a_panic_are_answered_with_one_document() {
    let fixture = Fixture::with(RequestLimits { request: Duration::from_secs(2), ..RequestLimits::default() }).await;
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
