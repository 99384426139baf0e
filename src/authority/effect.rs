//! What the authority asks others to carry out, and how that ended, as data.
//!
//! Must not do: carry anything out.

use std::collections::{BTreeMap, BTreeSet};

use crate::api::OperationOutcome;
use crate::model::{DatabaseReclaim, Diagnostic, ProviderState, ResolvedBackend, Secret};

/// What has to happen outside the rows, as data.
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
    /// Take it away with its data.
    Remove(Box<ResolvedBackend>),
    /// Give its database back, or drop it, and name what stays in buckets. Nothing uses them any more.
    ReleaseStorage(Box<ResolvedBackend>, DatabaseReclaim),
}

/// The kinds of steps, in the order in which an operation takes them. The order is persisted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Step {
    /// Takes what is there away.
    Remove = 1,
    /// Releases its database and names what stays in buckets.
    ReleaseStorage = 2,
    /// Prepares its database and its buckets.
    PrepareStorage = 3,
    /// Has its provider bring it up.
    Ensure = 4,
    /// Waits until it is ready.
    AwaitReady = 5,
    /// Sets its Convex variables.
    SetEnvironment = 6,
    /// Stops it.
    Stop = 7,
}

impl Step {
    const ALL: [Self; 7] = [
        Self::Remove,
        Self::ReleaseStorage,
        Self::PrepareStorage,
        Self::Ensure,
        Self::AwaitReady,
        Self::SetEnvironment,
        Self::Stop,
    ];

    /// Returns the step of a persisted number; none for zero and for numbers that are not known.
    pub(super) fn from_number(number: u8) -> Option<Self> {
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
        }
    }

    /// Returns within how many seconds the step has to end. A first start may pull an image and migrate a large database.
    pub fn deadline_seconds(self) -> u64 {
        match self {
            Self::PrepareStorage | Self::ReleaseStorage | Self::SetEnvironment => 180,
            Self::Ensure => 45 * 60,
            Self::AwaitReady | Self::Remove => 15 * 60,
            Self::Stop => 5 * 60,
        }
    }
}

impl Effect {
    /// Returns the kind of step that this is.
    pub fn step(&self) -> Step {
        match self {
            Self::PrepareStorage(_) => Step::PrepareStorage,
            Self::Ensure(_) => Step::Ensure,
            Self::AwaitReady(_) => Step::AwaitReady,
            Self::SetEnvironment(..) => Step::SetEnvironment,
            Self::Stop(_) => Step::Stop,
            Self::Remove(_) => Step::Remove,
            Self::ReleaseStorage(..) => Step::ReleaseStorage,
        }
    }
}

/// What the Convex environment variables should be; all others are left alone.
#[derive(Debug, Clone, Default)]
pub struct EnvironmentTarget {
    /// Variables with these values.
    pub set: BTreeMap<String, Secret>,
    /// Variables that must not be there: ours from before.
    pub unset: BTreeSet<String>,
}

/// How an effect ended.
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
    /// It is gone. What was to stay of it is at this place, where the provider has a word for that.
    Removed(Option<String>),
    /// Its database was released, retained or dropped, where it had one.
    StorageReleased(DatabaseState),
    /// It did not work.
    Failed(EffectFailure),
}

/// Whether a database that was released is still there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DatabaseState {
    /// It is, or could not be looked at.
    Present,
    /// It was dropped, or was not there any more.
    Gone,
}

/// Why an effect did not work.
#[derive(Debug, Clone)]
pub struct EffectFailure {
    /// Why, for the user.
    pub finding: Diagnostic,
    /// What somebody else has that was allocated here, when that is why.
    pub conflict: Option<AllocationConflict>,
}

/// Something that was allocated and that somebody else turned out to have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AllocationConflict {
    /// A port.
    Port(u16),
    /// The name of an app.
    App,
}

/// What has to happen next.
#[derive(Debug)]
pub enum Transition {
    /// Carry this out and come back.
    Perform(Effect),
    /// The operation has ended.
    Ended(OperationOutcome),
}
