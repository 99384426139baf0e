//! What has happened, for people and for programs.

use serde::Serialize;

use super::plural::counted;
use super::sanitize::sanitize_line as harmless;
use crate::api::{HistoryEntry, HistoryVerification};
use crate::model::{Actor, ProjectName};

/// How many digits of a digest tell plans apart.
const SHORT: usize = 12;

/// The document that `log --json` prints.
#[derive(Debug, Serialize, schemars::JsonSchema)]
pub struct LogDocument<'a> {
    /// Always `convexinfra.log/1`.
    pub format: &'static str,
    /// The project; null for what is about the control plane itself.
    pub project: Option<&'a ProjectName>,
    /// What has happened, newest last.
    pub entries: Vec<LogEntry<'a>>,
}

/// One entry of [`LogDocument`].
#[derive(Debug, Serialize, schemars::JsonSchema)]
pub struct LogEntry<'a> {
    /// Its number within its history.
    pub sequence: u64,
    /// When.
    pub at: String,
    /// What happened, such as `operation_accepted`.
    pub kind: &'a str,
    /// To which backend, where it was one.
    pub backend: Option<&'a str>,
    /// Its description.
    pub detail: &'a str,
    /// Who did it; null for entries from before that was written down.
    pub actor: Option<&'a Actor>,
    /// The digest of the plan that it was a part of.
    pub plan: Option<&'a str>,
    /// What binds this entry to the one before it; null for entries from before that was done.
    pub hash: Option<&'a str>,
}

impl<'a> LogEntry<'a> {
    /// The description of an entry.
    pub fn new(entry: &'a HistoryEntry) -> Self {
        Self {
            sequence: entry.sequence,
            at: entry.at.to_string(),
            kind: &entry.kind,
            backend: entry.backend.as_deref(),
            detail: &entry.detail,
            actor: entry.actor.as_ref(),
            plan: entry.plan.as_deref(),
            hash: entry.hash.as_deref(),
        }
    }
}

/// The entries for people, a line each.
pub fn log(document: &LogDocument<'_>) -> String {
    let mut text = String::new();
    for entry in &document.entries {
        let mut parts = Vec::new();
        parts.extend((!entry.detail.is_empty()).then(|| entry.detail.to_owned()));
        parts.extend(entry.actor.map(|actor| format!("by {actor}")));
        parts.extend(entry.plan.map(|plan| format!("plan {}", short(plan))));
        let backend = entry.backend.unwrap_or("-");
        let shown = format!("{}  {:20}  {backend}  {}", entry.at, entry.kind, parts.join(", "));
        text.push_str(harmless(shown.trim_end()).as_ref());
        text.push('\n');
    }
    match (document.entries.is_empty(), document.project) {
        (false, _) => text,
        (true, Some(project)) => format!("nothing has happened to `{project}` yet\n"),
        (true, None) => "nothing has happened to the control plane itself yet\n".to_owned(),
    }
}

/// What came of a check that found nothing wrong.
pub fn log_check(check: &HistoryVerification) -> String {
    let entries = counted(usize::try_from(check.entries).unwrap_or(usize::MAX), "entry");
    let mut text = match &check.head {
        Some(head) => format!("every entry is as it was written: {entries}, and the newest has the hash\n    {head}\n"),
        None if check.unbound == 0 => "there is no entry yet\n".to_owned(),
        None => "no entry is newer than such checks\n".to_owned(),
    };
    if let Some(position) = check.noted {
        text.push_str(&format!("the hash that was noted is that of entry {position} of {}\n", check.entries));
    }
    if check.pruned > 0 {
        text.push_str(&format!("not kept any more, and so not checked again: the first {}\n", check.pruned));
    }
    if check.unbound > 0 {
        text.push_str(&format!("older than such checks, and so not checked: {}\n", check.unbound));
    }
    text
}

fn short(digest: &str) -> &str {
    let digits = digest.split_once(':').map_or(digest, |(_, digits)| digits);
    digits.get(..SHORT).unwrap_or(digits)
}
