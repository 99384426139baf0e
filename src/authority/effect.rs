//! What the authority asks others to carry out, and how that ended, as data.
//!
//! Must not do: carry anything out.

use std::collections::{BTreeMap, BTreeSet};

use crate::api::OperationOutcome;
use crate::model::{DatabaseReclaim, Diagnostic, ProviderState, ResolvedBackend, Secret};

/// What has to happen outside the rows, as data.
#[derive(Debug)]
pub enum Effect {
    /// See to it that its database is there and its own, on the server that it is to use.
    PrepareDatabase(Box<ResolvedBackend>),
    /// Bring the backend up.
    Ensure(Box<ResolvedBackend>),
    /// Wait until it answers as itself and accepts its key.
    AwaitReady(Box<ResolvedBackend>),
    /// Set its Convex environment variables.
    SetEnvironment(Box<ResolvedBackend>, EnvironmentTarget),
    /// Take it away with its data.
    Remove(Box<ResolvedBackend>),
    /// Give its database back, or drop it. Nothing uses it any more.
    ReleaseDatabase(Box<ResolvedBackend>, DatabaseReclaim),
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
    /// The database can be used.
    DatabasePrepared,
    /// The backend is up, and this is what the provider wants to remember.
    Ensured(ProviderState),
    /// It answers as itself.
    Ready,
    /// Its variables are set.
    EnvironmentSet,
    /// It is gone.
    Removed,
    /// Its database is somebody else's to use, or gone.
    DatabaseReleased,
    /// It did not work.
    Failed(EffectFailure),
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
