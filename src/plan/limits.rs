//! Ceilings that a plan as a whole must respect, and the destruction that has to be allowed by name.

use std::collections::{BTreeMap, BTreeSet};

use super::cost::{PricedBackend, priced_backends};
use super::quota_schedule::QuotaDeltas;
use super::{Action, Plan, Step, Task};
use crate::model::{
    ActualBackend, Address, BackendName, BackendSpec, ByteSize, Cost, Cpus, Desired, Diagnostic, Phase, Snapshot, Usage, Usd,
    monthly_sum,
};
use crate::policy::{monthly_quota_refusal, quota_refusal};

fn refusal(code: &str, address: Option<Address>, message: String) -> Diagnostic {
    Diagnostic { address, ..Diagnostic::new(code, message) }
}

/// Refuses what is over the manifest's ceilings.
pub(super) fn budget(desired: &Desired, existing: &BTreeMap<&BackendName, &ActualBackend>) -> Vec<Diagnostic> {
    let mut refusals = Vec::new();
    let specs = || desired.backends.values().map(|backend| &backend.spec);
    let cpus: Cpus = specs().filter_map(|spec| spec.resources.cpus).fold(Cpus::default(), Cpus::saturating_add);
    let sum =
        |of: fn(&BackendSpec) -> Option<ByteSize>| specs().filter_map(of).fold(ByteSize::default(), ByteSize::saturating_add);
    let memory = sum(|spec| spec.resources.memory);
    let disk = sum(|spec| spec.resources.disk);
    let mut over = |what: &str, asked: String, allowed: String| {
        refusals.push(refusal(
            &format!("plan.over_budget_{what}"),
            None,
            format!("the backends ask for {asked} of {what} together, and `budget.{what}` allows {allowed}; ask for less, or raise the budget"),
        ));
    };
    if let Some(limit) = desired.budget.cpus.filter(|limit| cpus > *limit) {
        over("cpus", cpus.to_string(), limit.to_string());
    }
    if let Some(limit) = desired.budget.memory.filter(|limit| memory > *limit) {
        over("memory", memory.to_string(), limit.to_string());
    }
    if let Some(limit) = desired.budget.disk.filter(|limit| disk > *limit) {
        over("disk", disk.to_string(), limit.to_string());
    }
    // An unknown price is said by a lint; what is known may be too much already.
    let costs = desired.backends.iter().map(|(name, backend)| {
        let there = existing.get(name).filter(|there| there.phase != Phase::Removing);
        PricedBackend { spec: &backend.spec, region: there.and_then(|there| there.region.as_deref()) }.cost()
    });
    let known_now = costs.clone().filter_map(|cost| match cost {
        Cost::Known { usd, .. } => Some(usd),
        Cost::Unmetered | Cost::Unknown => None,
    });
    let known_now: Usd = known_now.sum();
    let (known, unknown) = monthly_sum(costs);
    if let Some(limit) = desired.budget.monthly_usd.map(Usd::from_dollars).filter(|limit| known > *limit) {
        let more = match unknown {
            _ if known_now <= limit => " up to",
            0 => "",
            _ => " at least",
        };
        let regions = if known_now <= limit { ", depending on which of their regions have room" } else { "" };
        refusals.push(refusal(
            "plan.over_budget_monthly_usd",
            None,
            format!(
                "the backends cost{more} {known} a month together{regions}, and `budget.monthly_usd` allows {limit}; ask for less, or raise the budget"
            ),
        ));
    }
    refusals
}

/// Refuses what would take the project over the ceilings that the control plane keeps. All of its backends count, as they
/// are once the plan is carried out; what happens on the way is for `quota_schedule`.
pub(super) fn quota(steps: &[Step], snapshot: &Snapshot) -> Vec<Diagnostic> {
    let mut specs: BTreeMap<&BackendName, &BackendSpec> =
        snapshot.backends.iter().map(|backend| (&backend.name, &backend.recorded)).collect();
    let [_, billed_after] = priced_backends(snapshot, steps);
    for step in steps {
        if let Some(Task::Put { renamed_from: Some(old), .. } | Task::Remove { backend: old, .. }) = &step.task {
            specs.remove(old);
        }
    }
    for step in steps {
        if let Some(Task::Put { backend, spec, .. }) = &step.task {
            specs.insert(backend, spec);
        }
    }
    // The control plane lets be what has not grown, and counts at every step.
    let [backends, cpus, memory, disk, cost_grows] = QuotaDeltas::of(steps, snapshot).grows();
    let after = Usage::of(specs.values().copied());
    let before = Usage {
        backends: if backends { 0 } else { after.backends },
        cpus: if cpus { Cpus::default() } else { after.cpus },
        memory: if memory { ByteSize::default() } else { after.memory },
        disk: if disk { ByteSize::default() } else { after.disk },
    };
    let excesses = after.exceeding(&snapshot.quota, &before);
    let mut refusals: Vec<Diagnostic> = excesses.iter().map(|excess| quota_refusal(&snapshot.project, excess)).collect();
    let (cost, _) = monthly_sum(billed_after.values().map(PricedBackend::cost));
    let ceiling = snapshot.quota.monthly_usd.map(Usd::from_dollars);
    if let Some(allowed) = ceiling.filter(|allowed| cost > *allowed && cost_grows) {
        refusals.push(monthly_quota_refusal(&snapshot.project, cost, allowed));
    }
    refusals
}

/// Refuses every destruction that was not allowed by the backend's name.
///
/// This is asked by apply, not while planning: a plan shows what would be destroyed.
pub fn destruction_refusals(plan: &Plan, allowed: &[BackendName]) -> Vec<Diagnostic> {
    let allowed: BTreeSet<&BackendName> = allowed.iter().collect();
    plan.steps
        .iter()
        .filter(|step| step.action == Action::Destroy && !allowed.contains(&step.address.backend))
        .map(|step| {
            let name = &step.address.backend;
            let data = if step.destroys_data { " and its data" } else { "" };
            refusal(
                "apply.destruction_not_allowed",
                Some(step.address.clone()),
                format!("this would destroy `{name}`{data}; if that is meant, add `--allow-destroy {name}`"),
            )
        })
        .collect()
}
