//! Builds the plan: the one place that decides what is done.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    Action, ChangeImpact, DataAtStake, DriftItem, FORMAT, FieldChange, Plan, PlanCost, PlannedUpgrade, Reason, Step, StepId,
    Summary, Task,
};
use super::{cost, diff, graph, limits, lint, moves, origin_claims, quota_schedule, remote_lints, rename, validate};
use crate::model::{
    ActualBackend, Address, BackendName, DataState, DatabaseReclaim, Desired, DesiredBackend, Diagnostic, Digest,
    DowngradeConsent, EnvFileState, FieldPath, FinalSnapshot, MoveConsent, Phase, ReclaimPolicy, RememberedEnvFile, Snapshot,
    VolumeReclaim,
};
use crate::policy::{self, BackendDiff, Consent, OtherOrigin, highest_impact};

/// Everything that planning compares the manifest with.
#[derive(Debug, Clone)]
pub struct ObservedState {
    /// What the control plane says.
    pub snapshot: Snapshot,
    /// What stands in the env files, by what a step would be about.
    pub env_files: BTreeMap<Address, EnvFileState>,
    /// The env files that were written before and that the manifest does not name.
    pub remembered: Vec<RememberedEnvFile>,
}

/// What the plan is for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PlanOptions {
    /// Which backends it is about.
    pub selection: BackendSelection,
    /// Whether it takes away what it is about instead of bringing it about.
    pub destroy: bool,
    /// What becomes of volumes when their backends are taken away.
    pub volume_reclaim: VolumeReclaim,
    /// What becomes of databases on servers of the user's own when their backends are taken away.
    pub database_reclaim: DatabaseReclaim,
    /// Whether no last snapshot is taken of backends that are taken away with their data.
    pub skip_final_snapshot: bool,
    /// Whether this repository takes the project over from the one that it was last applied from.
    pub take_over: bool,
    /// The backends that may run a release of which nothing says that it is newer.
    pub allow_downgrade: BTreeSet<BackendName>,
    /// The backends whose data may move to another place.
    pub allow_move: BTreeSet<BackendName>,
    /// Whether backends that were removed because their time was over are created again.
    pub renew: bool,
}

impl PlanOptions {
    fn consent(&self, name: &BackendName) -> Consent {
        let is_given = self.allow_downgrade.contains(name);
        let downgrade = if is_given { DowngradeConsent::Given } else { DowngradeConsent::Missing };
        let moves = if self.allow_move.contains(name) { MoveConsent::Given } else { MoveConsent::Missing };
        Consent { downgrade, moves }
    }
}

/// Which backends a plan is about.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum BackendSelection {
    /// All of the manifest and all of the control plane.
    #[default]
    All,
    /// Only these.
    Only(BTreeSet<BackendName>),
}

impl BackendSelection {
    pub(super) fn contains(&self, name: &BackendName) -> bool {
        match self {
            Self::All => true,
            Self::Only(names) => names.contains(name),
        }
    }
}

/// Compares what is wanted with what is, and decides everything that will be done.
pub fn build(desired: &Desired, actual: &ObservedState, intent: &PlanOptions) -> Plan {
    let mut draft = PlanBuilder::new(desired, actual, intent);
    if let Some(OtherOrigin { refusal, is_other_remote: true }) = draft.other_origin()
        && !intent.take_over
    {
        // Another repository is another project that only has the same name: nothing of what there is is shown.
        draft.refusals = vec![refusal];
        return draft.into_plan(Vec::new(), None);
    }
    if !intent.destroy {
        for (name, backend) in &desired.backends {
            if intent.selection.contains(name) && !draft.stays_expired(name) {
                draft.ensure_backend(name, backend);
            }
        }
    }
    draft.destroy_backends();
    if !intent.destroy {
        draft.write_env_files();
    }
    draft.clear_env_files();
    draft.finish()
}

/// A plan while it is made.
pub(super) struct PlanBuilder<'a> {
    pub(super) desired: &'a Desired,
    pub(super) actual: &'a ObservedState,
    pub(super) intent: &'a PlanOptions,
    /// What there is, under the names that `[[moved]]` gives it.
    pub(super) existing: BTreeMap<&'a BackendName, &'a ActualBackend>,
    /// New name → old name, for the renames that apply.
    pub(super) renamed: BTreeMap<&'a BackendName, &'a BackendName>,
    pub(super) steps: Vec<Step>,
    pub(super) drift: Vec<DriftItem>,
    pub(super) refusals: Vec<Diagnostic>,
    pub(super) lints: Vec<Diagnostic>,
    upgrades: Vec<PlannedUpgrade>,
}

