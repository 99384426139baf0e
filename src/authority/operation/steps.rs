//! The table of operations: the steps of each one, what a step needs, and what its result changes in the record.
//!
//! To add an operation: a kind of [`Work`](crate::api::Work) and of `OperationKind`, a phase with its row in [`steps_of`], and
//! for each new step a number, a label and a deadline (`OperationStep`), an effect ([`Authority::effect`]) with its result
//! ([`record_result`]), and the arm of `host::effects` that performs it. A step that has to be undone once the operation fails
//! names the step that undoes it ([`StepRow::undone_by`]). Acceptance, persistence, deadlines, attempts, compensation, events
//! and the executor, embedded and served, are the same for all operations.

use super::super::allocation::UNUSED_PORTS;
use super::super::effect::{DatabaseState, Effect, EffectFailure, EffectResult, EnvironmentTarget, MoveStep};
use super::super::retained::NEVER_ENSURED;
use super::super::{Authority, AuthorityError, allocation, removal};
use super::types::OperationPhase;
use crate::api::StartMode;
use crate::model::{MOVE_LOCK, OperationStep, ProviderState, ResolvedBackend, VolumeReclaim};
use crate::store::{BackendRow, Store};

/// Describes what the result of a step leads to.
pub(super) enum Followup {
    /// The step succeeded; the next one in the table follows.
    Completed(OperationStep),
    /// Another step than the next one in the table follows.
    GoTo(OperationStep),
    /// The step failed.
    Failed(EffectFailure),
}

/// Returns the rows of the steps of an operation in order.
pub(in crate::authority) type StepTable = fn(&OperationPhase) -> &'static [StepRow];

/// Names a step of an operation, and the step that undoes it once a later one or the step itself has failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::authority) struct StepRow {
    step: OperationStep,
    undo: Option<OperationStep>,
    then: &'static [OperationStep],
}

impl StepRow {
    /// Returns the row of a step that leaves nothing behind which would have to be undone.
    pub(in crate::authority) const fn new(step: OperationStep) -> Self {
        Self { step, undo: None, then: &[] }
    }

    /// Returns the row with a step that undoes it. That step has to be harmless where the first one did nothing.
    pub(in crate::authority) const fn undone_by(self, undo: OperationStep) -> Self {
        Self { undo: Some(undo), ..self }
    }

    /// Returns the row with what follows the step that undoes it.
    const fn then(self, then: &'static [OperationStep]) -> Self {
        Self { then, ..self }
    }
}

/// Returns the steps of an operation in order.
pub(in crate::authority) fn steps_of(phase: &OperationPhase) -> &'static [StepRow] {
    use OperationStep::{
        AwaitReady, ConfirmData, CopyData, CopyRows, DropPrevious, Ensure, FinishMove, LockSource, PrepareMove, PrepareStorage,
        PublishTarget, ReleaseStorage, Remove, RestartSource, RevertData, RevertMove, SetAside, SetEnvironment, StageData,
        StartRelease, Stop, SwitchData, VerifyRows, WriteSnapshot,
    };
    const PUT: &[StepRow] =
        &[StepRow::new(PrepareStorage), StepRow::new(Ensure), StepRow::new(AwaitReady), StepRow::new(SetEnvironment)];
    const STOP: &[StepRow] = &[StepRow::new(Stop)];
    const DROP_PREVIOUS: &[StepRow] = &[StepRow::new(DropPrevious)];
    const FORGET: &[StepRow] = &[StepRow::new(SetAside)];
    // Until its last snapshot is there, nothing of it is removed, and it runs again where that cannot be taken.
    const REMOVE: &[StepRow] = &[
        StepRow::new(CopyData).undone_by(Ensure).then(&[AwaitReady]),
        StepRow::new(WriteSnapshot),
        StepRow::new(Remove),
        StepRow::new(ReleaseStorage),
    ];
    // It runs again before the snapshot is written, which may take long.
    const SNAPSHOT: &[StepRow] = &[
        StepRow::new(CopyData).undone_by(Ensure).then(&[AwaitReady]),
        StepRow::new(Ensure),
        StepRow::new(AwaitReady),
        StepRow::new(WriteSnapshot),
    ];
    // What is undone last brings it up again.
    const RESTORE: &[StepRow] = &[
        StepRow::new(StageData).undone_by(Ensure).then(&[AwaitReady]),
        StepRow::new(SwitchData).undone_by(RevertData),
        StepRow::new(Ensure),
        StepRow::new(AwaitReady),
        StepRow::new(ConfirmData),
        StepRow::new(SetEnvironment),
    ];
    // It stays stopped until the snapshot is there: what the new release writes is not in it. What is undone last puts the
    // record from before back and brings the backend up with it.
    const UPGRADE: &[StepRow] = &[
        StepRow::new(CopyData).undone_by(Ensure).then(&[AwaitReady]),
        StepRow::new(WriteSnapshot),
        StepRow::new(StartRelease).undone_by(StageData).then(&[SwitchData, ConfirmData]),
        StepRow::new(AwaitReady),
        StepRow::new(SetEnvironment),
    ];
    // From the publication on the target is whole, so an interrupted move goes on there. The role of the backend gets its
    // grants on the tables that are there now.
    const MOVE: &[StepRow] = &[
        StepRow::new(PrepareMove).undone_by(RestartSource),
        StepRow::new(LockSource).undone_by(RevertMove),
        StepRow::new(CopyRows),
        StepRow::new(VerifyRows),
        StepRow::new(PublishTarget),
        StepRow::new(PrepareStorage),
        StepRow::new(Ensure),
        StepRow::new(AwaitReady),
        StepRow::new(FinishMove),
    ];
    match phase {
        OperationPhase::Put => PUT,
        OperationPhase::Upgrade(_) => UPGRADE,
        OperationPhase::Move(_) => MOVE,
        OperationPhase::Stop => STOP,
        OperationPhase::Forget => FORGET,
        OperationPhase::DropPrevious => DROP_PREVIOUS,
        OperationPhase::Snapshot(_) => SNAPSHOT,
        OperationPhase::Restore(..) => RESTORE,
        // What replaces a backend is put once its predecessor is gone.
        OperationPhase::Remove | OperationPhase::Replace(..) => REMOVE,
    }
}

