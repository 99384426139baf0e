//! The invariants of every plan: a saved one is validated before it is applied.

use std::collections::BTreeSet;

use super::{Action, FORMAT, Plan, Reason, Step, Summary};

/// Why a document is not a plan that could be applied.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PlanError {
    /// The document has another format.
    #[error("its format is `{found}`, and this convexinfra reads `{FORMAT}`")]
    Format {
        /// The format found.
        found: String,
    },
    /// The document was changed after it was written.
    #[error("its digest does not match its content: it was changed after it was saved")]
    Digest,
    /// Two steps have the same name.
    #[error("two steps are called `{id}`")]
    Duplicate {
        /// The name.
        id: String,
    },
    /// A step waits for one that does not come before it.
    #[error("step `{id}` waits for `{before}`, which does not come before it")]
    Order {
        /// The step.
        id: String,
        /// What it waits for.
        before: String,
    },
    /// The counts do not match the steps.
    #[error("its summary does not match its steps")]
    Summary,
}

/// Checks everything that must hold for every plan.
///
/// # Errors
/// The first [`PlanError`] found.
pub fn validate(plan: &Plan) -> Result<(), PlanError> {
    if plan.format != FORMAT {
        return Err(PlanError::Format { found: plan.format.clone() });
    }
    let mut seen = BTreeSet::new();
    for step in &plan.steps {
        if let Some(before) = step.after.iter().find(|before| !seen.contains(*before)) {
            return Err(PlanError::Order { id: step.id.as_str().to_owned(), before: before.as_str().to_owned() });
        }
        if !seen.insert(&step.id) {
            return Err(PlanError::Duplicate { id: step.id.as_str().to_owned() });
        }
    }
    if plan.summary != summary(plan) {
        return Err(PlanError::Summary);
    }
    if plan.digest != plan.compute_digest() {
        return Err(PlanError::Digest);
    }
    Ok(())
}

/// Counts the steps.
pub(super) fn summary(plan: &Plan) -> Summary {
    let count = |action: Action| plan.steps.iter().filter(|step| step.action == action).count();
    let is_rename = |step: &&Step| step.action == Action::Update && step.reason == Reason::Renamed;
    let renames = plan.steps.iter().filter(is_rename).count();
    Summary {
        create: count(Action::Create),
        update: count(Action::Update) - renames,
        moves: count(Action::Move) + renames,
        destroy: count(Action::Destroy),
        write: count(Action::Write),
    }
}
