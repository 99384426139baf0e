//! What one project's tokens see of another project, and values of parameters that no client of ours sends.

use convexinfra::api::endpoint::{ParamKind, RequiredScope};
use convexinfra::api::endpoints::ALL;
use serde_json::json;

use super::raw::RawRequest;
use super::{HOLDERS, Target, path_in};

/// What is only in the other project.
const CANARIES: [&str; 3] = ["canary-backend", "canary-value", "canary-origin"];

/// A project `other` with a backend, a variable, an origin and a history.
fn with_other_project() -> Target {
    let target = Target::new();
    let send = |request: RawRequest| target.send("stranger", request);
    let holder = json!({ "user": "owner", "host": "there", "process": 1 });
    let lease = send(RawRequest::new("POST", "/v1/projects/other/lease").json(&holder));
    let fence = lease.json()["fence"].to_string();
    let origin = json!({ "origin": "repository canary-origin", "claim": "if_unclaimed" });
    let set = send(RawRequest::new("PUT", "/v1/projects/other/origin").header("convexinfra-fence", &fence).json(&origin));
    assert_eq!(set.status, 204, "{set:?}");
    let spec = json!({
        "provider": "simulated", "settings": { "simulated": { "listen": false } }, "env": { "A": { "literal": "canary-value" } },
    });
    let work = json!({ "kind": "put", "spec": spec, "secrets": { "env.A": "canary-value" } });
    let body = json!({ "step": { "plan": "raw", "step": "one" }, "backend": "canary-backend", "work": work });
    let put = send(RawRequest::new("POST", "/v1/projects/other/operations").header("convexinfra-fence", &fence).json(&body));
    assert_eq!(put.status, 200, "{put:?}");
    target
}

#[test]
fn no_endpoint_tells_one_project_about_another() {
    let target = with_other_project();
    // They are there to be found.
    let own = target.send("stranger", RawRequest::new("GET", "/v1/projects/other"));
    assert!(CANARIES.iter().all(|canary| own.body.contains(canary)), "{own:?}");
    for endpoint in ALL {
        for holder in ["none", "malformed", "unknown"].iter().chain(&HOLDERS) {
            if ["operator", "stranger"].contains(holder) {
                continue;
            }
            for project in ["demo", "other", "o%74her", "demo%2f..%2fother"] {
                let path = path_in(endpoint, project).replace("/dev", "/canary-backend");
                for path in [path.clone(), format!("{path}?project=other"), format!("{path}?origin=canary")] {
                    let mut request = RawRequest::new(endpoint.method.as_str(), &path).header("X-Project", "other");
                    if endpoint.fenced {
                        request = request.header("convexinfra-fence", "1");
                    }
                    let response = target.send(holder, request);
                    let what = format!("{} {path} with {holder}: {response:?}", endpoint.id);
                    assert!(response.status != 0 && response.status < 500, "{what}");
                    // The path itself may be repeated.
                    let found = CANARIES.iter().find(|canary| !path.contains(**canary) && response.body.contains(**canary));
                    assert_eq!(found, None, "{what}");
                }
            }
        }
    }
    // Nor do ids that are counted over all projects.
    for operation in 0..5 {
        let path = format!("/v1/projects/demo/operations/{operation}");
        for path in [path.clone(), format!("{path}/events")] {
            let response = target.send("destroy", RawRequest::new("GET", &path));
            assert_eq!(response.status, 404, "{path}: {response:?}");
        }
    }
    target.assert_well();
}

/// Values for a parameter of this kind that are out of its bounds.
fn bad_values(kind: ParamKind) -> Vec<String> {
    let mut values: Vec<String> =
        ["", "%00", "%ff", "-1", "1e9", "0x10", "NaN", "99999999999999999999999", "[]", "%0d%0a"].map(str::to_owned).into();
    match kind {
        ParamKind::Number { least, most } => {
            values.push(most.saturating_add(1).to_string());
            values.extend(least.checked_sub(1).map(|below| below.to_string()));
        }
        ParamKind::Hash => values.extend(["0".repeat(63), "G".repeat(64), "0".repeat(65)]),
        ParamKind::Line { most } => values.extend(["x".repeat(most + 1)]),
    }
    values
}

#[test]
fn parameters_out_of_their_bounds_are_refused() {
    let target = Target::new();
    for endpoint in ALL {
        for param in endpoint.query {
            for value in bad_values(param.kind) {
                let path = format!("{}?{}={value}", path_in(endpoint, "demo"), param.name);
                let response = target.send("operator", RawRequest::new(endpoint.method.as_str(), &path));
                let what = format!("{} with {}={:.80}: {response:?}", endpoint.id, param.name, value);
                // A line of text may be anything else on one line.
                let is_text = matches!(param.kind, ParamKind::Line { .. });
                assert!(matches!(response.status, 400 | 414 | 431) || (is_text && response.status < 500), "{what}");
            }
        }
        // Nor are there parameters that the table does not have.
        let unknown = format!("{}?surprise=1", path_in(endpoint, "demo"));
        if endpoint.scope != RequiredScope::Public {
            let response = target.send("operator", RawRequest::new(endpoint.method.as_str(), &unknown));
            assert!((400..500).contains(&response.status), "{}: {response:?}", endpoint.id);
        }
    }
    target.assert_well();
}