impl<'a> PlanBuilder<'a> {
    fn new(desired: &'a Desired, actual: &'a ObservedState, intent: &'a PlanOptions) -> Self {
        let mut existing = actual.snapshot.by_name();
        let mut renamed = BTreeMap::new();
        let mut refusals = Vec::new();
        for moved in &desired.moved {
            let Some(backend) = existing.get(&moved.from).copied() else { continue };
            if existing.contains_key(&moved.to) {
                // Destroying one of the two is the way out, so it is not in the way of that.
                refusals.extend((!intent.destroy).then(|| policy::moved_onto_existing(&moved.from, &moved.to)));
                continue;
            }
            existing.remove(&moved.from);
            existing.insert(&moved.to, backend);
            renamed.insert(&moved.to, &moved.from);
        }
        let (steps, drift, lints, upgrades) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        Self { desired, actual, intent, existing, renamed, steps, drift, refusals, lints, upgrades }
    }

    pub(super) fn step(&mut self, address: Address, action: Action, reason: Reason, changes: Vec<FieldChange>, task: Task) {
        // A backend that was told not to run may have run before, and then it has a key and data.
        let record_only = self
            .existing
            .get(&address.backend)
            .is_some_and(|backend| backend.recorded.is_record_only() && backend.admin_key.is_none());
        let kept = matches!(task, Task::Remove { volume: VolumeReclaim::Retain, .. });
        let destroys_data = action == Action::Destroy && !record_only && !kept;
        let id = StepId::new(action, &address);
        self.steps.push(Step {
            id,
            address,
            action,
            reason,
            changes,
            after: Vec::new(),
            destroys_data,
            difference: None,
            task: Some(task),
        });
    }

    /// Returns whether a backend was removed because its time was over and is not asked for again.
    pub(super) fn stays_expired(&self, name: &BackendName) -> bool {
        !self.intent.renew && !self.existing.contains_key(name) && self.actual.snapshot.expired.contains_key(name)
    }

    fn ensure_backend(&mut self, name: &'a BackendName, wanted: &'a DesiredBackend) {
        let address = Address::backend(name);
        let providers = &self.actual.snapshot.control_plane.providers;
        self.refusals.extend(policy::provider_available(name, &wanted.spec, providers));
        self.refusals.extend(policy::provider_refusals(name, &wanted.spec));
        self.refusals.extend(policy::usable_secrets(name, &wanted.secrets));
        self.refusals.extend(policy::usable_certificates(name, wanted));
        self.lints.extend(lint::specification(name, wanted));
        self.lints.extend(lint::unfilled_secrets(name, wanted));
        self.lints.extend(remote_lints::lints(name, &wanted.spec, &self.actual.snapshot.control_plane));
        let existing = self.existing.get(name).copied();
        self.lints.extend(lint::expiry(name, wanted, existing, &self.actual.snapshot.control_plane));
        let consent = self.intent.consent(name);
        let task = Task::Put {
            backend: name.clone(),
            spec: Box::new(wanted.spec.clone()),
            renamed_from: self.renamed.get(name).map(|old| (*old).clone()),
            downgrade: consent.downgrade,
            moves: consent.moves,
        };
        let Some(existing) = existing else {
            self.lints.extend(lint::unavailable_secrets(name, wanted, |_| true));
            return self.step(address, Action::Create, Reason::New, diff::creation_changes(wanted), task);
        };
        match existing.phase {
            Phase::Removing => {
                self.lints.extend(lint::removal_first(name, existing));
                self.step(address, Action::Create, Reason::RemovalUnfinished, diff::creation_changes(wanted), task);
            }
            Phase::Creating => {
                self.step(address, Action::Create, Reason::Unfinished, diff::creation_changes(wanted), task);
            }
            Phase::Updating | Phase::Failed | Phase::Ready => self.update_backend(name, wanted, existing, task),
        }
    }

