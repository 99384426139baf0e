//! Every kind of placement, and the words and variables that come of it.

use crate::model::{
    BackendId, BackendName, BackendSpec, BucketNames, ByteSize, DatabaseRole, Endpoints, Generation, InstanceName, ProjectName,
    ProviderKind, ProviderState, S3Credentials, SecretRef, ServerStorage, TimeSpan,
};

use super::*;

const SECRET: &str = "4361726e697461732c206c69746572616c6c79206d65616e696e6720226c6974";

fn placement() -> ResolvedBackend {
    ResolvedBackend {
        id: BackendId::new("b1"),
        project: ProjectName::parse("gremlin").unwrap(),
        name: BackendName::parse("dev").unwrap(),
        instance_name: InstanceName::parse("gremlin-dev").unwrap(),
        spec: BackendSpec::new(ProviderKind::Local),
        generation: Generation(1),
        instance_secret: Secret::new(SECRET),
        admin_key: Secret::new("gremlin-dev|01"),
        secrets: BTreeMap::new(),
        ports: PortPair { api: 4210, site: 4211 },
        endpoints: Endpoints { url: "http://127.0.0.1:4210".into(), site_url: "http://127.0.0.1:4211".into() },
        has_been_ready: false,
        provider_state: ProviderState::new(),
    }
}

fn target() -> LaunchTarget {
    LaunchTarget {
        data: PathBuf::from("/data"),
        interface: Ipv4Addr::LOCALHOST,
        ports: PortPair { api: 4210, site: 4211 },
        secret: SecretDelivery::Flag,
        release: None,
        certificate_file: None,
    }
}

fn words(launch: &Launch) -> Vec<String> {
    launch.arguments.iter().map(|argument| argument.expose().to_string_lossy().into_owned()).collect()
}

fn variables(launch: &Launch) -> BTreeMap<&str, String> {
    launch.environment.iter().map(|(name, value)| (name.as_str(), value.expose().to_string_lossy().into_owned())).collect()
}

#[test]
fn the_plain_case_word_for_word() {
    let launch = launch(&placement(), &target()).unwrap();
    let expected = format!(
        "--instance-name gremlin-dev --instance-secret {SECRET} --interface 127.0.0.1 --port 4210 --site-proxy-port 4211 \
         --convex-origin http://127.0.0.1:4210 --convex-site http://127.0.0.1:4211 --beacon-tag convexinfra \
         --local-storage /data/storage /data/db.sqlite3"
    );
    assert_eq!(words(&launch).join(" "), expected);
    assert_eq!(
        variables(&launch),
        BTreeMap::from([("DISABLE_METRICS_ENDPOINT", "true".to_owned()), ("DOCUMENT_RETENTION_DELAY", "172800".to_owned()),])
    );
    assert!(!format!("{launch:?}").contains(SECRET));
}

#[test]
fn our_own_backend_gets_its_secret_without_showing_it() {
    let target = LaunchTarget { secret: SecretDelivery::Variable, ..target() };
    let launch = launch(&placement(), &target).unwrap();
    assert!(!words(&launch).join(" ").contains(SECRET));
    assert_eq!(variables(&launch)["INSTANCE_SECRET"], SECRET);
}

#[test]
fn booleans_stand_only_where_they_are_true() {
    let mut placement = placement();
    placement.spec.tuning = Tuning { beacon: Some(true), redact_logs: Some(false), ..Tuning::default() };
    let off = words(&launch(&placement, &target()).unwrap());
    assert!(!off.iter().any(|word| word == "--disable-beacon" || word == "--redact-logs-to-client"));
    placement.spec.tuning = Tuning { beacon: Some(false), redact_logs: Some(true), ..Tuning::default() };
    let on = words(&launch(&placement, &target()).unwrap());
    assert!(on.iter().any(|word| word == "--disable-beacon") && on.iter().any(|word| word == "--redact-logs-to-client"));
}

#[test]
fn knobs_become_variables() {
    let mut placement = placement();
    placement.spec.release = Some(Release::parse("precompiled-2026-08-21-652b828").unwrap());
    placement.spec.tuning = Tuning {
        max_concurrent_queries: Some(32),
        document_retention: Some(TimeSpan::from_seconds(86_400)),
        index_cache: Some(ByteSize::from_bytes(1 << 20)),
        log_level: Some(String::new()),
        ..Tuning::default()
    };
    let launch = launch(&placement, &target()).unwrap();
    let variables = variables(&launch);
    assert_eq!(variables["APPLICATION_MAX_CONCURRENT_QUERIES"], "32");
    assert_eq!(variables["DOCUMENT_RETENTION_DELAY"], "86400");
    assert_eq!(variables["INDEX_CACHE_SIZE"], "1048576");
    assert_eq!(variables["CONVEX_RELEASE_VERSION_DEV"], "precompiled-2026-08-21-652b828");
    assert!(!variables.contains_key("RUST_LOG"), "nothing is ever empty");
}

#[test]
fn a_moving_release_is_not_claimed() {
    let mut placement = placement();
    placement.spec.release = Some(Release::Latest);
    assert!(!variables(&launch(&placement, &target()).unwrap()).contains_key("CONVEX_RELEASE_VERSION_DEV"));
    let known = LaunchTarget { release: Some(Release::Commit("a".repeat(40))), ..target() };
    assert_eq!(variables(&launch(&placement, &known).unwrap())["CONVEX_RELEASE_VERSION_DEV"], "a".repeat(40));
}

