//! What passes between a client and a control plane, as data.
//!
//! Must not do: decide anything, or show a secret in `Debug`.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::secret_text::{SecretText, downgrade_consent, move_consent, secret_values};
use crate::model::{
    Actor, BackendName, BackendSpec, DatabaseReclaim, Diagnostic, DowngradeConsent, FieldPath, MoveConsent, OperationId,
    OperationKind, ProjectName, Release, ReleaseOrder, Revision, RoomClaim, Secret, SnapshotId, StepKey, Timestamp,
    VolumeReclaim,
};

/// How long the name of an account or a machine may be, in bytes.
pub const MAX_NAME_BYTES: usize = 256;
/// How long the place that a project comes from may be, in bytes.
pub const MAX_ORIGIN_BYTES: usize = 2048;

/// Returns whether a text is one line of at most so many bytes, as it may stand in the history and in answers to others.
pub fn is_single_line(text: &str, longest: usize) -> bool {
    !text.is_empty() && text.len() <= longest && !text.chars().any(char::is_control)
}

/// Returns a text cut to at most so many bytes, with a mark where it was cut.
pub fn truncate(text: &str, longest: usize) -> String {
    const MARK: &str = "…";
    if text.len() <= longest {
        return text.to_owned();
    }
    let mut end = longest.saturating_sub(MARK.len());
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    format!("{}{MARK}", &text[..end])
}

/// How long a lease lasts without being renewed, in seconds.
pub const LEASE_SECONDS: u64 = 15;

/// Receives what a long operation has to say while it runs.
pub type ProgressFn<'a> = &'a (dyn Fn(String) + Send + Sync);

/// Says whether a fingerprint key may be made where there is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IfMissing {
    /// Only look: planning changes nothing.
    ReturnNone,
    /// Create it: a document was requested that has to name secrets.
    Create,
}

/// Describes what happens to a project that already is at home somewhere else.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum OriginPolicy {
    /// It stays at home there.
    IfUnclaimed,
    /// It moves here.
    TakeOver,
}

/// Says who holds a lease.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct LeaseHolder {
    /// The account.
    pub user: String,
    /// The machine.
    pub host: String,
    /// The process on that machine.
    pub process: u32,
    /// When that process started, in the machine's own count; tells it from a later one with the same number.
    pub process_start: Option<String>,
    /// Since when.
    pub since: Timestamp,
    /// The nonce of the request for the lease: a request with the same one means the same lease. Known to the holder and
    /// the control plane only, so it is in no document about the holder.
    #[serde(skip)]
    pub nonce: Option<LeaseNonce>,
}

/// Identifies one request for a lease, however often it is sent: a random text that other clients do not know.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(transparent)]
pub struct LeaseNonce(String);

impl LeaseNonce {
    /// Takes 128 random bits.
    pub fn new(random: [u8; 16]) -> Self {
        Self(hex::encode(random))
    }

    /// Returns the attempt as it goes over the wire.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Debug for LeaseNonce {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("<attempt>")
    }
}

/// The right to change one project, for a while.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Lease {
    /// The project.
    pub project: ProjectName,
    /// Grows with every holder; a writer with an older one is turned away.
    pub fence: u64,
    /// The project's revision when the lease was taken.
    pub revision: Revision,
}

/// Requests one operation: the one type for it, in memory and in the body of `POST …/operations`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct OperationRequest {
    /// The step of the plan. Sending it again returns the same operation.
    pub step: StepKey,
    /// The backend.
    pub backend: BackendName,
    /// What to do to it.
    pub work: Work,
    /// Where the client works from: the git remote, else the folder. A project that is at home in another repository is
    /// left alone.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    #[schemars(length(min = 1, max = 2048))]
    pub origin: Option<String>,
}

/// Describes what to do to a backend.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum Work {
    /// Make it what the specification says.
    Put {
        /// What it should be.
        spec: Box<BackendSpec>,
        /// The values of its secrets, by field; what is left out keeps its value.
        #[serde(with = "secret_values", default)]
        #[schemars(with = "BTreeMap<FieldPath, SecretText>")]
        secrets: BTreeMap<FieldPath, Secret>,
        /// The name that it had before.
        #[serde(skip_serializing_if = "Option::is_none", default)]
        renamed_from: Option<BackendName>,
        /// Whether its release may be one of which nothing says that it is newer than what ran before.
        #[serde(rename = "allow_downgrade", with = "downgrade_consent")]
        #[serde(skip_serializing_if = "downgrade_consent::is_missing", default)]
        #[schemars(with = "bool")]
        downgrade: DowngradeConsent,
        /// Whether its data may move to another place, for which it is stopped.
        #[serde(rename = "allow_move", with = "move_consent")]
        #[serde(skip_serializing_if = "move_consent::is_missing", default)]
        #[schemars(with = "bool")]
        moves: MoveConsent,
    },
    /// Remove it. The client has the user's consent, given by name.
    Remove {
        /// What becomes of its volume, which is deleted as well unless the request says otherwise.
        #[serde(skip_serializing_if = "VolumeReclaim::is_default", default)]
        volume: VolumeReclaim,
        /// What becomes of its database on a server of the user's own, which is retained unless the request says otherwise.
        #[serde(default)]
        database: DatabaseReclaim,
        /// Whether a last snapshot is taken first. Where it cannot be taken, nothing is removed.
        #[serde(skip_serializing_if = "std::ops::Not::not", default)]
        final_snapshot: bool,
    },
    // With braces, so that unknown fields are refused here as well.
    /// Stop it, and keep everything that belongs to it. It stays stopped until it is put or started.
    Stop {},
    /// Start it again with its recorded specification.
    Start {},
    /// Drop its record, and leave everything else where it is.
    Forget {},
    /// Give it another instance secret, which ends every key that was made under the one before, and another admin key.
    RotateKey {},
    /// Take a snapshot of its data, for which it may have to stop for a moment.
    Snapshot {
        /// The name of the snapshot. Sending it again is the same snapshot.
        id: SnapshotId,
        /// A note of the user: one line.
        #[serde(skip_serializing_if = "Option::is_none", default)]
        #[schemars(length(min = 1, max = 200))]
        note: Option<String>,
    },
    /// Replace its data by that of a snapshot. The data from before stays beside it. The client has the user's consent, given
    /// by name.
    Restore {
        /// The snapshot.
        snapshot: SnapshotId,
        /// The release that it is started with, where that is another one than now: the one that the snapshot is of.
        #[serde(skip_serializing_if = "Option::is_none", default)]
        release: Option<Release>,
        /// Whether functions, crons and jobs run once it is up.
        #[serde(skip_serializing_if = "StartMode::is_default", default)]
        start: StartMode,
    },
    /// Delete the data that the last restore has replaced and kept beside it. The client has the user's consent, given by name.
    DropPrevious {},
}

