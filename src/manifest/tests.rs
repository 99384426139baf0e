//! Whole manifests, from text to nouns.

use super::parse;
use crate::convex::buckets::{PARTS, bucket_name};
use crate::model::{
    BackendName, BucketNames, ByteSize, EnvFileContents, Files, ProjectName, ProviderKind, SecretRef, SecretSource, Storage,
    TextValue, Tls,
};

const DESIGN: &str = r#"#:schema ./schema/convex.schema.json
project = "gremlin"

[control_plane]
url = "https://convex-control.example.com"

[budget]
cpus = 6
memory = "8 GiB"
disk = "40 GiB"
monthly_usd = 60

[defaults]
release = "precompiled-2026-08-21-652b828"
region = "iad"

[backends.dev]
provider = "docker"
env_file = ".env.local"

[backends.staging]
provider = "fly"
dashboard = true
protected = true
ttl = "7d"
depends_on = ["dev"]
env_file = "apps/web/.env.staging"
storage = { engine = "postgres", url = { env = "STAGING_POSTGRES_URL" }, region = "iad", tls = "verify" }
files = { engine = "s3", bucket_prefix = "gremlin", region = "us-east-1", endpoint = { env = "S3_ENDPOINT" } }
resources = { cpus = 1, memory = "2 GiB", disk = "10 GiB" }
origins = { api = "https://api.gremlin.dev", site = "https://gremlin.dev" }
tuning = { max_concurrent_queries = 32, document_retention = "2d" }

[backends.staging.env]
OPENAI_API_KEY = { env = "OPENAI_API_KEY" }

[backends.staging.fly]
org = "acme"
"#;

fn name(text: &str) -> BackendName {
    BackendName::parse(text).unwrap()
}

fn codes(text: &str) -> Vec<String> {
    parse(text, None).unwrap_err().into_iter().map(|problem| problem.code).collect()
}

#[test]
fn the_manifest_of_the_design_is_clean() {
    let parsed = parse(DESIGN, None).unwrap_or_else(|problems| panic!("{problems:#?}"));
    assert_eq!(parsed.warnings, []);
    let desired = parsed.desired;
    assert_eq!(desired.project.as_str(), "gremlin");
    assert_eq!(desired.control_plane.as_deref(), Some("https://convex-control.example.com"));
    assert_eq!(desired.budget.memory, Some(ByteSize::parse("8 GiB").unwrap()));
    assert_eq!(desired.origin, "");
    let staging = &desired.backends[&name("staging")];
    assert!(staging.secrets.is_empty());
    let spec = &staging.spec;
    assert_eq!((spec.provider, spec.region.as_deref()), (ProviderKind::Fly, Some("iad")));
    assert_eq!(spec.release.as_ref().unwrap().to_string(), "precompiled-2026-08-21-652b828");
    assert_eq!(spec.settings.fly.org.as_deref(), Some("acme"));
    assert_eq!(spec.env["OPENAI_API_KEY"], SecretSource::Reference(SecretRef::Env("OPENAI_API_KEY".into())));
    let Storage::Postgres(server) = &spec.storage else { panic!("{:?}", spec.storage) };
    assert_eq!(server.url, Some(SecretRef::Env("STAGING_POSTGRES_URL".into())));
    assert_eq!(server.tls, Tls::Verify);
    let Files::S3(s3) = &spec.files else { panic!("{:?}", spec.files) };
    assert_eq!(s3.buckets, BucketNames::Prefix("gremlin".into()));
    assert_eq!(s3.endpoint, Some(TextValue::Reference(SecretRef::Env("S3_ENDPOINT".into()))));
}

