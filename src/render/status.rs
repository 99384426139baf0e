//! What there is, as a table and as a document.
//!
//! Must not do: show a key.

use serde::Serialize;

use super::style::Style;
use crate::control::Holder;
use crate::model::{ActualBackend, Deviation, Phase, ProjectName, ProviderKind, Revision, RunState, Timestamp};

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
    /// Its backends.
    pub backends: Vec<StatusEntry>,
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
    pub fn new(holder: &Holder) -> Self {
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
    pub drift: Vec<Deviation>,
    /// What somebody has to do elsewhere before clients reach it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
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
            drift: backend.observation.deviations.clone(),
            notes: backend.observation.notes.clone(),
        }
    }

    /// The state in words.
    pub fn words(&self) -> &'static str {
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
        text.push_str(&format!("`{}` has no backends in the {} control plane\n", document.project, document.control_plane));
    } else {
        let rows: Vec<[String; 4]> = document
            .backends
            .iter()
            .map(|entry| {
                let url = entry.url.clone().unwrap_or_else(|| "-".to_owned());
                [entry.name.clone(), entry.provider.to_string(), entry.words().to_owned(), url]
            })
            .collect();
        let header = ["NAME", "PROVIDER", "STATE", "URL"];
        let width =
            |column: usize| rows.iter().map(|row| row[column].chars().count()).chain([header[column].len()]).max().unwrap_or(0);
        let widths = [width(0), width(1), width(2)];
        let line = |cells: [&str; 4]| {
            format!(
                "{:a$}  {:b$}  {:c$}  {}",
                cells[0],
                cells[1],
                cells[2],
                cells[3],
                a = widths[0],
                b = widths[1],
                c = widths[2]
            )
        };
        text.push_str(&format!("{}\n", style.quiet(&line(header))));
        for row in &rows {
            text.push_str(&format!("{}\n", line([&row[0], &row[1], &row[2], &row[3]]).trim_end()));
        }
    }
    for note in document.backends.iter().flat_map(|entry| &entry.notes) {
        text.push_str(&format!("{note}\n"));
    }
    if let Some(holder) = &document.lease {
        text.push_str(&format!(
            "being changed by process {} of {} on {} since {}\n",
            holder.process, holder.user, holder.host, holder.since
        ));
    }
    text
}