    /// Plans the update of a backend that is recorded, where it differs or drifted.
    fn update_backend(&mut self, name: &'a BackendName, wanted: &'a DesiredBackend, existing: &'a ActualBackend, task: Task) {
        let address = Address::backend(name);
        let renamed_from = self.renamed.get(name).map(|old| (*old).clone());
        let consent = self.intent.consent(name);
        let BackendDiff { mut changes, not_compared } = policy::diff_backend(wanted, existing);
        self.lints.extend(not_compared.iter().map(|path| lint::not_compared(name, path, wanted)));
        self.lints.extend(lint::changes(name, &changes));
        // What a backend had before is kept sealed, so only what is new to it has to be at hand.
        self.lints.extend(lint::unavailable_secrets(name, wanted, |path| changes.iter().any(|change| change.path == *path)));
        self.lints.extend(lint::unmanaged_env(name, wanted, existing));
        self.refusals.extend(policy::change_refusals(name, existing, wanted, &changes, consent));
        let drifted = self.collect_drift(&address, existing);
        if let Some(old) = &renamed_from {
            changes.push(FieldChange {
                path: FieldPath::new("name"),
                before: Some(old.to_string()),
                after: Some(name.to_string()),
                effect: ChangeImpact::Record,
            });
        }
        let reason = if renamed_from.is_some() {
            Reason::Renamed
        } else if !changes.is_empty() {
            Reason::Changed
        } else if existing.phase != Phase::Ready {
            Reason::Unfinished
        } else if !drifted.is_empty() {
            Reason::Drift
        } else {
            return;
        };
        if reason == Reason::Unfinished && changes.is_empty() {
            changes.push(FieldChange {
                path: FieldPath::new("phase"),
                before: Some("unfinished".to_owned()),
                after: Some("ready".to_owned()),
                effect: ChangeImpact::Restart,
            });
        }
        changes.extend(drifted);
        if let Some(upgrade) = policy::upgrade(&existing.recorded, &wanted.spec) {
            self.lints.extend(lint::no_way_back(name, &upgrade));
            self.upgrades.push(PlannedUpgrade { backend: name.clone(), upgrade });
        }
        let action = if highest_impact(&changes) == ChangeImpact::MovesData { Action::Move } else { Action::Update };
        self.step(address, action, reason, changes, task);
    }

    /// Notes drift, and returns the changes that repair it.
    fn collect_drift(&mut self, address: &Address, existing: &ActualBackend) -> Vec<FieldChange> {
        let observation = &existing.observation;
        if observation.data == DataState::Missing {
            self.refusals.push(policy::data_missing(address, existing));
            self.drift.push(DriftItem::new(address.clone(), super::drift::data_missing()));
        }
        self.lints.extend(existing.observe_failure().map(|why| lint::not_observed(address, &why)));
        if existing.phase != Phase::Ready {
            return Vec::new();
        }
        let repair =
            observation.drift.iter().filter(|deviation| deviation.is_repaired_by_apply()).map(|deviation| FieldChange {
                path: deviation.path.clone(),
                before: Some(deviation.observed.clone()),
                after: Some(deviation.recorded.clone()),
                effect: if deviation.path.as_str().starts_with("env.") { ChangeImpact::Live } else { ChangeImpact::Restart },
            });
        self.drift.extend(observation.drift.iter().cloned().map(|deviation| DriftItem::new(address.clone(), deviation)));
        repair.collect()
    }

    fn destroy_backends(&mut self) {
        let existing: Vec<(&BackendName, &ActualBackend)> = self.existing.iter().map(|(name, b)| (*name, *b)).collect();
        for (name, backend) in existing {
            let wanted = !self.intent.destroy && self.desired.backends.contains_key(name);
            // While a rename is pending, both names mean the backend.
            let by_old_name = self.intent.selection.contains(&backend.name);
            let by_new_name = self.intent.destroy && self.intent.selection.contains(name);
            if wanted || !(by_old_name || by_new_name) {
                continue;
            }
            let asked = if by_old_name { &backend.name } else { name };
            // What a rename could not take over keeps its own name here.
            self.refusals.extend(policy::protected(asked, backend));
            let reason = match (self.intent.destroy, backend.phase) {
                (_, Phase::Removing) => Reason::Unfinished,
                (true, _) => Reason::DestroyRequested,
                (false, _) => Reason::RemovedFromManifest,
            };
            // A removal that was cut off goes on as it was begun. Naming the backend to be destroyed says anew what
            // becomes of its data.
            let asked_for = ReclaimPolicy { volume: self.intent.volume_reclaim, database: self.intent.database_reclaim };
            let begun = backend.removal.filter(|_| backend.phase == Phase::Removing);
            let asked_for = begun.filter(|_| !self.intent.destroy).unwrap_or(asked_for);
            let ReclaimPolicy { volume, database } = asked_for.completed(&backend.recorded);
            self.lints.extend(begun.and_then(|begun| lint::retention_dropped(asked, begun.volume, volume)));
            self.refusals.extend(policy::volume_kept(asked, backend, asked_for));
            self.refusals.extend(policy::files_removed(asked, backend, database));
            self.lints.extend(lint::database_stays(asked, backend, database));
            self.lints.extend(lint::retained_is_billed(asked, backend, volume));
            let keeps_data = volume == VolumeReclaim::Retain;
            let final_snapshot =
                !keeps_data && policy::final_snapshot(backend, self.intent.skip_final_snapshot) == FinalSnapshot::Taken;
            let task = Task::Remove { backend: backend.name.clone(), volume, database, final_snapshot };
            self.step(Address::backend(asked), Action::Destroy, reason, diff::destruction_changes(backend, database), task);
        }
    }

