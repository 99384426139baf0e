//! How much one project may have in a control plane, and how much it has.

use serde::{Deserialize, Serialize};

use super::size::{ByteSize, Cpus};
use super::spec::BackendSpec;

/// Ceilings over all backends of a project, kept by the control plane. Nothing means no ceiling.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Quota {
    /// How many backends.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub backends: Option<u32>,
    /// Processor.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub cpus: Option<Cpus>,
    /// Memory.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub memory: Option<ByteSize>,
    /// Disk.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub disk: Option<ByteSize>,
    /// US dollars a month, counted over the backends whose price is known.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub monthly_usd: Option<f64>,
}

impl Quota {
    /// Returns the default ceilings that a served control plane begins with: far more than a team needs, and an end to what
    /// one token can make.
    pub const fn initial() -> Self {
        Self { backends: Some(100), cpus: None, memory: None, disk: None, monthly_usd: None }
    }
}

/// What all backends of a project ask for together.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Usage {
    /// How many backends.
    pub backends: u32,
    /// Processor.
    pub cpus: Cpus,
    /// Memory.
    pub memory: ByteSize,
    /// Disk.
    pub disk: ByteSize,
}

/// One ceiling that would be broken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QuotaExcess {
    /// `backends`, `cpus`, `memory` or `disk`.
    pub what: &'static str,
    /// What the backends ask for together.
    pub asked: String,
    /// What the quota allows.
    pub allowed: String,
}

impl Usage {
    /// What these backends ask for together.
    pub fn of<'a>(specs: impl Iterator<Item = &'a BackendSpec>) -> Self {
        specs.fold(Self::default(), |sum, spec| Self {
            backends: sum.backends.saturating_add(1),
            cpus: sum.cpus.saturating_add(spec.resources.cpus.unwrap_or_default()),
            memory: sum.memory.saturating_add(spec.resources.memory.unwrap_or_default()),
            disk: sum.disk.saturating_add(spec.resources.disk.unwrap_or_default()),
        })
    }

    /// Returns the usage with one backend in place of another one, or beside the others where there was none.
    #[must_use]
    pub fn replacing(&self, before: Option<&BackendSpec>, after: &BackendSpec) -> Self {
        let old = Self::of(before.into_iter());
        let new = Self::of(std::iter::once(after));
        let milli = self.cpus.milli().saturating_sub(old.cpus.milli());
        let bytes = |of: fn(&Self) -> ByteSize| ByteSize::from_bytes(of(self).bytes().saturating_sub(of(&old).bytes()));
        Self {
            backends: (self.backends.saturating_sub(old.backends)).saturating_add(new.backends),
            cpus: Cpus::from_milli(milli).saturating_add(new.cpus),
            memory: bytes(|usage| usage.memory).saturating_add(new.memory),
            disk: bytes(|usage| usage.disk).saturating_add(new.disk),
        }
    }

    /// Every ceiling that this breaks. What has not grown since `before` is let be: a quota that was lowered must not
    /// keep a project from using less.
    pub fn exceeding(&self, quota: &Quota, before: &Self) -> Vec<QuotaExcess> {
        let mut excesses = Vec::new();
        let mut check = |what, over: bool, asked: String, allowed: Option<String>| {
            if let Some(allowed) = allowed.filter(|_| over) {
                excesses.push(QuotaExcess { what, asked, allowed });
            }
        };
        let over = quota.backends.is_some_and(|limit| self.backends > limit && self.backends > before.backends);
        check("backends", over, self.backends.to_string(), quota.backends.map(|limit| limit.to_string()));
        let over = quota.cpus.is_some_and(|limit| self.cpus > limit && self.cpus > before.cpus);
        check("cpus", over, self.cpus.to_string(), quota.cpus.map(|limit| limit.to_string()));
        let over = quota.memory.is_some_and(|limit| self.memory > limit && self.memory > before.memory);
        check("memory", over, self.memory.to_string(), quota.memory.map(|limit| limit.to_string()));
        let over = quota.disk.is_some_and(|limit| self.disk > limit && self.disk > before.disk);
        check("disk", over, self.disk.to_string(), quota.disk.map(|limit| limit.to_string()));
        excesses
    }
}