/// Names how a backend starts on the data of a snapshot.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum StartMode {
    /// As it was when the snapshot was taken.
    #[default]
    AsItWas,
    /// Paused: neither functions nor crons nor jobs run until it is resumed.
    Paused,
}

impl StartMode {
    fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

/// How long the note of a snapshot may be, in bytes.
pub const MAX_NOTE_BYTES: usize = 200;

impl Work {
    /// Returns the kind of operation that carries it out.
    pub fn kind(&self) -> OperationKind {
        match self {
            Self::Put { .. } => OperationKind::Put,
            Self::Remove { .. } => OperationKind::Remove,
            Self::Stop {} => OperationKind::Stop,
            Self::Start {} => OperationKind::Start,
            Self::Forget {} => OperationKind::Forget,
            Self::RotateKey {} => OperationKind::RotateKey,
            Self::Snapshot { .. } => OperationKind::Snapshot,
            Self::Restore { .. } => OperationKind::Restore,
            Self::DropPrevious {} => OperationKind::DropPrevious,
        }
    }
}

/// Describes what a look at the dependencies of a request finds, before it is sent.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Preflight {
    /// Why it could not be carried out.
    pub refusals: Vec<Diagnostic>,
    /// What is worth a look.
    pub notes: Vec<Diagnostic>,
    /// The order of the release that is asked for and the one that last ran on the data, where the builds themselves say it.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub release_order: Option<ReleaseOrder>,
    /// What it takes of places that hold only so much, for a look at all requests together.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub room: Vec<RoomClaim>,
}

/// Says how an operation ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub enum OperationOutcome {
    /// It is done.
    Done {
        /// The operation.
        operation: OperationId,
    },
    /// It could not be done, and this is why. Asking again goes on from there.
    Failed {
        /// The operation.
        operation: OperationId,
        /// Why.
        finding: Diagnostic,
    },
}

/// Says where a backend is and the key that opens it.
#[derive(Debug, Clone)]
pub struct Credentials {
    /// `CONVEX_SELF_HOSTED_URL`.
    pub url: String,
    /// The URL of its HTTP actions.
    pub site_url: String,
    /// `CONVEX_SELF_HOSTED_ADMIN_KEY`.
    pub admin_key: Secret,
}

/// Says where to read a log from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogPosition {
    /// The last so many lines.
    Tail(usize),
    /// From this byte on.
    Byte(u64),
}

/// A piece of a log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct LogChunk {
    /// The text.
    pub text: String,
    /// Where to go on reading.
    pub next: u64,
}

/// One line of a project's history.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct HistoryEntry {
    /// Its number within its history.
    pub sequence: u64,
    /// When.
    pub at: Timestamp,
    /// What happened, such as `operation_accepted`.
    pub kind: String,
    /// To which backend, where it was one.
    pub backend: Option<String>,
    /// The detail; never a secret.
    pub detail: String,
    /// Who did it; none for entries from before that was written down.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub actor: Option<Actor>,
    /// The digest of the plan that it was a part of.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub plan: Option<String>,
    /// What binds this entry to the one before it; none for entries from before that was done.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub hash: Option<String>,
}

/// One page of a history.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HistoryPage {
    /// The number of entries.
    pub limit: u32,
    /// Only entries with a lower sequence number; the last ones when none is given.
    pub before: Option<u64>,
}

impl HistoryPage {
    /// Returns the last entries.
    pub fn last(limit: u32) -> Self {
        Self { limit, before: None }
    }
}

fn is_zero(number: &u64) -> bool {
    *number == 0
}

/// Describes what came of checking a history.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct HistoryVerification {
    /// How many entries are bound to one another.
    pub entries: u64,
    /// How many are older than that and cannot be checked.
    pub unbound: u64,
    /// How many of the first ones are not kept any more; what they ended with is sealed.
    #[serde(skip_serializing_if = "is_zero", default)]
    pub pruned: u64,
    /// The hash of the newest entry. Kept elsewhere, it shows later that nothing before it was changed.
    pub head: Option<String>,
    /// Which entry has the hash that was asked for, counted from one among those that are bound.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub noted: Option<u64>,
    /// What is wrong; empty when nothing is.
    pub breaks: Vec<String>,
}

/// One project, or what is about no project in particular: the ceilings of every project that has none of its own, and
/// the part of the history that is about the control plane itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ResourceLevel {
    /// No project in particular.
    ControlPlane,
    /// One project.
    Project(ProjectName),
}

impl ResourceLevel {
    /// Returns the project, if it is one.
    pub fn project(&self) -> Option<&ProjectName> {
        match self {
            Self::ControlPlane => None,
            Self::Project(project) => Some(project),
        }
    }
}
