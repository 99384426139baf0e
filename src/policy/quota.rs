//! What is said of ceilings that a project would exceed.

use crate::model::{BackendName, BackendSpec, Diagnostic, ProjectName, Quota, QuotaExcess, Resources, Usd};

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

/// Refuses a backend that leaves out what its project has a ceiling for: it would count as nothing, and could use all there is.
/// One that left it out before is let be, so that a new quota is in the way of no other change.
pub(crate) fn unstated_refusals(
    (project, quota): (&ProjectName, &Quota),
    name: &BackendName,
    before: Option<&BackendSpec>,
    after: &BackendSpec,
) -> Vec<Diagnostic> {
    let leaves_out = |is_limited: bool, states: fn(&Resources) -> bool| {
        is_limited && !states(&after.resources) && before.is_none_or(|before| states(&before.resources))
    };
    let unstated = [
        ("cpus", leaves_out(quota.cpus.is_some(), |resources| resources.cpus.is_some())),
        ("memory", leaves_out(quota.memory.is_some(), |resources| resources.memory.is_some())),
        ("disk", leaves_out(quota.disk.is_some(), |resources| resources.disk.is_some())),
    ];
    let refusal = |what| {
        let message = format!(
            "the quota of `{project}` has a ceiling for {what}, and `{name}` asks for none, so it could use all there is; add \
             `resources.{what}`"
        );
        Diagnostic::new(format!("plan.quota_needs_{what}"), message)
    };
    unstated.into_iter().filter(|(_, is_left_out)| *is_left_out).map(|(what, _)| refusal(what)).collect()
}

/// Refuses what would cost more than the quota of a project allows.
pub(crate) fn monthly_quota_refusal(project: &ProjectName, cost: Usd, allowed: Usd) -> Diagnostic {
    let message =
        format!("the backends of `{project}` would cost {cost} a month together, and its quota allows {allowed}; {REMEDY}");
    Diagnostic { address: None, ..Diagnostic::new("plan.over_quota_monthly_usd", message) }
}
