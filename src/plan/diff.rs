//! The fields in which a backend differs from what was last applied.
//!
//! Must not do: show a secret's value.

use std::collections::BTreeSet;

use super::impact::change_impact;
use super::{ChangeImpact, FieldChange};
use crate::model::{
    ActualBackend, DatabaseReclaim, DesiredBackend, Digest, FieldPath, FieldValue, STORAGE_SERVER, SecretSource, SecretState,
    fields,
};

/// What stands for a secret that has no fingerprint here, up to where it comes from.
const SECRET_FROM: &str = "(secret from ";
/// What earlier releases put in the place of a value of the manifest.
const VALUE_FROM_MANIFEST: &str = "(value from the manifest)";
/// How much of a value of the manifest is shown, in characters.
const SHOWN: usize = 200;

/// Whether this stands for a value that was not fingerprinted.
pub(super) fn is_placeholder(shown: &str) -> bool {
    shown == VALUE_FROM_MANIFEST || shown.starts_with(SECRET_FROM)
}

/// Every field of a backend that is new.
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

/// Every field of a backend that goes.
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
            DatabaseReclaim::Delete => (None, ChangeImpact::Destroy),
        };
        let before = Some(actual.instance_name.database());
        changes.push(FieldChange { path: FieldPath::new("storage.database"), before, after, effect });
    }
    changes
}

/// What differs, and which secrets could not be compared.
pub(super) struct BackendDiff {
    /// The fields that differ.
    pub(super) changes: Vec<FieldChange>,
    /// The secrets whose values are not at hand.
    pub(super) not_compared: Vec<FieldPath>,
}

/// Compares a backend field by field with what was last applied.
pub(super) fn diff_backend(desired: &DesiredBackend, actual: &ActualBackend) -> BackendDiff {
    let mut difference = BackendDiff { changes: Vec::new(), not_compared: Vec::new() };
    // The common case, thousands of times over: nothing changed and there are no secrets.
    if desired.spec == actual.recorded && desired.secrets.is_empty() {
        return difference;
    }
    let wanted = fields(&desired.spec);
    let recorded = fields(&actual.recorded);
    let paths: BTreeSet<&FieldPath> = wanted.keys().chain(recorded.keys()).collect();
    for path in paths {
        // What stands in the manifest is no secret, so it is compared and shown as it is.
        if let (Some(FieldValue::Secret(SecretSource::Literal(now))), Some(FieldValue::Secret(SecretSource::Literal(before)))) =
            (wanted.get(path), recorded.get(path))
            && now == before
        {
            continue;
        }
        let before = recorded.get(path).map(|value| display_recorded(value, path, actual));
        let after = match (wanted.get(path), desired.secrets.get(path)) {
            (Some(FieldValue::Secret(_)), Some(SecretState::Unavailable(_) | SecretState::Unreadable(_)))
                if before.is_some() =>
            {
                // The server is a part of the URL, about which this is said already.
                difference.not_compared.extend((path.as_str() != STORAGE_SERVER).then(|| path.clone()));
                continue;
            }
            (Some(FieldValue::Secret(SecretSource::Reference(_))), Some(SecretState::Withheld)) if before.is_some() => {
                difference.not_compared.push(path.clone());
                continue;
            }
            (Some(value), state) => Some(display_value(value, state)),
            (None, _) => None,
        };
        if before != after {
            let effect = change_impact(path, &actual.recorded, after.as_deref());
            difference.changes.push(FieldChange { path: path.clone(), before, after, effect });
        }
    }
    difference
}

fn display_recorded(value: &FieldValue, path: &FieldPath, actual: &ActualBackend) -> String {
    match value {
        FieldValue::Text(text) => text.clone(),
        FieldValue::Secret(SecretSource::Literal(text)) => shortened(text),
        FieldValue::Secret(SecretSource::Reference(_)) => {
            actual.secrets.get(path).map_or_else(|| "(not set)".to_owned(), ToString::to_string)
        }
    }
}

fn display_value(value: &FieldValue, state: Option<&SecretState>) -> String {
    match (value, state) {
        (FieldValue::Text(text), _) => text.clone(),
        (FieldValue::Secret(SecretSource::Literal(text)), _) => shortened(text),
        (FieldValue::Secret(_), Some(SecretState::Known(fingerprint))) => fingerprint.to_string(),
        (FieldValue::Secret(SecretSource::Reference(reference)), _) => format!("{SECRET_FROM}{reference})"),
    }
}

/// Returns a value as a plan shows it: a long one by its beginning, its length and its digest.
fn shortened(text: &str) -> String {
    let Some((end, _)) = text.char_indices().nth(SHOWN) else { return text.to_owned() };
    format!("{}… ({} bytes, {})", &text[..end], text.len(), Digest::of(text.as_bytes()))
}

/// The gravest effect of some changes.
pub(super) fn highest_impact(changes: &[FieldChange]) -> ChangeImpact {
    changes.iter().map(|change| change.effect).max().unwrap_or(ChangeImpact::Record)
}

/// The names of a specification's fields whose change by itself lowers a promise, for lints.
pub(super) fn find_change<'a>(changes: &'a [FieldChange], path: &str) -> Option<&'a FieldChange> {
    changes.iter().find(|change| change.path.as_str() == path)
}