/// Returns whether a backend needs a step.
fn applies(phase: &OperationPhase, step: OperationStep, row: &BackendRow) -> bool {
    let is_removal = matches!(phase, OperationPhase::Remove | OperationPhase::Replace(..));
    let keeps_state =
        is_removal || matches!(phase, OperationPhase::Snapshot(_) | OperationPhase::Restore(..) | OperationPhase::Upgrade(_));
    match step {
        OperationStep::CopyData | OperationStep::WriteSnapshot if is_removal => removal::awaits_snapshot(&row.references),
        // What was stopped on purpose stays so.
        OperationStep::Ensure | OperationStep::AwaitReady | OperationStep::SetEnvironment if keeps_state && row.stopped => {
            false
        }
        OperationStep::RestartSource => !row.stopped,
        OperationStep::PrepareStorage => {
            let spec = if let OperationPhase::Move(put) = phase { &put.spec } else { &row.spec };
            // A move that could not be undone has left a lock.
            let is_locked = matches!(phase, OperationPhase::Put) && row.references.contains_key(MOVE_LOCK);
            spec.has_own_server() || spec.has_buckets() || is_locked
        }
        OperationStep::ReleaseStorage => row.spec.has_own_server() || row.spec.has_buckets(),
        // What is only recorded answers nothing.
        OperationStep::AwaitReady => !row.spec.is_record_only(),
        OperationStep::SetEnvironment => {
            !row.spec.is_record_only() && (!row.spec.env.is_empty() || unset_variables(row).next().is_some())
        }
        OperationStep::Ensure
        | OperationStep::Remove
        | OperationStep::Stop
        | OperationStep::SetAside
        | OperationStep::CopyData
        | OperationStep::WriteSnapshot
        | OperationStep::StageData
        | OperationStep::SwitchData
        | OperationStep::ConfirmData
        | OperationStep::RevertData
        | OperationStep::DropPrevious
        | OperationStep::StartRelease
        | OperationStep::PrepareMove
        | OperationStep::LockSource
        | OperationStep::CopyRows
        | OperationStep::VerifyRows
        | OperationStep::PublishTarget
        | OperationStep::FinishMove
        | OperationStep::RevertMove => true,
    }
}

/// Returns the steps of a table that can be undone, each with the step that undoes it, the last one first.
pub(super) fn undo_steps(
    table: &'static [StepRow],
    phase: &OperationPhase,
    row: &BackendRow,
) -> impl Iterator<Item = (OperationStep, OperationStep)> {
    let undone = table.iter().rev().filter(|entry| applies(phase, entry.step, row));
    undone.filter_map(|entry| Some((entry.step, entry.undo?))).filter(|(_, undo)| applies(phase, *undo, row))
}

