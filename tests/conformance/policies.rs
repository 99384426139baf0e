//! The rules of the policy for a client that never plans: with the scope `apply`, every control plane refuses the same in the
//! same words, and records nothing.

use serde_json::{Value, json};

use super::conversation::Conversation;
use super::script::{PROJECT, Tokens, put, remove};

/// What is recorded before a rule is broken.
const BEFORE: &str = "release = \"precompiled-2026-08-21-652b828\"\nresources = { disk = \"20 GiB\" }\nprotected = true\n";
const SERVER: &str = "postgres://me:pw@db.example.invalid";
const ORIGINS: &str = "origins = { api = \"https://api.example.com\", site = \"https://www.example.com\" }\n";
const SHOP: &str = "repository example.com/acme/shop";
const BLOG: &str = "repository example.com/acme/blog";

/// Rules about a change of what is recorded: the lines of a manifest that break them.
const CHANGES: [(&str, &str); 5] = [
    ("plan.downgrade", "release = \"precompiled-2026-06-26-903b8b9\"\nresources = { disk = \"20 GiB\" }\n"),
    (
        "plan.release_order_unknown",
        "release = \"aaaaaaa000000000000000000000000000000000\"\nresources = { disk = \"20 GiB\" }\n",
    ),
    ("plan.disk_shrinks", "release = \"precompiled-2026-08-21-652b828\"\nresources = { disk = \"10 GiB\" }\n"),
    (
        "plan.moves_data",
        "release = \"precompiled-2026-08-21-652b828\"\nresources = { disk = \"20 GiB\" }\n\
         files = { engine = \"s3\", bucket = \"shop-files\", region = \"auto\" }\n",
    ),
    (
        "plan.moves_data",
        "release = \"precompiled-2026-08-21-652b828\"\nresources = { disk = \"20 GiB\" }\n\
         storage = { engine = \"postgres\", url = { env = \"SERVER\" } }\n",
    ),
];

/// Rules about one specification, which no manifest can be written to break: what is laid over a good one.
fn specifications() -> Vec<(&'static str, Value)> {
    let many: serde_json::Map<String, Value> =
        (0..513).map(|number| (format!("V{number}"), json!({ "literal": "x" }))).collect();
    let files = |bucket: &str, endpoint: &str| {
        json!({ "files": {
            "engine": "s3", "buckets": { "single": bucket }, "region": "auto", "endpoint": { "literal": endpoint },
        } })
    };
    vec![
        ("manifest.bad_region", json!({ "region": "a b" })),
        ("manifest.bad_origin", json!({ "origins": { "api": "http://$(id)/x", "site": "https://s.example.com" } })),
        ("manifest.lonely_origin", json!({ "origins": { "api": "https://a.example.com" } })),
        ("manifest.same_origins", json!({ "origins": { "api": "https://a.example.com", "site": "https://a.example.com" } })),
        ("manifest.bad_count", json!({ "tuning": { "max_concurrent_queries": 0 } })),
        ("manifest.too_many_env", json!({ "env": many })),
        ("manifest.builtin_env", json!({ "env": { "CONVEX_SITE_URL": { "literal": "x" } } })),
        ("manifest.bad_env_name", json!({ "env": { "A-B": { "literal": "x" } } })),
        ("manifest.env_value_too_long", json!({ "env": { "LONG": { "literal": "x".repeat(8193) } } })),
        ("manifest.storage_without_server", json!({ "storage": { "engine": "postgres" } })),
        ("manifest.bad_bucket", files("My_Bucket", "https://s3.example.com")),
        ("manifest.bad_url", files("shop", "s3.example.com")),
        ("manifest.other_provider", json!({ "settings": { "simulated": { "listen": false }, "fly": { "org": "acme" } } })),
        ("manifest.specification_too_large", json!({ "tuning": { "log_level": "x".repeat(40_000) } })),
    ]
}

fn forget(backend: &str) -> Value {
    json!({ "step": { "plan": "p2", "step": format!("forget-{backend}") }, "backend": backend, "work": { "kind": "forget" } })
}

