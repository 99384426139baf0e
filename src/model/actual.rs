//! What the control plane says there is.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::access::Scope;
use super::diagnostic::Diagnostic;
use super::field::FieldPath;
use super::fingerprint::Fingerprint;
use super::identifier::{BackendId, Generation, Revision};
use super::name::{BackendName, InstanceName, ProjectName};
use super::operation::OperationRecord;
use super::provider::ProviderKind;
use super::quota::Quota;
use super::reclaim::ReclaimPolicy;
use super::release::Release;
use super::spec::BackendSpec;
use super::time::Timestamp;

/// One project as the control plane sees it at one moment.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Snapshot {
    /// The project.
    pub project: ProjectName,
    /// How often its record has changed; zero for a project that the control plane does not know yet.
    pub revision: Revision,
    /// Who answers.
    pub control_plane: ControlPlaneInfo,
    /// Where the project was last applied from.
    pub origin: Option<String>,
    /// Its backends.
    pub backends: Vec<ActualBackend>,
    /// What the control plane allows the project at most.
    #[serde(default)]
    pub quota: Quota,
    /// The operations that have not ended.
    #[serde(default)]
    pub operations: Vec<OperationRecord>,
    /// What destroyed backends left behind.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub retained: Vec<RetainedData>,
    /// The backends that were removed because their time was over and were not asked for since, and when it was.
    #[serde(skip_serializing_if = "BTreeMap::is_empty", default)]
    pub expired: BTreeMap<BackendName, Timestamp>,
}

impl Snapshot {
    /// Returns the backend of this name.
    pub fn backend(&self, name: &BackendName) -> Option<&ActualBackend> {
        self.backends.iter().find(|backend| backend.name == *name)
    }

    /// Indexes the backends by name, for walks that look up many of them.
    pub fn by_name(&self) -> BTreeMap<&BackendName, &ActualBackend> {
        self.backends.iter().map(|backend| (&backend.name, backend)).collect()
    }
}

/// Who answers for a project, and what it can carry out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct ControlPlaneInfo {
    /// `embedded`, or the URL.
    pub name: String,
    /// The providers that it can carry out.
    pub providers: Vec<ProviderKind>,
    /// What it does about backends whose time is over.
    #[serde(default)]
    pub expiry: Expiry,
    /// The scope of the token that asked; none where no token is needed.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub scope: Option<Scope>,
}

/// What a control plane does about backends whose time is over.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Expiry {
    /// It only shows it: it has no process that goes on when a command ends.
    #[default]
    Recorded,
    /// It removes them with their data, unless they are protected.
    Enforced,
}

impl ControlPlaneInfo {
    /// The name of the one in the command itself.
    pub const EMBEDDED: &'static str = "embedded";

    /// Whether it goes on with its work after the command that asked for it has ended.
    pub fn outlives_commands(&self) -> bool {
        self.name != Self::EMBEDDED
    }
}

/// One backend: what was last asked of it, and what is seen of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct ActualBackend {
    /// Its identity across renames.
    pub id: BackendId,
    /// Its name now.
    pub name: BackendName,
    /// What its process calls itself.
    pub instance_name: InstanceName,
    /// What was last asked of it.
    pub recorded: BackendSpec,
    /// The newest release that was ever asked for, which may not be the one recorded now.
    pub newest_release: Option<Release>,
    /// The day on which the build was made that last ran on its data, `YYYY-MM-DD`, where its provider knows it.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub built_on: Option<String>,
    /// The fingerprints of the secrets that went with it.
    pub secrets: BTreeMap<FieldPath, Fingerprint>,
    /// How far that got.
    pub phase: Phase,
    /// How often its specification has changed.
    pub generation: Generation,
    /// Where clients reach it, once allocated.
    pub endpoints: Option<Endpoints>,
    /// The URL by which this machine reaches it, known only to an embedded control plane, and sent to no one.
    #[serde(skip)]
    pub internal_url: Option<String>,
    /// Where its dashboard is, once there is one.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub dashboard_url: Option<String>,
    /// The region that it came to be in, where its provider chose among several.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub region: Option<String>,
    /// The fingerprint of its admin key, once issued.
    pub admin_key: Option<Fingerprint>,
    /// What its removal was begun with; there only while it goes.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub removal: Option<ReclaimPolicy>,
    /// When it was first asked for.
    pub created_at: Timestamp,
    /// When the control plane may remove it by itself.
    pub expires_at: Option<Timestamp>,
    /// Whether it was stopped on purpose.
    #[serde(skip_serializing_if = "std::ops::Not::not", default)]
    pub stopped: bool,
    /// What is seen of it now.
    pub observation: Observation,
    /// The names of Convex environment variables that it has and that no manifest set; they are left alone. Looked for
    /// only where some were asked for.
    #[serde(skip_serializing_if = "BTreeSet::is_empty", default)]
    #[serde(rename = "other_variables")]
    pub unmanaged_env: BTreeSet<String>,
    /// Why it could not be looked at, where that failed and the control plane says why.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    #[serde(rename = "unseen")]
    pub observe_error: Option<Diagnostic>,
    /// What its data takes on a disk, where that could be looked at.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub data_size: Option<DataSize>,
    /// When its newest snapshot was taken, where there is one.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub last_snapshot: Option<Timestamp>,
    /// Whether a snapshot of it can be taken here.
    #[serde(skip_serializing_if = "std::ops::Not::not", default)]
    pub takes_snapshots: bool,
}

