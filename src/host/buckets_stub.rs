//! Buckets where nothing but the providers' own HTTP leaves the control plane: their owner prepares them.
//!
//! Must not do: claim that anything was made or looked at.

use super::Host;
use super::findings::Findings;
use crate::api::ProgressFn;
use crate::model::{DatabaseReclaim, Diagnostic, ResolvedBackend};

/// Looks at nothing.
pub(super) async fn look(_: &Host, _: &ResolvedBackend, _: &mut Findings) {}

/// Says that the buckets have to be there.
pub(super) async fn prepare(_: &Host, _: &ResolvedBackend, notice: ProgressFn<'_>) -> Result<(), Diagnostic> {
    notice("this control plane looks at no buckets: they have to be there already".to_owned());
    Ok(())
}

/// Looks at nothing.
pub(super) async fn look_at_leftovers(_: &Host, _: &ResolvedBackend, _: DatabaseReclaim, _: &mut Findings) {}

/// Says that objects stay.
pub(super) async fn name_leftovers(_: &Host, placement: &ResolvedBackend, prefix: Option<&str>, notice: ProgressFn<'_>) {
    let begins = prefix.map_or_else(|| format!("{}-", placement.instance_name), str::to_owned);
    notice(format!("what is in its buckets under keys that begin with `{begins}` stays there"));
}
