//! The kinds of processors of machines on Fly.io.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A kind of processor.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum CpuKind {
    /// A share of a core, with bursts.
    #[default]
    Shared,
    /// A core of its own.
    Performance,
}

impl CpuKind {
    /// Returns the word in the manifest and on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Shared => "shared",
            Self::Performance => "performance",
        }
    }

    /// Returns how many processors a machine can have.
    pub(super) fn counts(self) -> &'static [u32] {
        match self {
            Self::Shared => &[1, 2, 4, 6, 8],
            Self::Performance => &[1, 2, 4, 6, 8, 10, 12, 14, 16, 32, 64, 128],
        }
    }

    /// Returns the least and the most memory for each processor, in MiB.
    pub(super) fn memory_per_cpu(self) -> (u32, u32) {
        match self {
            Self::Shared => (256, 2048),
            Self::Performance => (2048, 8192),
        }
    }

    /// Returns the step of the memory, in MiB.
    pub(super) fn memory_step(self) -> u32 {
        match self {
            Self::Shared => 256,
            Self::Performance => 1024,
        }
    }
}

impl fmt::Display for CpuKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}
