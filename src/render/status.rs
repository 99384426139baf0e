//! What there is, as a table and as a document.
//!
//! Must not do: show a key.

use serde::Serialize;

use super::error::inline_finding;
use super::quota::{QuotaEntry, UsageEntry, quota_line};
use super::sanitize::{sanitize_block, sanitize_line as harmless};
use super::snapshot::age;
use super::style::Style;
use super::table::table;
use crate::api::LeaseHolder;
use crate::model::{
    Actor, ActualBackend, BackendName, Diagnostic, FieldDrift, OperationId, OperationKind, OperationRecord, OperationStep,
    Phase, ProjectName, ProviderKind, RetainedData, Revision, RunState, Timestamp,
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
    pub quota: QuotaEntry,
    /// What its backends ask for together.
    pub usage: UsageEntry,
    /// Its backends.
    pub backends: Vec<StatusEntry>,
    /// The env files that were written from this machine for backends that run.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub env_files: Vec<EnvFileEntry>,
    /// What destroyed backends left behind.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub retained: Vec<RetainedData>,
}

/// The document that `status --all --json` prints.
#[derive(Debug, Serialize, schemars::JsonSchema)]
pub struct StatusAllDocument {
    /// Always `convexinfra.status_all/1`.
    pub format: &'static str,
    /// The projects, each as `status --json` prints it.
    pub projects: Vec<StatusDocument>,
}

/// An env file in [`StatusDocument`].
#[derive(Debug, Clone, Serialize, schemars::JsonSchema)]
pub struct EnvFileEntry {
    /// Its path.
    pub path: String,
    /// The backend that it points to.
    pub backend: BackendName,
    /// What stands in it.
    pub status: EnvFileStatus,
}

/// What stands in an env file that was written before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum EnvFileStatus {
    /// The URL and the key of its backend.
    Current,
    /// Nothing: the file is gone.
    Missing,
    /// Another URL, another key, or other lines.
    Outdated,
    /// What it should, and version control does not ignore it.
    NotIgnored,
    /// Others than its user may read the key in it.
    Exposed,
    /// It may not be written, such as because git tracks it.
    Refused,
}

impl EnvFileEntry {
    /// Returns what is wrong with it, in a line for people; none where nothing is.
    fn problem(&self) -> Option<String> {
        let what = match self.status {
            EnvFileStatus::Current => return None,
            EnvFileStatus::Missing => "is gone",
            EnvFileStatus::Outdated => "does not have its URL and key any more",
            EnvFileStatus::NotIgnored => "is not ignored, so its key could be committed",
            EnvFileStatus::Exposed => "can be read by others, with the key in it",
            EnvFileStatus::Refused => "may not be written any more, which `convexinfra plan` explains",
        };
        Some(format!("`{}`, the env file of `{}`, {what}\n", harmless(&self.path), self.backend))
    }
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
    /// The furthest step that it has begun.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub progress: Option<OperationStep>,
    /// Whether it is executed now; otherwise it was interrupted. The next apply resumes a creation, an update or a removal; anything
    /// else is begun anew by its command.
    pub running: bool,
}

impl OperationEntry {
    /// Renders an operation that has not ended.
    pub fn new(record: &OperationRecord, running: bool) -> Self {
        Self {
            id: record.id.clone(),
            backend: record.backend.clone(),
            kind: record.kind,
            actor: record.actor.clone(),
            since: record.accepted_at.to_string(),
            progress: record.progress,
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
        OperationKind::RotateKey => "rotates its key",
        OperationKind::DropPrevious => "deletes its data from before",
        OperationKind::Snapshot => "takes a snapshot of it",
        OperationKind::Restore => "replaces its data by that of a snapshot",
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
    /// Renders the holder of a lease.
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
    /// Whether it was stopped on purpose.
    #[serde(skip_serializing_if = "std::ops::Not::not", default)]
    pub stopped: bool,
    /// When it was made.
    pub created_at: String,
    /// When it may be removed.
    pub expires_at: Option<String>,
    /// Where it differs from what was last applied.
    pub drift: Vec<FieldDrift>,
    /// The names of Convex environment variables that it has and that are not managed; looked for only where some were
    /// asked for.
    pub other_variables: Vec<String>,
    /// What has to be done elsewhere before clients reach it, such as a DNS record.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub notes: Vec<String>,
    /// Why nothing is known of it, where that is so.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub unseen: Option<Diagnostic>,
    /// When its newest snapshot was taken, where there is one.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub last_snapshot: Option<String>,
    /// How long ago that was.
    #[serde(skip)]
    snapshot_age: Option<String>,
}

impl StatusEntry {
    /// Renders a backend.
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
            stopped: backend.stopped,
            created_at: backend.created_at.to_string(),
            expires_at: backend.expires_at.as_ref().map(Timestamp::to_string),
            drift: backend.observation.drift.clone(),
            other_variables: backend.unmanaged_env.iter().cloned().collect(),
            notes: backend.observation.notes.clone(),
            unseen: backend.observe_failure(),
            last_snapshot: backend.last_snapshot.as_ref().map(Timestamp::to_string),
            snapshot_age: None,
        }
    }