#[test]
fn defaults_are_merged_key_by_key_and_another_engine_starts_afresh() {
    let text = r#"
project = "x"
[defaults]
provider = "docker"
client_vars = true
storage = { engine = "postgres", url = { env = "URL" }, tls = { ca = "ca.pem" } }
resources = { cpus = 0.5, memory = "1 GiB" }
env = { A = "1", B = "2" }
docker = { pull = "always" }
fly = { org = "acme" }
[backends.a]
resources.memory = "2 GiB"
env.B = "3"
[backends.b]
provider = "simulated"
storage.engine = "sqlite"
[backends.c]
storage.managed = true
docker.network = "n"
"#;
    let desired = parse(text, None).unwrap_or_else(|problems| panic!("{problems:#?}")).desired;
    let spec = |backend: &str| desired.backends[&name(backend)].spec.clone();
    assert_eq!(spec("a").resources.memory.unwrap().to_string(), "2 GiB");
    assert_eq!(spec("a").resources.cpus.unwrap().to_string(), "0.5");
    assert_eq!(spec("a").env["A"], SecretSource::Literal("1".into()));
    assert_eq!(spec("a").env["B"], SecretSource::Literal("3".into()));
    assert_eq!(spec("b").storage, Storage::Sqlite);
    assert_eq!(spec("b").settings, crate::model::ProviderSettings::default());
    let Storage::Postgres(server) = spec("c").storage else { panic!() };
    assert!(server.managed && server.url.is_none() && server.tls == Tls::Ca("ca.pem".into()));
    assert_eq!(spec("c").settings.docker.pull.to_string(), "always");
    assert_eq!(spec("c").settings.docker.network.as_deref(), Some("n"));
    assert!(desired.backends[&name("a")].env_files.is_empty(), "several backends: none gets `.env.local` unasked");
}

#[test]
fn one_backend_gets_the_usual_env_file() {
    let desired =
        parse("project = \"x\"\n[backends.dev]\nprovider = \"simulated\"\nclient_vars = true\n", None).unwrap().desired;
    let file = &desired.backends[&name("dev")].env_files[0];
    assert_eq!((file.path.as_str(), file.contents), (".env.local", EnvFileContents::Both));
}

#[test]
fn the_project_can_be_given_from_outside() {
    let project = ProjectName::parse("given").unwrap();
    let text = "[backends.dev]\nprovider = \"simulated\"\n";
    assert_eq!(parse(text, Some(&project)).unwrap().desired.project, project);
    assert_eq!(parse(&format!("project = \"x\"\n{text}"), Some(&project)).unwrap().desired.project, project);
    assert_eq!(codes(text), ["manifest.missing_key"]);
}

#[test]
fn warnings_do_not_stop_anything() {
    let parsed = parse("project = \"x\"\n[backends.dev]\nprovider = \"local\"\nrelease = \"latest\"\n", None).unwrap();
    assert_eq!(parsed.warnings.len(), 1);
    assert_eq!(parsed.warnings[0].code, "manifest.unpinned_release");
    assert_eq!(parse("project = \"x\"\n", None).unwrap().warnings[0].code, "manifest.no_backends");
}

#[test]
fn a_syntax_error_does_not_hide_the_others_and_makes_no_noise() {
    let text = "project = x\n[backends.dev]\nprovider = docker\nmemroy = 1\nttl = \"7 days\"\n[backends.b]\n";
    assert_eq!(
        codes(text),
        ["manifest.syntax", "manifest.syntax", "manifest.unknown_key", "manifest.bad_duration"],
        "{:#?}",
        parse(text, None)
    );
    assert_eq!(
        codes("project = \"x\"\n[backends.dev]\nprovider = \"fly\"\ndepends_on = [\"a\"\nttl = \"x\"\n[backends.a]\n"),
        ["manifest.syntax"]
    );
    assert_eq!(
        codes("project = \"x\"\n[backends.a]\nprovider = \"fly\"\n[backends.a]\nprovider = \"fly\"\n"),
        ["manifest.duplicate_key"]
    );
}

