//! The places where a backend can run.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Where a backend runs. Every kind parses and plans; a control plane says which ones it can carry out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum ProviderKind {
    /// The stand-in backend out of this very binary.
    Simulated,
    /// A real `convex-local-backend` process on this machine.
    Local,
    /// A container on a Docker engine.
    Docker,
    /// A Fly.io app.
    Fly,
    /// A Kubernetes StatefulSet.
    Kubernetes,
}

impl ProviderKind {
    /// Every kind, in the order in which documentation lists them.
    pub const ALL: [Self; 5] = [Self::Simulated, Self::Local, Self::Docker, Self::Fly, Self::Kubernetes];

    /// The word in the manifest.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Simulated => "simulated",
            Self::Local => "local",
            Self::Docker => "docker",
            Self::Fly => "fly",
            Self::Kubernetes => "kubernetes",
        }
    }

    /// The kind that a word names, if any.
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == word)
    }
}

impl fmt::Display for ProviderKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}
