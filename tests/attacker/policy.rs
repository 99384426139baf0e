//! Every rule of `src/policy` through raw HTTP: a client that never plans gets the refusal that a plan shows, code and
//! sentence. The rules are read from the sources, so that one without a case here fails.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::fs;
use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};

use super::Target;
use super::raw::{RawRequest, RawResponse};
use fixture::{ProjectFixture, executable, script, wait_until};

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
const LOCAL: &str = "provider = \"local\"\nlocal = { binary = \"/tmp/backend\" }\n";
const ON_POSTGRES: &str = "storage = { engine = \"postgres\", url = { env = \"SERVER\" }, tls = \"disable\" }\n";
const FLY_NOWHERE: &str = "provider = \"fly\"\n";

/// Rules of the policy that no request can meet, and why.
const UNREACHABLE: [(&str, &str); 7] = [
    ("plan.provider_unavailable", "this server has every provider; the tests of the server meet it where one is missing"),
    ("plan.data_missing", "an observation and no request: the provider meets it, in tests/provider and tests/crash"),
    ("manifest.bad_name", "a name is parsed before a request is one"),
    ("manifest.bad_release", "so is a release"),
    ("manifest.bad_domain", "a domain is short for origins, and a request has those"),
    ("manifest.bad_variable_name", "the name of a variable of the client's machine, which is never looked up elsewhere"),
    ("manifest.bad_control_plane_url", "where the manifest's control plane is says nothing of a backend"),
];

/// What is sent.
enum Sent {
    Put,
    PutRenamed(&'static str),
    Remove { volume: &'static str, database: &'static str, words: &'static [&'static str] },
}

