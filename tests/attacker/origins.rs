//! Origins that a raw client claims although another backend has them: of its own project, and of another one.

use serde_json::{Value, json};

use super::Target;
use super::raw_project::Project;

/// The rules that are tried here and not in the table of rules: they are about two backends.
pub(super) const CODES: [&str; 1] = ["manifest.shared_origin"];

/// Exists as a record only, so that accepting it ends at once.
fn record(origins: Option<[&str; 2]>) -> Value {
    let mut spec = json!({ "provider": "simulated", "settings": { "simulated": { "listen": false } } });
    if let Some([api, site]) = origins {
        spec["origins"] = json!({ "api": api, "site": site });
    }
    json!({ "kind": "put", "spec": spec, "secrets": {} })
}

const HELD: [&str; 2] = ["https://api.example.com", "https://www.example.com"];

/// Other spellings of what is held, and the other one of the two.
const CLAIMS: [[&str; 2]; 5] = [
    HELD,
    ["https://API.example.com:443", "https://free.example.com"],
    ["https://api.example.com.", "https://free.example.com"],
    ["https://www.example.com", "https://free.example.com"],
    ["https://free.example.com", "https://api.example.com/http"],
];

#[test]
fn a_raw_client_claims_no_origin_that_another_backend_has() {
    let target = Target::new();
    let (own, other) = (Project::new(&target, "demo".to_owned()), Project::new(&target, "other".to_owned()));
    let accepted = |project: &Project<'_>, backend: &str, work: &Value| {
        let sent = project.operate(&project.destroy, backend, None, work);
        assert!([200, 202].contains(&sent.status), "{backend} {work}: {sent:?}");
        project.settle();
    };
    accepted(&own, "dev", &record(Some(HELD)));
    let before = own.recorded();
    for claim in CLAIMS {
        let refused = own.operate(&own.apply, "second", None, &record(Some(claim)));
        assert_eq!((refused.status, refused.code().as_str()), (422, CODES[0]), "{claim:?}: {refused:?}");
        // What the reader of manifests says of the same two backends.
        let text = format!(
            "project = \"demo\"\n[backends.dev]\nprovider = \"simulated\"\norigins = {{ api = \"{}\", site = \"{}\" }}\n\
             [backends.second]\nprovider = \"simulated\"\norigins = {{ api = \"{}\", site = \"{}\" }}\n",
            HELD[0], HELD[1], claim[0], claim[1]
        );
        let problems = convexinfra::manifest::parse(&text, None).unwrap_err();
        let shown = problems.iter().find(|problem| problem.code == CODES[0]).unwrap_or_else(|| panic!("{problems:?}"));
        assert_eq!(refused.json()["errors"][0]["message"], json!(shown.message), "{claim:?}");
        // Of another project nothing is said but that it has it.
        let refused = other.operate(&other.apply, "dev", None, &record(Some(claim)));
        assert_eq!((refused.status, refused.code().as_str()), (422, "control.foreign_origin"), "{claim:?}: {refused:?}");
        assert!(!refused.body.contains("demo"), "{refused:?}");
    }
    assert_eq!((own.recorded(), other.recorded()), (before, json!([])));

    // A claim that is recorded stays, and origins of loopback hosts are exempt.
    accepted(&own, "dev", &record(Some(HELD)));
    accepted(&own, "local", &record(Some(["http://localhost:3210", "http://localhost:3211"])));
    accepted(&other, "local", &record(Some(["http://localhost:3210", "http://localhost:3211"])));

    // Once it is given up, by a change or by a removal, others may have it.
    accepted(&own, "dev", &record(None));
    accepted(&other, "dev", &record(Some(HELD)));
    accepted(&other, "dev", &json!({ "kind": "remove", "volume": "destroy", "database": "leave" }));
    accepted(&own, "second", &record(Some(HELD)));

    // Two that exchange theirs need a step in between, and then it is no more than two changes.
    accepted(&own, "dev", &record(Some(["https://a.example.com", "https://b.example.com"])));
    let taken = own.operate(&own.apply, "dev", None, &record(Some(HELD)));
    assert_eq!(taken.code(), CODES[0], "{taken:?}");
    accepted(&own, "second", &record(None));
    accepted(&own, "dev", &record(Some(HELD)));
    accepted(&own, "second", &record(Some(["https://a.example.com", "https://b.example.com"])));
    target.assert_well();
}
