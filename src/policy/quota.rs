//! What is said of ceilings that a project would exceed.

use super::Refusal;
use crate::model::{ProjectName, QuotaExcess, Usd};

const REMEDY: &str = "ask for less, or have an operator raise it with `convexinfra quota set`";

/// Refuses what would take a project over one of its ceilings.
pub(crate) fn quota_refusal(project: &ProjectName, excess: &QuotaExcess) -> Refusal {
    let QuotaExcess { what, asked, allowed } = excess;
    let message = match *what {
        "backends" => format!("`{project}` would have {asked} backends, and its quota allows {allowed}; {REMEDY}"),
        what => format!(
            "the backends of `{project}` would ask for {asked} of {what} together, and its quota allows {allowed}; {REMEDY}"
        ),
    };
    Refusal { code: format!("plan.over_quota_{what}"), address: None, message }
}

/// Refuses what would cost more than the quota of a project allows.
pub(crate) fn monthly_quota_refusal(project: &ProjectName, cost: Usd, allowed: Usd) -> Refusal {
    let message =
        format!("the backends of `{project}` would cost {cost} a month together, and its quota allows {allowed}; {REMEDY}");
    Refusal { code: "plan.over_quota_monthly_usd".to_owned(), address: None, message }
}
