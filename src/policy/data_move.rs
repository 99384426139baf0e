//! Rules about moves: which changes of a backend are a move of its data, and when one may begin.

use super::{ChangeImpact, FieldChange};
use crate::model::{ActualBackend, Address, BackendName, DesiredBackend, Diagnostic, MoveConsent, Storage};

/// The move of a backend's rows to another database.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct DataMove<'a> {
    /// Where they are.
    pub(crate) source: &'a Storage,
    /// Where they will be.
    pub(crate) target: &'a Storage,
}

/// Returns the move that a change asks for, where it is one that can be carried out: of the rows alone, to a database that
/// the control plane reaches by itself.
pub(crate) fn data_move<'a>(
    existing: &'a ActualBackend,
    wanted: &'a DesiredBackend,
    changes: &[FieldChange],
) -> Option<DataMove<'a>> {
    let mut moving = changes.iter().filter(|change| change.effect == ChangeImpact::MovesData).peekable();
    moving.peek()?;
    let rows_only = moving.all(|change| matches!(change.path.as_str(), "storage.engine" | "storage.server"));
    let (source, target) = (&existing.recorded.storage, &wanted.spec.storage);
    let is_reached = |storage: &Storage| storage.server().is_none_or(|server| !server.managed);
    let can_move = wanted.spec.provider.descriptor().moves_rows && rows_only && is_reached(source) && is_reached(target);
    can_move.then_some(DataMove { source, target })
}

/// Refuses a move without consent, and one together with another change.
pub(super) fn move_refusal(
    name: &BackendName,
    existing: &ActualBackend,
    asked: DataMove<'_>,
    changes: &[FieldChange],
    consent: MoveConsent,
) -> Option<Diagnostic> {
    let address = Some(Address::backend(name));
    let others: Vec<String> = changes
        .iter()
        .filter(|change| !change.path.as_str().starts_with("storage."))
        .map(|change| format!("`{}`", change.path))
        .chain((existing.name != *name).then(|| "the name".to_owned()))
        .collect();
    if !others.is_empty() {
        let message = format!(
            "the data of `{name}` moves alone, so that what does not work afterwards is the move: {} change as well",
            others.join(", ")
        );
        let help = "apply the other changes first, and then the one of `storage`";
        return Some(Diagnostic { address, ..Diagnostic::new("plan.move_not_alone", message).with_help(help) });
    }
    (consent == MoveConsent::Missing).then(|| {
        let (from, to) = (asked.source.product(), asked.target.product());
        let to = if from == to { format!("another database on {to}") } else { to.to_owned() };
        let message = format!(
            "the data of `{name}` would move from {from} to {to}, and `{name}` is stopped for as long as its rows are copied and \
             compared"
        );
        let help = format!("allow it with\n    convexinfra apply --allow-move {name}");
        Diagnostic { address, ..Diagnostic::new("plan.move_not_allowed", message).with_help(help) }
    })
}
