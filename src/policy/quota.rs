//! What is said of ceilings that a project would exceed.

use crate::model::{Diagnostic, ProjectName, QuotaExcess, Usd};

const REMEDY: &str = "ask for less, or have an operator raise it with `convexinfra quota set`";

/// Refuses what would take a project over one of its ceilings.
pub(crate) fn quota_refusal(project: &ProjectName, excess: &QuotaExcess) -> Diagnostic {
    let QuotaExcess { what, asked, allowed } = excess;
    let message = match *what {
        "backends" => format!("`{project}` would have {asked} backends, and its quota allows {allowed}; {REMEDY}"),
        what => format!(
            "the backends of `{project}` would ask for {asked} of {what} together, and its quota allows {allowed}; {REMEDY}"
        ),
    };
    Diagnostic::new(format!("plan.over_quota_{what}"), message)
}

/// Refuses what would cost more than the quota of a project allows.
pub(crate) fn monthly_quota_refusal(project: &ProjectName, cost: Usd, allowed: Usd) -> Diagnostic {
    let message =
        format!("the backends of `{project}` would cost {cost} a month together, and its quota allows {allowed}; {REMEDY}");
    Diagnostic { address: None, ..Diagnostic::new("plan.over_quota_monthly_usd", message) }
}
