//! The settings that only one provider understands.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use super::cpu_kind::CpuKind;
use super::kubernetes::KubernetesSettings;
use super::route_tls::RouteTls;
use super::secret::SecretSource;
use super::serde_skip::is_default;
use super::server::Server;
use super::size::ByteSize;
use super::sparse::{Sparse, shared_default};

/// What only the provider understands: one table per provider, of which only the chosen one counts.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ProviderSettings {
    /// `[backends.x.simulated]`
    #[serde(skip_serializing_if = "is_default", default)]
    pub simulated: Sparse<SimulatedSettings>,
    /// `[backends.x.local]`
    #[serde(skip_serializing_if = "is_default", default)]
    pub local: Sparse<LocalSettings>,
    /// `[backends.x.docker]`
    #[serde(skip_serializing_if = "is_default", default)]
    pub docker: Sparse<DockerSettings>,
    /// `[backends.x.fly]`
    #[serde(skip_serializing_if = "is_default", default)]
    pub fly: Sparse<FlySettings>,
    /// `[backends.x.kubernetes]`
    #[serde(skip_serializing_if = "is_default", default)]
    pub kubernetes: Sparse<KubernetesSettings>,
}

shared_default!(SimulatedSettings, LocalSettings, DockerSettings, FlySettings, KubernetesSettings);

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
    /// The server whose engine runs it; the engine that Docker's own tools would use when left out.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub server: Option<Server>,
    /// That its origins are routes of convexinfra's own proxy on the engine, and where their certificates come from.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub tls: Option<RouteTls>,
    /// The proxy's image instead of the official one.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub proxy_image: Option<String>,
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
