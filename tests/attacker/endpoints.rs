//! Every endpoint with every kind of token, and with paths that mean to be something else.

use convexinfra::api::endpoint::{Endpoint, RequiredScope};
use convexinfra::api::endpoints::ALL;
use convexinfra::model::{OperationKind, Scope};
use serde_json::{Value, json};

use super::policy_rules::RECORD;
use super::raw::RawRequest;
use super::raw_project::{Project, lowered, manifest};
use super::{HOLDERS, Target, path_in, path_of};

/// The status that a holder has to get before anything else is looked at; none where the request may pass.
fn expected(endpoint: &Endpoint, holder: &str) -> Option<u16> {
    let scope = match holder {
        "read" => Scope::Read,
        "apply" => Scope::Apply,
        "destroy" | "stranger" => Scope::Destroy,
        "operator" => Scope::Operator,
        _ => return (endpoint.scope != RequiredScope::Public).then_some(401),
    };
    let suffices = match endpoint.scope {
        RequiredScope::Public | RequiredScope::AnyToken => true,
        RequiredScope::Operator => scope == Scope::Operator,
        RequiredScope::Project(required) => scope >= required && holder != "stranger",
    };
    (!suffices).then_some(403)
}

#[test]
fn every_endpoint_refuses_a_token_without_its_scope() {
    let target = Target::new();
    for endpoint in ALL {
        for holder in ["none", "malformed", "unknown"].iter().chain(&HOLDERS) {
            let request = RawRequest::new(endpoint.method.as_str(), &path_of(endpoint));
            let response = target.send(holder, request);
            let what = format!("{} with {holder}: {response:?}", endpoint.id);
            match expected(endpoint, holder) {
                Some(status) => {
                    assert_eq!(response.status, status, "{what}");
                    assert!(response.code().starts_with("auth."), "{what}");
                    // What is refused says nothing about what is there.
                    assert!(!response.body.contains("\"backends\""), "{what}");
                }
                None => {
                    assert!(![0, 401, 403, 405, 500].contains(&response.status), "{what}");
                    let is_documented = endpoint.responses().any(|known| known.status == response.status)
                        || endpoint.error_statuses().contains(&response.status);
                    assert!(is_documented, "{what}");
                }
            }
        }
    }
    target.assert_well();
}

/// The scope that a kind of work needs, and its document.
fn kind_of_work(kind: OperationKind) -> (Scope, Value) {
    let (scope, mut work) = match kind {
        OperationKind::Put => (Scope::Apply, json!({ "spec": lowered(&manifest("demo", RECORD, "")), "secrets": {} })),
        OperationKind::Remove => (Scope::Destroy, json!({ "volume": "destroy", "database": "leave" })),
        OperationKind::Stop | OperationKind::Start | OperationKind::RotateKey => (Scope::Apply, json!({})),
        OperationKind::Forget | OperationKind::DropPrevious => (Scope::Destroy, json!({})),
        OperationKind::Snapshot => (Scope::Apply, json!({ "id": "dev-20260101-000000-aaaaaa" })),
        // What it has is replaced.
        OperationKind::Restore => (Scope::Destroy, json!({ "snapshot": "dev-20260101-000000-aaaaaa" })),
    };
    work["kind"] = json!(kind);
    (scope, work)
}

