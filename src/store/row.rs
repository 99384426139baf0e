//! One struct per table.
//!
//! Must not do: hold a secret that is not sealed.

use std::collections::{BTreeMap, BTreeSet};

use crate::model::{
    Actor, BackendId, BackendName, BackendSpec, Diagnostic, Endpoints, FieldPath, Fingerprint, Generation, InstanceName,
    OperationId, OperationKind, OperationStep, Phase, PortPair, ProjectName, ProviderState, Release, Revision, StepKey,
    Timestamp, TokenRecord,
};

/// A project.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProjectRow {
    /// Its name.
    pub name: ProjectName,
    /// How often its record has changed.
    pub revision: Revision,
    /// Where it was last applied from.
    pub origin: Option<String>,
    /// When it was first heard of.
    pub created_at: Timestamp,
}

/// A backend.
#[derive(Debug, Clone, PartialEq)]
pub struct BackendRow {
    /// Its identity.
    pub id: BackendId,
    /// Its project.
    pub project: ProjectName,
    /// Its name there.
    pub name: BackendName,
    /// What its process calls itself; unique in the whole store.
    pub instance_name: InstanceName,
    /// How far the last operation got.
    pub phase: Phase,
    /// How often its specification has changed.
    pub generation: Generation,
    /// What was last asked of it.
    pub spec: BackendSpec,
    /// The fingerprints of the secrets that went with that.
    pub fingerprints: BTreeMap<FieldPath, Fingerprint>,
    /// The Convex environment variables that were ever set by us and not taken back.
    pub managed_env: BTreeSet<String>,
    /// Where clients reach it.
    pub endpoints: Option<Endpoints>,
    /// The fingerprint of its admin key.
    pub admin_key: Option<Fingerprint>,
    /// Its ports on this machine; unique in the whole store.
    pub ports: Option<PortPair>,
    /// What its provider noted.
    pub references: ProviderState,
    /// The newest release that was ever asked for: its data may be in that release's format.
    pub newest_release: Option<Release>,
    /// Whether it has ever been ready.
    pub has_been_ready: bool,
    /// When it was first asked for.
    pub created_at: Timestamp,
    /// When it may be removed.
    pub expires_at: Option<Timestamp>,
    /// Its secrets, sealed.
    pub sealed: Vec<u8>,
    /// Whether it was stopped on purpose.
    pub stopped: bool,
}

impl BackendRow {
    /// Returns whether there is nothing of it outside this row. A backend that ran before keeps its ports, and with them
    /// its directory, even when it is told not to run.
    pub fn is_only_a_record(&self) -> bool {
        self.spec.is_record_only() && self.ports.is_none()
    }
}

/// Describes what a destroyed backend left behind: by this the next backend of its name takes the data up again.
#[derive(Debug, Clone, PartialEq)]
pub struct RetainedRow {
    /// The identity of the backend, under which its files are kept.
    pub id: BackendId,
    /// Its project.
    pub project: ProjectName,
    /// Its name there.
    pub name: BackendName,
    /// What its process called itself; no other backend gets this name.
    pub instance_name: InstanceName,
    /// What was last asked of it.
    pub spec: BackendSpec,
    /// The fingerprints of the secrets that went with that.
    pub fingerprints: BTreeMap<FieldPath, Fingerprint>,
    /// What its provider noted.
    pub provider_state: ProviderState,
    /// The newest release that ran on the data.
    pub newest_release: Option<Release>,
    /// How often its specification had changed.
    pub generation: Generation,
    /// Where its files are, in the provider's words.
    pub place: Option<String>,
    /// When the backend was destroyed.
    pub retained_at: Timestamp,
}

/// Says how far an operation came, and how often it was begun since.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct OperationProgress {
    /// The number of the furthest step that was ever begun; zero before the first one.
    pub furthest: u8,
    /// How often it was begun again since it came that far.
    pub attempts: u32,
    /// What was seen when it last ended without an outcome.
    pub seen: Option<String>,
    /// What is being undone, once a step has failed.
    pub compensation: Option<Compensation>,
}

/// Says that an operation has failed and is being undone.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Compensation {
    /// The step that is being undone; the later ones are undone already.
    pub undoing: OperationStep,
    /// The first failure, with which the operation ends.
    pub failure: Diagnostic,
}

