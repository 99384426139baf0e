//! The effects that the executor performs for the authority, and their results, as data.
//!
//! Must not do: perform an effect.

use std::collections::{BTreeMap, BTreeSet};

use crate::api::{OperationOutcome, StartMode};
use crate::model::{
    DatabaseReclaim, Diagnostic, OperationStep, ProviderState, Release, ResolvedBackend, Secret, SnapshotId, Timestamp,
};

/// Describes what has to be performed outside the rows.
#[derive(Debug)]
pub enum Effect {
    /// See to it that its database and its buckets are there and can be used.
    PrepareStorage(Box<ResolvedBackend>),
    /// Bring the backend up.
    Ensure(Box<ResolvedBackend>),
    /// Wait until it answers as itself and accepts its key.
    AwaitReady(Box<ResolvedBackend>),
    /// Set its Convex environment variables.
    SetEnvironment(Box<ResolvedBackend>, EnvironmentTarget),
    /// Stop it, and leave everything that belongs to it.
    Stop(Box<ResolvedBackend>),
    /// Stop it, and set aside what belongs to it: its record goes.
    SetAside(Box<ResolvedBackend>),
    /// Take it away with its data.
    Remove(Box<ResolvedBackend>),
    /// Give its database back, or drop it, and name what stays in buckets. Nothing uses them any more.
    ReleaseStorage(Box<ResolvedBackend>, DatabaseReclaim),
    /// Stop it and copy its database.
    CopyData(Box<ResolvedBackend>, SnapshotRequest),
    /// Write a snapshot from the copy and its files.
    WriteSnapshot(Box<ResolvedBackend>, SnapshotRequest),
    /// Write the data of a snapshot beside its own.
    StageData(Box<ResolvedBackend>, SnapshotId, StartMode),
    /// Stop it and put the staged data into the place of its own, which stays beside it.
    SwitchData(Box<ResolvedBackend>, SnapshotId),
    /// Note that the data of the snapshot has come up.
    ConfirmData(Box<ResolvedBackend>, SnapshotId),
    /// Stop it and put its data from before into its place again.
    RevertData(Box<ResolvedBackend>, SnapshotId),
    /// Delete the data that its last restore has replaced and kept.
    DropPrevious(Box<ResolvedBackend>),
    /// Bring it up with another release. A snapshot of its data is there.
    StartRelease(Box<ResolvedBackend>),
    /// Do one part of a move of its rows to another database.
    Move(MoveStep, Box<DataMove>),
}

/// Describes a move of the rows of a backend to another database.
#[derive(Debug, Clone)]
pub struct DataMove {
    /// The backend as it is recorded, which it is until the move has ended.
    pub source: ResolvedBackend,
    /// The backend as it will be.
    pub target: ResolvedBackend,
}

/// Names one part of a move.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MoveStep {
    /// Check the source, and make the target.
    Prepare,
    /// Stop the backend, and lock the source.
    Lock,
    /// Copy all rows, from the beginning.
    Copy,
    /// Compare the digests of both sides.
    Verify,
    /// Let backends start on the target.
    Publish,
    /// Say where the source stays.
    Finish,
    /// Stop what runs on the target, lock that, and give the source back.
    Revert,
}

impl MoveStep {
    /// Returns the kind of step that this is.
    pub fn step(self) -> OperationStep {
        match self {
            Self::Prepare => OperationStep::PrepareMove,
            Self::Lock => OperationStep::LockSource,
            Self::Copy => OperationStep::CopyRows,
            Self::Verify => OperationStep::VerifyRows,
            Self::Publish => OperationStep::PublishTarget,
            Self::Finish => OperationStep::FinishMove,
            Self::Revert => OperationStep::RevertMove,
        }
    }

    /// Returns the part of a move that a step is.
    pub(super) fn of(step: OperationStep) -> Option<Self> {
        let all = [Self::Prepare, Self::Lock, Self::Copy, Self::Verify, Self::Publish, Self::Finish, Self::Revert];
        all.into_iter().find(|part| part.step() == step)
    }
}

/// Describes a snapshot that is to be taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SnapshotRequest {
    /// Its name.
    pub id: SnapshotId,
    /// A note of the user.
    pub note: Option<String>,
    /// When it was asked for.
    pub created_at: Timestamp,
    /// Why it is taken.
    pub purpose: SnapshotPurpose,
}