#[test]
fn servers_are_named_last_and_protected_as_asked() {
    let mut placement = placement();
    placement.spec.storage = Storage::Postgres(ServerStorage { tls: Tls::Disable, ..ServerStorage::default() });
    let missing = launch(&placement, &target());
    assert_eq!(missing, Err(LaunchError::MissingSecret { field: FieldPath::new("storage.url") }));
    placement.secrets.insert(FieldPath::new("storage.url"), Secret::new("postgres://me:hunter2@db:5432"));
    let open = launch(&placement, &target()).unwrap();
    let tail = words(&open);
    assert_eq!(
        tail[tail.len() - 4..],
        ["--do-not-require-ssl", "--db", "postgres-v5", "postgres://me:hunter2@db:5432?sslmode=disable"]
    );
    assert!(!format!("{open:?}").contains("hunter2"));

    placement.spec.storage = Storage::Mysql(ServerStorage { tls: Tls::Ca("/etc/ca.pem".into()), ..ServerStorage::default() });
    placement.secrets.insert(FieldPath::new("storage.url"), Secret::new("mysql://me:pw@db"));
    let checked = launch(&placement, &target()).unwrap();
    assert_eq!(words(&checked)[words(&checked).len() - 3..], ["--db", "mysql-v5", "mysql://me:pw@db"]);
    assert_eq!(variables(&checked)["MYSQL_CA_FILE"], "/etc/ca.pem");
    let inside = LaunchTarget { certificate_file: Some(PathBuf::from("/data/ca.pem")), ..target() };
    assert_eq!(variables(&launch(&placement, &inside).unwrap())["MYSQL_CA_FILE"], "/data/ca.pem");

    placement.secrets.insert(FieldPath::new("storage.url"), Secret::new("mysql://me:pw@db/x"));
    assert!(matches!(launch(&placement, &target()), Err(LaunchError::DatabaseUrl { .. })));
}

#[test]
fn s3_comes_with_all_of_its_variables() {
    let mut placement = placement();
    let reference = SecretRef::Env("X".into());
    placement.spec.files = Files::S3(S3Files {
        buckets: BucketNames::Prefix("gremlin".into()),
        region: "us-east-1".into(),
        endpoint: Some(TextValue::Reference(reference.clone())),
        path_style: true,
        create_buckets: false,
        credentials: Some(S3Credentials { access_key_id: reference.clone(), secret_access_key: reference }),
    });
    assert!(matches!(launch(&placement, &target()), Err(LaunchError::MissingSecret { .. })));
    for (field, value) in
        [("files.endpoint", "http://s3:9000"), ("files.access_key_id", "id"), ("files.secret_access_key", "hunter2")]
    {
        placement.secrets.insert(FieldPath::new(field), Secret::new(value));
    }
    let launch = launch(&placement, &target()).unwrap();
    assert!(words(&launch).contains(&"--s3-storage".to_owned()));
    assert!(!words(&launch).contains(&"--local-storage".to_owned()));
    let variables = variables(&launch);
    for (name, value) in [
        ("AWS_REGION", "us-east-1"),
        ("S3_STORAGE_EXPORTS_BUCKET", "gremlin-exports"),
        ("S3_STORAGE_SNAPSHOT_IMPORTS_BUCKET", "gremlin-snapshot-imports"),
        ("S3_STORAGE_MODULES_BUCKET", "gremlin-modules"),
        ("S3_STORAGE_FILES_BUCKET", "gremlin-files"),
        ("S3_STORAGE_SEARCH_BUCKET", "gremlin-search"),
        ("S3_ENDPOINT_URL", "http://s3:9000"),
        ("AWS_S3_FORCE_PATH_STYLE", "true"),
        ("AWS_ACCESS_KEY_ID", "id"),
        ("AWS_SECRET_ACCESS_KEY", "hunter2"),
    ] {
        assert_eq!(variables[name], value, "{name}");
    }
    assert!(!format!("{launch:?}").contains("hunter2"));
}

#[test]
fn the_digest_changes_with_everything() {
    let first = launch(&placement(), &target()).unwrap();
    assert_eq!(first.digest(), launch(&placement(), &target()).unwrap().digest());
    let mut other = placement();
    other.instance_secret = Secret::new("0".repeat(64));
    assert_ne!(first.digest(), launch(&other, &target()).unwrap().digest());
    let elsewhere = LaunchTarget { data: PathBuf::from("/other"), ..target() };
    assert_ne!(first.digest(), launch(&placement(), &elsewhere).unwrap().digest());
}

#[test]
fn origins_are_roots_with_a_scheme() {
    for url in ["127.0.0.1:4210", "http://", "http://host/"] {
        let mut placement = placement();
        placement.endpoints.url = url.into();
        assert!(matches!(launch(&placement, &target()), Err(LaunchError::Origin { .. })), "{url}");
    }
}

#[test]
fn a_backend_with_a_role_of_its_own_never_sees_the_administrators_url() {
    let mut placement = placement();
    let role = DatabaseRole::LeastPrivilege;
    placement.spec.storage = Storage::Postgres(ServerStorage { role, tls: Tls::Disable, ..ServerStorage::default() });
    placement.secrets.insert(FieldPath::new("storage.url"), Secret::new("postgres://admin:hunter2@db:5433"));
    assert!(matches!(launch(&placement, &target()), Err(LaunchError::MissingSecret { .. })));
    placement.secrets.insert(FieldPath::new("storage.role_password"), Secret::new("0123"));
    let made = launch(&placement, &target()).unwrap();
    let own = format!("postgres://convex_{}:0123@db:5433?sslmode=disable", placement.id);
    assert_eq!(words(&made).last(), Some(&own));
    // The stand-in takes it as it takes its secret, so that nobody who lists processes reads it.
    let hidden = launch(&placement, &LaunchTarget { secret: SecretDelivery::Variable, ..target() }).unwrap();
    assert_eq!(variables(&hidden)["SIMULATED_DATABASE_URL"], own);
    assert!(!words(&hidden).iter().any(|word| word.contains("db:5433")));
}