/// An operation: the intent, written before any effect.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OperationRow {
    /// Its id; empty while it is not accepted.
    pub id: Option<OperationId>,
    /// The project.
    pub project: ProjectName,
    /// The backend.
    pub backend: BackendName,
    /// The step that asked for it.
    pub step: StepKey,
    /// What is done.
    pub kind: OperationKind,
    /// Who asked for it; none in rows from before that was written down.
    pub actor: Option<Actor>,
    /// When it was accepted.
    pub accepted_at: Timestamp,
    /// When it ended; none while it has not.
    pub ended_at: Option<Timestamp>,
    /// How it ended, as JSON; none while it has not.
    pub outcome: Option<String>,
    /// What still has to be made once the old backend is gone, sealed; none where nothing is replaced.
    pub pending: Option<Vec<u8>>,
    /// How far it came.
    pub progress: OperationProgress,
    /// What was asked for, under a key of the control plane; none in rows from before that was written down.
    pub digest: Option<String>,
}

/// Says which operations that have ended are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OperationRetention {
    /// Those that ended from here on are, up to `most`.
    pub before: Timestamp,
    /// So many of the newest of each project are, however old.
    pub newest: u32,
    /// At most so many of each project are.
    pub most: u32,
    /// But for those that ended from here on: their requests may still be sent again.
    pub most_before: Timestamp,
}

/// The right to change a project.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeaseRow {
    /// The project.
    pub project: ProjectName,
    /// Grows with every holder.
    pub fence: u64,
    /// Who, as JSON; none when it was given back.
    pub holder: Option<String>,
    /// When it was last renewed.
    pub renewed_at: Timestamp,
    /// The nonce of the last holder that gave it back.
    pub released: Option<String>,
}

/// Something that happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EventRow {
    /// Its number; zero while it is not appended.
    pub sequence: u64,
    /// The project; none when it is about no project.
    pub project: Option<ProjectName>,
    /// When.
    pub at: Timestamp,
    /// What, such as `operation_accepted`.
    pub kind: String,
    /// To which backend.
    pub backend: Option<String>,
    /// The detail; never a secret.
    pub detail: String,
    /// Who did it.
    pub actor: Option<Actor>,
    /// The digest of the plan that it was a part of.
    pub plan: Option<String>,
    /// What binds it to the event before it; none in rows from before that was done.
    pub link: Option<ChainLink>,
}

/// Describes what binds an event to the one before it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChainLink {
    /// How many bound events its project has up to this one.
    pub position: u64,
    /// The hash over this event and the hash before it.
    pub hash: String,
}

/// Says how long the history of a project is, and what it ends with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChainRow {
    /// The project; none for what is about no project.
    pub project: Option<ProjectName>,
    /// How many bound events there are.
    pub length: u64,
    /// The hash of the last one; empty while there is none.
    pub head: String,
    /// The MAC under the master key; none in rows of earlier releases.
    pub seal: Option<String>,
    /// How many of the first bound events are not kept any more.
    pub pruned: u64,
    /// The hash of the last one of those; empty while there is none.
    pub pruned_head: String,
}

impl ChainRow {
    /// Returns the end of a history that has no bound event yet.
    pub fn empty(project: Option<ProjectName>) -> Self {
        Self { project, length: 0, head: String::new(), seal: None, pruned: 0, pruned_head: String::new() }
    }
}

/// By what the master key of a store is known again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyCheckRow {
    /// That by which.
    pub value: String,
    /// The number of the last event that is rightly not bound; none in rows from before that was noted.
    pub unchained: Option<u64>,
    /// The MAC under the master key.
    pub seal: Option<String>,
    /// The keys from before the master key was rotated that are still needed, sealed; none where it never was.
    pub retired: Option<Vec<u8>>,
}

/// A token as it is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenRow {
    /// What may be shown of it.
    pub record: TokenRecord,
    /// The SHA-256 of the token.
    pub hash: Vec<u8>,
    /// What only the control plane can write beside it; none in rows from before that was done.
    pub mac: Option<String>,
}

/// A row that does not say what such a row says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnreadableRow {
    /// Its table.
    pub table: &'static str,
    /// The first column of its row: its key.
    pub key: String,
    /// Which column is wrong, and how.
    pub reason: String,
}

impl std::fmt::Display for UnreadableRow {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { table, key, reason } = self;
        write!(f, "row `{key}` of table `{table}`, {reason}")
    }
}
