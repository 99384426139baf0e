//! Room under the quota while a plan is carried out: what frees some comes before what needs it.
//!
//! The control plane counts whenever a step begins, so an end that fits is not enough: a replacement at the quota fits
//! only if the old backend is gone first. Where every order fits nothing is added, and the plan stays as parallel as it was.
//!
//! Must not do: let a step through that the control plane would refuse, or put an order where any will do.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::cost::priced_backends;
use super::{Refusal, Step, StepId, Task, graph};
use crate::model::{ActualBackend, BackendName, BackendSpec, Snapshot, Usage, Usd};

/// What quotas limit: backends, processor, memory, disk, and dollars a month.
const DIMENSIONS: usize = 5;

/// Backends, thousandths of a processor, bytes of memory and of disk, millionths of a dollar a month.
type Amounts = [i128; DIMENSIONS];

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
        let existing: BTreeMap<&BackendName, &ActualBackend> =
            snapshot.backends.iter().map(|backend| (&backend.name, backend)).collect();
        let [before, after] = priced_backends(&snapshot.backends, steps);
        let was = |name: &BackendName| {
            let cost = before.get(name).and_then(|billed| billed.cost().at_most());
            amounts(existing.get(name).map(|backend| &backend.recorded), cost)
        };
        let delta = |step: &Step| match &step.task {
            Some(Task::Put { backend, spec, renamed_from }) => {
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

    /// What some step needs more of. Where there is such a step, an end beyond the limit is reached by one, whatever was
    /// freed before; where there is none, a quota that was lowered must not keep anybody from using less.
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

    fn fits(&self, delta: &Amounts) -> bool {
        let needed = delta[self.dimension];
        needed <= 0 || (self.overdraft == 0 && needed <= self.available.iter().map(|(_, amount)| amount).sum())
    }

    /// Takes a step, and adds the steps whose room it takes to `after`. So whatever has begun was paid for by what has
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

/// Makes steps wait for those that free the room which they need, where there would not be enough in some order;
/// with a refusal where what would free the room waits for what needs it.
pub(super) fn order_within_quota(mut steps: Vec<Step>, snapshot: &Snapshot) -> (Vec<Step>, Option<Refusal>) {
    let room = QuotaDeltas::of(&steps, snapshot);
    let mut accounts: Vec<QuotaLedger> = room
        .contended_limits()
        .into_iter()
        .map(|(dimension, limit)| QuotaLedger::new(dimension, limit - room.now[dimension]))
        .collect();
    if accounts.is_empty() {
        return (steps, None);
    }
    let positions: BTreeMap<&StepId, usize> = steps.iter().enumerate().map(|(index, step)| (&step.id, index)).collect();
    let before: Vec<Vec<usize>> =
        steps.iter().map(|step| step.after.iter().filter_map(|id| positions.get(id).copied()).collect()).collect();
    let mut then: Vec<Vec<usize>> = vec![Vec::new(); steps.len()];
    before.iter().enumerate().for_each(|(step, waits)| waits.iter().for_each(|first| then[*first].push(step)));
    let dimensions: Vec<usize> = accounts.iter().map(|account| account.dimension).collect();
    let needs = |step: usize| dimensions.iter().any(|dimension| room.deltas[step][*dimension] > 0);
    // Whether something is freed by it or by what waits for it. The steps stand in an order, so one pass is enough.
    let mut frees = vec![false; steps.len()];
    for step in (0..steps.len()).rev() {
        let itself = dimensions.iter().any(|dimension| room.deltas[step][*dimension] < 0);
        frees[step] = itself || then[step].iter().any(|next| frees[*next]);
    }
    // What needs nothing first, then what something that frees waits for.
    let rank = |step: usize| (needs(step), !frees[step], step);
    let mut missing: Vec<usize> = before.iter().map(Vec::len).collect();
    let mut ready: BTreeSet<_> = (0..steps.len()).filter(|step| missing[*step] == 0).map(rank).collect();
    let mut turns: Vec<BTreeSet<usize>> = vec![BTreeSet::new(); steps.len()];
    while let Some(next) =
        ready.iter().copied().find(|(_, _, step)| accounts.iter().all(|account| account.fits(&room.deltas[*step])))
    {
        ready.remove(&next);
        let (_, _, step) = next;
        accounts.iter_mut().for_each(|account| account.reserve(step, &room.deltas[step], &mut turns[step]));
        for next in &then[step] {
            missing[*next] -= 1;
            ready.extend((missing[*next] == 0).then(|| rank(*next)));
        }
    }
    if !ready.is_empty() {
        let stuck: Vec<String> = ready.iter().map(|(_, _, step)| format!("`{}`", steps[*step].address)).collect();
        return (steps, Some(deadlock_refusal(snapshot, &stuck.join(", "))));
    }
    let ids: Vec<StepId> = steps.iter().map(|step| step.id.clone()).collect();
    for (step, turns) in steps.iter_mut().zip(turns) {
        let all: BTreeSet<StepId> = step.after.drain(..).chain(turns.into_iter().map(|turn| ids[turn].clone())).collect();
        step.after = all.into_iter().collect();
    }
    (graph::topological_order(steps), None)
}

fn deadlock_refusal(snapshot: &Snapshot, stuck: &str) -> Refusal {
    Refusal {
        code: "plan.over_quota_on_the_way".to_owned(),
        address: None,
        message: format!(
            "the quota of `{}` would allow the end of this and not the way there: {stuck} can only begin once something else has \
             made room, and that waits for it. Apply what makes room by itself first, or have an operator raise the quota with \
             `convexinfra quota set`",
            snapshot.project
        ),
    }
}

#[cfg(test)]
#[path = "room_tests.rs"]
mod tests;
