//! Room under the quota while a plan is carried out: what frees some comes before what needs it.
//!
//! The control plane counts whenever a step begins, so an end that fits is not enough: a replacement at the quota fits
//! only if the old backend is gone first. Where every order fits nothing is added, and the plan stays as parallel as it was.

use std::collections::{BTreeSet, VecDeque};

use super::cost::priced_backends;
use super::quota_search::{Amounts, DIMENSIONS, Search};
use super::{Step, StepId, Task, graph};
use crate::model::{BackendName, BackendSpec, Diagnostic, Snapshot, Usage, Usd};

/// What the quota counts before a plan, what it allows, and what each step adds to it or takes from it.
pub(super) struct QuotaDeltas {
    now: Amounts,
    limits: [Option<i128>; DIMENSIONS],
    deltas: Vec<Amounts>,
}

fn amounts(spec: Option<&BackendSpec>, cost: Option<Usd>) -> Amounts {
    let Usage { backends, cpus, memory, disk } = Usage::of(spec.into_iter());
    let bytes = [memory.bytes(), disk.bytes()].map(i128::from);
    [backends.into(), cpus.milli().into(), bytes[0], bytes[1], cost.unwrap_or_default().millionths().into()]
}

impl QuotaDeltas {
    /// What these steps do to what the quota of this project counts.
    pub(super) fn of(steps: &[Step], snapshot: &Snapshot) -> Self {
        let existing = snapshot.by_name();
        let [before, after] = priced_backends(snapshot, steps);
        let was = |name: &BackendName| {
            let cost = before.get(name).and_then(|billed| billed.cost().at_most());
            amounts(existing.get(name).map(|backend| &backend.recorded), cost)
        };
        let delta = |step: &Step| match &step.task {
            Some(Task::Put { backend, spec, renamed_from, .. }) => {
                let old = was(renamed_from.as_ref().unwrap_or(backend));
                let new = amounts(Some(spec), after.get(backend).and_then(|billed| billed.cost().at_most()));
                std::array::from_fn(|dimension| new[dimension] - old[dimension])
            }
            Some(Task::Remove { backend, .. }) => was(backend).map(|amount| -amount),
            Some(Task::WriteEnvFile { .. } | Task::ClearEnvFile { .. }) | None => [0; DIMENSIONS],
        };
        let mut now = [0; DIMENSIONS];
        for name in existing.keys() {
            now.iter_mut().zip(was(name)).for_each(|(sum, amount)| *sum += amount);
        }
        let quota = &snapshot.quota;
        let limits = [
            quota.backends.map(i128::from),
            quota.cpus.map(|cpus| cpus.milli().into()),
            quota.memory.map(|size| size.bytes().into()),
            quota.disk.map(|size| size.bytes().into()),
            quota.monthly_usd.map(|usd| Usd::from_dollars(usd).millionths().into()),
        ];
        Self { now, limits, deltas: steps.iter().map(delta).collect() }
    }

    fn sum(&self, dimension: usize, of: impl Fn(i128) -> i128) -> i128 {
        self.deltas.iter().map(|delta| of(delta[dimension])).sum()
    }

    /// What some step needs more of. Where there is such a step, an end beyond the limit is reached by one, however much was
    /// freed before; where there is none, a quota that was lowered must not keep a project from using less.
    pub(super) fn grows(&self) -> [bool; DIMENSIONS] {
        std::array::from_fn(|dimension| self.deltas.iter().any(|delta| delta[dimension] > 0))
    }

    /// The limits that some order of the steps would break. Those that the end breaks are not a matter of order.
    fn contended_limits(&self) -> Vec<(usize, i128)> {
        let limits = self.limits.iter().enumerate().filter_map(|(dimension, limit)| Some((dimension, (*limit)?)));
        let short = limits.filter(|(dimension, limit)| {
            let (now, grows) = (self.now[*dimension], self.grows()[*dimension]);
            let (most, end) = (now + self.sum(*dimension, |delta| delta.max(0)), now + self.sum(*dimension, |delta| delta));
            grows && most > *limit && end <= *limit
        });
        short.collect()
    }
}

