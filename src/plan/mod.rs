//! Desired × Actual → Plan: everything that apply will do, decided in advance, as plain data.
//!
//! No IO, clocks or randomness, which `tests/architecture` holds: the same input gives the same plan, byte for byte.

mod build;
mod cost;
mod diff;
mod drift;
mod env_file_steps;
mod graph;
mod limits;
mod lint;
mod moves;
mod origin_claims;
mod quota_schedule;
mod quota_search;
mod reason;
mod remote_lints;
mod rename;
mod room;
mod staleness;
mod validate;

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::model::{
    Address, BackendName, BackendSpec, DataSize, DatabaseReclaim, Diagnostic, Digest, DowngradeConsent, EnvFileTarget,
    FieldDrift, FieldPath, FinalSnapshot, MoveConsent, ProjectName, Revision, Timestamp, VolumeReclaim,
};

#[cfg(feature = "native")]
pub(crate) use crate::policy::RELEASE_ORDER_UNKNOWN;
pub use crate::policy::{ChangeImpact, FieldChange, Upgrade, WayBack};
pub use build::{BackendSelection, ObservedState, PlanOptions, build};
pub use cost::{BackendCost, CostSum, PlanCost, Price};
pub use drift::{DriftReport, UnobservedBackend, detect_drift};
pub use limits::destruction_refusals;
pub use lint::{ENV_FILE_UNNAMED, NOT_OBSERVED, RENAME_UNDECLARED, SECRET_MISSING, SECRET_NOT_COMPARED, missing_binary};
pub use moves::PlannedMove;
pub use reason::Reason;
pub use room::add_crowded_rooms;
pub use staleness::still_matches;
pub use validate::{PlanError, validate};

/// The format that a plan document starts with. Additions keep the number.
pub const FORMAT: &str = "convexinfra.plan/1";

/// What stands where a value is not known before apply has run.
pub const KNOWN_AFTER_APPLY: &str = "(known after apply)";

/// Everything that apply will do, with reasons.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[must_use = "a plan does nothing by itself"]
pub struct Plan {
    /// Always `convexinfra.plan/1`.
    pub format: String,
    /// The project.
    pub project: ProjectName,
    /// The control plane that the plan was made against: `embedded` or its URL.
    pub control_plane: String,
    /// The revision of the project that the plan was made from; apply is refused when it has moved.
    pub base: Revision,
    /// The digest of the manifest's bytes.
    pub manifest: Digest,
    /// The digest of this document without this field.
    pub digest: Digest,
    /// How many steps of each kind there are.
    pub summary: Summary,
    /// What will be done, in an order in which it could be done one by one.
    pub steps: Vec<Step>,
    /// What differs from what was last applied without a change of the manifest.
    pub drift: Vec<DriftItem>,
    /// What stands in the way: with a single one, nothing at all is done.
    pub refusals: Vec<Diagnostic>,
    /// What is worth a look.
    pub lints: Vec<Diagnostic>,
    /// The backends that apply destroys only with `--allow-destroy NAME`. It follows from the steps.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub needs_allow_destroy: Vec<BackendName>,
    /// What the backends cost at their providers, where those send a bill. It follows from the steps.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub cost: Option<PlanCost>,
    /// The data that is lost with the backends that are destroyed. It grows by itself, so it is not a part of the digest.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub at_stake: Vec<DataAtStake>,
    /// The backends that get another release on their data. It follows from the steps.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub upgrades: Vec<PlannedUpgrade>,
    /// The moves of data, and what is done for each. It follows from the steps and from what the data takes now.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub data_moves: Vec<PlannedMove>,
}

/// Describes the upgrade of one backend.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct PlannedUpgrade {
    /// The backend.
    pub backend: BackendName,
    /// What is upgraded to what, and how it is taken back.
    #[serde(flatten)]
    pub upgrade: Upgrade,
}

/// Describes the data of a backend that is destroyed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct DataAtStake {
    /// The backend.
    pub backend: BackendName,
    /// What its data takes on a disk; absent where that is not known.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub size: Option<DataSize>,
    /// When its newest snapshot was taken; absent where there is none.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub last_snapshot: Option<Timestamp>,
    /// Whether a last snapshot is taken first; absent in plans from before that was said.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub final_snapshot: Option<FinalSnapshot>,
}

/// How many steps of each kind a plan has.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Summary {
    /// Steps that create.
    pub create: usize,
    /// Steps that change something in place or by a restart.
    pub update: usize,
    /// Steps that rename a backend, and steps that move data or would have to.
    #[serde(rename = "move")]
    pub moves: usize,
    /// Steps that destroy.
    pub destroy: usize,
    /// Steps that write an env file.
    pub write: usize,
}

