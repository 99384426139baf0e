//! The kinds of objects that are dealt with, and where the API has them. Pure.

use serde_json::Value;

use super::error::KubernetesError;

/// A kind of object.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    Namespace,
    Node,
    Volume,
    StorageClass,
    Secret,
    ConfigMap,
    Claim,
    Service,
    Pod,
    Event,
    Quota,
    StatefulSet,
    Deployment,
    Ingress,
    NetworkPolicy,
    Autoscaler,
    HttpRoute,
    AccessReview,
}

impl Kind {
    const ALL: [Self; 18] = [
        Self::Namespace,
        Self::Node,
        Self::Volume,
        Self::StorageClass,
        Self::Secret,
        Self::ConfigMap,
        Self::Claim,
        Self::Service,
        Self::Pod,
        Self::Event,
        Self::Quota,
        Self::StatefulSet,
        Self::Deployment,
        Self::Ingress,
        Self::NetworkPolicy,
        Self::Autoscaler,
        Self::HttpRoute,
        Self::AccessReview,
    ];

    /// Returns the API version, the kind and its plural.
    const fn names(self) -> (&'static str, &'static str, &'static str) {
        match self {
            Self::Namespace => ("v1", "Namespace", "namespaces"),
            Self::Node => ("v1", "Node", "nodes"),
            Self::Volume => ("v1", "PersistentVolume", "persistentvolumes"),
            Self::StorageClass => ("storage.k8s.io/v1", "StorageClass", "storageclasses"),
            Self::Secret => ("v1", "Secret", "secrets"),
            Self::ConfigMap => ("v1", "ConfigMap", "configmaps"),
            Self::Claim => ("v1", "PersistentVolumeClaim", "persistentvolumeclaims"),
            Self::Service => ("v1", "Service", "services"),
            Self::Pod => ("v1", "Pod", "pods"),
            Self::Event => ("v1", "Event", "events"),
            Self::Quota => ("v1", "ResourceQuota", "resourcequotas"),
            Self::StatefulSet => ("apps/v1", "StatefulSet", "statefulsets"),
            Self::Deployment => ("apps/v1", "Deployment", "deployments"),
            Self::Ingress => ("networking.k8s.io/v1", "Ingress", "ingresses"),
            Self::NetworkPolicy => ("networking.k8s.io/v1", "NetworkPolicy", "networkpolicies"),
            Self::Autoscaler => ("autoscaling/v2", "HorizontalPodAutoscaler", "horizontalpodautoscalers"),
            Self::HttpRoute => ("gateway.networking.k8s.io/v1", "HTTPRoute", "httproutes"),
            Self::AccessReview => ("authorization.k8s.io/v1", "SelfSubjectAccessReview", "selfsubjectaccessreviews"),
        }
    }

    /// Returns the kind of an object.
    ///
    /// # Errors
    /// [`KubernetesError::Refused`] for what is no object of ours.
    pub(super) fn of(object: &Value) -> Result<Self, KubernetesError> {
        let kind = object["kind"].as_str().unwrap_or_default();
        Self::ALL.into_iter().find(|known| known.noun() == kind).ok_or_else(|| KubernetesError::Refused {
            verb: "apply an object".to_owned(),
            reason: format!("`{kind}` is no kind that is known here"),
        })
    }

    /// Returns the word for one of them.
    pub(super) fn noun(self) -> &'static str {
        self.names().1
    }

    /// Returns the word for them in URLs and rights.
    pub(super) fn plural(self) -> &'static str {
        self.names().2
    }

    /// Returns an item of a list with its kind, which a list says once for all of them.
    pub(super) fn named(self, mut item: Value) -> Value {
        item["kind"] = Value::from(self.noun());
        item
    }

    /// Returns whether every API server has it: the definitions of others are installed.
    pub(super) fn is_built_in(self) -> bool {
        self != Self::HttpRoute
    }

    fn is_namespaced(self) -> bool {
        !matches!(self, Self::Namespace | Self::Node | Self::Volume | Self::StorageClass | Self::AccessReview)
    }

    /// Returns the path of one object, or of all of a namespace; of all namespaces where that is empty.
    pub(super) fn path(self, namespace: &str, name: Option<&str>) -> String {
        let (version, _, plural) = self.names();
        let root = if version.contains('/') { "apis" } else { "api" };
        let within = if self.is_namespaced() && !namespace.is_empty() {
            format!("/namespaces/{}", encoded(namespace))
        } else {
            String::new()
        };
        let below = name.map(|name| format!("/{}", encoded(name))).unwrap_or_default();
        format!("/{root}/{version}{within}/{plural}{below}")
    }
}

/// Returns one segment of a path.
fn encoded(segment: &str) -> String {
    percent_encoding::utf8_percent_encode(segment, percent_encoding::NON_ALPHANUMERIC)
        .to_string()
        .replace("%2D", "-")
        .replace("%2E", ".")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_those_of_the_api() {
        assert_eq!(Kind::Secret.path("a", Some("b.c-d")), "/api/v1/namespaces/a/secrets/b.c-d");
        assert_eq!(Kind::StatefulSet.path("a", None), "/apis/apps/v1/namespaces/a/statefulsets");
        assert_eq!(Kind::Volume.path("a", Some("x")), "/api/v1/persistentvolumes/x");
        assert_eq!(Kind::Pod.path("", None), "/api/v1/pods");
        assert_eq!(Kind::Pod.path("a/../b", None), "/api/v1/namespaces/a%2F..%2Fb/pods");
    }
}