/// What the data of a backend takes on a disk.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct DataSize {
    /// The bytes of its database, with its history.
    pub database_bytes: u64,
    /// How many files it has.
    pub files: u64,
    /// Their bytes.
    pub file_bytes: u64,
}

impl ActualBackend {
    /// Why nothing is known of it now; none where something is.
    pub fn observe_failure(&self) -> Option<Diagnostic> {
        (self.observation.state == RunState::Unknown).then(|| {
            let unsaid = || Diagnostic::new("provider.unreachable", "its provider did not answer");
            self.observe_error.clone().unwrap_or_else(unsaid)
        })
    }
}

/// Data that a backend left behind when it was destroyed, and that the next backend of its name takes up again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct RetainedData {
    /// The backend that it is of.
    pub name: BackendName,
    /// Its identity, which comes back with it.
    pub id: BackendId,
    /// What its process called itself.
    pub instance_name: InstanceName,
    /// Where it ran.
    pub provider: ProviderKind,
    /// The database on a server of the user's own that is a part of it.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub database: Option<String>,
    /// Where its files are, as far as the provider has a word for it.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub place: Option<String>,
    /// When the backend was destroyed.
    pub retained_at: Timestamp,
}

/// How far the last operation on a backend got.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// It was asked for and has never been ready.
    Creating,
    /// It was ready before, and an operation on it has not ended.
    Updating,
    /// The last operation ended well.
    Ready,
    /// The last operation failed.
    Failed,
    /// It was asked to go and is not gone.
    Removing,
}

/// Where clients reach a backend.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Endpoints {
    /// The API: `CONVEX_SELF_HOSTED_URL`, equal to the backend's cloud origin.
    pub url: String,
    /// The HTTP actions: the backend's site origin.
    pub site_url: String,
}

/// What is seen of a backend now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Observation {
    /// Whether it runs.
    pub state: RunState,
    /// Whether its data is there.
    pub data: DataState,
    /// Where it differs from what was last applied.
    #[serde(rename = "deviations")]
    pub drift: Vec<FieldDrift>,
    /// What has to be done elsewhere before clients reach it, such as setting a record of a domain.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub notes: Vec<String>,
}

/// The path of the drift of a backend's container.
const CONTAINER: &str = "container";
/// What is said of a container that something else made.
const TAKEN_OVER: &str = ", taken over";

impl Observation {
    /// Nothing differs.
    pub fn as_recorded(state: RunState) -> Self {
        Self { state, data: DataState::Present, drift: Vec::new(), notes: Vec::new() }
    }

    /// Returns the drift of a container that something else made and that is not replaced yet.
    pub fn drift_of_taken_over(container: &str) -> FieldDrift {
        FieldDrift::new(CONTAINER, "made by convexinfra", format!("{container}{TAKEN_OVER}"))
    }

    /// Returns the container that something else made and that is not replaced yet.
    pub fn taken_over(&self) -> Option<&str> {
        let drift = self.drift.iter().find(|drift| drift.path.as_str() == CONTAINER)?;
        drift.observed.strip_suffix(TAKEN_OVER)
    }

    /// The lookup failed: this says nothing about whether the backend is there.
    pub fn unknown() -> Self {
        Self { state: RunState::Unknown, data: DataState::Unknown, drift: Vec::new(), notes: Vec::new() }
    }
}

/// Whether a backend runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum RunState {
    /// It exists only as a record.
    Recorded,
    /// It runs and answers as the instance that it should be.
    Running,
    /// It runs and does not answer yet, or answers wrongly.
    Unready,
    /// It does not run.
    Stopped,
    /// The provider has no trace of it.
    Absent,
    /// The lookup failed.
    Unknown,
}

/// Whether a backend's data is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum DataState {
    /// It is there.
    Present,
    /// It was there once and is not any more.
    Missing,
    /// There has never been any.
    None,
    /// The lookup failed.
    Unknown,
}

/// One difference between what was last applied and what is seen.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct FieldDrift {
    /// The field, or what only a provider sees, such as `process`.
    pub path: FieldPath,
    /// What was last applied.
    pub recorded: String,
    /// What is seen.
    pub observed: String,
}

impl FieldDrift {
    /// Creates the drift of one field.
    pub fn new(path: impl Into<String>, recorded: impl Into<String>, observed: impl Into<String>) -> Self {
        Self { path: FieldPath::new(path), recorded: recorded.into(), observed: observed.into() }
    }
}

/// What the path of a deviation begins with that is about a thing beside a backend that this control plane did not make.
pub const UNMANAGED_PREFIX: &str = "foreign.";

impl FieldDrift {
    /// Whether `apply` puts it right. What others put beside a backend is named and left alone.
    pub fn is_repaired_by_apply(&self) -> bool {
        !self.path.as_str().starts_with(UNMANAGED_PREFIX)
    }
}
