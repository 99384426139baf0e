//! Ceilings over all backends of a project, enforced whatever a client claims.
//!
//! Must not do: keep anybody from using less than before.

use super::audit::AuditContext;
use super::{Authority, AuthorityError, lease};
use crate::api::{ControlError, ResourceLevel};
use crate::model::fly::REGION_KEY;
use crate::model::{
    Actor, BackendSpec, Diagnostic, ProjectName, Quota, QuotaExcess, Timestamp, Usd, monthly_cost, monthly_sum,
};
use crate::store::{BackendRow, Durability, Rows, Store, StoreError};

impl<S: Store> Authority<S> {
    /// The ceilings of a project, or those of every project that has none of its own.
    pub fn quota(&self, reach: &ResourceLevel) -> Result<Quota, AuthorityError> {
        self.store.read(|rows| effective_quota(rows, reach.project()))
    }

    /// Sets those ceilings.
    pub fn set_quota(&self, reach: &ResourceLevel, quota: &Quota, actor: &Actor, now: Timestamp) -> Result<(), AuthorityError> {
        self.store.write(Durability::Fsync, |rows| {
            if let Some(project) = reach.project() {
                rows.put_project(&lease::project_row(rows, project, now)?)?;
            }
            rows.put_quota(reach.project(), quota)?;
            let detail = serde_json::to_string(quota).map_err(StoreError::Unwritable)?;
            self.record(rows, reach.project(), AuditContext { actor, plan: None, at: now }, "quota_set", None, detail)
        })
    }
}

/// The ceilings that hold for a project: its own, else everybody's.
pub(super) fn effective_quota(rows: &dyn Rows, project: Option<&ProjectName>) -> Result<Quota, AuthorityError> {
    let own = match project {
        Some(_) => rows.quota(project)?,
        None => None,
    };
    match own {
        Some(quota) => Ok(quota),
        None => Ok(rows.quota(None)?.unwrap_or_default()),
    }
}

/// The ceiling in dollars, counted over the backends whose price is known. What has not grown is let be.
fn monthly_cost_excess(
    all: &[BackendRow],
    before: Option<&BackendRow>,
    after: &BackendSpec,
    limit: f64,
) -> Option<QuotaExcess> {
    let region = |row: &BackendRow| row.references.get(REGION_KEY).cloned();
    let price = |row: &BackendRow| monthly_cost(&row.spec, region(row).as_deref());
    let (used, _) = monthly_sum(all.iter().map(price));
    let then = monthly_cost(after, before.and_then(region).as_deref()).at_most().unwrap_or_default();
    let now = before.and_then(|row| price(row).at_most()).unwrap_or_default();
    let asked = used.saturating_add(then).saturating_sub(now);
    let limit = Usd::from_dollars(limit);
    (asked > limit && asked > used).then(|| QuotaExcess {
        what: "monthly cost",
        asked: asked.to_string(),
        allowed: limit.to_string(),
    })
}

/// Refuses a backend that would take the project over its ceilings.
pub(super) fn enforce(
    rows: &dyn Rows,
    project: &ProjectName,
    before: Option<&BackendRow>,
    after: &BackendSpec,
) -> Result<(), AuthorityError> {
    let quota = effective_quota(rows, Some(project))?;
    if quota == Quota::default() {
        return Ok(());
    }
    let used = rows.usage(project)?;
    let mut excesses = used.replacing(before.map(|row| &row.spec), after).exceeding(&quota, &used);
    if let Some(limit) = quota.monthly_usd {
        excesses.extend(monthly_cost_excess(&rows.backends(project)?, before, after, limit));
    }
    if excesses.is_empty() {
        return Ok(());
    }
    let list: Vec<String> = excesses
        .iter()
        .map(|excess| format!("{} of {} where {} are allowed", excess.asked, excess.what, excess.allowed))
        .collect();
    let message = format!("the quota of `{project}` does not allow it: {}", list.join(", "));
    Err(ControlError::Refused(
        Diagnostic::new("control.over_quota", message)
            .with_help("ask for less, or have an operator raise it with `convexinfra quota set`"),
    )
    .into())
}
