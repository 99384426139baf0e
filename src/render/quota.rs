//! What a project may have at most, and how much of it is used.

use serde::Serialize;

use super::style::Style;
use super::table::table;
use crate::model::{ProjectName, Quota, Usage};

/// The document that `quota show --json` and `quota set --json` print.
#[derive(Debug, Serialize, schemars::JsonSchema)]
pub struct QuotaDocument {
    /// Always `convexinfra.quota/1`.
    pub format: &'static str,
    /// The project; null for the ceilings of every project that has none of its own.
    pub project: Option<ProjectName>,
    /// The ceilings; what is not there has none.
    pub quota: Quota,
    /// How much the project uses; null where it is about no project in particular.
    pub usage: Option<Usage>,
}

/// What is counted: its name, how much is used, and the ceiling.
fn lines(quota: &Quota, usage: Option<&Usage>) -> [(&'static str, Option<String>, Option<String>); 5] {
    let used = |of: fn(&Usage) -> String| usage.map(of);
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
pub(super) fn quota_line(quota: &Quota, usage: &Usage) -> Option<String> {
    let parts: Vec<String> = lines(quota, Some(usage))
        .into_iter()
        .filter_map(|(what, used, allowed)| Some(format!("{what} {} of {}", used?, allowed?)))
        .collect();
    (!parts.is_empty()).then(|| format!("quota: {}\n", parts.join(", ")))
}
