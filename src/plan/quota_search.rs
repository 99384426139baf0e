//! The search for an order of steps in which each fits under the quota when it begins.
//!
//! Which order works is a puzzle when several limits are tight, so the most likely choice is tried first and others after it.

use std::cmp::Reverse;
use std::collections::HashSet;

use petgraph::Direction;
use petgraph::graph::{DiGraph, NodeIndex};

use super::{Step, graph};

/// What quotas limit: backends, processor, memory, disk, and dollars a month.
pub(super) const DIMENSIONS: usize = 5;

/// Backends, thousandths of a processor, bytes of memory and of disk, millionths of a dollar a month.
pub(super) type Amounts = [i128; DIMENSIONS];

/// How many choices are tried before an order counts as not there. A plan that a person writes needs a few.
const SEARCH_LIMIT: usize = 20_000;

/// The steps of a plan with what they wait for, while an order is looked for.
pub(super) struct Search<'a> {
    deltas: &'a [Amounts],
    /// The dimensions that some order would break, and what is left of each; below zero where it is overdrawn.
    left: Vec<(usize, i128)>,
    graph: DiGraph<(), ()>,
    /// Whether something is freed by a step or by what waits for it.
    frees: Vec<bool>,
    /// How many steps each step still waits for.
    missing: Vec<usize>,
    done: Vec<bool>,
    order: Vec<usize>,
}

impl<'a> Search<'a> {
    pub(super) fn new(steps: &[Step], deltas: &'a [Amounts], left: Vec<(usize, i128)>) -> Self {
        let graph = graph::dependencies(steps);
        let incoming = |step| graph.neighbors_directed(NodeIndex::new(step), Direction::Incoming).count();
        let missing = (0..steps.len()).map(incoming).collect();
        // The steps stand in an order, so one pass is enough.
        let mut frees = vec![false; steps.len()];
        for step in (0..steps.len()).rev() {
            let itself = left.iter().any(|(dimension, _)| deltas[step][*dimension] < 0);
            frees[step] = itself || graph.neighbors(NodeIndex::new(step)).any(|next| frees[next.index()]);
        }
        Self { deltas, left, graph, frees, missing, done: vec![false; steps.len()], order: Vec::new() }
    }

    fn needs(&self, step: usize) -> bool {
        self.left.iter().any(|(dimension, _)| self.deltas[step][*dimension] > 0)
    }

    fn fits(&self, step: usize) -> bool {
        self.left.iter().all(|(dimension, left)| {
            let needed = self.deltas[step][*dimension];
            needed <= 0 || needed <= *left
        })
    }

    /// The steps that wait for nothing more.
    fn ready(&self) -> impl Iterator<Item = usize> {
        (0..self.done.len()).filter(|step| !self.done[*step] && self.missing[*step] == 0)
    }

    fn take(&mut self, step: usize, sign: i128) {
        for (dimension, left) in &mut self.left {
            *left -= sign * self.deltas[step][*dimension];
        }
        self.done[step] = sign > 0;
        for next in self.graph.neighbors(NodeIndex::new(step)) {
            if sign > 0 { self.missing[next.index()] -= 1 } else { self.missing[next.index()] += 1 }
        }
        if sign > 0 {
            self.order.push(step);
        } else {
            self.order.pop();
        }
    }

    /// Takes what needs nothing: that is never a mistake.
    fn take_free(&mut self) {
        loop {
            let free: Vec<usize> = self.ready().filter(|step| !self.needs(*step)).collect();
            if free.is_empty() {
                return;
            }
            free.into_iter().for_each(|step| self.take(step, 1));
        }
    }

    /// What may come next of what needs something, the best choice last: what something that frees waits for.
    fn choices(&self) -> Vec<usize> {
        let mut choices: Vec<usize> = self.ready().filter(|step| self.fits(*step)).collect();
        choices.sort_by_key(|step| Reverse((!self.frees[*step], *step)));
        choices
    }

    /// Looks for an order in which every step fits when it begins; with the steps that were stuck in the most likely one where
    /// there is none.
    pub(super) fn find(mut self) -> Result<Vec<usize>, Vec<usize>> {
        let mut frames: Vec<(usize, Vec<usize>)> = Vec::new();
        let mut failed: HashSet<Vec<bool>> = HashSet::new();
        let mut stuck = None;
        for _ in 0..SEARCH_LIMIT.max(2 * self.done.len()) {
            self.take_free();
            if self.order.len() == self.done.len() {
                return Ok(self.order);
            }
            let choices = self.choices();
            if choices.is_empty() && stuck.is_none() {
                stuck = Some(self.ready().collect::<Vec<_>>());
            }
            if failed.insert(self.done.clone()) {
                frames.push((self.order.len(), choices));
            }
            loop {
                let Some((length, choices)) = frames.last_mut() else { return Err(stuck.unwrap_or_default()) };
                while self.order.len() > *length {
                    let Some(last) = self.order.last().copied() else { break };
                    self.take(last, -1);
                }
                if let Some(next) = choices.pop() {
                    self.take(next, 1);
                    break;
                }
                frames.pop();
            }
        }
        Err(stuck.unwrap_or_default())
    }
}
