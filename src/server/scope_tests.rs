//! Who is let in: what each scope opens, and what tokens out of reach see.

use axum::body::Body;
use axum::http::Request;
use serde_json::json;

use super::tests::{Fixture, Response};
use crate::api::endpoints::ALL;
use crate::api::{OriginMatch, TokenOrigin, match_origin};
use crate::model::{Secret, TokenId};

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
