//! What there is, as a table and as a document.
//!
//! Must not do: show a key.

use serde::Serialize;

use super::error::inline_finding;
use super::quota::quota_line;
use super::sanitize::{sanitize_block, sanitize_line as harmless};
use super::style::Style;
use super::table::table;
use crate::api::LeaseHolder;
use crate::model::{
    Actor, ActualBackend, BackendName, Diagnostic, FieldDrift, OperationId, OperationKind, OperationRecord, Phase, ProjectName,
    ProviderKind, Quota, RetainedData, Revision, RunState, Timestamp, Usage,
};

/// The document that `status --json` prints.
#[derive(Debug, Serialize, schemars::JsonSchema)]
pub struct StatusDocument {
    /// Always `convexinfra.status/1`.
    pub format: &'static str,
    /// The project.
    pub project: ProjectName,
    /// Who answers.
    pub control_plane: String,
    /// How often the project's record has changed.
    pub revision: Revision,
    /// Who is changing the project now.
    pub lease: Option<LeaseEntry>,
    /// What is being done to its backends now.
    pub operations: Vec<OperationEntry>,
    /// What the control plane allows the project at most.
    pub quota: Quota,
    /// What its backends ask for together.
    pub usage: Usage,
    /// Its backends.
    pub backends: Vec<StatusEntry>,
    /// What destroyed backends left behind.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub retained: Vec<RetainedData>,
}

/// Something that is being done to a backend.
#[derive(Debug, Serialize, schemars::JsonSchema)]
pub struct OperationEntry {
    /// Its id.
    pub id: OperationId,
    /// The backend.
    pub backend: BackendName,
    /// What is done to it.
    pub kind: OperationKind,
    /// Who asked for it.
    pub actor: Actor,
    /// Since when.
    pub since: String,
    /// Whether somebody carries it out now; otherwise it was cut off, and the next apply goes on with it.
    pub running: bool,
}

impl OperationEntry {
    /// What there is to say about an operation that has not ended.
    pub fn new(record: &OperationRecord, running: bool) -> Self {
        Self {
            id: record.id.clone(),
            backend: record.backend.clone(),
            kind: record.kind,
            actor: record.actor.clone(),
            since: record.accepted_at.to_string(),
            running,
        }
    }
}

/// What an operation is doing, in words.
pub fn describe_operation(record: &OperationRecord) -> String {
    let what = match record.kind {
        OperationKind::Put => "creates or updates it",
        OperationKind::Remove => "destroys it",
        OperationKind::Stop => "stops it",
        OperationKind::Start => "starts it",
        OperationKind::Forget => "forgets it",
    };
    format!("operation {} {what}, requested by {}", record.id, harmless(&record.actor.to_string()))
}

/// Who is changing the project.
#[derive(Debug, Serialize, schemars::JsonSchema)]
pub struct LeaseEntry {
    /// The account.
    pub user: String,
    /// The machine.
    pub host: String,
    /// The process on that machine.
    pub process: u32,
    /// When that process started, in the machine's own count; tells it from a later one with the same number.
    pub process_start: Option<String>,
    /// Since when.
    pub since: String,
}

impl LeaseEntry {
    /// What there is to say about the holder of a lease.
    pub fn new(holder: &LeaseHolder) -> Self {
        Self {
            user: holder.user.clone(),
            host: holder.host.clone(),
            process: holder.process,
            process_start: holder.process_start.clone(),
            since: holder.since.to_string(),
        }
    }
}

/// One backend in [`StatusDocument`].
#[derive(Debug, Serialize, schemars::JsonSchema)]
pub struct StatusEntry {
    /// Its name.
    pub name: String,
    /// Where it runs.
    pub provider: ProviderKind,
    /// How far the last operation on it got.
    pub phase: Phase,
    /// What is seen of it.
    pub state: RunState,
    /// Where clients reach it.
    pub url: Option<String>,
    /// Where its HTTP actions are.
    pub site_url: Option<String>,
    /// What its process calls itself.
    pub instance_name: String,
    /// Which build was asked for.
    pub release: Option<String>,
    /// When it was made.
    pub created_at: String,
    /// When it may be removed.
    pub expires_at: Option<String>,
    /// Where it differs from what was last applied.
    pub drift: Vec<FieldDrift>,
    /// The names of Convex environment variables that it has and that nobody asked for; looked for only where some were
    /// asked for.
    pub other_variables: Vec<String>,
    /// What somebody has to do elsewhere before clients reach it.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub notes: Vec<String>,
    /// Why nothing is known of it, where that is so.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub unseen: Option<Diagnostic>,
}

