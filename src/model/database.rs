//! How a backend enters a database server of the user's own, and what becomes of its database when it goes.
//!
//! Must not do: apply to a server that a provider runs itself; that one goes with its backend.

use serde::{Deserialize, Serialize};

/// What becomes of the database on a server of the user's own when its backend goes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum DatabaseReclaim {
    /// It stays, and a backend of the same name takes it up again.
    #[default]
    #[serde(rename = "leave")]
    Retain,
    /// It goes with all its data. Somebody asked for that beside allowing the backend to be destroyed.
    #[serde(rename = "drop")]
    Delete,
}

/// As whom a backend enters its server.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum DatabaseRole {
    /// As the user of the URL.
    #[default]
    Url,
    /// As a role of its own that has nothing but its database, and whose password the control plane makes and keeps.
    LeastPrivilege,
}
