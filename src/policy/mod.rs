//! Pure rules about data and specifications: what `plan` shows as a refusal, the authority enforces for every client.
//!
//! A plan refuses early and shows everything at once; the authority evaluates the same functions against its own rows, so
//! a client that does not plan gets the same codes and the same texts. Nothing here does IO.

mod data;
mod data_move;
mod diff;
pub(crate) mod formats;
mod impact;
mod origin;
mod provider;
mod quota;
mod release;
mod shared_origin;
pub(crate) mod specification;
mod template;
mod upgrade;
pub(crate) mod url;
mod violation;

pub(crate) use data::{
    Consent, change_refusals, data_missing, files_removed, final_snapshot, final_snapshot_refusal, moved_onto_existing,
    protected, removal_needs_destroy, volume_kept,
};
pub(crate) use data_move::data_move;
pub use diff::FieldChange;
pub(crate) use diff::{BackendDiff, diff_backend, display_value, find_change, highest_impact, is_placeholder};
pub use impact::ChangeImpact;
pub(crate) use origin::{OtherOrigin, other_repository};
pub(crate) use provider::{provider_available, provider_refusals, usable_certificates, usable_secrets};
pub(crate) use quota::{monthly_quota_refusal, quota_refusal};
#[cfg(feature = "native")]
pub(crate) use release::{RELEASE_ORDER_UNKNOWN, build_day, newest_known_release, release_order};
pub(crate) use shared_origin::{UrlAuthority, claimed_origins, claims, foreign_origin, newly_claimed_origins, shared_origin};
pub(crate) use specification::violations;
#[cfg(feature = "native")]
pub(crate) use template::whole_template;
pub(crate) use template::{Template, template};
#[cfg(feature = "native")]
pub(crate) use upgrade::takes_snapshots;
pub(crate) use upgrade::upgrade;
pub use upgrade::{Upgrade, WayBack};
