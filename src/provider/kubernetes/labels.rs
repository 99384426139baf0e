//! What the objects of a backend are called, and the labels and annotations that say whose they are.
//!
//! Labels are copied by people, so they prove nothing alone: an object is ours when it carries the identity of the backend
//! *and* this program is among the managers of its fields. Pure.

use serde_json::{Map, Value, json};

use super::owners::Tool;
use crate::model::{BackendId, InstanceName, ResolvedBackend};

/// The field manager under which everything is applied.
pub(super) const MANAGER: &str = "convexinfra";
/// The label with the identity of the backend, which only the control plane that made it knows.
pub(super) const ID: &str = "convexinfra/id";
/// The label with the part that an object plays.
pub(super) const ROLE: &str = "convexinfra/role";
/// The label with the project.
pub(super) const PROJECT: &str = "convexinfra/project";
/// The label with the name of the backend in its project.
pub(super) const BACKEND: &str = "convexinfra/backend";
/// The annotation with the digest of a Pod's template without its resources: what makes a running Pod the wanted one.
pub(super) const FINGERPRINT: &str = "convexinfra/fingerprint";
/// The annotation of a PersistentVolume with the reclaim policy that it had before it was made to outlive its claim.
pub(super) const RECLAIM_BEFORE: &str = "convexinfra/reclaim-policy-before";
/// The annotation of a PersistentVolume whose data was to go with its backend, where its storage class keeps volumes.
pub(super) const DISCARDED: &str = "convexinfra/discarded";
/// The annotation of a StatefulSet with the template that was well, while another one is not known to be.
pub(super) const TEMPLATE_BEFORE: &str = "convexinfra/template-before";
/// The key of the provider state with the claim that a backend goes on with, where something else made that.
pub(super) const ADOPTED_CLAIM: &str = "claim";
/// The longest name of a StatefulSet: its Pods carry a label with the name, a dash and a hash of ten.
const NAME_MAX: usize = 52;

/// The part that an object plays.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    /// The backend itself.
    Backend,
    /// Its dashboard.
    Dashboard,
}

impl Role {
    /// Returns the value of the label.
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Backend => "backend",
            Self::Dashboard => "dashboard",
        }
    }
}

/// The names of a backend's objects. They hold for its whole life, through renames.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ObjectNames {
    backend: String,
    /// The claim, where something else made it.
    claim: Option<String>,
}

impl ObjectNames {
    /// Returns the names of a backend's objects: two control planes may share a namespace and know nothing of each other.
    pub(super) fn of(resolved: &ResolvedBackend) -> Self {
        let names = Self::new(&resolved.id, &resolved.instance_name);
        Self { claim: resolved.provider_state.get(ADOPTED_CLAIM).cloned(), ..names }
    }

    /// Returns the names that follow from an identity and an instance.
    pub(super) fn new(id: &BackendId, instance: &InstanceName) -> Self {
        let id: String = id.as_str().chars().take(6).collect();
        let longest = NAME_MAX - "-".len() - id.len();
        let instance: String = instance.as_str().chars().take(longest).collect();
        Self { backend: format!("{}-{id}", instance.trim_end_matches('-')), claim: None }
    }

    /// Returns the name of the StatefulSet, the Service and the Ingress.
    pub(super) fn backend(&self) -> &str {
        &self.backend
    }

    /// Returns the name of the one Pod.
    pub(super) fn pod(&self) -> String {
        format!("{}-0", self.backend)
    }

    /// Returns the name of the claim.
    pub(super) fn claim(&self) -> String {
        self.claim.clone().unwrap_or_else(|| format!("{}-data", self.backend))
    }

    /// Returns the name of the Secret of one launch.
    pub(super) fn secret(&self, digest: &str) -> String {
        format!("{}-launch-{digest}", self.backend)
    }

    /// Returns the name of the dashboard's Deployment and Service.
    pub(super) fn dashboard(&self) -> String {
        format!("{}-dashboard", self.backend)
    }
}

/// Returns the labels by which Services and StatefulSets select Pods.
pub(super) fn selector(resolved: &ResolvedBackend, role: Role) -> Map<String, Value> {
    [(ID, resolved.id.as_str()), (ROLE, role.as_str())]
        .into_iter()
        .map(|(name, value)| (name.to_owned(), json!(value)))
        .collect()
}

/// Returns the labels of a Pod: those that never change.
pub(super) fn pod_labels(resolved: &ResolvedBackend, role: Role) -> Map<String, Value> {
    let mut labels = selector(resolved, role);
    for (name, value) in [
        ("app.kubernetes.io/name", "convex"),
        ("app.kubernetes.io/instance", resolved.instance_name.as_str()),
        ("app.kubernetes.io/component", role.as_str()),
        ("app.kubernetes.io/part-of", resolved.project.as_str()),
        ("app.kubernetes.io/managed-by", MANAGER),
        (PROJECT, resolved.project.as_str()),
    ] {
        labels.insert(name.to_owned(), json!(value));
    }
    labels
}

/// Returns the labels of an object.
pub(super) fn object_labels(resolved: &ResolvedBackend, role: Role) -> Map<String, Value> {
    let mut labels = pod_labels(resolved, role);
    labels.insert(BACKEND.to_owned(), json!(resolved.name.as_str()));
    labels
}

/// Returns the owner of an object that is not this backend's; none for one that is.
pub(super) fn foreign_owner(object: &Value, resolved: &ResolvedBackend) -> Option<String> {
    let metadata = &object["metadata"];
    let label = |name: &str| metadata["labels"][name].as_str();
    // A label that was taken off by hand is put back; the name carries a part of the identity as well.
    let has_identity = label(ID).is_none_or(|id| id == resolved.id.as_str());
    let is_ours = has_identity && managers(object).any(|manager| manager == MANAGER);
    if is_ours {
        return None;
    }
    // The claim of what it was before stays its own; the StatefulSet that made it may own it until it is scaled down.
    let is_adopted = object["kind"] == "PersistentVolumeClaim"
        && metadata["name"]
            .as_str()
            .is_some_and(|name| resolved.provider_state.get(ADOPTED_CLAIM).is_some_and(|claim| claim == name));
    if let Some(tool) = Tool::of(object).filter(|tool| !is_adopted || !matches!(tool, Tool::Controller(..))) {
        return Some(tool.words());
    }
    if let Some(id) = label(ID).filter(|id| *id != resolved.id.as_str()) {
        return Some(format!("the backend with the identity `{id}`"));
    }
    if is_adopted {
        return None;
    }
    Some(managers(object).next().map_or("something else".to_owned(), |manager| format!("`{manager}`")))
}

/// Returns the managers of an object's fields.
pub(super) fn managers(object: &Value) -> impl Iterator<Item = &str> {
    object["metadata"]["managedFields"].as_array().into_iter().flatten().filter_map(|entry| entry["manager"].as_str())
}
