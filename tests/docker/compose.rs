//! Every variable of the official compose file, one by one, beside what our container has of it.
//!
//! The list is the one of the file as it was in August 2026. `run_backend.sh` turns some of the variables into flags; our
//! entry point gives the flags themselves, and what is secret stands in a file of the volume.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::BTreeMap;

use convexinfra::model::{
    BucketNames, FieldPath, Files, Release, S3Credentials, S3Files, Secret, SecretRef, ServerStorage, Storage, TextValue,
    TimeSpan, Tls, Tuning,
};

use super::bench::DockerFixture;
use super::rig::REVISION;
use crate::engine_or_skip;

/// Where what a variable says is found in our container.
enum Becomes {
    /// The same variable with this value.
    Variable(&'static str),
    /// This flag, and this value behind it.
    Flag(&'static str, &'static str),
    /// A flag without a value.
    Switch(&'static str),
    /// Something in the file of this launch, which nobody can inspect.
    Hidden(&'static str),
    /// Not there unless the manifest asks for it, so that the backend's own default holds.
    Default,
    /// Never there, and why.
    Never(&'static str),
}

use Becomes::{Default as Left, Flag, Hidden, Never, Switch, Variable};

/// `API`, `SITE` and `NAME` stand for what the backend was given.
const COMPOSE: [(&str, Becomes); 34] = [
    ("ACTIONS_USER_TIMEOUT_SECS", Never("the backend does not know it any more: two others took its place")),
    ("APPLICATION_MAX_CONCURRENT_MUTATIONS", Variable("12")),
    ("APPLICATION_MAX_CONCURRENT_NODE_ACTIONS", Variable("14")),
    ("APPLICATION_MAX_CONCURRENT_QUERIES", Variable("11")),
    ("APPLICATION_MAX_CONCURRENT_V8_ACTIONS", Variable("13")),
    ("AWS_ACCESS_KEY_ID", Hidden("export AWS_ACCESS_KEY_ID='the-id'")),
    ("AWS_REGION", Variable("eu-central-1")),
    ("AWS_S3_DISABLE_CHECKSUMS", Left),
    ("AWS_S3_DISABLE_SSE", Left),
    ("AWS_S3_FORCE_PATH_STYLE", Variable("true")),
    ("AWS_SECRET_ACCESS_KEY", Hidden("export AWS_SECRET_ACCESS_KEY='the-key'")),
    ("AWS_SESSION_TOKEN", Never("it ends within hours, and a container lives longer: use the machine's role")),
    ("CONVEX_CLOUD_ORIGIN", Flag("--convex-origin", "http://127.0.0.1:API")),
    ("CONVEX_RELEASE_VERSION_DEV", Variable(REVISION)),
    ("CONVEX_SITE_ORIGIN", Flag("--convex-site", "http://127.0.0.1:SITE")),
    ("DATABASE_URL", Never("an old name of POSTGRES_URL")),
    ("DISABLE_BEACON", Switch("--disable-beacon")),
    ("DISABLE_METRICS_ENDPOINT", Variable("true")),
    ("DOCUMENT_RETENTION_DELAY", Variable("172800")),
    ("DO_NOT_REQUIRE_SSL", Left),
    ("HTTP_SERVER_TIMEOUT_SECONDS", Variable("60")),
    ("INSTANCE_NAME", Flag("--instance-name", "NAME")),
    ("INSTANCE_SECRET", Hidden("--instance-secret ")),
    ("MYSQL_URL", Left),
    ("POSTGRES_URL", Left),
    ("REDACT_LOGS_TO_CLIENT", Switch("--redact-logs-to-client")),
    ("RUST_BACKTRACE", Left),
    ("RUST_LOG", Variable("debug")),
    ("S3_ENDPOINT_URL", Variable("http://minio.test:9000")),
    ("S3_STORAGE_EXPORTS_BUCKET", Variable("shop-exports")),
    ("S3_STORAGE_FILES_BUCKET", Variable("shop-files")),
    ("S3_STORAGE_MODULES_BUCKET", Variable("shop-modules")),
    ("S3_STORAGE_SEARCH_BUCKET", Variable("shop-search")),
    ("S3_STORAGE_SNAPSHOT_IMPORTS_BUCKET", Variable("shop-snapshot-imports")),
];

#[tokio::test]
async fn every_variable_of_the_compose_file_has_its_place() {
    let mut bench = DockerFixture::new(engine_or_skip!());
    let spec = &mut bench.placement.spec;
    spec.release = Some(Release::parse(REVISION).unwrap());
    spec.tuning = Tuning {
        max_concurrent_queries: Some(11),
        max_concurrent_mutations: Some(12),
        max_concurrent_v8_actions: Some(13),
        max_concurrent_node_actions: Some(14),
        http_timeout: Some(TimeSpan::parse("1m").unwrap()),
        redact_logs: Some(true),
        beacon: Some(false),
        log_level: Some("debug".to_owned()),
        ..Tuning::default()
    };
    let reference = || SecretRef::Env("X".to_owned());
    spec.files = Files::S3(S3Files {
        buckets: BucketNames::Prefix("shop".to_owned()),
        region: "eu-central-1".to_owned(),
        endpoint: Some(TextValue::Literal("http://minio.test:9000".to_owned())),
        path_style: true,
        create_buckets: false,
        credentials: Some(S3Credentials { access_key_id: reference(), secret_access_key: reference() }),
    });
    for (field, value) in [("files.access_key_id", "the-id"), ("files.secret_access_key", "the-key")] {
        bench.placement.secrets.insert(FieldPath::new(field), Secret::new(value));
    }
    bench.ensure().await;

    let seen = bench.inspect();
    let environment: BTreeMap<&str, &str> =
        seen["Config"]["Env"].as_array().unwrap().iter().filter_map(|line| line.as_str().unwrap().split_once('=')).collect();
    let words: Vec<&str> = seen["Config"]["Cmd"].as_array().unwrap().iter().map(|word| word.as_str().unwrap()).collect();
    let file = bench.shell("cat $CONVEXINFRA_LAUNCH");
    let ports = bench.placement.ports;
    let given = |text: &str| {
        let text = text.replace("API", &ports.api.to_string()).replace("SITE", &ports.site.to_string());
        text.replace("NAME", bench.instance().as_str())
    };
    for (name, becomes) in COMPOSE {
        let variable = environment.get(name).copied();
        match becomes {
            Variable(value) => assert_eq!(variable, Some(value), "{name}"),
            Flag(flag, value) => {
                let at = words.iter().position(|word| *word == flag).unwrap_or_else(|| panic!("{name}: no {flag}"));
                assert_eq!((words[at + 1], variable), (given(value).as_str(), None), "{name}");
            }
            Switch(flag) => assert_eq!((words.contains(&flag), variable), (true, None), "{name}"),
            Hidden(text) => {
                assert!(file.contains(text), "{name}");
                assert!(!seen.to_string().contains(text), "{name} can be inspected");
                assert_eq!(variable, None, "{name}");
            }
            Left => assert_eq!(variable, None, "{name}"),
            Never(why) => assert_eq!(variable, None, "{name}: {why}"),
        }
    }
    // What is empty would be read as true or as an error.
    assert!(environment.values().all(|value| !value.is_empty()), "{environment:?}");
    for (flag, port) in [("--port", ports.api), ("--site-proxy-port", ports.site)] {
        let at = words.iter().position(|word| *word == flag).unwrap();
        assert_eq!(words[at + 1], port.to_string(), "the port inside is the port outside");
    }
}

#[tokio::test]
async fn the_url_of_a_database_is_hidden_and_reaches_the_machine_of_the_engine() {
    let engine = engine_or_skip!();
    let mut bench = DockerFixture::new(engine);
    let folder = tempfile::tempdir().unwrap();
    let authority = folder.path().join("ca.pem");
    // A file as it should not be: with a private key beside the certificate.
    let block = |kind: &str, content: &str| format!("-----BEGIN {kind}-----\n{content}\n-----END {kind}-----\n");
    let certificate = block("CERTIFICATE", "dGhlIGF1dGhvcml0eQ==");
    std::fs::write(&authority, format!("{}{certificate}", block("PRIVATE KEY", "aHVudGVyMw=="))).unwrap();
    bench.placement.spec.storage = Storage::Postgres(ServerStorage {
        url: Some(SecretRef::Env("X".to_owned())),
        tls: Tls::Ca(authority.display().to_string()),
        ..ServerStorage::default()
    });
    let url = "postgres://convex:hunter2@localhost:1";
    bench.placement.secrets.insert(FieldPath::new("storage.url"), Secret::new(url));
    // There is no such server, so the backend ends; what it was given is there all the same.
    assert!(bench.try_ensure().await.is_err());
    let container = bench.container();
    let seen = bench.inspect();
    assert!(!seen.to_string().contains("hunter2"), "the password can be inspected");
    assert_eq!(seen["HostConfig"]["ExtraHosts"], serde_json::json!(["host.docker.internal:host-gateway"]));
    let read = |path: &str| {
        let output = engine.command(&["cp", &format!("{container}:{path}"), "-"]).output().unwrap();
        assert!(output.status.success(), "{path}");
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    let variable = |name: &str| {
        let all = seen["Config"]["Env"].as_array().unwrap().iter();
        all.filter_map(|line| line.as_str().unwrap().strip_prefix(&format!("{name}="))).next().unwrap().to_owned()
    };
    let file = read(&variable("CONVEXINFRA_LAUNCH"));
    assert!(file.contains("postgres://convex:hunter2@host.docker.internal:1"), "{file}");
    let trusted = read(&variable("PG_CA_FILE"));
    assert!(trusted.contains(&certificate) && !trusted.contains("PRIVATE KEY"), "{trusted}");
    let words = seen["Config"]["Cmd"].to_string();
    assert!(words.contains("\"--db\",\"postgres-v5\"") && !words.contains("--do-not-require-ssl"), "{words}");
}
