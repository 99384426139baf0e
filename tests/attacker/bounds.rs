//! What one request leaves behind is read at every later look at the project: texts, lists and secrets of any length are
//! refused, and nothing of them is kept, answered or held on to. All of it is counted in bytes: a time would be that of the machine.

use serde_json::{Value, json};

use super::Target;
use super::raw_project::Project;

const LARGE: &str = "manifest.specification_too_large";

#[test]
fn nothing_that_is_recorded_grows_without_bound() {
    let target = Target::with(&[("CONVEXINFRA_BODY_LIMIT", "4 MiB")]);
    let project = Project::new(&target, "demo".to_owned());
    let (memory, stored) = (target.peak_memory_kib(), target.stored_bytes());
    let names = |count: usize| (0..count).map(|number| format!("b{number}")).collect::<Vec<_>>();
    let long = "x".repeat(2 << 20);
    let record = |key: &str, value: Value| json!({ "provider": "simulated", "settings": { "simulated": { "listen": false } }, key: value });
    let docker = |key: &str, value: Value| json!({ "provider": "docker", "settings": { "docker": { key: value } } });
    let labels: Value = names(50_000).into_iter().map(|name| (name, json!("x"))).collect::<serde_json::Map<_, _>>().into();
    let on_server = json!({ "provider": "simulated", "storage": {
        "engine": "postgres", "url": { "env": "SERVER" }, "tls": "disable",
    } });
    for (what, spec, secrets, code) in [
        ("many dependencies", record("depends_on", json!(names(200_000))), json!({}), LARGE),
        ("a long region", record("region", json!(long)), json!({}), LARGE),
        ("a long log level", record("tuning", json!({ "log_level": long })), json!({}), LARGE),
        (
            "a long host",
            record("origins", json!({ "api": format!("https://{long}"), "site": "https://b.dev" })),
            json!({}),
            LARGE,
        ),
        ("many names", docker("aliases", json!(names(100_000))), json!({}), LARGE),
        ("many arguments", docker("arguments", json!(names(100_000))), json!({}), LARGE),
        ("many labels", docker("labels", labels), json!({}), LARGE),
        (
            "a long secret",
            on_server,
            json!({ "storage.url": format!("postgres://me:{long}@db.example.com") }),
            "plan.value_unusable",
        ),
    ] {
        let work = json!({ "kind": "put", "spec": spec, "secrets": secrets });
        let refused = project.operate(&project.apply, "dev", None, &work);
        assert_eq!((refused.status, refused.code().as_str()), (422, code), "{what}: {}", refused.head);
        assert!(refused.body.len() < 8 << 10, "{what}: an answer of {} bytes", refused.body.len());
    }
    let (memory, stored) = (target.peak_memory_kib() - memory, target.stored_bytes().saturating_sub(stored));
    assert!(memory < 256 << 10, "the server grew by {memory} KiB over bodies of at most 4 MiB, one after the other");
    // A refusal may be noted, what was refused may not.
    assert!(stored < 1 << 20, "{stored} bytes were kept of what was refused");
    assert_eq!(project.recorded(), json!([]));
    target.assert_well();
}
