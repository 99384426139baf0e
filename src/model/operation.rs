//! Operations as clients see them.

use serde::{Deserialize, Serialize};

use super::access::Actor;
use super::diagnostic::Diagnostic;
use super::identifier::{OperationId, StepKey};
use super::name::BackendName;
use super::time::Timestamp;

/// One accepted piece of work, as far as it has come.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct OperationRecord {
    /// Its id.
    pub id: OperationId,
    /// The backend that it is about.
    pub backend: BackendName,
    /// What is done to it.
    pub kind: OperationKind,
    /// The step of the plan that asked for it.
    pub step: StepKey,
    /// Who asked for it.
    pub actor: Actor,
    /// When it was accepted.
    pub accepted_at: Timestamp,
    /// When it ended.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub ended_at: Option<Timestamp>,
    /// How far it has come.
    pub state: OperationState,
    /// The furthest step that a running operation has begun.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub progress: Option<OperationStep>,
    /// Why it failed, when it did.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub error: Option<Diagnostic>,
}

/// What an operation does to its backend.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum OperationKind {
    /// Makes it what a specification says.
    Put,
    /// Takes it away with its data.
    Remove,
    /// Stops it and leaves everything that belongs to it.
    Stop,
    /// Starts it again.
    Start,
    /// Drops its record and leaves everything else where it is.
    Forget,
    /// Gives it another instance secret, and so another admin key.
    RotateKey,
    /// Takes a snapshot of its data.
    Snapshot,
    /// Replaces its data by that of a snapshot.
    Restore,
    /// Deletes the data that a restore has replaced.
    DropPrevious,
}

impl OperationKind {
    /// The word in the store and on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Put => "put",
            Self::Remove => "remove",
            Self::Stop => "stop",
            Self::Start => "start",
            Self::Forget => "forget",
            Self::RotateKey => "rotate_key",
            Self::Snapshot => "snapshot",
            Self::Restore => "restore",
            Self::DropPrevious => "drop_previous",
        }
    }

    /// Returns the kind of a word; none for one that is not known.
    pub fn parse(word: &str) -> Option<Self> {
        let all = [
            Self::Put,
            Self::Remove,
            Self::Stop,
            Self::Start,
            Self::Forget,
            Self::RotateKey,
            Self::Snapshot,
            Self::Restore,
            Self::DropPrevious,
        ];
        all.into_iter().find(|kind| kind.as_str() == word)
    }
}

/// Names the steps of all operations. Their numbers are persisted, and grow in the order in which an operation
/// takes them; only what brings a backend up again after its data was copied or replaced, and what removes it after its last
/// snapshot, counts as no progress.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum OperationStep {
    /// Removes what exists.
    Remove = 1,
    /// Releases its database and names what stays in buckets.
    ReleaseStorage = 2,
    /// Prepares its database and its buckets.
    PrepareStorage = 3,
    /// Has its provider create or update it.
    Ensure = 4,
    /// Waits until it is ready.
    AwaitReady = 5,
    /// Sets its Convex variables.
    SetEnvironment = 6,
    /// Stops it.
    Stop = 7,
    /// Stops it and sets it aside, where its place goes with its record.
    SetAside = 8,
    /// Stops it and copies its database.
    CopyData = 9,
    /// Writes a snapshot from the copy.
    WriteSnapshot = 10,
    /// Writes the data of a snapshot beside that of the backend.
    StageData = 11,
    /// Stops it and puts the staged data into the place of its own.
    SwitchData = 12,
    /// Stops it and puts the data from before into its place again.
    RevertData = 13,
    /// Notes that the data of the snapshot has come up.
    ConfirmData = 14,
    /// Has its provider bring it up with another release.
    StartRelease = 15,
    /// Deletes the data that a restore has replaced and kept.
    DropPrevious = 16,
    /// Checks the source of a move and makes its target.
    PrepareMove = 30,
    /// Stops it and locks the source of a move.
    LockSource = 31,
    /// Copies the rows of a move.
    CopyRows = 32,
    /// Compares the digests of both sides of a move.
    VerifyRows = 33,
    /// Lets backends start on the target of a move.
    PublishTarget = 34,
    /// Says where the source of a move stays.
    FinishMove = 35,
    /// Gives the source of a move back.
    RevertMove = 36,
    /// Brings it up again where its data was before a move.
    RestartSource = 37,
}

impl OperationStep {
    const ALL: [Self; 24] = [
        Self::Remove,
        Self::ReleaseStorage,
        Self::PrepareStorage,
        Self::Ensure,
        Self::AwaitReady,
        Self::SetEnvironment,
        Self::Stop,
        Self::SetAside,
        Self::CopyData,
        Self::WriteSnapshot,
        Self::StageData,
        Self::SwitchData,
        Self::RevertData,
        Self::ConfirmData,
        Self::StartRelease,
        Self::DropPrevious,
        Self::PrepareMove,
        Self::LockSource,
        Self::CopyRows,
        Self::VerifyRows,
        Self::PublishTarget,
        Self::FinishMove,
        Self::RevertMove,
        Self::RestartSource,
    ];

    /// Returns the step of a persisted number; none for zero and for numbers that are not known.
    pub fn from_number(number: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|step| *step as u8 == number)
    }

    /// Returns the words for it in messages.
    pub fn label(self) -> &'static str {
        match self {
            Self::Remove => "removing it",
            Self::ReleaseStorage => "releasing its storage",
            Self::PrepareStorage => "preparing its storage",
            Self::Ensure => "bringing it up",
            Self::AwaitReady => "waiting until it is ready",
            Self::SetEnvironment => "setting its variables",
            Self::Stop => "stopping it",
            Self::SetAside => "setting it aside",
            Self::CopyData => "copying its database",
            Self::WriteSnapshot => "writing the snapshot",
            Self::StageData => "writing the data of the snapshot",
            Self::SwitchData => "switching to the data of the snapshot",
            Self::ConfirmData => "noting that the data of the snapshot has come up",
            Self::RevertData => "going back to the data from before",
            Self::StartRelease => "starting the new release",
            Self::DropPrevious => "deleting the data from before",
            Self::PrepareMove => "preparing the place that its data moves to",
            Self::LockSource => "stopping it and locking the place that its data moves from",
            Self::CopyRows => "copying its rows",
            Self::VerifyRows => "comparing the digests of its rows",
            Self::PublishTarget => "releasing the place that its data moves to",
            Self::FinishMove => "ending the move",
            Self::RevertMove => "going back to the place that its data was in",
            Self::RestartSource => "bringing it up where its data was",
        }
    }

    /// Returns the deadline of the step in seconds. A first start may pull an image and migrate a large database.
    pub fn deadline_seconds(self) -> u64 {
        match self {
            Self::PrepareStorage | Self::ReleaseStorage | Self::SetEnvironment | Self::ConfirmData | Self::FinishMove => 180,
            Self::Ensure | Self::StartRelease | Self::RestartSource => 45 * 60,
            Self::AwaitReady | Self::Remove | Self::DropPrevious => 15 * 60,
            Self::Stop | Self::SetAside | Self::PrepareMove | Self::LockSource | Self::PublishTarget | Self::RevertMove => {
                5 * 60
            }
            Self::CopyData | Self::SwitchData | Self::RevertData => 60 * 60,
            Self::WriteSnapshot | Self::StageData => 12 * 60 * 60,
            Self::CopyRows | Self::VerifyRows => 48 * 60 * 60,
        }
    }
}

/// How far an operation has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum OperationState {
    /// It has not ended.
    Running,
    /// It ended well.
    Done,
    /// It could not be done.
    Failed,
}
