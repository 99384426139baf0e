//! What the change of a field does to a running backend: the one table that decides it.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::model::{BackendSpec, DatabaseRole, FieldPath, ProviderKind};

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

/// What the change of one field to `after`, or to nothing, does to a backend that was `recorded` so.
pub(super) fn change_impact(path: &FieldPath, recorded: &BackendSpec, after: Option<&str>) -> ChangeImpact {
    let path = path.as_str();
    let moves_data = matches!(
        path,
        "provider"
            | "storage.engine"
            | "storage.server"
            | "storage.managed"
            | "files.engine"
            | "files.bucket"
            | "files.bucket_prefix"
            | "files.region"
            | "files.endpoint"
            | "fly.org"
            | "fly.app"
    );
    if moves_data {
        return ChangeImpact::MovesData;
    }
    if recorded.is_record_only() && path != "simulated.listen" {
        return ChangeImpact::Record;
    }
    match path {
        "region" => match recorded.provider {
            // What runs on this machine stays there with any region.
            ProviderKind::Simulated | ProviderKind::Local => ChangeImpact::Record,
            ProviderKind::Docker | ProviderKind::Fly | ProviderKind::Kubernetes => ChangeImpact::MovesData,
        },
        // With a role of its own the backend does not know this URL.
        "storage.url" if recorded.storage.server().is_some_and(|server| server.role == DatabaseRole::LeastPrivilege) => {
            ChangeImpact::Record
        }
        "ttl" | "protected" | "depends_on" | "storage.region" | "name" | "docker.pull" | "fly.fallback_regions" => {
            ChangeImpact::Record
        }
        "docker.dashboard_image" => ChangeImpact::InPlace,
        "resources.cpus" | "resources.memory" | "resources.disk" => match recorded.provider {
            // Nothing enforces limits on a plain process, so nothing has to happen to it.
            ProviderKind::Simulated | ProviderKind::Local => ChangeImpact::Record,
            // Volumes of an engine have no size.
            ProviderKind::Docker if path == "resources.disk" => ChangeImpact::Record,
            // An engine sets and changes the limits of a running container, and cannot lift them.
            ProviderKind::Docker if after.is_none() => ChangeImpact::Restart,
            ProviderKind::Docker => ChangeImpact::InPlace,
            ProviderKind::Fly | ProviderKind::Kubernetes if path == "resources.disk" => ChangeImpact::InPlace,
            ProviderKind::Fly | ProviderKind::Kubernetes => ChangeImpact::Restart,
        },
        "dashboard" => match recorded.provider {
            ProviderKind::Simulated | ProviderKind::Local => ChangeImpact::Record,
            ProviderKind::Docker | ProviderKind::Fly | ProviderKind::Kubernetes => ChangeImpact::InPlace,
        },
        _ if path.starts_with("env.") => ChangeImpact::Live,
        _ => ChangeImpact::Restart,
    }
}
