//! The rules of plans and specifications, each with what breaks it; every code of the sources has a case here.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::fs;
use std::path::Path;

use serde_json::{Value, json};

/// Exists as a record only, so that accepting it ends at once.
pub(super) const RECORD: &str = "provider = \"simulated\"\nsimulated = { listen = false }\n";

/// Never ready, because nobody knows its server; its documents would be there, and its files here.
const SPLIT: &str =
    "provider = \"simulated\"\nstorage = { engine = \"postgres\", url = { env = \"SERVER\" }, tls = \"disable\" }\n";

/// Never ready, with its files in a bucket that only its machine reaches.
const ROLE: &str = "provider = \"simulated\"\nstorage = { engine = \"postgres\", url = { env = \"SERVER\" }, tls = \"disable\" }\n\
                    files = { engine = \"s3\", bucket = \"shop-files\", region = \"auto\" }\n";

const FLY: &str = "provider = \"fly\"\nregion = \"iad\"\n";
const ORIGINS: &str = "origins = { api = \"https://a.example.com\", site = \"https://s.example.com\" }";

/// Runs, so that it has rows that can be moved.
pub(super) const LOCAL: &str = "provider = \"local\"\nlocal = { binary = \"/tmp/backend\" }\n";

const ON_POSTGRES: &str = "storage = { engine = \"postgres\", url = { env = \"SERVER\" }, tls = \"disable\" }\n";
const FLY_NOWHERE: &str = "provider = \"fly\"\n";

/// Rules of the policy that no request can meet, and why.
const UNREACHABLE: [(&str, &str); 11] = [
    ("plan.provider_unavailable", "this server has every provider; the tests of the server meet it where one is missing"),
    ("plan.data_missing", "an observation and no request: the provider meets it, in tests/provider and tests/crash"),
    ("manifest.bad_name", "a name is parsed before a request is one"),
    ("manifest.bad_release", "so is a release"),
    ("manifest.bad_domain", "a domain is short for origins, and a request has those"),
    ("manifest.bad_variable_name", "the name of a variable of the client's machine, which is never looked up elsewhere"),
    ("manifest.unknown_pull_policy", "a request with a word that is none of its own is no request"),
    ("manifest.unknown_cpu_kind", "likewise"),
    ("manifest.unknown_access_mode", "likewise"),
    ("manifest.unknown_exposure", "likewise"),
    ("manifest.bad_control_plane_url", "where the manifest's control plane is says nothing of a backend"),
];

/// What is sent.
pub(super) enum Sent {
    Put,
    PutRenamed(&'static str),
    Remove { volume: &'static str, database: &'static str, words: &'static [&'static str] },
}

/// A rule about what is recorded or about a provider: the block before, the block that breaks the rule.
pub(super) struct PlanRule {
    pub(super) code: &'static str,
    pub(super) before: &'static str,
    pub(super) after: String,
    pub(super) sent: Sent,
    /// What is put beside the block, such as `[[moved]]`.
    pub(super) beside: &'static str,
    pub(super) quota: Option<Value>,
}

fn rule(code: &'static str, before: &'static str, after: impl Into<String>) -> PlanRule {
    PlanRule { code, before, after: after.into(), sent: Sent::Put, beside: "", quota: None }
}

