//! What the backends of a project cost a month at their providers, before a plan and after it.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::{Step, Task};
use crate::model::{
    ActualBackend, BackendName, BackendSpec, Cost, Phase, PriceSource, Snapshot, Usd, VolumeReclaim, monthly_cost,
    price_source, unpriced_items,
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
    /// The most that it may come to, where that depends on which of the allowed regions have room.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub at_most_usd: Option<Usd>,
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
    /// The amount where it is, or in the region of first choice; null when it is not known.
    pub usd: Option<Usd>,
    /// The amount in the dearest region that it may come to be in, where that is more.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub at_most_usd: Option<Usd>,
}

impl Price {
    fn of(billed: &PricedBackend<'_>) -> Option<Self> {
        match billed.cost() {
            Cost::Unmetered => None,
            Cost::Known { usd, at_most } => {
                Some(Self { usd: Some(usd), at_most_usd: Some(at_most).filter(|most| *most > usd) })
            }
            Cost::Unknown => Some(Self { usd: None, at_most_usd: None }),
        }
    }
}

/// A backend that a provider may bill for, and its region where that is known.
#[derive(Debug, Clone, Copy)]
pub(super) struct PricedBackend<'a> {
    pub(super) spec: &'a BackendSpec,
    pub(super) region: Option<&'a str>,
}

impl<'a> PricedBackend<'a> {
    fn now(backend: &'a ActualBackend) -> Self {
        Self { spec: &backend.recorded, region: backend.region.as_deref() }
    }

    pub(super) fn cost(&self) -> Cost {
        monthly_cost(self.spec, self.region)
    }
}

/// The cost now, and once these steps are carried out. What stays where it is keeps its region.
pub(super) fn priced_backends<'a>(
    snapshot: &'a Snapshot,
    steps: &'a [Step],
) -> [BTreeMap<&'a BackendName, PricedBackend<'a>>; 2] {
    let existing = snapshot.by_name();
    let before: BTreeMap<&BackendName, PricedBackend<'_>> =
        existing.iter().map(|(name, backend)| (*name, PricedBackend::now(backend))).collect();
    let mut after = before.clone();
    for step in steps {
        if let Some(Task::Put { renamed_from: Some(old), .. } | Task::Remove { backend: old, .. }) = &step.task {
            after.remove(old);
        }
    }
    for step in steps {
        if let Some(Task::Put { backend, spec, renamed_from, .. }) = &step.task {
            let there = existing.get(renamed_from.as_ref().unwrap_or(backend)).copied();
            let stays = there.filter(|there| there.phase != Phase::Removing && there.recorded.provider == spec.provider);
            after.insert(backend, PricedBackend { spec, region: stays.and_then(|there| there.region.as_deref()) });
        }
    }
    [before, after]
}

/// What everything costs before and after these steps. None where no provider bills.
pub(super) fn cost(snapshot: &Snapshot, steps: &[Step]) -> Option<PlanCost> {
    let [before, after] = priced_backends(snapshot, steps);
    let names: BTreeSet<&BackendName> = before.keys().chain(after.keys()).copied().collect();
    let backends: Vec<BackendCost> = names
        .into_iter()
        .map(|name| BackendCost {
            backend: name.clone(),
            before: before.get(name).and_then(Price::of),
            after: after.get(name).and_then(Price::of),
        })
        .filter(|cost| cost.before.is_some() || cost.after.is_some())
        .collect();
    if backends.is_empty() {
        return None;
    }
    let metered = || before.values().chain(after.values()).filter(|billed| billed.cost() != Cost::Unmetered);
    let mut prices: Vec<PriceSource> = Vec::new();
    for source in metered().filter_map(|billed| price_source(billed.spec.provider)) {
        if !prices.contains(source) {
            prices.push(source.clone());
        }
    }
    let mut not_counted: BTreeSet<&str> = metered().flat_map(|billed| unpriced_items(billed.spec)).collect();
    let keeps = |step: &Step| matches!(step.task, Some(Task::Remove { volume: VolumeReclaim::Retain, .. }));
    if steps.iter().any(keeps) {
        not_counted.insert("volumes that are kept");
    }
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
    let mut at_most = Usd::default();
    for (name, price) in prices {
        match price {
            Some(Price { usd: Some(usd), at_most_usd }) => {
                sum.usd = sum.usd.saturating_add(usd);
                at_most = at_most.saturating_add(at_most_usd.unwrap_or(usd));
            }
            Some(Price { usd: None, .. }) => sum.unknown.push(name.clone()),
            None => {}
        }
    }
    sum.at_most_usd = Some(at_most).filter(|most| *most > sum.usd);
    sum
}
