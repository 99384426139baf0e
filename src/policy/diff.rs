//! Compares a specification with what was last applied, field by field, and says what each change does.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::impact::{ChangeImpact, change_impact};
use crate::model::{
    ActualBackend, DesiredBackend, Digest, FieldPath, FieldValue, STORAGE_SERVER, STORAGE_TLS, SecretSource, SecretState,
    Storage, Tls, fields,
};

/// What stands for a secret that has no fingerprint here, up to where it comes from.
const SECRET_FROM: &str = "(secret from ";
/// What earlier releases put in the place of a value of the manifest.
const VALUE_FROM_MANIFEST: &str = "(value from the manifest)";
/// How much of a value of the manifest is shown, in characters.
const SHOWN: usize = 200;

/// Whether this stands for a value that was not fingerprinted.
pub(crate) fn is_placeholder(shown: &str) -> bool {
    shown == VALUE_FROM_MANIFEST || shown.starts_with(SECRET_FROM)
}

/// One field that changes. Secrets stand here as fingerprints, literal values as they are.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct FieldChange {
    /// The field.
    pub path: FieldPath,
    /// Its value now; null when it has none.
    pub before: Option<String>,
    /// Its value afterwards; null when it will have none.
    pub after: Option<String>,
    /// What the change does to the running backend.
    pub effect: ChangeImpact,
}

/// What differs, and which secrets could not be compared.
pub(crate) struct BackendDiff {
    /// The fields that differ.
    pub(crate) changes: Vec<FieldChange>,
    /// The secrets whose values are not at hand.
    pub(crate) not_compared: Vec<FieldPath>,
}

/// Compares a backend field by field with what was last applied.
pub(crate) fn diff_backend(desired: &DesiredBackend, actual: &ActualBackend) -> BackendDiff {
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
        if path.as_str() == STORAGE_TLS && names_same_certificates(desired, actual) {
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

/// Whether a row of a control plane up to 0.1 names the very file that the certificates were read from.
fn names_same_certificates(desired: &DesiredBackend, actual: &ActualBackend) -> bool {
    let tls = |storage: &'_ Storage| storage.server().map(|server| server.tls.clone());
    match (tls(&desired.spec.storage), tls(&actual.recorded.storage), &desired.certificate_file) {
        (Some(Tls::Pem(_)), Some(Tls::Ca(recorded)), Some(file)) => file.path == recorded,
        _ => false,
    }
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

/// Returns a value as a plan may show it: a secret as its fingerprint, or as where it comes from.
pub(crate) fn display_value(value: &FieldValue, state: Option<&SecretState>) -> String {
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

/// Returns the gravest impact of some changes.
pub(crate) fn highest_impact(changes: &[FieldChange]) -> ChangeImpact {
    changes.iter().map(|change| change.effect).max().unwrap_or(ChangeImpact::Record)
}

/// The names of a specification's fields whose change by itself lowers a promise, for lints.
pub(crate) fn find_change<'a>(changes: &'a [FieldChange], path: &str) -> Option<&'a FieldChange> {
    changes.iter().find(|change| change.path.as_str() == path)
}
