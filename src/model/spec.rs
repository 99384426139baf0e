//! What one backend should be.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::{Deserialize, Serialize};

use super::certificates::Certificates;
use super::cpu_kind::CpuKind;
use super::database::DatabaseRole;
use super::name::BackendName;
use super::provider::ProviderKind;
use super::release::Release;
use super::secret::{SecretRef, SecretSource};
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

fn is_false(value: &bool) -> bool {
    !value
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
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

    /// The server, for the engines that have one.
    pub fn server(&self) -> Option<&ServerStorage> {
        match self {
            Self::Sqlite => None,
            Self::Postgres(server) | Self::Mysql(server) => Some(server),
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
}

impl Tls {
    /// Whether there are authorities beside the system's.
    pub fn has_own_authorities(&self) -> bool {
        matches!(self, Self::Ca(_) | Self::Pem(_))
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

/// What only the provider understands: one table per provider, of which only the chosen one counts.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ProviderSettings {
    /// `[backends.x.simulated]`
    #[serde(skip_serializing_if = "is_default", default)]
    pub simulated: SimulatedSettings,
    /// `[backends.x.local]`
    #[serde(skip_serializing_if = "is_default", default)]
    pub local: LocalSettings,
    /// `[backends.x.docker]`
    #[serde(skip_serializing_if = "is_default", default)]
    pub docker: DockerSettings,
    /// `[backends.x.fly]`
    #[serde(skip_serializing_if = "is_default", default)]
    pub fly: FlySettings,
    /// `[backends.x.kubernetes]`
    #[serde(skip_serializing_if = "is_default", default)]
    pub kubernetes: KubernetesSettings,
}

/// `[backends.x.simulated]`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SimulatedSettings {
    /// Whether a process runs; without one the backend exists only as a record.
    pub listen: bool,
}

impl Default for SimulatedSettings {
    fn default() -> Self {
        Self { listen: true }
    }
}

/// `[backends.x.local]`
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LocalSettings {
    /// The executable to run, absolute once lowered.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub binary: Option<String>,
    /// The digest that the release's archive must have, as `sha256:` and 64 hex digits.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub archive_digest: Option<String>,
}

/// `[backends.x.docker]`
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DockerSettings {
    /// The backend's image instead of the official one.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub image: Option<String>,
    /// The dashboard's image instead of the official one.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub dashboard_image: Option<String>,
    /// The image of a managed database server instead of the official one.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub database_image: Option<String>,
    /// When images are fetched.
    #[serde(skip_serializing_if = "is_default", default)]
    pub pull: PullPolicy,
    /// The address that ports are published on; loopback when left out.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub publish: Option<String>,
    /// A network to join.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub network: Option<String>,
    /// Further networks of the backend's container.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub networks: Vec<String>,
    /// Further names of the backend in its networks.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub aliases: Vec<String>,
    /// Labels for others, such as a proxy.
    #[serde(skip_serializing_if = "BTreeMap::is_empty", default)]
    pub labels: BTreeMap<String, String>,
    /// Names that resolve inside, as `NAME:ADDRESS`.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub extra_hosts: Vec<String>,
    /// Name servers instead of the engine's.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub dns: Vec<String>,
    /// What is mounted beside the data, as `SOURCE:TARGET` or `SOURCE:TARGET:ro`.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub mounts: Vec<String>,
    /// Further arguments of the backend.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub arguments: Vec<String>,
    /// Variables of the process for which there is no other key.
    #[serde(skip_serializing_if = "BTreeMap::is_empty", default)]
    pub extra_env: BTreeMap<String, SecretSource>,
    /// The port of the API inside the container; the one outside when left out.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub api_port: Option<u16>,
    /// The port of the HTTP actions inside the container; the one outside when left out.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub site_port: Option<u16>,
    /// Shared memory.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub shm_size: Option<ByteSize>,
}

/// When images are fetched.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum PullPolicy {
    /// Only when the engine does not have them.
    #[default]
    Missing,
    /// At every apply that creates or replaces a container.
    Always,
    /// Not at all.
    Never,
}

impl fmt::Display for PullPolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Missing => "missing",
            Self::Always => "always",
            Self::Never => "never",
        })
    }
}

/// `[backends.x.fly]`
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FlySettings {
    /// The organisation that owns the app.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub org: Option<String>,
    /// The app's name instead of a derived one.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub app: Option<String>,
    /// The machine's image instead of the official one.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub image: Option<String>,
    /// The kind of its processors.
    #[serde(skip_serializing_if = "is_default", default)]
    pub cpu_kind: CpuKind,
    /// Regions to be made in when the region itself is full, in this order.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub fallback_regions: Vec<String>,
}

/// `[backends.x.kubernetes]`
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct KubernetesSettings {
    /// The context of the kubeconfig.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub context: Option<String>,
    /// The namespace.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub namespace: Option<String>,
    /// The storage class of the volume.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub storage_class: Option<String>,
    /// The image instead of the official one.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub image: Option<String>,
}
