//! The impact that the change of a field has on a running backend.

use std::fmt;

use serde::{Deserialize, Serialize};

/// What a change does. The order is the order of severity.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ChangeImpact {
    /// Only the record changes.
    Record,
    /// The running backend takes the change through its own API.
    Live,
    /// The provider changes it without a restart.
    InPlace,
    /// The backend restarts.
    Restart,
    /// The backend starts for the first time.
    Create,
    /// The data would have to move to another place, which is never done silently.
    MovesData,
    /// The backend and its data go away.
    Destroy,
}

impl ChangeImpact {
    /// The words on the screen.
    pub fn words(self) -> &'static str {
        match self {
            Self::Record => "record only",
            Self::Live => "live",
            Self::InPlace => "in place",
            Self::Restart => "restart",
            Self::Create => "create",
            Self::MovesData => "moves data",
            Self::Destroy => "destroy",
        }
    }
}

impl fmt::Display for ChangeImpact {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.words())
    }
}
