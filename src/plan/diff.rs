//! The changes that a plan shows of a backend that is new, and of one that goes.

use super::{ChangeImpact, FieldChange};
use crate::model::{ActualBackend, DatabaseReclaim, DesiredBackend, FieldPath, STORAGE_SERVER, fields};
use crate::policy::display_value;

/// Returns every field of a backend that is new.
pub(super) fn creation_changes(desired: &DesiredBackend) -> Vec<FieldChange> {
    fields(&desired.spec)
        .into_iter()
        // It is what the URL says once more.
        .filter(|(path, _)| path.as_str() != STORAGE_SERVER)
        .map(|(path, value)| {
            let after = Some(display_value(&value, desired.secrets.get(&path)));
            FieldChange { path, before: None, after, effect: ChangeImpact::Create }
        })
        .collect()
}

/// Returns what is lost or kept with a backend that goes.
pub(super) fn destruction_changes(actual: &ActualBackend, database: DatabaseReclaim) -> Vec<FieldChange> {
    let mut changes: Vec<FieldChange> =
        [("provider", actual.recorded.provider.to_string()), ("instance_name", actual.instance_name.to_string())]
            .into_iter()
            .map(|(path, before)| FieldChange {
                path: FieldPath::new(path),
                before: Some(before),
                after: None,
                effect: ChangeImpact::Destroy,
            })
            .collect();
    if actual.recorded.has_own_server() {
        let (after, effect) = match database {
            DatabaseReclaim::Retain => (Some("left on its server".to_owned()), ChangeImpact::Record),
            DatabaseReclaim::Delete | DatabaseReclaim::DeleteWithFiles => (None, ChangeImpact::Destroy),
        };
        let before = Some(actual.instance_name.database());
        changes.push(FieldChange { path: FieldPath::new("storage.database"), before, after, effect });
    }
    if actual.recorded.has_split_data() {
        let (after, effect) = match database {
            DatabaseReclaim::Retain => (Some("kept with the database".to_owned()), ChangeImpact::Record),
            DatabaseReclaim::Delete | DatabaseReclaim::DeleteWithFiles => (None, ChangeImpact::Destroy),
        };
        let before = Some("local".to_owned());
        changes.push(FieldChange { path: FieldPath::new("files.engine"), before, after, effect });
    }
    if actual.recorded.has_buckets() && database == DatabaseReclaim::DeleteWithFiles {
        let before = Some("s3".to_owned());
        changes.push(FieldChange { path: FieldPath::new("files.engine"), before, after: None, effect: ChangeImpact::Destroy });
    }
    changes
}