#[test]
fn no_message_carries_a_secret() {
    let text = "project = \"x\"\n[backends.dev]\nprovider = \"docker\"\nregion = \"https://u:hunter2@h\"\nstorage = { engine = \"postgres\", url = \"postgres://u:hunter2@h\" }\n[backends.dev.env]\nMY_TOKEN = \"hunter2\"\nX = \"postgres://u:hunter2@h\"\n";
    let problems = parse(text, None).unwrap_err();
    assert_eq!(problems.len(), 4, "{problems:#?}");
    for problem in &problems {
        assert!(!format!("{problem:?}").contains("hunter2"));
    }
    assert!(!super::redacted(text, &problems).contains("hunter2"));
    assert_eq!(super::redacted(text, &problems).len(), text.len());
}

#[test]
fn hostile_texts_end_in_a_problem() {
    let deep = format!("a = {}{}", "[".repeat(100_000), "]".repeat(100_000));
    let dots = format!("{}x = 1", "a.".repeat(50_000));
    let tables = format!("a = {}", "{a=".repeat(50_000));
    let many = "x\n".repeat(20_000);
    let strange = "\u{feff}\u{0}\r\r\n\u{2028}= \"\u{1b}\"";
    for text in [deep.as_str(), &dots, &tables, &many, strange, "", "\u{feff}"] {
        let problems = parse(text, None).unwrap_err();
        assert!(!problems.is_empty());
    }
}

#[test]
fn cycles_read_as_paths() {
    let text = "project = \"x\"\ndefaults.provider = \"simulated\"\n[backends]\na.depends_on = [\"b\"]\nb.depends_on = [\"c\"]\nc.depends_on = [\"a\"]\nd.depends_on = [\"e\", \"a\"]\ne.depends_on = [\"d\"]\n";
    let messages: Vec<String> = parse(text, None).unwrap_err().into_iter().map(|problem| problem.message).collect();
    assert_eq!(messages.len(), 2, "{messages:#?}");
    assert!(messages[0].ends_with("a → b → c → a"), "{messages:?}");
    assert!(messages[1].ends_with("d → e → d"), "{messages:?}");
}

#[test]
fn an_example_is_not_called_allowed() {
    let problem = |project: &str| {
        let text = format!("project = \"{project}\"\n[backends.dev]\nprovider = \"simulated\"\n");
        let mut problems = parse(&text, None).unwrap_err();
        assert_eq!(problems.len(), 1, "{problems:#?}");
        problems.swap_remove(0)
    };
    // The second letter is a Cyrillic one.
    let lookalike = problem("sh\u{43e}p");
    assert_eq!((lookalike.code.as_str(), lookalike.allowed, lookalike.edit), ("manifest.bad_name", Vec::new(), None));
    let repairable = problem("My_Shop");
    assert_eq!(repairable.allowed, ["my-shop"]);
}

#[test]
fn a_backend_may_have_several_env_files_with_their_contents() {
    let text = r#"project = "x"
[backends.dev]
provider = "simulated"
client_vars = true
env_file = ["packages/backend/.env.local", { path = "apps/web/.env.local", vars = "client" }, { path = "a.env", vars = "pair" }]
"#;
    let desired = parse(text, None).unwrap_or_else(|problems| panic!("{problems:#?}")).desired;
    let files: Vec<_> =
        desired.backends[&name("dev")].env_files.iter().map(|file| (file.path.as_str(), file.contents)).collect();
    let expected = [
        ("packages/backend/.env.local", EnvFileContents::Both),
        ("apps/web/.env.local", EnvFileContents::Client),
        ("a.env", EnvFileContents::Pair),
    ];
    assert_eq!(files, expected);
    let with = |value: &str| format!("project = \"x\"\n[backends.dev]\nprovider = \"simulated\"\nenv_file = {value}\n");
    assert_eq!(codes(&with("{ vars = \"pair\" }")), ["manifest.missing_key"]);
    assert_eq!(codes(&with("[{ path = \"a\", vars = \"all\" }]")), ["manifest.unknown_env_file_vars"]);
    assert_eq!(codes(&with("[1]")), ["manifest.wrong_type"]);
    assert_eq!(codes(&with("[\"a.env\", \"./a.env\"]")), ["manifest.shared_env_file"]);
    assert_eq!(
        codes(&with(&format!("[{}]", (0..40).map(|n| format!("\"{n}.env\"")).collect::<Vec<_>>().join(", ")))),
        ["manifest.too_many_env_files"]
    );
}