/// One limit while the steps are put into an order.
struct QuotaLedger {
    dimension: usize,
    /// What is over the limit before anything is done, and not paid back yet.
    overdraft: i128,
    /// The steps that pay it back. Nothing may grow before all of them.
    releasers: Vec<usize>,
    /// What is free, and since which step.
    available: VecDeque<(Option<usize>, i128)>,
}

impl QuotaLedger {
    fn new(dimension: usize, left: i128) -> Self {
        let free = if left > 0 { VecDeque::from([(None, left)]) } else { VecDeque::new() };
        Self { dimension, overdraft: (-left).max(0), releasers: Vec::new(), available: free }
    }

    /// Takes a step, and adds the steps whose room it takes to `after`. So what has begun was paid for by what has
    /// ended, in every order that respects that.
    fn reserve(&mut self, step: usize, delta: &Amounts, after: &mut BTreeSet<usize>) {
        let mut freed = -delta[self.dimension];
        if freed > 0 {
            let paid = freed.min(self.overdraft);
            if paid > 0 {
                self.overdraft -= paid;
                self.releasers.push(step);
            }
            freed -= paid;
            self.available.extend((freed > 0).then_some((Some(step), freed)));
            return;
        }
        let mut needed = -freed;
        if needed > 0 {
            after.extend(&self.releasers);
        }
        while let Some((since, amount)) = self.available.front_mut().filter(|_| needed > 0) {
            let taken = needed.min(*amount);
            needed -= taken;
            *amount -= taken;
            after.extend(*since);
            if *amount == 0 {
                self.available.pop_front();
            }
        }
    }
}

/// Makes steps wait for those that free the room which they need, where there would not be enough in some order; with a
/// refusal where no order has room for all of them.
pub(super) fn order_within_quota(mut steps: Vec<Step>, snapshot: &Snapshot) -> (Vec<Step>, Option<Diagnostic>) {
    let deltas = QuotaDeltas::of(&steps, snapshot);
    let contended = deltas.contended_limits().into_iter();
    let left: Vec<(usize, i128)> = contended.map(|(dimension, limit)| (dimension, limit - deltas.now[dimension])).collect();
    if left.is_empty() {
        return (steps, None);
    }
    let mut ledgers: Vec<QuotaLedger> = left.iter().map(|(dimension, left)| QuotaLedger::new(*dimension, *left)).collect();
    let order = match Search::new(&steps, &deltas.deltas, left).find() {
        Ok(order) => order,
        Err(stuck) => {
            let stuck: Vec<String> = stuck.into_iter().map(|step| format!("`{}`", steps[step].address)).collect();
            return (steps, Some(deadlock_refusal(snapshot, &stuck.join(", "))));
        }
    };
    let ids: Vec<StepId> = steps.iter().map(|step| step.id.clone()).collect();
    for step in order {
        let mut room_of = BTreeSet::new();
        ledgers.iter_mut().for_each(|ledger| ledger.reserve(step, &deltas.deltas[step], &mut room_of));
        let step = &mut steps[step];
        let all: BTreeSet<StepId> = step.after.drain(..).chain(room_of.into_iter().map(|freed| ids[freed].clone())).collect();
        step.after = all.into_iter().collect();
    }
    (graph::topological_order(steps), None)
}

fn deadlock_refusal(snapshot: &Snapshot, stuck: &str) -> Diagnostic {
    let message = format!(
        "the quota of `{}` would allow the end of this and not the way there: {stuck} can only begin once something else has made \
         room, and that waits for it. Apply what makes room by itself first, or have an operator raise the quota with \
         `convexinfra quota set`",
        snapshot.project
    );
    Diagnostic::new("plan.over_quota_on_the_way", message)
}

#[cfg(test)]
#[path = "quota_schedule_tests.rs"]
mod tests;
