//! A container as it should be, as data: what it is made from, and what it is compared with.

use std::collections::{BTreeMap, HashMap};

use bollard::models::{
    ContainerCreateBody, EndpointSettings, HealthConfig, HostConfig, HostConfigLogConfig, Mount, MountType, NetworkingConfig,
    PortBinding, RestartPolicy, RestartPolicyNameEnum,
};
use serde_json::Value;

use super::image::Image;
use super::labels::{FINGERPRINT, LABELS_DIGEST, ResourceRole, digest_of_labels};
use super::launch_file::SecretFiles;
use super::limits::EngineCapabilities;
use crate::model::{Digest, Resources};

/// The signal on which Convex ends in order; PostgreSQL ends its sessions and stops on it.
pub(super) const STOP_SIGNAL: &str = "SIGINT";
/// How large one file of a container's log grows.
const LOG_SIZE: &str = "10m";
/// How many of them there are.
const LOG_FILES: &str = "3";
/// More processes than a backend with its Node actions has, and less than what stops a machine.
const PROCESSES: i64 = 4096;
pub(super) const SECOND_NS: i64 = 1_000_000_000;

/// One container.
#[derive(Debug, Clone)]
pub(super) struct ContainerSpec {
    pub(super) role: ResourceRole,
    pub(super) name: String,
    pub(super) image: Image,
    /// The image's own where there is none.
    pub(super) entry_point: Option<Vec<String>>,
    pub(super) command: Option<Vec<String>>,
    pub(super) environment: BTreeMap<String, String>,
    /// Where its volume is mounted.
    pub(super) volume: Option<(String, &'static str)>,
    /// Directories in memory, beside a file system that cannot be written to.
    pub(super) scratch: Vec<&'static str>,
    pub(super) is_read_only: bool,
    pub(super) capabilities: Vec<&'static str>,
    pub(super) ports: Vec<PublishedPort>,
    /// Its networks, the one of all containers of the backend first.
    pub(super) networks: Vec<String>,
    /// Its names in them, its own first.
    pub(super) aliases: Vec<String>,
    pub(super) hosts: Vec<String>,
    /// Name servers; the engine's own where there are none.
    pub(super) dns: Vec<String>,
    /// What is mounted beside its volume.
    pub(super) mounts: Vec<ExtraMount>,
    /// Bytes of shared memory; the engine's default where there is none.
    pub(super) shm_size: Option<i64>,
    pub(super) health: Vec<String>,
    pub(super) limits: ContainerLimits,
    pub(super) grace_s: i64,
    pub(super) labels: BTreeMap<String, String>,
    /// Labels of the user's own.
    pub(super) extra_labels: BTreeMap<String, String>,
    pub(super) files: Option<SecretFiles>,
}

/// A mount that the manifest asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ExtraMount {
    /// A volume, or a directory of the engine's machine.
    pub(super) source: String,
    pub(super) target: String,
    pub(super) is_read_only: bool,
}

impl ExtraMount {
    /// Parses `SOURCE:TARGET` or `SOURCE:TARGET:ro`; none for anything else.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let (pair, is_read_only) = text.strip_suffix(":ro").map_or((text, false), |pair| (pair, true));
        let (source, target) = pair.split_once(':')?;
        Some(Self { source: source.to_owned(), target: target.to_owned(), is_read_only })
    }

    fn kind(&self) -> MountType {
        if self.source.starts_with('/') { MountType::BIND } else { MountType::VOLUME }
    }
}

/// A port that is published.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct PublishedPort {
    pub(super) inside: u16,
    pub(super) transport: PortProtocol,
    pub(super) address: String,
    pub(super) outside: u16,
}

/// What carries the data of a port.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum PortProtocol {
    #[default]
    Tcp,
    Udp,
    Sctp,
}

