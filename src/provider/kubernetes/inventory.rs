//! Everything that a namespace has with our labels, by one list for each kind.

use std::collections::BTreeSet;

use serde_json::Value;

use super::cluster::Cluster;
use super::error::KubernetesError;
use super::kind::Kind;
use super::labels::{ID, ROLE, Role};
use crate::model::ResolvedBackend;

/// The kinds without which nothing is known of a backend.
const REQUIRED: [Kind; 5] = [Kind::Secret, Kind::Claim, Kind::Service, Kind::StatefulSet, Kind::Pod];
/// The kinds that only some backends have, and that an account without them need not be allowed to see.
const OPTIONAL: [Kind; 4] = [Kind::Deployment, Kind::Ingress, Kind::NetworkPolicy, Kind::HttpRoute];

/// What is there, as the API has it.
#[derive(Debug, Clone, Default)]
pub(super) struct Inventory {
    objects: Vec<(Kind, Value)>,
    /// The optional kinds that could not be looked at.
    pub(super) unknown: BTreeSet<Kind>,
}

impl Inventory {
    /// Lists what a selector finds in a namespace.
    pub(super) async fn take(cluster: &Cluster, namespace: &str, selector: &str) -> Result<Self, KubernetesError> {
        let look = |kind: Kind| async move { (kind, cluster.list(kind, namespace, selector).await) };
        let answers = futures_util::future::join_all(REQUIRED.into_iter().chain(OPTIONAL).map(look)).await;
        let mut inventory = Self::default();
        for (kind, answer) in answers {
            match answer {
                Ok(items) => inventory.objects.extend(items.into_iter().map(|item| (kind, item))),
                Err(KubernetesError::Forbidden { .. }) if OPTIONAL.contains(&kind) => {
                    inventory.unknown.insert(kind);
                }
                // The definitions of Gateway API are not installed everywhere, and then there are none.
                Err(KubernetesError::Refused { .. }) if kind == Kind::HttpRoute => {}
                Err(error) => return Err(error),
            }
        }
        Ok(inventory)
    }

    /// Returns the part of it that belongs to one backend.
    pub(super) fn of(&self, resolved: &ResolvedBackend) -> Self {
        let is_its = |object: &Value| object["metadata"]["labels"][ID] == resolved.id.as_str();
        let objects = self.objects.iter().filter(|(_, object)| is_its(object)).cloned().collect();
        Self { objects, unknown: self.unknown.clone() }
    }

    /// Returns the objects of a kind.
    pub(super) fn all(&self, kind: Kind) -> impl Iterator<Item = &Value> {
        self.objects.iter().filter(move |(known, _)| *known == kind).map(|(_, object)| object)
    }

    /// Returns one object by its name.
    pub(super) fn get(&self, kind: Kind, name: &str) -> Option<&Value> {
        self.all(kind).find(|object| object["metadata"]["name"] == name)
    }

    /// Returns everything, each with its kind.
    pub(super) fn objects(&self) -> impl Iterator<Item = (Kind, &Value)> {
        self.objects.iter().map(|(kind, object)| (*kind, object))
    }

    /// Adds an object that has no labels of ours.
    pub(super) fn add(&mut self, kind: Kind, object: Value) {
        self.objects.push((kind, object));
    }

    /// Whether there is nothing at all.
    pub(super) fn is_empty(&self) -> bool {
        self.objects.is_empty()
    }

    /// Returns the Pod of the backend itself.
    pub(super) fn pod(&self) -> Option<&Value> {
        self.all(Kind::Pod).find(|pod| pod["metadata"]["labels"][ROLE] == Role::Backend.as_str())
    }
}

/// Whether an object is on its way out.
pub(super) fn is_terminating(object: &Value) -> bool {
    !object["metadata"]["deletionTimestamp"].is_null()
}

/// Checks that a namespace is there, before nothing in it is read as "absent".
///
/// # Errors
/// [`KubernetesError::NamespaceMissing`], and every other error that leaves it unknown.
pub(super) async fn require_namespace(cluster: &Cluster, namespace: &str) -> Result<(), KubernetesError> {
    match cluster.get(Kind::Namespace, "", namespace).await {
        Ok(Some(_)) => Ok(()),
        Ok(None) => Err(KubernetesError::NamespaceMissing { namespace: namespace.to_owned() }),
        // Few accounts may read even their own namespace; what goes into a missing one is refused, and nothing is stored.
        Err(KubernetesError::Forbidden { .. }) => {
            let probe = serde_json::json!({
                "apiVersion": "v1",
                "kind": "Secret",
                "metadata": { "name": "convexinfra-probe", "namespace": namespace },
            });
            cluster.post(Kind::Secret, namespace, &probe, super::cluster::Run::Dry).await.map(drop)
        }
        Err(error) => Err(error),
    }
}