impl StatusEntry {
    /// What there is to say about a backend.
    pub fn new(backend: &ActualBackend) -> Self {
        Self {
            name: backend.name.to_string(),
            provider: backend.recorded.provider,
            phase: backend.phase,
            state: backend.observation.state,
            url: backend.endpoints.as_ref().map(|endpoints| endpoints.url.clone()),
            site_url: backend.endpoints.as_ref().map(|endpoints| endpoints.site_url.clone()),
            instance_name: backend.instance_name.to_string(),
            release: backend.recorded.release.as_ref().map(ToString::to_string),
            created_at: backend.created_at.to_string(),
            expires_at: backend.expires_at.as_ref().map(Timestamp::to_string),
            drift: backend.observation.drift.clone(),
            other_variables: backend.unmanaged_env.iter().cloned().collect(),
            notes: backend.observation.notes.clone(),
            unseen: backend.observe_failure(),
        }
    }

    /// The state in words.
    pub fn state_label(&self) -> &'static str {
        match (self.phase, self.state) {
            (Phase::Creating, _) => "unfinished",
            (Phase::Removing, _) => "being removed",
            (Phase::Updating, _) => "update unfinished",
            (Phase::Failed, _) => "last apply failed",
            (Phase::Ready, RunState::Recorded) => "recorded",
            (Phase::Ready, RunState::Running) if self.drift.is_empty() => "running",
            (Phase::Ready, RunState::Running) => "running, drifted",
            (Phase::Ready, RunState::Unready) if !self.notes.is_empty() => "waiting for its host",
            (Phase::Ready, RunState::Unready) => "not answering",
            (Phase::Ready, RunState::Stopped) => "stopped",
            (Phase::Ready, RunState::Absent) => "absent",
            (Phase::Ready, RunState::Unknown) => "unknown",
        }
    }
}

/// The table for people.
pub fn status_table(document: &StatusDocument, style: Style) -> String {
    let mut text = String::new();
    if document.backends.is_empty() {
        text.push_str(&format!(
            "`{}` has no backends in the {} control plane\n",
            document.project,
            harmless(&document.control_plane)
        ));
    } else {
        let rows: Vec<[String; 5]> = document
            .backends
            .iter()
            .map(|entry| {
                let url = entry.url.clone().unwrap_or_else(|| "-".to_owned());
                let expires = entry.expires_at.clone().unwrap_or_else(|| "-".to_owned());
                [entry.name.clone(), entry.provider.to_string(), entry.state_label().to_owned(), expires, url]
            })
            .collect();
        text.push_str(&table(["NAME", "PROVIDER", "STATE", "EXPIRES", "URL"], &rows, style));
    }
    let is_down =
        |entry: &StatusEntry| entry.phase == Phase::Ready && matches!(entry.state, RunState::Stopped | RunState::Absent);
    if document.backends.iter().any(is_down) {
        text.push_str("start what does not run with\n    convexinfra apply\n");
    }
    for entry in document.backends.iter().filter(|entry| !entry.other_variables.is_empty()) {
        text.push_str(&format!(
            "{} has variables that the manifest does not name: {}\n",
            entry.name,
            harmless(&entry.other_variables.join(", "))
        ));
    }
    for note in document.backends.iter().flat_map(|entry| &entry.notes) {
        text.push_str(&format!("{}\n", sanitize_block(note, 2)));
    }
    for kept in &document.retained {
        let database = kept.database.as_ref().map(|name| format!("database `{name}`"));
        let places: Vec<String> =
            database.into_iter().chain(kept.place.as_ref().map(|place| harmless(place).into_owned())).collect();
        text.push_str(&format!(
            "data of the destroyed backend `{}` is kept: {}; the next apply of that name takes it up\n",
            kept.name,
            places.join(" and ")
        ));
    }
    for (entry, why) in document.backends.iter().filter_map(|entry| Some((entry, entry.unseen.as_ref()?))) {
        text.push_str(&format!("nothing is known of {}: {}\n", entry.name, inline_finding(why, 2)));
    }
    if let Some(holder) = &document.lease {
        text.push_str(&format!(
            "being changed by process {} of {} on {} since {}\n",
            holder.process,
            harmless(&holder.user),
            harmless(&holder.host),
            harmless(&holder.since)
        ));
    }
    for OperationEntry { id, backend, kind, actor, since, running } in &document.operations {
        let what = match kind {
            OperationKind::Put => format!("creates or updates `{backend}`"),
            OperationKind::Remove => format!("destroys `{backend}`"),
            OperationKind::Stop => format!("stops `{backend}`"),
            OperationKind::Start => format!("starts `{backend}`"),
            OperationKind::Forget => format!("forgets `{backend}`"),
        };
        let cut_off = if *running { "" } else { "; it was interrupted, and the next apply resumes it" };
        text.push_str(&format!(
            "operation {id} {what} since {since}, requested by {}{cut_off}\n",
            harmless(&actor.to_string())
        ));
    }
    text.extend(quota_line(&document.quota, &document.usage));
    text
}
