//! Fields of a specification by their dotted path, so that two specifications can be compared without knowing what each field is.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use super::secret::{SecretRef, SecretSource};

/// The dotted path of a field inside a backend's block, such as `resources.memory`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(transparent)]
pub struct FieldPath(String);

impl FieldPath {
    /// Takes a dotted path.
    pub fn new(path: impl Into<String>) -> Self {
        Self(path.into())
    }

    /// The path as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for FieldPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

/// How the connection to the database server is protected.
pub const STORAGE_TLS: &str = "storage.tls";
/// The field with the URL of a database server: who enters it, and how.
pub const STORAGE_URL: &str = "storage.url";

/// The field with what [`STORAGE_URL`] says about which server it is. It is read from the same place and compared by
/// a fingerprint of its own, because other credentials are a restart and another server is other data.
pub const STORAGE_SERVER: &str = "storage.server";

/// What the fields of a process's further variables begin with; the rest is the name of the variable.
pub const EXTRA_ENV: &str = "docker.extra_env.";

/// The value of a field.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FieldValue {
    /// Anything that may be shown.
    Text(String),
    /// Anything that may be shown only as a fingerprint.
    Secret(SecretSource),
}

/// The fields of one specification, while they are collected. What is left out stays out.
#[derive(Debug, Default)]
pub struct FieldSet(BTreeMap<FieldPath, FieldValue>);

impl FieldSet {
    /// Adds a value that may be shown, if there is one.
    pub fn text(&mut self, path: &str, value: Option<impl fmt::Display>) {
        if let Some(value) = value {
            self.0.insert(FieldPath(path.to_owned()), FieldValue::Text(value.to_string()));
        }
    }

    /// Adds a switch that is on: one that is off is the same as one that is not there.
    pub fn flag(&mut self, path: &str, value: bool) {
        self.text(path, value.then_some("true"));
    }

    /// Adds a value that is read from where a reference points.
    pub fn secret(&mut self, path: &str, reference: Option<&SecretRef>) {
        if let Some(reference) = reference {
            self.0.insert(FieldPath(path.to_owned()), FieldValue::Secret(SecretSource::Reference(reference.clone())));
        }
    }

    /// Adds a value that may be shown only as a fingerprint.
    pub fn source(&mut self, path: &str, source: &SecretSource) {
        self.0.insert(FieldPath(path.to_owned()), FieldValue::Secret(source.clone()));
    }

    /// Returns the fields by path.
    pub fn into_fields(self) -> BTreeMap<FieldPath, FieldValue> {
        self.0
    }
}
