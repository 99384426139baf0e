//! The template to roll back to where a new one does not become ready. Pure.
//!
//! It is noted in an annotation of the StatefulSet for as long as the new one is not known to be well, so an update that was
//! killed half way is finished, or taken back, by the next run.

use serde_json::{Value, json};

use super::inventory::Inventory;
use super::kind::Kind;
use super::labels::{FINGERPRINT, ObjectNames, TEMPLATE_BEFORE};
use super::pod_state::{PodState, pod_state};
use super::rollout::is_made_from;

/// Returns the template that ran and was well before the wanted one; none where there is nothing to roll back to.
pub(super) fn template(seen: &Inventory, names: &ObjectNames, wanted: &Value) -> Option<Value> {
    let live = seen.get(Kind::StatefulSet, names.backend())?;
    let noted = live["metadata"]["annotations"][TEMPLATE_BEFORE].as_str().and_then(|text| serde_json::from_str(text).ok());
    let current = &live["spec"]["template"];
    let is_well = |pod: &Value| pod_state(pod) == PodState::Ready && is_made_from(pod, current);
    let before = match (seen.pod().is_some_and(is_well), noted) {
        (true, _) => current.clone(),
        (false, noted) => noted?,
    };
    is_another(&before, &wanted["spec"]["template"]).then(|| without_nulls(before))
}

/// Returns a StatefulSet with the template to roll back to noted in it.
pub(super) fn noted(stateful_set: &Value, before: &Value) -> Value {
    let mut noted = stateful_set.clone();
    noted["metadata"]["annotations"][TEMPLATE_BEFORE] = json!(before.to_string());
    noted
}

fn is_another(before: &Value, wanted: &Value) -> bool {
    let fingerprint = |template: &Value| template["metadata"]["annotations"][FINGERPRINT].clone();
    !fingerprint(before).is_null() && fingerprint(before) != fingerprint(wanted)
}

/// The server shows fields that are not set as null, which an apply would take for a value.
fn without_nulls(mut template: Value) -> Value {
    if let Some(metadata) = template["metadata"].as_object_mut() {
        metadata.retain(|_, value| !value.is_null());
    }
    template
}
