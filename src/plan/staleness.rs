//! Whether a plan still does what an earlier one promised.
//!
//! A plan that was made without the key for fingerprints, or without a secret, says of a new value only where it comes
//! from. The command that carries it out has the value, so its fingerprint may stand in that place; everything else has to be the
//! same to the letter, and a secret that turns out to differ where the earlier plan saw no change is a change more.

use super::{FieldChange, Plan, Step};
use crate::policy::is_placeholder;

/// Whether a plan that was made now does exactly what an earlier one promised.
pub fn still_matches(promised: &Plan, now: &Plan) -> bool {
    promised.digest == now.digest
        || (promised.refusals == now.refusals
            && promised.drift == now.drift
            && promised.steps.len() == now.steps.len()
            && promised.steps.iter().zip(&now.steps).all(|(promised, now)| step_matches(promised, now)))
}

fn step_matches(promised: &Step, now: &Step) -> bool {
    let filled_in: Vec<FieldChange> = match promised.changes.len() == now.changes.len() {
        true => promised.changes.iter().zip(&now.changes).map(|(promised, now)| with_known_value(promised, now)).collect(),
        false => return false,
    };
    Step { changes: filled_in, task: None, ..promised.clone() } == Step { task: None, ..now.clone() }
}

/// The promised change with the value that was not known then.
fn with_known_value(promised: &FieldChange, now: &FieldChange) -> FieldChange {
    let after = match (&promised.after, &now.after) {
        (Some(unknown), Some(known)) if is_placeholder(unknown) => Some(known.clone()),
        (after, _) => after.clone(),
    };
    FieldChange { after, ..promised.clone() }
}