/// Returns the step that follows another one of those that undo a step.
pub(super) fn next_undo_step(
    table: &'static [StepRow],
    phase: &OperationPhase,
    undoing: OperationStep,
    after: OperationStep,
    row: &BackendRow,
) -> Option<OperationStep> {
    let entry = table.iter().find(|entry| entry.step == undoing)?;
    let start = if entry.undo == Some(after) { 0 } else { entry.then.iter().position(|step| *step == after)? + 1 };
    entry.then.iter().skip(start).copied().find(|step| applies(phase, *step, row))
}

/// Writes the result of a step into the record of its backend, and returns what follows.
pub(super) fn record_result(phase: &OperationPhase, row: &mut BackendRow, result: EffectResult) -> Followup {
    Followup::Completed(match result {
        EffectResult::Failed(failure) => return Followup::Failed(failure),
        EffectResult::StoragePrepared => {
            if matches!(phase, OperationPhase::Put) {
                row.references.remove(MOVE_LOCK);
            }
            OperationStep::PrepareStorage
        }
        EffectResult::Ensured(state) => {
            note_state(row, state);
            OperationStep::Ensure
        }
        EffectResult::ReleaseStarted(state) => {
            note_state(row, state);
            OperationStep::StartRelease
        }
        EffectResult::Ready => {
            // From here on there is data to lose.
            row.has_been_ready = true;
            row.references.remove(UNUSED_PORTS);
            OperationStep::AwaitReady
        }
        EffectResult::EnvironmentSet => OperationStep::SetEnvironment,
        EffectResult::Stopped => OperationStep::Stop,
        EffectResult::SetAside => OperationStep::SetAside,
        EffectResult::Removed(place) => {
            removal::note_place(row, place);
            OperationStep::Remove
        }
        // Files without the database that names them cannot be used by any later backend.
        EffectResult::StorageReleased(DatabaseState::Gone)
            if row.spec.has_split_data() && removal::volume_disposal(&row.references) == VolumeReclaim::Retain =>
        {
            removal::delete_volume(row);
            return Followup::GoTo(OperationStep::Remove);
        }
        EffectResult::StorageReleased(_) => OperationStep::ReleaseStorage,
        EffectResult::DataCopied => OperationStep::CopyData,
        EffectResult::SnapshotWritten => {
            removal::snapshot_done(row);
            OperationStep::WriteSnapshot
        }
        EffectResult::DataStaged => OperationStep::StageData,
        EffectResult::DataSwitched(state) => {
            note_state(row, state);
            OperationStep::SwitchData
        }
        EffectResult::DataConfirmed(state) => {
            note_state(row, state);
            OperationStep::ConfirmData
        }
        EffectResult::DataReverted(state) => {
            note_state(row, state);
            OperationStep::RevertData
        }
        EffectResult::PreviousDropped(state) => {
            note_state(row, state);
            OperationStep::DropPrevious
        }
        EffectResult::Moved(part) => {
            if part == MoveStep::Revert {
                row.references.remove(MOVE_LOCK);
            }
            part.step()
        }
    })
}

fn note_state(row: &mut BackendRow, mut state: ProviderState) {
    for mark in removal::NOTES.into_iter().chain([MOVE_LOCK, UNUSED_PORTS]) {
        state.extend(row.references.remove_entry(mark));
    }
    row.references = state;
    row.references.remove(NEVER_ENSURED);
    allocation::take_noted_endpoints(row);
}

/// Returns the variables that were set before and are declared no more.
fn unset_variables(row: &BackendRow) -> impl Iterator<Item = &String> {
    row.managed_env.iter().filter(|name| !row.spec.env.contains_key(*name))
}

impl<S: Store> Authority<S> {
    /// Returns the step that follows another one, or the first one; none after the last.
    pub(super) fn next_step(
        &self,
        phase: &OperationPhase,
        after: Option<OperationStep>,
        row: &BackendRow,
    ) -> Option<OperationStep> {
        let table = (self.steps)(phase);
        let start = after.and_then(|step| table.iter().position(|entry| entry.step == step)).map_or(0, |position| position + 1);
        table.iter().skip(start).map(|entry| entry.step).find(|step| applies(phase, *step, row))
    }

