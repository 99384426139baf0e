//! `[backends.x.kubernetes]`: what only a backend in a cluster has.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::serde_skip::is_default;

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
    /// Whether a namespace that is missing is made.
    #[serde(skip_serializing_if = "is_default", default)]
    pub create_namespace: bool,
    /// The storage class of the volume.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub storage_class: Option<String>,
    /// How the volume is accessed.
    #[serde(skip_serializing_if = "is_default", default)]
    pub access_mode: AccessMode,
    /// The image instead of the official one.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub image: Option<String>,
    /// The dashboard's image instead of the official one.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub dashboard_image: Option<String>,
    /// The Secret with which nodes fetch images.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub image_pull_secret: Option<String>,
    /// How clients reach it.
    #[serde(skip_serializing_if = "is_default", default)]
    pub expose: Exposure,
    /// The class of its Ingress.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub ingress_class: Option<String>,
    /// The Gateway that its HTTPRoute belongs to, as `name` or `namespace/name`.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub gateway: Option<String>,
    /// The Secret with the certificate of its Ingress.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub tls_secret: Option<String>,
    /// The cluster issuer of cert-manager that makes this certificate.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub cluster_issuer: Option<String>,
    /// Whether a NetworkPolicy admits only those who are meant.
    #[serde(skip_serializing_if = "is_default", default)]
    pub network_policy: bool,
}

/// How clients reach a backend in a cluster.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Exposure {
    /// Through the API server, by `convexinfra forward`.
    #[default]
    PortForward,
    /// By the name of its Service, inside the cluster only.
    ClusterIp,
    /// On a port of every node.
    NodePort,
    /// On an address that the cluster's load balancer gives.
    LoadBalancer,
    /// Through an Ingress.
    Ingress,
    /// Through an HTTPRoute of a Gateway.
    Gateway,
}

impl Exposure {
    /// The words in the manifest.
    pub const WORDS: [&'static str; 6] = ["port-forward", "cluster-ip", "node-port", "load-balancer", "ingress", "gateway"];
    const ALL: [Self; 6] =
        [Self::PortForward, Self::ClusterIp, Self::NodePort, Self::LoadBalancer, Self::Ingress, Self::Gateway];

    /// Parses a word of the manifest.
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|exposure| exposure.as_str() == word)
    }

    /// Returns the word in the manifest.
    pub fn as_str(self) -> &'static str {
        Self::WORDS[self as usize]
    }

    /// Whether clients use a name that only the manifest can know.
    pub fn needs_origins(self) -> bool {
        matches!(self, Self::Ingress | Self::Gateway)
    }
}

impl fmt::Display for Exposure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// How a volume is accessed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub enum AccessMode {
    /// By one Pod at a time: the only mode that makes one writer certain.
    #[default]
    ReadWriteOncePod,
    /// By the Pods of one node, for volumes that cannot do better.
    ReadWriteOnce,
}

impl AccessMode {
    /// The words in the manifest, which are those of Kubernetes.
    pub const WORDS: [&'static str; 2] = ["ReadWriteOncePod", "ReadWriteOnce"];

    /// Parses a word of the manifest.
    pub fn parse(word: &str) -> Option<Self> {
        [Self::ReadWriteOncePod, Self::ReadWriteOnce].into_iter().find(|mode| mode.as_str() == word)
    }

    /// Returns the word in the manifest and in the API.
    pub fn as_str(self) -> &'static str {
        Self::WORDS[self as usize]
    }
}

impl fmt::Display for AccessMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_those_of_the_wire() {
        for word in Exposure::WORDS {
            let exposure = Exposure::parse(word).unwrap();
            assert_eq!((exposure.as_str(), serde_json::to_value(exposure).unwrap()), (word, word.into()));
        }
        for word in AccessMode::WORDS {
            let mode = AccessMode::parse(word).unwrap();
            assert_eq!((mode.as_str(), serde_json::to_value(mode).unwrap()), (word, word.into()));
        }
    }
}
