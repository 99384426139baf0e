//! Drift: where an app differs from what was asked for, as far as its server reports what it was sent.
//!
//! Must not do: ask anything, or change anything.

use std::collections::BTreeSet;

use super::api_types::Machine;
use super::apps::AppReconciler;
use super::config_diff::{ConfigDifference, diff};
use super::desired::MachineSpec;
use super::images::ResolvedImage;
use crate::model::{FieldDrift, ResolvedBackend, UNMANAGED_PREFIX};

/// The note about fields that the server does not give back: they cannot be compared.
pub(super) const UNREPORTED_KEY: &str = "unsaid";
/// What stands in it for the checks of a machine, where a server lists none.
pub(super) const UNREPORTED_CHECKS: &str = "checks";

/// The fields that the server is known not to give back.
pub(super) fn unreported_fields(placement: &ResolvedBackend) -> BTreeSet<&str> {
    placement.provider_state.get(UNREPORTED_KEY).map(|paths| paths.lines().collect()).unwrap_or_default()
}

/// Where a machine differs from what was asked for, as far as its server gives back what it was sent.
pub(super) fn config_drift(
    placement: &ResolvedBackend,
    wanted: &MachineSpec,
    image: Option<&ResolvedImage>,
    machine: &Machine,
    volume: Option<&str>,
) -> Vec<ConfigDifference> {
    let unsaid = unreported_fields(placement);
    let empty = serde_json::Value::Null;
    let mut found = diff(&wanted.comparable(volume), machine.config.as_ref().unwrap_or(&empty));
    found.retain(|difference| difference.observed.is_some() || !unsaid.contains(difference.path.as_str()));
    // Without a digest on both sides this cannot be told.
    if let (Some(wanted), Some(seen)) = (image.and_then(ResolvedImage::digest), machine.image_digest())
        && wanted != seen
    {
        found.push(ConfigDifference { path: "image".to_owned(), desired: wanted.to_owned(), observed: Some(seen.to_owned()) });
    }
    found
}

/// The machines that are there beside the one that belongs there: ours are in excess, and others' are named and left.
pub(super) fn extra_machines(
    work: &AppReconciler<'_>,
    of: &str,
    machines: &[Machine],
    ours: Option<&Machine>,
) -> Vec<FieldDrift> {
    let extra = machines.iter().filter(|extra| Some(&extra.id) != ours.map(|ours| &ours.id));
    extra
        .map(|extra| {
            let whose = if work.is_unmanaged(extra) { UNMANAGED_PREFIX } else { "" };
            FieldDrift::new(format!("{whose}{of}machines.{}", extra.id), "absent", extra.state.clone())
        })
        .collect()
}
