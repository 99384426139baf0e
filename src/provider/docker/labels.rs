//! What our containers, volumes and networks are called, and the labels that prove that they are ours.

use std::collections::BTreeMap;

use crate::model::{BackendId, Digest, InstanceName, ResolvedBackend};

/// The identity of the backend, which only the control plane that made it knows: the proof of ownership.
pub(super) const ID: &str = "convexinfra.id";
/// What a container, volume or network is for.
pub(super) const ROLE: &str = "convexinfra.role";
/// The digest of everything that a container was made from, secrets included.
pub(super) const FINGERPRINT: &str = "convexinfra.fingerprint";
/// The project.
pub(super) const PROJECT: &str = "convexinfra.project";
/// The control plane.
pub(super) const CONTROL_PLANE: &str = "convexinfra.control-plane";
/// The digest of the labels below as they were made.
pub(super) const LABELS_DIGEST: &str = "convexinfra.labels";
/// The name of the backend when it was made.
pub(super) const BACKEND: &str = "convexinfra.backend";
/// What the backend calls itself.
pub(super) const INSTANCE: &str = "convexinfra.instance";
const GENERATION: &str = "convexinfra.generation";

/// What a container or a volume is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum ResourceRole {
    /// The container of the backend.
    Backend,
    /// The container of its dashboard.
    Dashboard,
    /// The container of its own database server.
    Database,
    /// The volume of the backend.
    Data,
    /// A volume with the data of a snapshot, which is that of the backend once it was switched to.
    RestoredData,
    /// The volume of its own database server.
    DatabaseData,
    /// The proxy of an engine, which belongs to no backend.
    Proxy,
    /// A container that never runs, by which the engine shows what is in a volume.
    Probe,
}

impl ResourceRole {
    /// The value of the label.
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Backend => "backend",
            Self::Dashboard => "dashboard",
            Self::Database => "database",
            Self::Data => "data",
            Self::RestoredData => "data-restored",
            Self::DatabaseData => "database-data",
            Self::Proxy => "proxy",
            Self::Probe => "probe",
        }
    }
}

/// Which control plane made something, in short: two of them may share an engine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ControlPlaneId(String);

impl ControlPlaneId {
    /// The control plane that lives in a directory.
    pub fn of_home(home: &std::path::Path) -> Self {
        let digest = Digest::of(home.as_os_str().as_encoded_bytes());
        Self(digest.as_str().trim_start_matches("sha256:").chars().take(8).collect())
    }

    pub(super) fn as_str(&self) -> &str {
        &self.0
    }
}

/// The names of everything that belongs to one backend. They hold for its whole life, through renames.
#[derive(Debug, Clone)]
pub(super) struct ResourceNames(String);

impl ResourceNames {
    pub(super) fn of(resolved: &ResolvedBackend) -> Self {
        Self::new(&resolved.id, &resolved.instance_name)
    }

    pub(super) fn new(id: &BackendId, instance_name: &InstanceName) -> Self {
        // Two control planes may use one engine and know nothing of each other's instance names.
        let id: String = id.as_str().chars().take(6).collect();
        Self(format!("convexinfra-{instance_name}-{id}"))
    }

    /// The backend's container.
    pub(super) fn backend(&self) -> String {
        self.0.clone()
    }

    /// The container from before, while another one takes its place.
    pub(super) fn previous(&self) -> String {
        format!("{}-previous", self.0)
    }

    pub(super) fn container(&self, role: ResourceRole) -> String {
        match role {
            ResourceRole::Backend => self.backend(),
            other => format!("{}-{}", self.0, other.as_str()),
        }
    }

    pub(super) fn volume(&self, role: ResourceRole) -> String {
        format!("{}-{}", self.0, role.as_str())
    }
}

/// The network of all backends of one project.
pub(super) fn network_name(resolved: &ResolvedBackend, control_plane: &ControlPlaneId) -> String {
    format!("convexinfra-{}-{}", resolved.project, control_plane.as_str())
}

/// The labels of something that belongs to one backend.
pub(super) fn owner_labels(
    resolved: &ResolvedBackend,
    role: ResourceRole,
    control_plane: &ControlPlaneId,
) -> BTreeMap<String, String> {
    let label = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    BTreeMap::from([
        label(ID, resolved.id.as_str()),
        label(ROLE, role.as_str()),
        label(PROJECT, resolved.project.as_str()),
        label(BACKEND, resolved.name.as_str()),
        label(INSTANCE, resolved.instance_name.as_str()),
        label(GENERATION, &resolved.generation.to_string()),
        label(CONTROL_PLANE, control_plane.as_str()),
    ])
}

/// The labels that say what something is and whose.
pub(super) const OWNER_LABELS: [&str; 7] = [ID, ROLE, PROJECT, BACKEND, INSTANCE, GENERATION, CONTROL_PLANE];

/// Those of them that never change. The others say how things were when the container was made: a rename or a change of
/// nothing but the record leaves them behind, and that is no reason to recreate it.
pub(super) const IMMUTABLE_LABELS: [&str; 4] = [ID, ROLE, PROJECT, INSTANCE];

/// The digest of the labels, by which a label that was left behind is told from one that was changed by hand.
pub(super) fn digest_of_labels<'a>(label: impl Fn(&str) -> Option<&'a str>) -> Digest {
    Digest::of_json(&OWNER_LABELS.map(&label))
}