/// A rule about what is recorded or about a provider: the block before, the block that breaks the rule.
struct PlanRule {
    code: &'static str,
    before: &'static str,
    after: String,
    sent: Sent,
    /// What is put beside the block, such as `[[moved]]`.
    beside: &'static str,
    quota: Option<Value>,
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

fn plan_rules() -> Vec<PlanRule> {
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
struct SpecRule {
    code: &'static str,
    provider: &'static str,
    lines: String,
    spec: Value,
}

fn spec(code: &'static str, provider: &'static str, lines: impl Into<String>, spec: Value) -> SpecRule {
    SpecRule { code, provider, lines: lines.into(), spec }
}

fn spec_rules() -> Vec<SpecRule> {
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

/// How long an answer is waited for beside much other work.
const PATIENCE: Duration = Duration::from_secs(60);

/// One project on the server of a target, with tokens of its own.
pub(super) struct Project<'a> {
    target: &'a Target,
    name: String,
    pub(super) apply: String,
    pub(super) destroy: String,
    fence: u64,
    steps: std::cell::Cell<u32>,
}

impl<'a> Project<'a> {
    pub(super) fn new(target: &'a Target, name: String) -> Self {
        let token = |scope: &str| {
            let body = json!({ "scope": scope, "project": name, "note": "policy" });
            // Commands send a token only to where it was issued.
            let request = RawRequest::new("POST", "/v1/tokens").host(&target.address.to_string());
            let made = target.send("operator", request.json(&body));
            assert_eq!(made.status, 201, "{made:?}");
            made.json()["token"].as_str().unwrap().to_owned()
        };
        let (apply, destroy) = (token("apply"), token("destroy"));
        let project = Self { target, name, apply, destroy, fence: 0, steps: 0.into() };
        let holder = json!({ "user": "mallory", "host": "elsewhere", "process": 1 });
        let lease = project.send(&project.apply, "POST", "lease", Some(&holder));
        assert_eq!(lease.status, 201, "{lease:?}");
        Self { fence: lease.json()["fence"].as_u64().unwrap(), ..project }
    }

    fn send(&self, token: &str, method: &str, rest: &str, body: Option<&Value>) -> RawResponse {
        let request = RawRequest::new(method, &format!("/v1/projects/{}/{rest}", self.name)).token(Some(token));
        let request = if self.fence > 0 { request.header("convexinfra-fence", &self.fence.to_string()) } else { request };
        let request = if let Some(body) = body { request.json(body) } else { request };
        request.within(PATIENCE).send(self.target.address)
    }

    pub(super) fn operate(&self, token: &str, backend: &str, origin: Option<&str>, work: &Value) -> RawResponse {
        self.steps.set(self.steps.get() + 1);
        let step = json!({ "plan": "raw", "step": format!("s{}", self.steps.get()) });
        let mut body = json!({ "step": step, "backend": backend, "work": work });
        if let Some(origin) = origin {
            body["origin"] = json!(origin);
        }
        self.send(token, "POST", "operations", Some(&body))
    }

    /// What is recorded, without what time changes.
    pub(super) fn recorded(&self) -> Value {
        let snapshot = self.send(&self.apply, "GET", "backends", None).json();
        Value::Array(
            snapshot
                .as_array()
                .unwrap()
                .iter()
                .map(|b| json!([b["name"], b["recorded"], b["phase"], b["generation"]]))
                .collect(),
        )
    }

    /// Waits until nothing is being done any more.
    pub(super) fn settle(&self) {
        let is_running = |operation: &Value| operation["state"] == "running";
        wait_until("all operations have ended", || {
            !self.send(&self.apply, "GET", "operations", None).json().as_array().unwrap().iter().any(is_running)
        });
    }

    pub(super) fn fence(&self) -> u64 {
        self.fence
    }

    /// Keeps the lease.
    pub(super) fn renew(&self) {
        let renewed = self.send(&self.apply, "PUT", "lease", None);
        assert_eq!(renewed.status, 204, "{renewed:?}");
    }

    fn release(&self) {
        assert_eq!(self.send(&self.apply, "DELETE", "lease", None).status, 204);
    }
}

pub(super) fn manifest(project: &str, lines: &str, beside: &str) -> String {
    format!("project = \"{project}\"\n\n[backends.dev]\n{lines}\n{beside}")
}

/// The specification of `dev` in a manifest, as it goes over the wire.
pub(super) fn lowered(text: &str) -> Value {
    let parsed = convexinfra::manifest::parse(text, None).unwrap_or_else(|problems| panic!("{problems:?}\n{text}"));
    serde_json::to_value(&parsed.desired.backends.values().next().unwrap().spec).unwrap()
}

const SERVER: &str = "postgres://me:pw@db.example.invalid";

fn put(spec: &Value) -> Value {
    let (mut spec, mut secrets) = (spec.clone(), json!({}));
    // A manifest names a file, whose content its command sends.
    if let Some(path) = spec["storage"]["tls"]["ca"].as_str().map(str::to_owned) {
        spec["storage"]["tls"] = json!({ "pem": fs::read_to_string(path).unwrap() });
    }
    if spec["storage"]["url"].is_object() {
        secrets["storage.url"] = json!(SERVER);
    }
    if spec["env"]["LARGE"].is_object() {
        secrets["env.LARGE"] = json!("x".repeat(9000));
    }
    json!({ "kind": "put", "spec": spec, "secrets": secrets })
}

#[test]
fn a_raw_client_gets_the_refusal_that_a_plan_shows() {
    let target = Target::with(&[("FLY_API_TOKEN", "none"), ("CONVEXINFRA_FLY_API", "http://127.0.0.1:1")]);
    let folder = tempfile::tempdir().unwrap();
    fixture::certificates::issue(folder.path(), &["localhost"]);
    let authority = folder.path().join("ca.pem");
    let binary = script(folder.path(), "backend", &format!("exec '{}' simulate-backend \"$@\"", executable()));
    let on_this_machine = |text: &str| {
        let text = text.replace("/tmp/ca.pem", &authority.display().to_string());
        text.replace("/tmp/backend", &binary.display().to_string())
    };
    for (number, rule) in plan_rules().into_iter().enumerate() {
        let name = format!("rule-{number}");
        let project = Project::new(&target, name.clone());
        // Commands read the certificates that a manifest names.
        let text = on_this_machine(&manifest(&name, &rule.after, rule.beside));
        let what = format!("{} in {text}", rule.code);
        if !rule.before.is_empty() {
            for backend in ["dev"].into_iter().chain((!rule.beside.is_empty()).then_some("old")) {
                let recorded = lowered(&on_this_machine(&manifest(&name, rule.before, "")));
                let made = project.operate(&project.apply, backend, None, &put(&recorded));
                assert!([200, 202].contains(&made.status), "{what}: {made:?}");
            }
            project.settle();
        }
        if let Some(quota) = &rule.quota {
            let set = target.send("operator", RawRequest::new("PUT", &format!("/v1/projects/{name}/quota")).json(quota));
            assert_eq!(set.status, 204, "{what}: {set:?}");
        }
        let is_elsewhere = rule.code == "plan.other_repository";
        if is_elsewhere {
            let origin = json!({ "origin": "repository github.com/acme/blog", "claim": "if_unclaimed" });
            let set = project.send(&project.apply, "PUT", "origin", Some(&origin));
            assert_eq!(set.status, 204, "{what}: {set:?}");
        }

        // What the plan shows.
        let mut world = ProjectFixture::new(&text);
        world.set("CONVEXINFRA_CONTROL_PLANE", &target.server.url);
        world.set("CONVEXINFRA_TOKEN", &project.destroy);
        world.set("SERVER", SERVER);
        world.set("LARGE", &"x".repeat(9000));
        if is_elsewhere {
            world.git();
            for words in [["remote", "add", "origin"].as_slice(), &["remote", "set-url", "origin"]] {
                let mut git = std::process::Command::new("git");
                git.args(words).arg("https://github.com/acme/shop").current_dir(&world.folder).envs(&world.variables);
                assert!(git.status().unwrap().success());
            }
        }
        let (shown, work, token) = match &rule.sent {
            Sent::Remove { volume, database, words } => {
                let words = [&["destroy", "dev", "--allow-destroy", "dev", "--json"], *words].concat();
                let run = world.run_expecting(4, &words);
                let last: Value = serde_json::from_str(run.out.lines().last().unwrap()).unwrap();
                let work = json!({ "kind": "remove", "volume": volume, "database": database });
                (last["errors"][0].clone(), work, &project.destroy)
            }
            Sent::Put | Sent::PutRenamed(_) => {
                let run = world.run_expecting(4, &["plan", "--json"]);
                let mut work = put(&lowered(&text));
                if let Sent::PutRenamed(old) = rule.sent {
                    work["renamed_from"] = json!(old);
                }
                (run.document()["refusals"][0].clone(), work, &project.apply)
            }
        };
        assert_eq!(shown["code"], rule.code, "{what}: {shown}");

        // What a raw client gets.
        let before = project.recorded();
        let origin = is_elsewhere.then_some("repository github.com/acme/shop");
        let refused = project.operate(token, "dev", origin, &work);
        assert!((400..500).contains(&refused.status), "{what}: {refused:?}");
        let error = refused.json()["errors"][0].clone();
        assert_eq!(error["code"], rule.code, "{what}: {refused:?}");
        let (planned, sent) = (shown["message"].as_str().unwrap(), error["message"].as_str().unwrap());
        assert!(planned == sent || planned == format!("backend.dev: {sent}"), "{what}:\n{planned}\n{sent}");
        assert_eq!(project.recorded(), before, "{what}: what is refused leaves the record as it is");
        if rule.before == LOCAL {
            let work = json!({ "kind": "remove", "volume": "destroy", "database": "leave" });
            let removed = project.operate(&project.destroy, "dev", None, &work);
            assert!([200, 202].contains(&removed.status), "{what}: {removed:?}");
            project.settle();
        }
        project.release();
    }
    target.assert_well();
}

#[test]
fn a_raw_client_records_no_specification_that_a_manifest_may_not_have() {
    let target = Target::with(&[("FLY_API_TOKEN", "none"), ("CONVEXINFRA_FLY_API", "http://127.0.0.1:1")]);
    let project = Project::new(&target, "shapes".to_owned());
    for rule in spec_rules() {
        let block = format!("provider = \"{}\"\n{}\n", rule.provider, rule.lines);
        let problems = convexinfra::manifest::parse(&manifest("shapes", &block, ""), None).expect_err(&rule.lines);
        let shown = problems.iter().find(|problem| problem.code == rule.code);
        let shown = shown.unwrap_or_else(|| panic!("{}: {problems:?}", rule.code));
        let mut spec = json!({ "provider": rule.provider });
        for (key, value) in rule.spec.as_object().unwrap() {
            spec[key] = value.clone();
        }
        let refused = project.operate(&project.apply, "dev", None, &put(&spec));
        assert!((400..500).contains(&refused.status), "{}: {refused:?}", rule.lines);
        let error = refused.json()["errors"][0].clone();
        // On the wire a server is a part of its backend, and a table of its own in a manifest.
        let message = shown.message.replace("`servers.shop.", "`server.");
        assert_eq!(
            (error["code"].as_str(), error["message"].as_str()),
            (Some(rule.code), Some(message.as_str())),
            "{refused:?}"
        );
        assert_eq!(project.recorded(), json!([]), "{}", rule.lines);
    }
    target.assert_well();
}

/// What takes data away, or lets it be taken away sooner, needs the scope `destroy`, however it is put.
#[test]
fn protection_and_time_are_given_up_with_the_scope_destroy_only() {
    let target = Target::new();
    let project = Project::new(&target, "demo".to_owned());
    // It listens: what is only a record has no data that a `ttl` could take.
    let spec = |lines: &str| put(&lowered(&manifest("demo", &format!("provider = \"simulated\"\n{lines}\n"), "")));
    let remove = json!({ "kind": "remove", "volume": "destroy", "database": "leave" });
    for (what, before, work) in [
        ("protection off", "protected = true", spec("")),
        ("an early end", "", spec("ttl = \"1h\"")),
        ("an earlier end", "ttl = \"2d\"", spec("ttl = \"1h\"")),
        ("an end in place of protection", "protected = true\nttl = \"1h\"", spec("ttl = \"1h\"")),
        ("a removal", "", remove.clone()),
        (
            "a removal of its database as well",
            "ttl = \"1h\"",
            json!({ "kind": "remove", "volume": "destroy", "database": "drop" }),
        ),
        (
            "a removal of what its database names in buckets",
            "ttl = \"1h\"",
            json!({ "kind": "remove", "volume": "destroy", "database": "drop_with_files" }),
        ),
        ("its record dropped", "", json!({ "kind": "forget" })),
    ] {
        let made = project.operate(&project.destroy, "dev", None, &spec(before));
        assert!([200, 202].contains(&made.status), "{what}: {made:?}");
        project.settle();
        let recorded = project.recorded();
        let refused = project.operate(&project.apply, "dev", None, &work);
        assert_eq!((refused.status, refused.code().as_str()), (403, "auth.scope"), "{what}: {refused:?}");
        assert_eq!(project.recorded(), recorded, "{what}");
    }
    // The same bytes with the scope.
    let off = project.operate(&project.destroy, "dev", None, &spec(""));
    assert!([200, 202].contains(&off.status), "{off:?}");
    project.settle();
    let gone = project.operate(&project.destroy, "dev", None, &remove);
    assert!([200, 202].contains(&gone.status), "{gone:?}");
    project.settle();
    assert_eq!(project.recorded(), json!([]));
    target.assert_well();
}
