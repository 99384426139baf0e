//! What the change of a field does to a running backend: the one table that decides it.

use crate::model::{BackendSpec, DatabaseRole, FieldPath, impact_of_setting};

pub use crate::model::ChangeImpact;

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
    ) || path.starts_with("files.buckets.");
    let setting = impact_of_setting(path);
    if moves_data || setting == Some(ChangeImpact::MovesData) {
        return ChangeImpact::MovesData;
    }
    let descriptor = recorded.provider.descriptor();
    if recorded.is_record_only() && descriptor.impact_of_setting(path).is_none() {
        return ChangeImpact::Record;
    }
    if let Some(impact) = setting {
        return impact;
    }
    match path {
        "region" => descriptor.region_impact,
        // With a role of its own the backend does not know this URL.
        "storage.url" if recorded.storage.server().is_some_and(|server| server.role == DatabaseRole::LeastPrivilege) => {
            ChangeImpact::Record
        }
        "ttl" | "protected" | "depends_on" | "storage.region" | "files.create_buckets" | "name" => ChangeImpact::Record,
        "resources.cpus" | "resources.memory" | "resources.disk" => (descriptor.limit_impact)(path, &recorded.resources, after),
        "origins.dashboard" => ChangeImpact::InPlace,
        "dashboard" if descriptor.runs_dashboards => ChangeImpact::InPlace,
        "dashboard" => ChangeImpact::Record,
        _ if path.starts_with("env.") => ChangeImpact::Live,
        _ => ChangeImpact::Restart,
    }
}
