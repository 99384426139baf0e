//! What a control plane has to offer, and how much of it is left.
//!
//! Nothing is guessed: what is not known is `null`, which is not the same as an empty list.

use serde::{Deserialize, Serialize};

use crate::model::{ByteSize, Cpus, ProviderKind, Release};

/// Describes what a control plane has to offer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct ProviderCatalog {
    /// Every provider that manifests can name.
    pub providers: Vec<ProviderOffer>,
}

/// One provider.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct ProviderOffer {
    /// Which one.
    pub provider: ProviderKind,
    /// Whether this control plane can carry it out.
    pub available: bool,
    /// Its regions; empty where it has none, null where they are not known.
    pub regions: Option<Vec<String>>,
    /// The sizes that it comes in; empty where any size will do, null where they are not known.
    pub sizes: Option<Vec<SizePrice>>,
    /// The releases that it can run; null where they are not known, as where any published one will do.
    pub releases: Option<Vec<Release>>,
}

/// One size and what it costs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct SizePrice {
    /// The provider's own name of the size.
    pub name: String,
    /// Processor.
    pub cpus: Cpus,
    /// Memory.
    pub memory: ByteSize,
    /// US dollars a month; null where it is not known.
    pub monthly_usd: Option<f64>,
}

/// Says how much of a control plane is used.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Capacity {
    /// How many projects it knows.
    pub projects: u64,
    /// How many backends they have together.
    pub backends: u64,
    /// Pairs of ports on its machine.
    pub port_pairs: PoolUsage,
    /// How many operations run now.
    pub running_operations: u64,
}

/// Says how much of something is used, and how much is left.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct PoolUsage {
    /// Used.
    pub used: u64,
    /// Left.
    pub free: u64,
}
