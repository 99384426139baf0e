//! Whether a plan still does what an earlier one promised.
//!
//! A plan that was made without the key for fingerprints, or without a secret, says of a new value only where it comes
//! from. Whoever carries it out has the value, so its fingerprint may stand in that place; everything else has to be the
//! same to the letter, and a secret that turns out to differ where the earlier plan saw no change is a change more.
//!
//! Must not do: overlook a step, a change or a refusal that the earlier plan did not have.

use super::diff::is_not_compared;
use super::{Change, Plan, Step};

/// Whether a plan that was made now does exactly what an earlier one promised.
pub fn keeps(promised: &Plan, now: &Plan) -> bool {
    promised.digest == now.digest
        || (promised.refusals == now.refusals
            && promised.drift == now.drift
            && promised.steps.len() == now.steps.len()
            && promised.steps.iter().zip(&now.steps).all(|(promised, now)| step_keeps(promised, now)))
}

fn step_keeps(promised: &Step, now: &Step) -> bool {
    let filled_in: Vec<Change> = match promised.changes.len() == now.changes.len() {
        true => promised.changes.iter().zip(&now.changes).map(|(promised, now)| filled_in(promised, now)).collect(),
        false => return false,
    };
    Step { changes: filled_in, task: None, ..promised.clone() } == Step { task: None, ..now.clone() }
}

/// The promised change with the value that was not known then.
fn filled_in(promised: &Change, now: &Change) -> Change {
    let after = match (&promised.after, &now.after) {
        (Some(unknown), Some(known)) if is_not_compared(unknown) => Some(known.clone()),
        (after, _) => after.clone(),
    };
    Change { after, ..promised.clone() }
}