#[test]
fn every_kind_of_work_needs_its_scope_before_anything_is_looked_at() {
    use OperationKind::{DropPrevious, Forget, Put, Remove, Restore, RotateKey, Snapshot, Start, Stop};
    let target = Target::new();
    let project = Project::new(&target, "demo".to_owned());
    let made = project.operate(&project.apply, "dev", None, &kind_of_work(OperationKind::Put).1);
    assert_eq!(made.status, 200, "{made:?}");
    let before = project.recorded();
    for kind in [Put, Stop, Start, RotateKey, Snapshot, Restore, DropPrevious, Remove, Forget] {
        let (needed, work) = kind_of_work(kind);
        for (holder, has) in [("read", Scope::Read), ("apply", Scope::Apply), ("stranger", Scope::Read)] {
            for backend in ["dev", "not-there"] {
                let refused = has < needed;
                let answer = project.operate(&target.tokens[holder], backend, None, &work);
                let what = format!("{kind:?} of {backend} with {holder}: {answer:?}");
                if refused {
                    assert!(answer.status == 403 && answer.code().starts_with("auth."), "{what}");
                } else {
                    assert!(![0, 401, 403, 500].contains(&answer.status), "{what}");
                }
            }
        }
        if needed == Scope::Destroy {
            assert!(project.recorded().as_array().unwrap().len() >= before.as_array().unwrap().len(), "{kind:?}");
            let allowed = project.operate(&project.destroy, "dev", None, &work);
            assert_ne!(allowed.status, 403, "{kind:?}: {allowed:?}");
        }
    }
    target.assert_well();
}

#[test]
fn no_spelling_of_a_path_opens_another_project() {
    let target = Target::new();
    let mut seen = 0;
    for endpoint in ALL.into_iter().filter(|endpoint| matches!(endpoint.scope, RequiredScope::Project(_))) {
        for project in [
            "demo/../other",
            "..%2fother",
            "demo%2f..%2fother",
            "other%2f..%2fdemo",
            "demo%00",
            "demo%20",
            "%2e%2e/other",
            "DEMO",
            "demo.",
            "demo;other",
            "demo%3bother",
            "demo%",
            "d%e9mo",
            "demo%ff",
            "%c0%ae%c0%ae",
            "demo?project=other",
            "demo#other",
            "",
            "other%0d%0aX-Project:%20demo",
            &"d".repeat(300),
        ] {
            let response = target.send("stranger", RawRequest::new(endpoint.method.as_str(), &path_in(endpoint, project)));
            let what = format!("{} of {project:?}: {response:?}", endpoint.id);
            assert!((400..500).contains(&response.status), "{what}");
            seen += 1;
        }
        // The same name under percent-encoding is the same project.
        let response = target.send("stranger", RawRequest::new(endpoint.method.as_str(), &path_in(endpoint, "d%65mo")));
        assert_eq!(response.status, 403, "{}: {response:?}", endpoint.id);
    }
    assert!(seen > 0);
    for target_of_request in [
        "//v1/projects/demo",
        "/v1//projects/demo",
        "/v1/./projects/demo",
        "/v1/projects/other/../demo",
        "/V1/projects/demo",
        "http://control.test/v1/projects/demo",
        "http://evil.test/v1/projects/demo",
        "/v1/projects/demo/",
        "/%76%31/projects/demo",
        "*",
        "/openapi.json/../v1/projects/demo",
        "/healthz/../v1/projects/demo",
    ] {
        for holder in ["none", "stranger"] {
            let response = target.send(holder, RawRequest::new("GET", target_of_request));
            assert!((400..500).contains(&response.status), "{target_of_request} with {holder}: {response:?}");
        }
    }
    target.assert_well();
}

#[test]
fn a_path_has_its_methods_and_no_others() {
    let target = Target::new();
    for endpoint in ALL {
        let known: Vec<_> = ALL.iter().filter(|other| other.path == endpoint.path).map(|other| other.method.as_str()).collect();
        for method in ["GET", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "BREW"] {
            if known.contains(&method) {
                continue;
            }
            let response = target.send("operator", RawRequest::new(method, &path_of(endpoint)));
            assert_eq!(response.status, 405, "{method} {}: {response:?}", endpoint.path);
            assert!(
                response.header("allow").is_some_and(|allow| known.iter().all(|known| allow.contains(known))),
                "{response:?}"
            );
        }
        // An override is no method.
        let request = RawRequest::new("GET", &path_of(endpoint)).header("X-HTTP-Method-Override", "DELETE");
        let plain = target.send("read", RawRequest::new("GET", &path_of(endpoint)));
        assert_eq!(target.send("read", request).status, plain.status, "{}", endpoint.path);
    }
    target.assert_well();
}
