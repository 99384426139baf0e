//! How a backend enters a database server of the user's own.

use serde::{Deserialize, Serialize};

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
