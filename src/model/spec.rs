//! What one backend should be.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::certificates::Certificates;
use super::database::DatabaseRole;
use super::fingerprint::Digest;
use super::name::BackendName;
use super::provider::ProviderKind;
use super::provider_settings::ProviderSettings;
use super::release::Release;
use super::secret::{SecretRef, SecretSource};
use super::serde_skip::{is_default, is_false};
use super::size::{ByteSize, Cpus};
use super::time::TimeSpan;

/// What one backend should be: the manifest's block with `[defaults]` applied, without its secrets' values.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct BackendSpec {
    /// Where it runs.
    pub provider: ProviderKind,
    /// Which build runs; none means the one that the provider has at hand.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub release: Option<Release>,
    /// The provider's region, where it has any.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub region: Option<String>,
    /// Whether a dashboard of the same release runs beside it.
    #[serde(skip_serializing_if = "is_false", default)]
    pub dashboard: bool,
    /// Whether every plan that would destroy it is refused.
    #[serde(skip_serializing_if = "is_false", default)]
    pub protected: bool,
    /// How long it lives before the control plane removes it by itself.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub ttl: Option<TimeSpan>,
    /// Backends that must be ready before this one is touched.
    #[serde(skip_serializing_if = "BTreeSet::is_empty", default)]
    pub depends_on: BTreeSet<BackendName>,
    /// Where its documents are kept.
    #[serde(skip_serializing_if = "is_default", default)]
    pub storage: Storage,
    /// Where its files are kept.
    #[serde(skip_serializing_if = "is_default", default)]
    pub files: Files,
    /// What it may use.
    #[serde(skip_serializing_if = "is_default", default)]
    pub resources: Resources,
    /// The URLs under which clients reach it, where they are not the provider's own.
    #[serde(skip_serializing_if = "is_default", default)]
    pub origins: Origins,
    /// The backend's own knobs.
    #[serde(skip_serializing_if = "is_default", default)]
    pub tuning: Tuning,
    /// Convex environment variables, set through the deployment's own API.
    #[serde(skip_serializing_if = "BTreeMap::is_empty", default)]
    pub env: BTreeMap<String, SecretSource>,
    /// What only its provider understands.
    #[serde(skip_serializing_if = "is_default", default)]
    pub settings: ProviderSettings,
}

impl BackendSpec {
    /// A specification with nothing but a provider.
    pub fn new(provider: ProviderKind) -> Self {
        Self {
            provider,
            release: None,
            region: None,
            dashboard: false,
            protected: false,
            ttl: None,
            depends_on: BTreeSet::new(),
            storage: Storage::default(),
            files: Files::default(),
            resources: Resources::default(),
            origins: Origins::default(),
            tuning: Tuning::default(),
            env: BTreeMap::new(),
            settings: ProviderSettings::default(),
        }
    }
}

/// Where documents are kept.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(tag = "engine", rename_all = "lowercase")]
pub enum Storage {
    /// A SQLite file beside the process.
    #[default]
    Sqlite,
    /// A PostgreSQL server.
    Postgres(ServerStorage),
    /// A MySQL server.
    Mysql(ServerStorage),
}

impl Storage {
    /// The word in the manifest.
    pub fn engine(&self) -> &'static str {
        match self {
            Self::Sqlite => "sqlite",
            Self::Postgres(_) => "postgres",
            Self::Mysql(_) => "mysql",
        }
    }

    /// The name of the engine, for people.
    pub fn product(&self) -> &'static str {
        match self {
            Self::Sqlite => "SQLite",
            Self::Postgres(_) => "PostgreSQL",
            Self::Mysql(_) => "MySQL",
        }
    }

    /// The server, for the engines that have one.
    pub fn server(&self) -> Option<&ServerStorage> {
        match self {
            Self::Sqlite => None,
            Self::Postgres(server) | Self::Mysql(server) => Some(server),
        }
    }

    /// Takes the text of the certificates out and leaves its digest.
    pub fn take_certificates(&mut self) -> Option<Certificates> {
        let (Self::Postgres(server) | Self::Mysql(server)) = self else { return None };
        let Tls::Pem(certificates) = &server.tls else { return None };
        let sealed = Tls::Sealed(certificates.digest());
        match std::mem::replace(&mut server.tls, sealed) {
            Tls::Pem(certificates) => Some(certificates),
            _ => None,
        }
    }

    /// Puts the certificates in the place of their digest.
    pub fn put_certificates(&mut self, certificates: Certificates) {
        if let Self::Postgres(server) | Self::Mysql(server) = self
            && server.tls == Tls::Sealed(certificates.digest())
        {
            server.tls = Tls::Pem(certificates);
        }
    }
}

/// A database server.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct ServerStorage {
    /// Its URL with user and password, without a path; none when it is managed.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub url: Option<SecretRef>,
    /// Whether the provider runs the server itself.
    #[serde(skip_serializing_if = "is_false", default)]
    pub managed: bool,
    /// Where the server is, for the warning about distance.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub region: Option<String>,
    /// How the connection is protected.
    #[serde(skip_serializing_if = "is_default", default)]
    pub tls: Tls,
    /// As whom the backend enters it.
    #[serde(skip_serializing_if = "is_default", default)]
    pub role: DatabaseRole,
}

