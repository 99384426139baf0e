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
        }
    }

    /// Returns the kind of a word; none for one that is not known.
    pub fn parse(word: &str) -> Option<Self> {
        [Self::Put, Self::Remove, Self::Stop, Self::Start, Self::Forget].into_iter().find(|kind| kind.as_str() == word)
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