/// Names why a snapshot is taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SnapshotPurpose {
    /// It was asked for. The backend runs again before it is written.
    Asked,
    /// The backend is about to be upgraded from the one release, where that is known, to the other.
    Upgrade(Option<Release>, Release),
    /// The backend is about to be removed.
    Removal,
}

impl Effect {
    /// Returns the kind of step that this is.
    pub fn step(&self) -> OperationStep {
        match self {
            Self::PrepareStorage(_) => OperationStep::PrepareStorage,
            Self::Ensure(_) => OperationStep::Ensure,
            Self::AwaitReady(_) => OperationStep::AwaitReady,
            Self::SetEnvironment(..) => OperationStep::SetEnvironment,
            Self::Stop(_) => OperationStep::Stop,
            Self::SetAside(_) => OperationStep::SetAside,
            Self::Remove(_) => OperationStep::Remove,
            Self::ReleaseStorage(..) => OperationStep::ReleaseStorage,
            Self::CopyData(..) => OperationStep::CopyData,
            Self::WriteSnapshot(..) => OperationStep::WriteSnapshot,
            Self::StageData(..) => OperationStep::StageData,
            Self::SwitchData(..) => OperationStep::SwitchData,
            Self::ConfirmData(..) => OperationStep::ConfirmData,
            Self::RevertData(..) => OperationStep::RevertData,
            Self::DropPrevious(_) => OperationStep::DropPrevious,
            Self::StartRelease(_) => OperationStep::StartRelease,
            Self::Move(part, _) => part.step(),
        }
    }
}

/// Describes the Convex environment variables that should be set; unmanaged ones are left alone.
#[derive(Debug, Clone, Default)]
pub struct EnvironmentTarget {
    /// Variables with these values.
    pub set: BTreeMap<String, Secret>,
    /// Variables that must not be there: ours from before.
    pub unset: BTreeSet<String>,
}

/// Describes how an effect ended.
#[derive(Debug)]
pub enum EffectResult {
    /// The database and the buckets can be used.
    StoragePrepared,
    /// The backend is up, and this is what the provider wants to remember.
    Ensured(ProviderState),
    /// It answers as itself.
    Ready,
    /// Its variables are set.
    EnvironmentSet,
    /// It does not run any more.
    Stopped,
    /// What belongs to it is set aside.
    SetAside,
    /// It is gone. What was to stay of it is at this place, where the provider has a word for that.
    Removed(Option<String>),
    /// Its database was released, retained or dropped, where it had one.
    StorageReleased(DatabaseState),
    /// It does not run, and its database is copied.
    DataCopied,
    /// The snapshot is there.
    SnapshotWritten,
    /// The data from before its last restore is gone; this is what the provider wants to remember.
    PreviousDropped(ProviderState),
    /// The data of the snapshot is beside its own.
    DataStaged,
    /// It does not run, and its data is that of the snapshot; this is what the provider wants to remember, as below.
    DataSwitched(ProviderState),
    /// The data of the snapshot is its own for good.
    DataConfirmed(ProviderState),
    /// It does not run, and its data is that from before.
    DataReverted(ProviderState),
    /// It is up with the new release, and this is what the provider wants to remember.
    ReleaseStarted(ProviderState),
    /// This part of a move is done.
    Moved(MoveStep),
    /// It did not work.
    Failed(EffectFailure),
}

impl EffectResult {
    /// Returns the failure of an effect that no other allocation would prevent.
    pub fn failed(finding: Diagnostic) -> Self {
        Self::Failed(finding.into())
    }
}

/// Says whether a database that was released is still there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DatabaseState {
    /// It is, or could not be looked at.
    Present,
    /// It was dropped, or was not there any more.
    Gone,
}

/// Describes why an effect failed.
#[derive(Debug, Clone)]
pub struct EffectFailure {
    /// Why, for the user.
    pub finding: Diagnostic,
    /// The allocation that conflicts with another owner, where that is why.
    pub conflict: Option<AllocationConflict>,
}

impl From<Diagnostic> for EffectFailure {
    fn from(finding: Diagnostic) -> Self {
        Self { finding, conflict: None }
    }
}

/// Names an allocation that conflicts with another owner.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AllocationConflict {
    /// A port.
    Port(u16),
    /// The name of an app.
    App,
}

/// Describes the next step of an operation, or its end.
#[derive(Debug)]
pub enum Transition {
    /// Carry this out and come back.
    Perform(Effect),
    /// The operation has ended.
    Ended(OperationOutcome),
}