#[test]
fn one_env_file_of_two_backends_is_a_mistake_with_both_places() {
    let text = "project = \"x\"\n[backends.a]\nprovider = \"simulated\"\nenv_file = \".env.local\"\n[backends.b]\nprovider = \"simulated\"\nenv_file = [\"x/../.env.local\"]\n";
    let problems = parse(text, None).unwrap_err();
    assert_eq!(problems.iter().map(|problem| problem.code.as_str()).collect::<Vec<_>>(), ["manifest.shared_env_file"]);
    assert_eq!(&text[problems[0].bytes()], "\"x/../.env.local\"");
    assert_eq!(&text[problems[0].related[0].bytes()], "\".env.local\"");
    let located = super::located(&problems, text, "convex.toml");
    assert_eq!((located[0].related[0].line, located[0].span.as_ref().unwrap().line), (4, 7));
}

#[test]
fn five_buckets_may_have_names_of_their_own() {
    let buckets = |lines: &str| {
        let text = format!("project = \"x\"\n{lines}");
        let desired = parse(&text, None).unwrap_or_else(|problems| panic!("{problems:?}")).desired;
        let Files::S3(s3) = desired.backends.values().next().unwrap().spec.files.clone() else { panic!("{lines}") };
        PARTS.map(|(_, part)| bucket_name(&s3.buckets, part)).join(" ")
    };
    let backend = |files: &str| {
        format!("[backends.a]\nprovider = \"local\"\nfiles = {{ engine = \"s3\", region = \"auto\", {files} }}\n")
    };
    let five = "buckets = { exports = \"out\", snapshot_imports = \"into\", modules = \"code\", files = \"user-files\", search = \"index\" }";
    assert_eq!(buckets(&backend(five)), "out into code user-files index");
    assert_eq!(
        buckets(&backend("bucket_prefix = \"shop\", buckets = { files = \"user-files\" }")),
        "shop-exports shop-snapshot-imports shop-modules user-files shop-search"
    );
    assert_eq!(buckets(&backend("bucket = \"one\", buckets = { search = \"index\" }")), "one one one one index");
    // Of the defaults, names refine what the backend takes from there, and nothing that it says itself.
    let defaults = "[defaults.files]\nbucket_prefix = \"shop\"\nbuckets = { files = \"user-files\" }\n";
    let beside = |files: &str| format!("{defaults}{}", backend(files));
    assert_eq!(
        buckets(&beside("buckets = { modules = \"code\" }")),
        "shop-exports shop-snapshot-imports code user-files shop-search"
    );
    assert_eq!(buckets(&beside("bucket = \"own\"")), "own own own own own");
}

#[test]
fn values_that_others_would_fill_in_are_warned_about_and_never_refused() {
    let warnings = |value: &str| {
        let block = "[backends.a]\nprovider = \"simulated\"\n";
        parse(&format!("project = \"p\"\n{block}env = {{ SITE_URL = '{value}' }}\n"), None).unwrap().warnings
    };
    for value in ["$PROTOCOL//x", "${SITE_URL:-x}", "$(hostname)", "https://{{ host }}/", "%APP_URL%", "${{ vars.URL }}"] {
        let warnings = warnings(value);
        assert_eq!((warnings.len(), warnings[0].code.as_str()), (1, "manifest.not_interpolated"), "{value}");
        assert!(
            warnings[0].edit.as_ref().is_some_and(|edit| edit.replacement.starts_with("{ env = ")),
            "{value}: {warnings:?}"
        );
    }
    for value in ["<your-url>", "changeme"] {
        assert_eq!(warnings(value)[0].code, "manifest.placeholder", "{value}");
    }
    assert!(warnings("Hello {{ name }}, welcome").is_empty());
}