    /// Returns what has to be performed for a step on a backend.
    pub(super) fn effect(
        &self,
        phase: &OperationPhase,
        step: OperationStep,
        row: &BackendRow,
    ) -> Result<Effect, AuthorityError> {
        if let OperationPhase::Move(put) = phase {
            return self.move_effect(put, step, row);
        }
        let backend = Box::new(self.resolve(row)?);
        Ok(match (step, phase) {
            (OperationStep::CopyData, OperationPhase::Snapshot(request)) => Effect::CopyData(backend, request.clone()),
            (OperationStep::WriteSnapshot, OperationPhase::Snapshot(request)) => {
                Effect::WriteSnapshot(backend, request.clone())
            }
            (OperationStep::CopyData | OperationStep::WriteSnapshot, OperationPhase::Remove | OperationPhase::Replace(..)) => {
                match (removal::snapshot_request(row), step) {
                    (Some(request), OperationStep::CopyData) => Effect::CopyData(backend, request),
                    (Some(request), _) => Effect::WriteSnapshot(backend, request),
                    (None, _) => Effect::Remove(backend),
                }
            }
            (OperationStep::CopyData, OperationPhase::Upgrade(upgrade)) => Effect::CopyData(backend, upgrade.request()),
            (OperationStep::WriteSnapshot, OperationPhase::Upgrade(upgrade)) => {
                Effect::WriteSnapshot(backend, upgrade.request())
            }
            (OperationStep::StageData, OperationPhase::Upgrade(upgrade)) => {
                Effect::StageData(backend, upgrade.snapshot().clone(), StartMode::AsItWas)
            }
            (OperationStep::SwitchData, OperationPhase::Upgrade(upgrade)) => {
                Effect::SwitchData(backend, upgrade.snapshot().clone())
            }
            (OperationStep::ConfirmData, OperationPhase::Upgrade(upgrade)) => {
                Effect::ConfirmData(backend, upgrade.snapshot().clone())
            }
            (OperationStep::StageData, OperationPhase::Restore(id, start, _)) => Effect::StageData(backend, id.clone(), *start),
            (OperationStep::SwitchData, OperationPhase::Restore(id, ..)) => Effect::SwitchData(backend, id.clone()),
            (OperationStep::ConfirmData, OperationPhase::Restore(id, ..)) => Effect::ConfirmData(backend, id.clone()),
            (OperationStep::RevertData, OperationPhase::Restore(id, ..)) => Effect::RevertData(backend, id.clone()),
            (step, _) => Self::plain_effect(step, backend, row),
        })
    }

    /// Returns what has to be performed for a step that is the same in every operation.
    pub(super) fn plain_effect(step: OperationStep, backend: Box<ResolvedBackend>, row: &BackendRow) -> Effect {
        match step {
            OperationStep::PrepareStorage => Effect::PrepareStorage(backend),
            OperationStep::Ensure
            // No other operation has a step with data of a snapshot.
            | OperationStep::CopyData
            | OperationStep::WriteSnapshot
            | OperationStep::StageData
            | OperationStep::SwitchData
            | OperationStep::ConfirmData
            | OperationStep::RevertData
            // Nor one of a move.
            | OperationStep::PrepareMove
            | OperationStep::LockSource
            | OperationStep::CopyRows
            | OperationStep::VerifyRows
            | OperationStep::PublishTarget
            | OperationStep::FinishMove
            | OperationStep::RevertMove
            | OperationStep::RestartSource => Effect::Ensure(backend),
            OperationStep::StartRelease => Effect::StartRelease(backend),
            OperationStep::AwaitReady => Effect::AwaitReady(backend),
            OperationStep::SetEnvironment => {
                let values = backend.secrets.iter();
                let set = values
                    .filter_map(|(path, value)| path.as_str().strip_prefix("env.").map(|name| (name.to_owned(), value.clone())))
                    .collect();
                let unset = unset_variables(row).cloned().collect();
                Effect::SetEnvironment(backend, EnvironmentTarget { set, unset })
            }
            OperationStep::Stop => Effect::Stop(backend),
            OperationStep::SetAside => Effect::SetAside(backend),
            OperationStep::DropPrevious => Effect::DropPrevious(backend),
            OperationStep::Remove => Effect::Remove(backend),
            OperationStep::ReleaseStorage => Effect::ReleaseStorage(backend, removal::database_disposal(row)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_persisted_numbers_grow_within_each_operation() {
        for phase in [OperationPhase::Put, OperationPhase::Stop, OperationPhase::Forget] {
            assert!(steps_of(&phase).is_sorted_by_key(|entry| entry.step), "{phase:?}");
        }
    }
}