    fn finish(mut self) -> Plan {
        if !self.intent.destroy {
            self.refusals.extend(limits::budget(self.desired, &self.existing));
            self.refusals.extend(limits::quota(&self.steps, &self.actual.snapshot));
            self.lints.extend(lint::project(self.desired));
            let expired = self.actual.snapshot.expired.iter().filter(|(name, _)| {
                self.intent.selection.contains(name) && self.desired.backends.contains_key(*name) && self.stays_expired(name)
            });
            let expired: Vec<Diagnostic> = expired.map(|(name, ended_at)| lint::expired(name, *ended_at)).collect();
            self.lints.extend(expired);
            let is_left = |name: &BackendName| {
                self.intent.selection.contains(name)
                    && self.desired.backends.contains_key(name)
                    && !self.steps.iter().any(|step| step.address.backend == *name)
            };
            let stopped = self.existing.iter().filter(|(name, existing)| existing.stopped && is_left(name));
            let stopped: Vec<Diagnostic> = stopped.map(|(name, _)| lint::stopped(name)).collect();
            self.lints.extend(stopped);
        }
        if let Some(OtherOrigin { refusal, .. }) = self.other_origin() {
            // A folder may have been moved.
            let destroys = !self.intent.destroy && self.steps.iter().any(|step| step.action == Action::Destroy);
            if !self.intent.take_over && destroys {
                self.refusals.push(refusal);
            } else {
                self.lints.push(refusal.as_warning());
            }
        }
        let recorded = self.actual.snapshot.backends.iter().map(|backend| (&backend.name, &backend.recorded)).collect();
        let snapshot = &self.actual.snapshot;
        let connected = graph::connect_dependencies(std::mem::take(&mut self.steps), &recorded);
        let (steps, held) = origin_claims::order_claims(connected, snapshot);
        self.refusals.extend(held);
        let (steps, no_turn) = quota_schedule::order_within_quota(steps, snapshot);
        self.refusals.extend(no_turn);
        self.lints
            .extend(rename::undeclared(&steps, &self.existing).into_iter().map(|(old, new)| lint::rename_undeclared(old, new)));
        let cost = cost::cost(snapshot, &steps);
        self.into_plan(steps, cost)
    }

    /// Returns the origin of the project where it is not the one of the manifest.
    fn other_origin(&self) -> Option<OtherOrigin> {
        policy::other_repository(&self.desired.project, self.actual.snapshot.origin.as_deref(), &self.desired.origin)
    }

    /// Returns the plan of these steps.
    fn into_plan(mut self, steps: Vec<Step>, cost: Option<PlanCost>) -> Plan {
        self.refusals.sort();
        self.refusals.dedup();
        self.lints.sort();
        self.lints.dedup();
        self.drift.sort_by(|a, b| (&a.address, &a.path).cmp(&(&b.address, &b.path)));
        let mut plan = Plan {
            format: FORMAT.to_owned(),
            project: self.desired.project.clone(),
            control_plane: self.actual.snapshot.control_plane.name.clone(),
            base: self.actual.snapshot.revision,
            manifest: self.desired.manifest.clone(),
            digest: Digest::of(b""),
            summary: Summary::default(),
            cost,
            steps,
            drift: self.drift,
            refusals: self.refusals,
            lints: self.lints,
            needs_allow_destroy: Vec::new(),
            at_stake: Vec::new(),
            upgrades: self.upgrades,
            data_moves: Vec::new(),
        };
        plan.needs_allow_destroy = plan.destroyed().into_iter().cloned().collect();
        plan.at_stake = at_stake(&plan.steps, &self.existing, self.intent);
        plan.data_moves = moves::data_moves(&plan.steps, &self.existing);
        plan.summary = validate::summary(&plan);
        plan.digest = plan.compute_digest();
        plan
    }
}

/// Returns the data of the backends that are destroyed with their data.
fn at_stake(steps: &[Step], existing: &BTreeMap<&BackendName, &ActualBackend>, intent: &PlanOptions) -> Vec<DataAtStake> {
    let destroyed = steps.iter().filter(|step| step.destroys_data);
    let stake = |backend: &ActualBackend| DataAtStake {
        backend: backend.name.clone(),
        size: backend.data_size.clone(),
        last_snapshot: backend.last_snapshot,
        final_snapshot: Some(policy::final_snapshot(backend, intent.skip_final_snapshot)),
    };
    destroyed.filter_map(|step| existing.get(&step.address.backend).map(|backend| stake(backend))).collect()
}