/// How a database connection is protected.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Tls {
    /// Required, with the server's certificate checked against the system's roots.
    #[default]
    Verify,
    /// Not used at all.
    Disable,
    /// Required, with the certificate checked against the roots in this file as well: as a manifest says it, and as
    /// control planes up to 0.1 recorded it. No request may have it.
    Ca(String),
    /// Required, with the certificate checked against these roots as well.
    Pem(Certificates),
    /// Required, with the certificate checked against the roots of this digest as well: a control plane records it so, and seals
    /// their text with the backend's secrets. No request may have it.
    Sealed(Digest),
}

impl Tls {
    /// Whether there are authorities beside the system's.
    pub fn has_own_authorities(&self) -> bool {
        matches!(self, Self::Ca(_) | Self::Pem(_) | Self::Sealed(_))
    }
}

/// Where files are kept.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(tag = "engine", rename_all = "lowercase")]
pub enum Files {
    /// A directory beside the process.
    #[default]
    Local,
    /// Five buckets of an S3 service.
    S3(S3Files),
}

/// Buckets of an S3 service.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct S3Files {
    /// How the five buckets are named.
    pub buckets: BucketNames,
    /// The service's region.
    pub region: String,
    /// The service's URL where it is not AWS.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub endpoint: Option<TextValue>,
    /// Whether the bucket's name stands in the path instead of the host.
    #[serde(skip_serializing_if = "is_false", default)]
    pub path_style: bool,
    /// Static credentials; none means the role of the machine.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub credentials: Option<S3Credentials>,
    /// Whether buckets that are missing are made for a new backend.
    #[serde(skip_serializing_if = "is_false", default)]
    pub create_buckets: bool,
}

/// How the five buckets that Convex wants are named.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum BucketNames {
    /// One bucket plays all five parts; object keys are random, so they do not meet.
    Single(String),
    /// Five buckets with this prefix: `-exports`, `-snapshot-imports`, `-modules`, `-files`, `-search`.
    Prefix(String),
    /// Five buckets, each with a name of its own.
    Named(NamedBuckets),
}

/// The names of the five buckets, where they follow no prefix.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NamedBuckets {
    /// The bucket of exports.
    pub exports: String,
    /// The bucket of imported snapshots.
    pub snapshot_imports: String,
    /// The bucket of modules.
    pub modules: String,
    /// The bucket of uploaded files.
    pub files: String,
    /// The bucket of search indexes.
    pub search: String,
}

impl NamedBuckets {
    /// Returns each part with the name of its bucket, in the order in which Convex names them.
    pub fn parts(&self) -> [(&'static str, &str); 5] {
        let Self { exports, snapshot_imports, modules, files, search } = self;
        [
            ("exports", exports),
            ("snapshot_imports", snapshot_imports),
            ("modules", modules),
            ("files", files),
            ("search", search),
        ]
    }
}

/// Static credentials of an S3 service.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct S3Credentials {
    /// The access key's id.
    pub access_key_id: SecretRef,
    /// The secret access key.
    pub secret_access_key: SecretRef,
}

/// A text that may be written in place or come from outside; no secret, but not for every repository to hold.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum TextValue {
    /// Written in the manifest.
    Literal(String),
    /// Read from where the reference points.
    Reference(SecretRef),
}

/// What a backend may use. Nothing means the provider's own default.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Resources {
    /// Processor.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub cpus: Option<Cpus>,
    /// Memory.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub memory: Option<ByteSize>,
    /// Disk.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub disk: Option<ByteSize>,
}

/// URLs under which clients reach a backend, without a trailing slash.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Origins {
    /// Of the API; a host root, because clients drop any path.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub api: Option<String>,
    /// Of the HTTP actions.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub site: Option<String>,
    /// Of the dashboard, where convexinfra's own proxy leads to it.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub dashboard: Option<String>,
}

/// The backend's own knobs; nothing means the backend's own default, except where convexinfra always sets one.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Tuning {
    /// `APPLICATION_MAX_CONCURRENT_QUERIES`.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub max_concurrent_queries: Option<u32>,
    /// `APPLICATION_MAX_CONCURRENT_MUTATIONS`.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub max_concurrent_mutations: Option<u32>,
    /// `APPLICATION_MAX_CONCURRENT_V8_ACTIONS`.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub max_concurrent_v8_actions: Option<u32>,
    /// `APPLICATION_MAX_CONCURRENT_NODE_ACTIONS`.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub max_concurrent_node_actions: Option<u32>,
    /// `SCHEDULED_JOB_EXECUTION_PARALLELISM`.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub scheduled_job_parallelism: Option<u32>,
    /// `DOCUMENT_RETENTION_DELAY`; two days when left out.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub document_retention: Option<TimeSpan>,
    /// `INDEX_RETENTION_DELAY`.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub index_retention: Option<TimeSpan>,
    /// `HTTP_SERVER_TIMEOUT_SECONDS`.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub http_timeout: Option<TimeSpan>,
    /// `V8_ACTION_USER_TIMEOUT_SECS`.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub v8_action_timeout: Option<TimeSpan>,
    /// `NODE_ACTION_USER_TIMEOUT_SECS`.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub node_action_timeout: Option<TimeSpan>,
    /// `INDEX_CACHE_SIZE`.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub index_cache: Option<ByteSize>,
    /// `--redact-logs-to-client`.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub redact_logs: Option<bool>,
    /// `--disable-beacon`, inverted: whether the hourly message to Convex is sent.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub beacon: Option<bool>,
    /// `RUST_LOG`.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub log_level: Option<String>,
}