fn removal(code: &'static str, before: &'static str, volume: &'static str, words: &'static [&'static str]) -> PlanRule {
    PlanRule { sent: Sent::Remove { volume, database: "leave", words }, ..rule(code, before, before) }
}

fn over(code: &'static str, after: String, quota: Value) -> PlanRule {
    PlanRule { quota: Some(quota), ..rule(code, "", after) }
}

pub(super) fn plan_rules() -> Vec<PlanRule> {
    let with = |lines: &str| format!("{RECORD}{lines}\n");
    let fly = |lines: &str| format!("{FLY}{lines}\n");
    let cluster = |settings: &str, lines: &str| format!("provider = \"kubernetes\"\nkubernetes = {{ {settings} }}\n{lines}\n");
    let new = "provider = \"simulated\"\nsimulated = { listen = false }\nrelease = \"precompiled-2026-08-21-652b828\"\n";
    let disk = "provider = \"simulated\"\nsimulated = { listen = false }\nresources = { disk = \"20 GiB\" }\n";
    let protected = "provider = \"simulated\"\nsimulated = { listen = false }\nprotected = true\n";
    vec![
        rule("plan.moves_data", RECORD, with("storage = { engine = \"postgres\", url = { env = \"SERVER\" } }")),
        rule("plan.moves_data", RECORD, with("files = { engine = \"s3\", bucket = \"shop-files\", region = \"auto\" }")),
        rule("plan.move_not_allowed", LOCAL, format!("{LOCAL}{ON_POSTGRES}")),
        rule("plan.move_not_alone", LOCAL, format!("{LOCAL}{ON_POSTGRES}tuning = {{ max_concurrent_queries = 4 }}\n")),
        rule("plan.downgrade", new, with("release = \"precompiled-2026-06-26-903b8b9\"")),
        rule("plan.release_order_unknown", new, with("release = \"aaaaaaa000000000000000000000000000000000\"")),
        rule("plan.disk_shrinks", disk, with("resources = { disk = \"10 GiB\" }")),
        PlanRule {
            sent: Sent::PutRenamed("old"),
            beside: "[[moved]]\nfrom = \"old\"\nto = \"dev\"\n",
            ..rule("plan.moved_onto_existing", RECORD, RECORD)
        },
        removal("plan.protected", protected, "destroy", &[]),
        removal("plan.volume_not_kept", RECORD, "keep", &["--keep-data"]),
        PlanRule {
            sent: Sent::Remove { volume: "keep", database: "drop", words: &["--keep-data", "--with-database"] },
            ..rule("plan.half_kept", SPLIT, SPLIT)
        },
        PlanRule {
            sent: Sent::Remove { volume: "destroy", database: "drop_with_files", words: &["--with-database", "--with-files"] },
            ..rule("plan.files_not_removed", ROLE, ROLE)
        },
        rule("plan.other_repository", RECORD, with("dashboard = true")),
        rule("plan.origins_missing", "", cluster("expose = \"ingress\"", "")),
        rule("plan.origins_unused", "", cluster("expose = \"cluster-ip\"", ORIGINS)),
        rule("plan.gateway_missing", "", cluster("expose = \"gateway\"", ORIGINS)),
        rule("plan.region_missing", "", FLY_NOWHERE),
        rule("plan.unknown_region", "", "provider = \"fly\"\nregion = \"moon\"\n"),
        rule("plan.unknown_size", "", fly("resources = { memory = \"1024 GiB\" }")),
        rule("plan.dashboard_release_unknown", "", fly(&format!("dashboard = true\nrelease = \"sha256:{}\"", "0".repeat(64)))),
        rule("plan.reserved_label", "", "provider = \"docker\"\ndocker = { labels = { \"Convexinfra.id\" = \"b1\" } }\n"),
        rule("plan.route", "", format!("provider = \"docker\"\ntls = \"internal\"\n{}\n", ORIGINS.replace("com", "com:8443"))),
        rule("plan.storage_unavailable", "", fly("storage = { engine = \"postgres\", managed = true }")),
        rule("plan.storage_unavailable", "", with("storage = { engine = \"postgres\", managed = true }")),
        rule(
            "plan.tls_unavailable",
            "",
            fly("storage = { engine = \"postgres\", url = { env = \"SERVER\" }, tls = { ca = \"/tmp/ca.pem\" } }"),
        ),
        rule("plan.value_unusable", RECORD, with("env = { LARGE = { env = \"LARGE\" } }")),
        over("plan.over_quota_backends", with(""), json!({ "backends": 0 })),
        over("plan.over_quota_memory", with("resources = { memory = \"4 GiB\" }"), json!({ "memory": "1 GiB" })),
        over("plan.over_quota_disk", with("resources = { disk = \"4 GiB\" }"), json!({ "disk": "1 GiB" })),
        over("plan.over_quota_cpus", with("resources = { cpus = 4 }"), json!({ "cpus": 1 })),
        over("plan.over_quota_monthly_usd", fly("resources = { cpus = 4 }"), json!({ "monthly_usd": 1 })),
    ]
}

/// A rule about one specification: the lines of a manifest that break it, and the same in JSON, laid over the record.
pub(super) struct SpecRule {
    pub(super) code: &'static str,
    pub(super) provider: &'static str,
    pub(super) lines: String,
    pub(super) spec: Value,
}

fn spec(code: &'static str, provider: &'static str, lines: impl Into<String>, spec: Value) -> SpecRule {
    SpecRule { code, provider, lines: lines.into(), spec }
}

pub(super) fn spec_rules() -> Vec<SpecRule> {
    let docker = |code: &'static str, key: &str, text: &str| {
        let (lines, json) = (format!("docker = {{ {key} = \"{text}\" }}"), json!({ "docker": { key: text } }));
        spec(code, "docker", lines, json!({ "settings": json }))
    };
    let docker_list = |code: &'static str, key: &str, text: &str| {
        let (lines, json) = (format!("docker = {{ {key} = [\"{text}\"] }}"), json!({ "docker": { key: [text] } }));
        spec(code, "docker", lines, json!({ "settings": json }))
    };
    let server = |code: &'static str, key: &str, text: &str| {
        let host = if key == "host" { "" } else { "host = \"shop\"\n" };
        let lines = format!("server = \"shop\"\n[servers.shop]\n{host}{key} = \"{text}\"");
        let mut json = json!({ "name": "shop", "host": "shop" });
        json[key] = json!(text);
        spec(code, "docker", lines, json!({ "settings": { "docker": { "server": json } } }))
    };
    let url = json!({ "env": "SERVER" });
    let s3 = |bucket: &str, endpoint: &str| {
        (
            format!("files = {{ engine = \"s3\", bucket = \"{bucket}\", region = \"auto\", endpoint = \"{endpoint}\" }}"),
            json!({ "files": {
                "engine": "s3", "buckets": { "single": bucket }, "region": "auto", "endpoint": { "literal": endpoint },
            } }),
        )
    };
    let (bad_bucket, bad_bucket_spec) = s3("My_Bucket", "https://s3.example.com");
    let (bad_url, bad_url_spec) = s3("shop", "s3.example.com");
    let many: BTreeMap<String, Value> = (0..513).map(|number| (format!("V{number}"), json!({ "literal": "x" }))).collect();
    let many_lines = many.keys().fold(String::new(), |mut lines, name| {
        let _ = write!(lines, "{name} = \"x\", ");
        lines
    });
    let long = "x".repeat(8193);
    vec![
        spec("manifest.bad_region", "simulated", "region = \"a b\"", json!({ "region": "a b" })),
        spec(
            "manifest.bad_origin",
            "simulated",
            "origins = { api = \"http://$(id)/x\", site = \"https://s.example.com\" }",
            json!({ "origins": { "api": "http://$(id)/x", "site": "https://s.example.com" } }),
        ),
        spec(
            "manifest.bad_acme_directory",
            "docker",
            format!("tls = {{ acme = \"https://ca.example.com/dir }} import x\" }}\n{ORIGINS}"),
            json!({ "settings": { "docker": { "tls": { "acme": { "directory": "https://ca.example.com/dir } import x" } } } } }),
        ),
        spec(
            "manifest.lonely_origin",
            "simulated",
            "origins = { api = \"https://a.example.com\" }",
            json!({ "origins": { "api": "https://a.example.com" } }),
        ),
        spec(
            "manifest.same_origins",
            "simulated",
            "origins = { api = \"https://a.example.com\", site = \"https://a.example.com\" }",
            json!({ "origins": { "api": "https://a.example.com", "site": "https://a.example.com" } }),
        ),
        spec(
            "manifest.dashboard_origin_unused",
            "docker",
            "origins = { api = \"https://a.example.com\", site = \"https://s.example.com\", dashboard = \"https://d.example.com\" }",
            json!({ "origins": {
                "api": "https://a.example.com", "site": "https://s.example.com", "dashboard": "https://d.example.com",
            } }),
        ),
        spec(
            "manifest.bad_count",
            "simulated",
            "tuning = { max_concurrent_queries = 0 }",
            json!({ "tuning": { "max_concurrent_queries": 0 } }),
        ),
        spec("manifest.bad_text", "simulated", "tuning = { log_level = \" \" }", json!({ "tuning": { "log_level": " " } })),
        spec("manifest.too_many_env", "simulated", format!("env = {{ {many_lines} }}"), json!({ "env": many })),
        spec(
            "manifest.builtin_env",
            "simulated",
            "env = { CONVEX_SITE_URL = \"x\" }",
            json!({ "env": { "CONVEX_SITE_URL": { "literal": "x" } } }),
        ),
        spec(
            "manifest.bad_env_name",
            "simulated",
            "env = { \"A-B\" = \"x\" }",
            json!({ "env": { "A-B": { "literal": "x" } } }),
        ),
        spec(
            "manifest.env_value_too_long",
            "simulated",
            format!("env = {{ LONG = \"{long}\" }}"),
            json!({ "env": { "LONG": { "literal": long } } }),
        ),
        spec(
            "manifest.storage_without_server",
            "simulated",
            "storage = { engine = \"postgres\" }",
            json!({ "storage": { "engine": "postgres" } }),
        ),
        spec(
            "manifest.storage_url_and_managed",
            "simulated",
            "storage = { engine = \"postgres\", url = { env = \"SERVER\" }, managed = true }",
            json!({ "storage": { "engine": "postgres", "url": url, "managed": true } }),
        ),
        spec(
            "manifest.role_and_managed",
            "docker",
            "storage = { engine = \"postgres\", managed = true, role = \"least_privilege\" }",
            json!({ "storage": { "engine": "postgres", "managed": true, "role": "least_privilege" } }),
        ),
        spec(
            "manifest.other_provider",
            "docker",
            "fly = { org = \"acme\" }",
            json!({ "settings": { "fly": { "org": "acme" } } }),
        ),
        spec(
            "manifest.release_for_images",
            "local",
            format!("release = \"sha256:{}\"", "0".repeat(64)),
            json!({ "release": format!("sha256:{}", "0".repeat(64)) }),
        ),
        spec("manifest.bad_bucket", "simulated", bad_bucket, bad_bucket_spec),
        spec("manifest.bad_url", "simulated", bad_url, bad_url_spec),
        spec(
            "manifest.bad_path",
            "local",
            "local = { binary = \"/x/\" }",
            json!({ "settings": { "local": { "binary": "/x/" } } }),
        ),
        spec(
            "manifest.bad_digest",
            "local",
            format!("release = {{ tag = \"precompiled-2026-08-21-652b828\", sha256 = \"{}\" }}", "z".repeat(64)),
            json!({ "settings": { "local": { "archive_digest": "z".repeat(64) } } }),
        ),
        spec(
            "manifest.bad_label",
            "fly",
            "region = \"iad\"\nfly = { org = \"A_B\" }",
            json!({ "region": "iad", "settings": { "fly": { "org": "A_B" } } }),
        ),
        spec(
            "manifest.bad_gateway",
            "kubernetes",
            "kubernetes = { gateway = \"a b\" }",
            json!({ "settings": { "kubernetes": { "gateway": "a b" } } }),
        ),
        spec(
            "manifest.specification_too_large",
            "simulated",
            format!("tuning = {{ log_level = \"{}\" }}", "x".repeat(40_000)),
            json!({ "tuning": { "log_level": "x".repeat(40_000) } }),
        ),
        server("manifest.bad_ssh_host", "host", "-oProxyCommand=id"),
        server("manifest.bad_host_key", "host_key", "ssh-ed25519"),
        server("manifest.bad_socket", "socket", "docker.sock"),
        docker("manifest.bad_image", "image", "a b"),
        docker("manifest.bad_address", "publish", "localhost"),
        docker("manifest.bad_word", "network", "a b"),
        docker_list("manifest.bad_word", "networks", "a b"),
        docker_list("manifest.bad_word", "aliases", "a b"),
        docker_list("manifest.bad_host_entry", "extra_hosts", "nowhere"),
        docker_list("manifest.bad_address", "dns", "localhost"),
        docker_list("manifest.bad_mount", "mounts", "/srv:/convex/data"),
        docker_list("manifest.bad_text", "arguments", " "),
    ]
}

