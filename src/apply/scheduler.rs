//! The scheduler of steps: a pure ready-queue over the plan's graph.
//!
//! Without `petgraph`: nothing is walked, each end of a step releases its direct successors.

use std::collections::{BTreeMap, VecDeque};

use crate::plan::{Plan, StepId};

/// The state of a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StepStatus {
    /// It waits for others.
    Waiting,
    /// It may run, or runs.
    Started,
    /// It ended well.
    Done,
    /// It ended badly.
    Failed,
    /// It will not run: the step at this position failed.
    NotStarted {
        /// The position of the step that is to blame, itself not blocked by another.
        because: usize,
    },
}

/// Hands out the steps of one plan as they become ready. Steps are named by their position in the plan.
#[derive(Debug)]
pub struct Scheduler {
    statuses: Vec<StepStatus>,
    /// How many steps each step still waits for.
    unmet: Vec<usize>,
    /// Who waits for each step.
    dependents: Vec<Vec<usize>>,
    ready: VecDeque<usize>,
}

impl Scheduler {
    /// A scheduler at the beginning of a plan.
    pub fn new(plan: &Plan) -> Self {
        let positions: BTreeMap<&StepId, usize> =
            plan.steps.iter().enumerate().map(|(index, step)| (&step.id, index)).collect();
        let mut dependents = vec![Vec::new(); plan.steps.len()];
        let mut missing = vec![0; plan.steps.len()];
        for (index, step) in plan.steps.iter().enumerate() {
            for before in step.after.iter().filter_map(|id| positions.get(id)) {
                dependents[*before].push(index);
                missing[index] += 1;
            }
        }
        let ready = (0..plan.steps.len()).filter(|index| missing[*index] == 0).collect();
        Self { statuses: vec![StepStatus::Waiting; plan.steps.len()], unmet: missing, dependents, ready }
    }

    /// The next step that may run; it counts as started from now on.
    pub fn next_ready(&mut self) -> Option<usize> {
        let step = self.ready.pop_front()?;
        self.statuses[step] = StepStatus::Started;
        Some(step)
    }

    /// A step ended well: what waited for it only may run.
    pub fn done(&mut self, step: usize) {
        self.statuses[step] = StepStatus::Done;
        for dependent in std::mem::take(&mut self.dependents[step]) {
            self.unmet[dependent] -= 1;
            if self.unmet[dependent] == 0 && self.statuses[dependent] == StepStatus::Waiting {
                self.ready.push_back(dependent);
            }
        }
    }

    /// Records that a step failed, and skips its transitive successors. Returns those, in plan order.
    pub fn failed(&mut self, step: usize) -> Vec<usize> {
        self.statuses[step] = StepStatus::Failed;
        let mut blocked = Vec::new();
        let mut pending = std::mem::take(&mut self.dependents[step]);
        while let Some(dependent) = pending.pop() {
            if self.statuses[dependent] == StepStatus::Waiting {
                self.statuses[dependent] = StepStatus::NotStarted { because: step };
                blocked.push(dependent);
                pending.append(&mut self.dependents[dependent]);
            }
        }
        blocked.sort_unstable();
        blocked
    }

    /// Nothing more is handed out. Returns what has not begun, in plan order.
    pub fn stop(&mut self) -> Vec<usize> {
        self.ready.clear();
        (0..self.statuses.len()).filter(|index| self.statuses[*index] == StepStatus::Waiting).collect()
    }

    /// The state of every step.
    pub fn statuses(&self) -> &[StepStatus] {
        &self.statuses
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{BackendName, Digest, ProjectName, Revision};
    use crate::plan::{Action, Reason, Step, Summary};

    /// A plan of steps named a, b, … with the steps that each waits for.
    fn plan(steps: &[(&str, &[&str])]) -> Plan {
        let address = |name: &str| crate::model::Address::backend(&BackendName::parse(name).unwrap());
        let id = |name: &str| StepId::new(Action::Create, &address(name));
        Plan {
            needs_allow_destroy: Vec::new(),
            at_stake: Vec::new(),
            upgrades: Vec::new(),
            data_moves: Vec::new(),
            format: String::new(),
            project: ProjectName::parse("p").unwrap(),
            control_plane: String::new(),
            base: Revision(0),
            manifest: Digest::of(b""),
            digest: Digest::of(b""),
            summary: Summary::default(),
            steps: steps
                .iter()
                .map(|(name, after)| Step {
                    id: id(name),
                    address: address(name),
                    action: Action::Create,
                    reason: Reason::New,
                    changes: Vec::new(),
                    after: after.iter().map(|name| id(name)).collect(),
                    destroys_data: false,
                    difference: None,
                    task: None,
                })
                .collect(),
            drift: Vec::new(),
            refusals: Vec::new(),
            lints: Vec::new(),
            cost: None,
        }
    }

    #[test]
    fn a_step_is_ready_when_all_before_it_are_done() {
        let mut scheduler = Scheduler::new(&plan(&[("a", &[]), ("b", &[]), ("c", &["a", "b"])]));
        assert_eq!((scheduler.next_ready(), scheduler.next_ready(), scheduler.next_ready()), (Some(0), Some(1), None));
        scheduler.done(0);
        assert_eq!(scheduler.next_ready(), None);
        scheduler.done(1);
        assert_eq!(scheduler.next_ready(), Some(2));
    }

    #[test]
    fn a_failed_step_skips_only_its_dependents_and_is_named_as_their_cause() {
        let mut scheduler = Scheduler::new(&plan(&[("a", &[]), ("b", &["a"]), ("c", &["b"]), ("d", &[])]));
        assert_eq!(scheduler.next_ready(), Some(0));
        assert_eq!(scheduler.failed(0), vec![1, 2]);
        assert_eq!(scheduler.statuses()[2], StepStatus::NotStarted { because: 0 });
        assert_eq!(scheduler.next_ready(), Some(3));
    }

    #[test]
    fn stopping_hands_out_nothing_more() {
        let mut scheduler = Scheduler::new(&plan(&[("a", &[]), ("b", &["a"])]));
        assert_eq!(scheduler.next_ready(), Some(0));
        assert_eq!(scheduler.stop(), vec![1]);
        scheduler.done(0);
        // `b` became ready by the graph, so the executor must not ask again after a stop.
        assert_eq!(scheduler.statuses()[0], StepStatus::Done);
    }
}