/// Rules about the other backends of the project, about values, and about what a removal leaves: with which scope, and what
/// breaks them.
fn beside_others() -> Vec<(&'static str, &'static str, Value)> {
    let mut renamed = put("renamed", "ruled", BEFORE);
    renamed["work"]["renamed_from"] = "beside".into();
    let mut value = put("value", "fresh", "env = { LARGE = { env = \"LARGE\" } }\n");
    value["work"]["secrets"]["env.LARGE"] = "x".repeat(9000).into();
    let mut kept = remove("kept", "beside");
    kept["work"]["volume"] = "keep".into();
    vec![
        ("manifest.shared_origin", "apply", put("claimed", "fresh", ORIGINS)),
        ("plan.moved_onto_existing", "apply", renamed),
        ("plan.value_unusable", "apply", value),
        ("plan.volume_not_kept", "destroy", kept),
        ("plan.protected", "destroy", forget("ruled")),
    ]
}

fn code(answer: &Value) -> &str {
    answer["errors"][0]["code"].as_str().unwrap_or_default()
}

/// Breaks every rule with the scope `apply`, and takes away again what was recorded for it.
pub(super) fn all(talk: &mut Conversation<'_>, tokens: &Tokens, fence: &str) {
    let path = format!("{PROJECT}/operations");
    let (apply, fenced) = (Some(tokens.apply.as_str()), [("convexinfra-fence", fence)]);
    let recorded = |talk: &Conversation<'_>| talk.look(&format!("{PROJECT}/backends"), &tokens.read).text;
    talk.send_with(200, "POST", &path, apply, &fenced, Some(&put("policy", "ruled", BEFORE)));
    talk.send_with(200, "POST", &path, apply, &fenced, Some(&put("beside", "beside", ORIGINS)));
    let before = recorded(talk);
    for (number, (rule, lines)) in CHANGES.into_iter().enumerate() {
        let mut change = put(&format!("change-{number}"), "ruled", &format!("{lines}protected = true\n"));
        if lines.contains("SERVER") {
            change["work"]["secrets"]["storage.url"] = SERVER.into();
        }
        let answer = talk.send_with(422, "POST", &path, apply, &fenced, Some(&change));
        assert_eq!(code(&answer), rule, "{answer}");
    }
    for (number, (rule, overlay)) in specifications().into_iter().enumerate() {
        let mut new = put(&format!("specification-{number}"), "fresh", "");
        for (key, value) in overlay.as_object().unwrap() {
            new["work"]["spec"][key] = value.clone();
        }
        let answer = talk.send_with(422, "POST", &path, apply, &fenced, Some(&new));
        assert_eq!(code(&answer), rule, "{answer}");
    }
    for (rule, token, request) in beside_others() {
        let token = if token == "apply" { &tokens.apply } else { &tokens.destroy };
        let answer = talk.send_with(422, "POST", &path, Some(token), &fenced, Some(&request));
        assert_eq!(code(&answer), rule, "{answer}");
    }
    // What takes a record away needs the right to destroy.
    talk.send_with(403, "POST", &path, apply, &fenced, Some(&forget("beside")));
    talk.send_with(403, "POST", &path, apply, &fenced, Some(&remove("beside", "beside")));
    // Protection is taken off with the right to destroy, and what is protected is destroyed by nobody.
    let bare = BEFORE.replace("protected = true\n", "");
    talk.send_with(403, "POST", &path, apply, &fenced, Some(&put("bare", "ruled", &bare)));
    let answer = talk.send_with(422, "POST", &path, Some(&tokens.destroy), &fenced, Some(&remove("protected", "ruled")));
    assert_eq!(code(&answer), "plan.protected", "{answer}");
    // Another repository is another project.
    let claim = |origin: &str| json!({ "origin": origin, "claim": "take_over" });
    talk.send_with(204, "PUT", &format!("{PROJECT}/origin"), apply, &fenced, Some(&claim(SHOP)));
    let mut elsewhere = put("elsewhere", "ruled", BEFORE);
    elsewhere["origin"] = BLOG.into();
    let answer = talk.send_with(422, "POST", &path, apply, &fenced, Some(&elsewhere));
    assert_eq!(code(&answer), "plan.other_repository", "{answer}");
    assert_eq!(recorded(talk), before, "a refusal records nothing");
    talk.send_with(200, "POST", &path, Some(&tokens.destroy), &fenced, Some(&put("bare", "ruled", &bare)));
    talk.send_with(200, "POST", &path, Some(&tokens.destroy), &fenced, Some(&remove("ruled", "ruled")));
    talk.send_with(200, "POST", &path, Some(&tokens.destroy), &fenced, Some(&remove("beside-gone", "beside")));
}