/// The codes in a text that begin as those of rules do.
fn codes_in(code: &str) -> impl Iterator<Item = String> {
    ["\"plan.", "\"manifest."].into_iter().flat_map(move |kind| {
        let word = |c: &char| c.is_ascii_lowercase() || *c == '_' || *c == '.';
        code.match_indices(kind).map(move |(at, _)| code[at + 1..].chars().take_while(word).collect())
    })
}

/// The codes of all rules, from the sources: `"plan.…"`, `"manifest.…"`, the formats, and what providers refuse.
fn codes() -> BTreeSet<String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut found = BTreeSet::new();
    for folder in ["policy", "model/descriptor"] {
        for entry in fs::read_dir(root.join(folder)).unwrap() {
            let path = entry.unwrap().path();
            let text = fs::read_to_string(&path).unwrap();
            let code = text.split("#[cfg(test)]\nmod tests").next().unwrap();
            if folder == "policy" {
                found.extend(codes_in(code));
            } else {
                // What else they have codes for are warnings.
                let functions = code.split("\nfn ").filter(|function| function.contains("refusal"));
                functions
                    .filter(|function| !function.starts_with("lints"))
                    .for_each(|function| found.extend(codes_in(function)));
            }
            if path.ends_with("formats.rs") {
                let table = code.split("\nshapes! {").nth(1).unwrap();
                for line in table.lines().filter(|line| line.contains(" = \"bad_")) {
                    found.insert(format!("manifest.{}", line.split('"').nth(1).unwrap()));
                }
            }
        }
    }
    // What is only the beginning of a code.
    found.retain(|code| !code.ends_with('.'));
    found
}

#[test]
fn every_rule_has_a_case() {
    let codes = codes();
    assert!(codes.len() > 40, "{codes:?}");
    let mut covered: BTreeSet<String> = plan_rules().iter().map(|rule| rule.code.to_owned()).collect();
    covered.extend(spec_rules().iter().map(|rule| rule.code.to_owned()));
    covered.extend(UNREACHABLE.iter().map(|(code, _)| (*code).to_owned()));
    covered.extend(super::origins::CODES.map(str::to_owned));
    let is_covered =
        |code: &String| covered.contains(code) || (code.ends_with('_') && covered.iter().any(|known| known.starts_with(code)));
    let missing: Vec<_> = codes.iter().filter(|code| !is_covered(code)).collect();
    assert!(missing.is_empty(), "rules that no raw client is tried with: {missing:?}");
    let gone: Vec<_> = UNREACHABLE.iter().filter(|(code, _)| !codes.contains(*code)).collect();
    assert!(gone.is_empty(), "no rules any more: {gone:?}");
}