impl PortProtocol {
    /// From the way an engine writes a port, such as `3210/udp`.
    pub(super) fn of(port: &str) -> Self {
        match port.rsplit_once('/') {
            Some((_, "udp")) => Self::Udp,
            Some((_, "sctp")) => Self::Sctp,
            _ => Self::Tcp,
        }
    }

    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
            Self::Sctp => "sctp",
        }
    }
}

impl PublishedPort {
    /// The port inside, as an engine writes it.
    fn inside_name(&self) -> String {
        format!("{}/{}", self.inside, self.transport.as_str())
    }
}

/// What a container may use; none is without a limit. These can be changed while it runs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct ContainerLimits {
    /// Bytes.
    pub(super) memory: Option<i64>,
    /// Whether swap is limited along with it, as far as the engine can: nothing is swapped then.
    pub(super) no_swap: bool,
    /// Billionths of a processor.
    pub(super) nano_cpus: Option<i64>,
    pub(super) processes: Option<i64>,
}

impl ContainerLimits {
    pub(super) fn of(resources: &Resources, enforces: EngineCapabilities) -> Self {
        Self {
            memory: resources.memory.map(|memory| i64::try_from(memory.bytes()).unwrap_or(i64::MAX)),
            no_swap: enforces.swap && resources.memory.is_some(),
            nano_cpus: resources.cpus.map(|cpus| i64::from(cpus.milli()) * 1_000_000),
            ..Self::processes(enforces)
        }
    }

    /// Nothing but the number of processes.
    pub(super) fn processes(enforces: EngineCapabilities) -> Self {
        Self { processes: enforces.pids.then_some(PROCESSES), ..Self::default() }
    }
}

impl ContainerSpec {
    /// The digest of everything that cannot be changed while it runs, secrets included: the instance secret is among
    /// them, so it gives no way to guess the others.
    pub(super) fn fingerprint(&self) -> Digest {
        let fixed = Self { limits: ContainerLimits::default(), labels: BTreeMap::new(), networks: Vec::new(), ..self.clone() };
        let mut body = fixed.body_with_labels(HashMap::new());
        body.networking_config = None;
        // The maps in it come in any order.
        let body = sorted(serde_json::to_value(&body).unwrap_or_default());
        let files: Vec<(String, String)> = self
            .files
            .iter()
            .flat_map(SecretFiles::parts)
            .map(|(path, content)| (path.to_owned(), Digest::of(content).as_str().to_owned()))
            .collect();
        Digest::of_json(&(body, &self.image.id, files))
    }

    /// What the engine is told.
    pub(super) fn body(&self) -> ContainerCreateBody {
        let mut labels: HashMap<String, String> = self.labels.clone().into_iter().collect();
        let made = digest_of_labels(|name| self.labels.get(name).map(String::as_str));
        labels.insert(LABELS_DIGEST.to_owned(), made.as_str().to_owned());
        labels.insert(FINGERPRINT.to_owned(), self.fingerprint().as_str().to_owned());
        self.body_with_labels(labels)
    }

    /// Returns the body with labels of ours, which prove whose the container is: those of the manifest replace none of them.
    fn body_with_labels(&self, own: HashMap<String, String>) -> ContainerCreateBody {
        let mut labels: HashMap<String, String> = self.extra_labels.clone().into_iter().collect();
        labels.extend(own);
        ContainerCreateBody {
            hostname: Some(self.host_name()),
            image: Some(self.image.id.clone()),
            entrypoint: self.entry_point.clone(),
            cmd: self.command.clone(),
            env: Some(self.environment.iter().map(|(name, value)| format!("{name}={value}")).collect()),
            exposed_ports: Some(self.ports.iter().map(|port| port.inside_name()).collect()),
            healthcheck: Some(self.health_config()),
            labels: Some(labels),
            stop_signal: Some(STOP_SIGNAL.to_owned()),
            stop_timeout: Some(self.grace_s),
            host_config: Some(self.host_config()),
            networking_config: Some(NetworkingConfig {
                // An old engine takes one network only; the others follow.
                endpoints_config: Some(self.networks.first().map(|name| (name.clone(), self.endpoint())).into_iter().collect()),
            }),
            ..ContainerCreateBody::default()
        }
    }

