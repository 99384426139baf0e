//! What a request asks a backend to be.

use std::collections::BTreeMap;

use crate::model::{BackendSpec, FieldPath, Secret};

/// A specification with the values of its secrets.
#[derive(Debug, Clone)]
pub(super) struct PutRequest {
    pub(super) spec: BackendSpec,
    pub(super) secrets: BTreeMap<FieldPath, Secret>,
    /// Whether the principal may take up what nothing proves to be the project's.
    pub(super) may_adopt: bool,
    /// The password of the role on another database server, where one was made for it.
    pub(super) role_password: Option<Secret>,
}
