//! Pure rules about data and specifications: what `plan` shows as a refusal, the authority enforces for every client.
//!
//! A plan refuses early and shows everything at once; the authority evaluates the same functions against its own rows, so
//! a client that does not plan gets the same codes and the same texts. Nothing here does IO.

mod data;
mod diff;
pub(crate) mod formats;
mod impact;
mod origin;
mod provider;
mod quota;
mod release;
pub(crate) mod specification;
pub(crate) mod url;

use serde::{Deserialize, Serialize};

pub(crate) use data::{change_refusals, data_missing, moved_onto_existing, protected, volume_kept};
pub use diff::FieldChange;
pub(crate) use diff::{BackendDiff, diff_backend, display_value, find_change, highest_impact, is_placeholder};
pub use impact::ChangeImpact;
pub(crate) use origin::{OtherOrigin, other_repository};
pub(crate) use provider::{provider_available, provider_refusals, usable_secrets};
pub(crate) use quota::{monthly_quota_refusal, quota_refusal};
pub(crate) use specification::violations;

use crate::model::{Address, Diagnostic};

/// A reason for which nothing of an apply is done.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Refusal {
    /// A stable name of the reason.
    pub code: String,
    /// What it is about, where it is about one thing.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub address: Option<Address>,
    /// What is in the way and what to do about it.
    pub message: String,
}

impl From<Refusal> for Diagnostic {
    fn from(refusal: Refusal) -> Self {
        Self::new(refusal.code, refusal.message)
    }
}