    /// Renders a backend with the age that its newest snapshot has at a moment.
    pub fn as_of(backend: &ActualBackend, now: Timestamp) -> Self {
        Self { snapshot_age: backend.last_snapshot.map(|moment| age(moment, now)), ..Self::new(backend) }
    }

    /// Returns the cells of its row in a table.
    fn cells(&self) -> [String; 5] {
        let or_dash = |text: &Option<String>| text.clone().unwrap_or_else(|| "-".to_owned());
        let (state, expires, url) = (self.state_label().to_owned(), or_dash(&self.expires_at), or_dash(&self.url));
        [self.name.clone(), self.provider.to_string(), state, expires, url]
    }

    /// Whether it was stopped on purpose, and is.
    fn is_stopped(&self) -> bool {
        self.phase == Phase::Ready && self.state == RunState::Stopped && self.stopped
    }

    /// Whether it should run and does not.
    fn is_down(&self) -> bool {
        self.phase == Phase::Ready && matches!(self.state, RunState::Stopped | RunState::Absent) && !self.is_stopped()
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

/// The backends of all projects as one table.
pub fn status_all_table(document: &StatusAllDocument, style: Style) -> String {
    let backends = document.projects.iter().flat_map(|project| project.backends.iter().map(move |entry| (project, entry)));
    let rows: Vec<[String; 6]> = backends
        .map(|(project, entry)| {
            let [name, provider, state, expires, url] = entry.cells();
            [project.project.to_string(), name, provider, state, expires, url]
        })
        .collect();
    if rows.is_empty() {
        return "there are no backends\n".to_owned();
    }
    table(["PROJECT", "NAME", "PROVIDER", "STATE", "EXPIRES", "URL"], &rows, style)
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
        let rows: Vec<[String; 5]> = document.backends.iter().map(StatusEntry::cells).collect();
        text.push_str(&table(["NAME", "PROVIDER", "STATE", "EXPIRES", "URL"], &rows, style));
    }
    if document.backends.iter().any(StatusEntry::is_down) {
        text.push_str("start what does not run with\n    convexinfra apply\n");
    }
    for entry in document.backends.iter().filter(|entry| entry.is_stopped()) {
        text.push_str(&format!("{} was stopped on purpose; start it with\n    convexinfra start {}\n", entry.name, entry.name));
    }
    let problems: Vec<String> = document.env_files.iter().filter_map(EnvFileEntry::problem).collect();
    if !problems.is_empty() {
        text.extend(problems);
        text.push_str("repair that with\n    convexinfra apply\n");
    }
    for entry in document.backends.iter().filter(|entry| !entry.other_variables.is_empty()) {
        text.push_str(&format!(
            "{} has variables that the manifest does not name: {}\n",
            entry.name,
            harmless(&entry.other_variables.join(", "))
        ));
    }
    for (entry, age) in document.backends.iter().filter_map(|entry| Some((entry, entry.snapshot_age.as_ref()?))) {
        text.push_str(&format!("the last snapshot of {} was taken {age}\n", entry.name));
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
    text.extend(document.operations.iter().map(operation_line));
    text.extend(quota_line(&document.quota, &document.usage));
    text
}

fn operation_line(OperationEntry { id, backend, kind, actor, since, progress, running }: &OperationEntry) -> String {
    let what = match kind {
        OperationKind::Put => format!("creates or updates `{backend}`"),
        OperationKind::Remove => format!("destroys `{backend}`"),
        OperationKind::Stop => format!("stops `{backend}`"),
        OperationKind::Start => format!("starts `{backend}`"),
        OperationKind::Forget => format!("forgets `{backend}`"),
        OperationKind::RotateKey => format!("rotates the key of `{backend}`"),
        OperationKind::DropPrevious => format!("deletes the data of `{backend}` from before its restore"),
        OperationKind::Snapshot => format!("takes a snapshot of `{backend}`"),
        OperationKind::Restore => format!("replaces the data of `{backend}` by that of a snapshot"),
    };
    let step = progress.map(|step| format!(", {}", step.label())).unwrap_or_default();
    let interrupted = match kind {
        _ if *running => "",
        OperationKind::Put | OperationKind::Remove => "; it was interrupted, and the next apply resumes it",
        // Another operation on the backend takes its place.
        OperationKind::Stop
        | OperationKind::Start
        | OperationKind::Forget
        | OperationKind::RotateKey
        | OperationKind::DropPrevious
        | OperationKind::Snapshot
        | OperationKind::Restore => "; it was interrupted: run the same command again",
    };
    let actor = actor.to_string();
    format!("operation {id} {what} since {since}, requested by {}{step}{interrupted}\n", harmless(&actor))
}
