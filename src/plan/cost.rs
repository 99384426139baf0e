//! What the backends of a project cost a month at their providers, before a plan and after it.
//!
//! Must not do: count what nobody sends a bill for, or take an unknown price for none.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::{Step, Task};
use crate::model::{
    ActualBackend, BackendName, BackendSpec, Cost, PriceSource, Usd, billed_elsewhere, monthly_cost, price_source,
};

/// What all backends of the project cost, each and together. Only those are in it that a provider sends a bill for.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct PlanCost {
    /// Always `USD`.
    pub currency: String,
    /// What the amounts are for: `30 days` of running.
    pub period: String,
    /// The sum before.
    pub before: CostSum,
    /// The sum afterwards.
    pub after: CostSum,
    /// Each backend.
    pub backends: Vec<BackendCost>,
    /// Whose prices, and of which day.
    pub prices: Vec<PriceSource>,
    /// What is billed as well and is in none of the amounts.
    pub not_counted: Vec<String>,
}

/// A sum of what is known.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct CostSum {
    /// The sum of the known prices.
    pub usd: Usd,
    /// The backends that it leaves out, because their price is not known.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub unknown: Vec<BackendName>,
}

/// What one backend costs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct BackendCost {
    /// The backend.
    pub backend: BackendName,
    /// Before; left out where it is not there yet.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub before: Option<Price>,
    /// Afterwards; left out where it will not be there any more.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub after: Option<Price>,
}

/// A price, which may not be known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Price {
    /// The amount; null when it is not known.
    pub usd: Option<Usd>,
}

impl Price {
    fn of(spec: &BackendSpec) -> Option<Self> {
        match monthly_cost(spec) {
            Cost::Unmetered => None,
            Cost::Known(usd) => Some(Self { usd: Some(usd) }),
            Cost::Unknown => Some(Self { usd: None }),
        }
    }
}

/// What everything costs before and after these steps. None where nobody sends a bill.
pub(super) fn cost(existing: &[ActualBackend], steps: &[Step]) -> Option<PlanCost> {
    let before: BTreeMap<&BackendName, &BackendSpec> =
        existing.iter().map(|backend| (&backend.name, &backend.recorded)).collect();
    let mut after = before.clone();
    for step in steps {
        match &step.task {
            Some(Task::Put { backend, spec, renamed_from }) => {
                if let Some(old) = renamed_from {
                    after.remove(old);
                }
                after.insert(backend, spec);
            }
            Some(Task::Remove { backend, .. }) => drop(after.remove(backend)),
            Some(Task::WriteEnvFile { .. } | Task::ClearEnvFile { .. }) | None => {}
        }
    }
    let names: BTreeSet<&BackendName> = before.keys().chain(after.keys()).copied().collect();
    let backends: Vec<BackendCost> = names
        .into_iter()
        .map(|name| BackendCost {
            backend: name.clone(),
            before: before.get(name).and_then(|spec| Price::of(spec)),
            after: after.get(name).and_then(|spec| Price::of(spec)),
        })
        .filter(|cost| cost.before.is_some() || cost.after.is_some())
        .collect();
    if backends.is_empty() {
        return None;
    }
    let metered = || before.values().chain(after.values()).filter(|spec| monthly_cost(spec) != Cost::Unmetered);
    let mut prices: Vec<PriceSource> = Vec::new();
    for source in metered().filter_map(|spec| price_source(spec.provider)) {
        if !prices.contains(source) {
            prices.push(source.clone());
        }
    }
    let not_counted: BTreeSet<&str> = metered().flat_map(|spec| billed_elsewhere(spec)).collect();
    Some(PlanCost {
        currency: "USD".to_owned(),
        period: "30 days".to_owned(),
        before: sum(backends.iter().map(|cost| (&cost.backend, cost.before))),
        after: sum(backends.iter().map(|cost| (&cost.backend, cost.after))),
        backends,
        prices,
        not_counted: not_counted.into_iter().map(str::to_owned).collect(),
    })
}

fn sum<'a>(prices: impl Iterator<Item = (&'a BackendName, Option<Price>)>) -> CostSum {
    let mut sum = CostSum::default();
    for (name, price) in prices {
        match price {
            Some(Price { usd: Some(usd) }) => sum.usd = sum.usd.saturating_add(usd),
            Some(Price { usd: None }) => sum.unknown.push(name.clone()),
            None => {}
        }
    }
    sum
}
