//! What a project may have at most, and how much of it is used.

use serde::Serialize;

use super::style::Style;
use super::table::table;
use crate::model::{ByteSize, Cpus, ProjectName, Quota, Usage};

/// The document that `quota show --json` and `quota set --json` print.
#[derive(Debug, Serialize, schemars::JsonSchema)]
pub struct QuotaDocument {
    /// Always `convexinfra.quota/1`.
    pub format: &'static str,
    /// The project; null for the ceilings of every project that has none of its own.
    pub project: Option<ProjectName>,
    /// The ceilings; what is not there has none.
    pub quota: QuotaEntry,
    /// How much the project uses; null where it is about no project in particular.
    pub usage: Option<UsageEntry>,
}

/// Ceilings as documents show them.
#[derive(Debug, Clone, Copy, Serialize, schemars::JsonSchema)]
pub struct QuotaEntry {
    /// How many backends.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub backends: Option<u32>,
    /// Processor cores.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpus: Option<f64>,
    /// Memory.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory: Option<ByteSize>,
    /// Disk.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub disk: Option<ByteSize>,
    /// US dollars a month, counted over the backends whose price is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub monthly_usd: Option<f64>,
}

/// What is used, as documents show it.
#[derive(Debug, Clone, Copy, Serialize, schemars::JsonSchema)]
pub struct UsageEntry {
    /// How many backends.
    pub backends: u32,
    /// Processor cores.
    pub cpus: f64,
    /// Memory.
    pub memory: ByteSize,
    /// Disk.
    pub disk: ByteSize,
}

impl From<Quota> for QuotaEntry {
    fn from(quota: Quota) -> Self {
        let Quota { backends, cpus, memory, disk, monthly_usd } = quota;
        Self { backends, cpus: cpus.map(Cpus::cores), memory, disk, monthly_usd }
    }
}

impl From<Usage> for UsageEntry {
    fn from(usage: Usage) -> Self {
        let Usage { backends, cpus, memory, disk } = usage;
        Self { backends, cpus: cpus.cores(), memory, disk }
    }
}

/// What is counted: its name, how much is used, and the ceiling.
fn lines(quota: &QuotaEntry, usage: Option<&UsageEntry>) -> [(&'static str, Option<String>, Option<String>); 5] {
    let used = |of: fn(&UsageEntry) -> String| usage.map(of);
    [
        ("backends", used(|usage| usage.backends.to_string()), quota.backends.map(|limit| limit.to_string())),
        ("cpus", used(|usage| usage.cpus.to_string()), quota.cpus.map(|limit| limit.to_string())),
        ("memory", used(|usage| usage.memory.to_string()), quota.memory.map(|limit| limit.to_string())),
        ("disk", used(|usage| usage.disk.to_string()), quota.disk.map(|limit| limit.to_string())),
        ("monthly_usd", None, quota.monthly_usd.map(|limit| limit.to_string())),
    ]
}

/// The table for people.
pub fn quota_table(document: &QuotaDocument, style: Style) -> String {
    let row = |(what, used, allowed): (&str, Option<String>, Option<String>)| {
        let allowed = allowed.unwrap_or_else(|| "no ceiling".to_owned());
        [what.to_owned(), used.unwrap_or_else(|| "-".to_owned()), allowed]
    };
    let rows = lines(&document.quota, document.usage.as_ref()).map(row);
    let whose = match &document.project {
        Some(project) => format!("`{project}` may have at most\n"),
        None => "every project without a quota of its own may have at most\n".to_owned(),
    };
    whose + &table(["WHAT", "USED", "ALLOWED"], &rows, style)
}

/// The ceilings and what is used of them in one line; none where there are no ceilings.
pub(super) fn quota_line(quota: &QuotaEntry, usage: &UsageEntry) -> Option<String> {
    let parts: Vec<String> = lines(quota, Some(usage))
        .into_iter()
        .filter_map(|(what, used, allowed)| Some(format!("{what} {} of {}", used?, allowed?)))
        .collect();
    (!parts.is_empty()).then(|| format!("quota: {}\n", parts.join(", ")))
}
