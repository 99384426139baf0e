//! Ceilings over all backends of a project, enforced independently of what a client claims.

use super::audit::AuditContext;
use super::{Authority, AuthorityError, lease};
use crate::api::{ControlError, ResourceLevel};
use crate::model::fly::REGION_KEY;
use crate::model::{Actor, BackendSpec, Diagnostic, ProjectName, Quota, Timestamp, Usd, monthly_cost, monthly_sum};
use crate::policy::{monthly_quota_refusal, quota_refusal};
use crate::store::{BackendRow, Durability, Rows, Store, StoreError};

impl<S: Store> Authority<S> {
    /// Returns the ceilings of a project, or those of every project that has none of its own.
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
            let mut detail = serde_json::to_value(quota).map_err(StoreError::Unwritable)?;
            // In cores, as they were typed: what is stored are thousandths.
            if let Some(cpus) = quota.cpus {
                detail["cpus"] = cpus.cores().into();
            }
            let detail = detail.to_string();
            self.record(rows, reach.project(), AuditContext { actor, plan: None, at: now }, "quota_set", None, detail)
        })
    }
}

/// Returns the ceilings of a project: its own, else the default ones.
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

/// Returns the monthly cost and its ceiling where it exceeds it, counted over the backends whose price is known. What has not grown is let be.
fn monthly_cost_excess(all: &[BackendRow], before: Option<&BackendRow>, after: &BackendSpec, limit: f64) -> Option<(Usd, Usd)> {
    let region = |row: &BackendRow| row.references.get(REGION_KEY).cloned();
    let price = |row: &BackendRow| monthly_cost(&row.spec, region(row).as_deref());
    let (used, _) = monthly_sum(all.iter().map(price));
    let then = monthly_cost(after, before.and_then(region).as_deref()).at_most().unwrap_or_default();
    let now = before.and_then(|row| price(row).at_most()).unwrap_or_default();
    let asked = used.saturating_add(then).saturating_sub(now);
    let limit = Usd::from_dollars(limit);
    (asked > limit && asked > used).then_some((asked, limit))
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
    let excesses = used.replacing(before.map(|row| &row.spec), after).exceeding(&quota, &used);
    let mut refusals: Vec<Diagnostic> = excesses.iter().map(|excess| quota_refusal(project, excess)).collect();
    if let Some(limit) = quota.monthly_usd {
        let excess = monthly_cost_excess(&rows.backends(project)?, before, after, limit);
        refusals.extend(excess.map(|(asked, limit)| monthly_quota_refusal(project, asked, limit)));
    }
    match refusals.into_iter().next() {
        Some(refusal) => Err(ControlError::Refused(refusal).into()),
        None => Ok(()),
    }
}