    /// How it is known in its networks.
    pub(super) fn endpoint(&self) -> EndpointSettings {
        EndpointSettings { aliases: Some(self.aliases.clone()), ..EndpointSettings::default() }
    }

    /// What it calls itself: no longer than a label of a host name may be.
    pub(super) fn host_name(&self) -> String {
        self.aliases.first().map(|alias| alias.chars().take(63).collect()).unwrap_or_default()
    }

    /// How the engine finds out whether it is healthy.
    pub(super) fn health_config(&self) -> HealthConfig {
        HealthConfig {
            test: Some(self.health.clone()),
            interval: Some(5 * SECOND_NS),
            timeout: Some(5 * SECOND_NS),
            retries: Some(5),
            start_period: Some(10 * SECOND_NS),
            start_interval: None,
        }
    }

    /// Where its log goes.
    pub(super) fn log_options() -> BTreeMap<String, String> {
        BTreeMap::from([("max-size".to_owned(), LOG_SIZE.to_owned()), ("max-file".to_owned(), LOG_FILES.to_owned())])
    }

    /// Directories in memory, as the engine writes them.
    pub(super) fn scratch_options(&self) -> BTreeMap<String, String> {
        self.scratch.iter().map(|path| ((*path).to_owned(), "mode=1777".to_owned())).collect()
    }

    fn host_config(&self) -> HostConfig {
        let bindings = self.ports.iter().map(|port| {
            let binding = PortBinding { host_ip: Some(port.address.clone()), host_port: Some(port.outside.to_string()) };
            (port.inside_name(), Some(vec![binding]))
        });
        let mounts = self.volume.iter().map(|(volume, target)| Mount {
            target: Some((*target).to_owned()),
            source: Some(volume.clone()),
            typ: Some(MountType::VOLUME),
            ..Mount::default()
        });
        let extra = self.mounts.iter().map(|mount| Mount {
            target: Some(mount.target.clone()),
            source: Some(mount.source.clone()),
            typ: Some(mount.kind()),
            read_only: Some(mount.is_read_only),
            ..Mount::default()
        });
        HostConfig {
            memory: self.limits.memory,
            memory_swap: self.limits.memory.filter(|_| self.limits.no_swap),
            nano_cpus: self.limits.nano_cpus,
            pids_limit: self.limits.processes,
            log_config: Some(HostConfigLogConfig {
                typ: Some("json-file".to_owned()),
                config: Some(Self::log_options().into_iter().collect()),
            }),
            network_mode: Some(self.networks.first().cloned().unwrap_or_default()),
            port_bindings: Some(bindings.collect()),
            restart_policy: Some(RestartPolicy {
                name: Some(RestartPolicyNameEnum::UNLESS_STOPPED),
                maximum_retry_count: None,
            }),
            mounts: Some(mounts.chain(extra).collect()),
            tmpfs: Some(self.scratch_options().into_iter().collect()),
            readonly_rootfs: Some(self.is_read_only),
            privileged: Some(false),
            cap_drop: Some(vec!["ALL".to_owned()]),
            cap_add: Some(self.capabilities.iter().map(|name| (*name).to_owned()).collect()),
            security_opt: Some(vec!["no-new-privileges".to_owned()]),
            extra_hosts: Some(self.hosts.clone()),
            dns: (!self.dns.is_empty()).then(|| self.dns.clone()),
            shm_size: self.shm_size,
            init: Some(false),
            ..HostConfig::default()
        }
    }
}

/// The same value with the keys of all objects in order.
fn sorted(value: Value) -> Value {
    match value {
        Value::Object(entries) => {
            let entries: BTreeMap<String, Value> = entries.into_iter().map(|(key, value)| (key, sorted(value))).collect();
            Value::Object(entries.into_iter().collect())
        }
        Value::Array(items) => Value::Array(items.into_iter().map(sorted).collect()),
        other => other,
    }
}