/// One node of the plan's graph.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Step {
    /// Its name inside this plan.
    pub id: StepId,
    /// What it is about.
    pub address: Address,
    /// What is done to it.
    pub action: Action,
    /// Why.
    pub reason: Reason,
    /// What changes.
    pub changes: Vec<FieldChange>,
    /// The steps that must have ended well before this one starts.
    pub after: Vec<StepId>,
    /// Whether data is lost by it.
    pub destroys_data: bool,
    /// For an env file: what changes in it, as a unified diff without values that are secret or not ours.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub difference: Option<String>,
    /// What is sent to carry it out. It follows from everything above, so it is not part of the document.
    #[serde(skip)]
    pub task: Option<Task>,
}

/// The name of a step inside its plan: the address and what is done to it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(transparent)]
pub struct StepId(String);

impl StepId {
    /// The step that does `action` to `address`; a plan does at most one thing to one address.
    pub fn new(action: Action, address: &Address) -> Self {
        Self(format!("{}:{address}", action.as_str()))
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// What is done to an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Action {
    /// It is made.
    Create,
    /// It is changed in place or by a restart.
    Update,
    /// Its data moves to another place. Where that is not possible, the plan is refused.
    Move,
    /// It is taken away.
    Destroy,
    /// An env file is written.
    Write,
}

impl Action {
    /// The word in the document.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Create => "create",
            Self::Update => "update",
            Self::Move => "move",
            Self::Destroy => "destroy",
            Self::Write => "write",
        }
    }
}

/// What is sent to carry a step out.
#[derive(Debug, Clone, PartialEq)]
pub enum Task {
    /// Make a backend what this specification says.
    Put {
        /// The backend.
        backend: BackendName,
        /// What it should be.
        spec: Box<BackendSpec>,
        /// The name that it had before, when it was renamed.
        renamed_from: Option<BackendName>,
        /// Whether its release may be one of unknown age.
        downgrade: DowngradeConsent,
        /// Whether its data may move to another place.
        moves: MoveConsent,
    },
    /// Take a backend away.
    Remove {
        /// The backend.
        backend: BackendName,
        /// What becomes of its volume.
        volume: VolumeReclaim,
        /// What becomes of its database on a server of the user's own.
        database: DatabaseReclaim,
        /// Whether a last snapshot is taken first.
        final_snapshot: bool,
    },
    /// Write the coordinates of a backend into its env file.
    WriteEnvFile {
        /// The backend.
        backend: BackendName,
        /// The file.
        target: EnvFileTarget,
    },
    /// Take our lines out of an env file.
    ClearEnvFile {
        /// The backend.
        backend: BackendName,
        /// The file.
        target: EnvFileTarget,
    },
}

/// One difference between what was last applied and what is seen.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct DriftItem {
    /// What it is about.
    pub address: Address,
    /// The field, or what only a provider sees, such as `process`.
    pub path: FieldPath,
    /// What was last applied.
    pub recorded: String,
    /// What is seen.
    pub observed: String,
}

impl DriftItem {
    /// A deviation of one address.
    pub fn new(address: Address, deviation: FieldDrift) -> Self {
        Self { address, path: deviation.path, recorded: deviation.recorded, observed: deviation.observed }
    }
}

impl Plan {
    /// Whether there is nothing to do.
    pub fn is_empty(&self) -> bool {
        self.steps.is_empty()
    }

    /// Whether every step only repairs drift.
    pub fn is_only_drift(&self) -> bool {
        !self.steps.is_empty() && self.steps.iter().all(|step| step.reason == Reason::Drift)
    }

    /// The backends whose data this plan destroys, or that it takes away.
    pub fn destroyed(&self) -> BTreeSet<&BackendName> {
        self.steps.iter().filter(|step| step.action == Action::Destroy).map(|step| &step.address.backend).collect()
    }

    /// The digest of everything but the digest itself.
    pub fn compute_digest(&self) -> Digest {
        Digest::of_json(&(
            &self.format,
            &self.project,
            &self.control_plane,
            &self.base,
            &self.manifest,
            &self.steps,
            &self.drift,
            &self.refusals,
        ))
    }
}

#[cfg(test)]
mod cost_tests;
#[cfg(test)]
mod env_file_tests;
#[cfg(test)]
mod removal_tests;
#[cfg(test)]
mod secret_tests;
#[cfg(test)]
mod tests;
