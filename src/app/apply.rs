//! Carries a plan out: approve, lease, revalidate, execute, observe, conclude.
//!
//! Must not do: anything that was not shown, or destroy what was not named.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::{Instant, timeout};

use super::apply_report::{ApplyOutcome, command_allowing_all, errors, interrupt_message, observe_failed, ready_backends};
use super::env_files::ManifestEnvFiles;
use super::outcome::{Conclusion, ExecutionReport, Observation, conclude};
use super::reach::mark_unreached;
use super::{AppError, Approver, Reporter, Session, drift, plan, saved_plan};
use crate::api::{ControlError, Lease, OriginPolicy};
use crate::apply::{self, Event, EventKind, Interrupt, ReadyBackend, StepOutcome};
use crate::host::own_holder;
use crate::model::{BackendName, Diagnostic, Exit, Report, Scope, Snapshot};
use crate::plan::{Action, BackendSelection, Plan, PlanOptions, Reason, Step, Task, destruction_refusals};
use crate::policy::removal_needs_destroy;

/// How long the snapshot may take that only tells where the backends are.
const FINAL_SNAPSHOT_TIMEOUT: Duration = Duration::from_secs(5);
/// How often a lease that another apply holds is tried again.
const LEASE_POLL_INTERVAL: Duration = Duration::from_millis(500);

/// How many notices of steps are kept; a control plane may send any number.
const MAX_NOTICES: usize = 1_000;

/// What a person or a program allows an apply to do.
#[derive(Debug, Clone)]
pub(crate) struct ApplyOptions {
    /// Whether everything that destroys nothing is approved already.
    pub(crate) approved: bool,
    /// The backends that may be destroyed.
    pub(crate) allow_destroy: BTreeSet<BackendName>,
    /// How many steps run at once at most.
    pub(crate) parallelism: usize,
    /// How long to wait for a lease that another apply holds; none fails at once.
    pub(crate) wait_for_lock: Option<Duration>,
}

impl ApplyOptions {
    /// Returns options under which everything is approved, and these backends may be destroyed.
    pub(crate) fn approved(allow_destroy: BTreeSet<BackendName>) -> Self {
        Self { approved: true, allow_destroy, parallelism: 64, wait_for_lock: None }
    }
}

/// Whether an apply is the whole command, or a part of one that reports the result itself.
#[derive(Clone, Copy)]
pub(crate) enum Role<'a> {
    /// The whole command: what could not be observed is an error of its own.
    Command,
    /// A part: the hook runs once nothing stands in the way, before the first step.
    Part(&'a (dyn Fn() -> Result<(), AppError> + Sync)),
}

/// One apply or destroy.
pub(crate) struct ApplyRun<'a> {
    /// Receives what happens.
    pub(crate) reporter: &'a dyn Reporter,
    /// Decides what only a person can decide.
    pub(crate) approver: &'a dyn Approver,
    /// What is allowed.
    pub(crate) options: ApplyOptions,
    /// The saved plan that must still hold.
    pub(crate) saved: Option<&'a Plan>,
    /// Whether this is the whole command.
    pub(crate) role: Role<'a>,
}

/// What is left of a plan once the lease is held.
enum Revalidated {
    /// This is to be carried out.
    Proceed(Plan),
    /// Another apply did all of it.
    NothingToDo(Plan, Snapshot),
}

impl ApplyRun<'_> {
    /// Plans, asks for approval, takes the lease, carries the plan out and observes the result.
    ///
    /// # Errors
    /// What stood in the way; nothing was done then, unless the message says otherwise.
    pub(crate) async fn run(&mut self, session: &mut Session<'_>, intent: &PlanOptions) -> Result<ApplyOutcome, AppError> {
        let outcome = self.plan_and_execute(session, intent).await?;
        if let Some(snapshot) = &outcome.snapshot {
            let env_files = ManifestEnvFiles::new(&session.manifest, &snapshot.control_plane.name);
            env_files.reconcile_inventory(&session.manifest.desired, snapshot);
        }
        Ok(outcome)
    }

    async fn plan_and_execute(&mut self, session: &mut Session<'_>, intent: &PlanOptions) -> Result<ApplyOutcome, AppError> {
        let deadline = self.options.wait_for_lock.map(|limit| Instant::now() + limit);
        self.wait_for_lease(session, deadline).await?;
        let (planned, snapshot) = session.observe_and_plan(intent).await?;
        if intent.destroy {
            self.confirm_destruction(&planned, intent);
        }
        self.accept(&planned, intent)?;
        if !intent.destroy {
            plan::require_readable_secrets(&session.secrets, &intent.selection)?;
        }
        if planned.is_empty() {
            return self.nothing_to_do(planned, snapshot, intent);
        }
        check_scope(&planned, &snapshot)?;
        self.reporter.planned(&planned);
        plan::require_secrets(&planned, &session.secrets)?;
        if needs_approval(&planned) && !self.options.approved && self.saved.is_none() {
            self.approver.approve(&planned)?;
        }

        let lease = self.acquire(session, deadline).await?;
        let result = self.under_lease(session, &lease, planned, intent).await;
        // A lease that cannot be released expires by itself.
        let _ = session.control.release_lease(&lease).await;
        result
    }

    async fn under_lease(
        &self,
        session: &mut Session<'_>,
        lease: &Lease,
        planned: Plan,
        intent: &PlanOptions,
    ) -> Result<ApplyOutcome, AppError> {
        let plan = match self.revalidate(session, lease, planned, intent).await? {
            Revalidated::Proceed(plan) => plan,
            Revalidated::NothingToDo(plan, snapshot) => return self.nothing_to_do(plan, snapshot, intent),
        };
        let policy = if intent.take_over { OriginPolicy::TakeOver } else { OriginPolicy::IfUnclaimed };
        session.control.set_origin(lease, &session.manifest.desired.origin, policy).await?;
        self.before()?;
        let execution = self.execute_with_progress(session, lease, &plan).await;
        let (observation, snapshot) = self.observe_after(session, &execution, intent).await;
        let conclusion = conclude(&execution, &observation);
        let ready = self.ready(&plan, &execution, snapshot.as_ref()).await;
        let Conclusion { exit, converged } = conclusion;
        self.reporter.event(&EventKind::Finished { tally: execution.tally, exit, converged, backends: ready.clone() }.into());
        let errors = errors(&plan, &execution.steps, &conclusion);
        let unobserved = match (&execution.lease_lost, observation) {
            (Some(lost), _) => Some(lost.report()),
            (None, Observation::Planned { unobserved, .. }) => unobserved,
            (None, Observation::Failed(report)) => Some(report),
            (None, Observation::Skipped) => None,
        };
        let ExecutionReport { steps, notices, .. } = execution;
        Ok(ApplyOutcome { exit, errors, plan, steps, snapshot, ready, notices, unobserved })
    }

    /// Returns the backends that are ready. The URLs of those that this apply has changed are asked.
    async fn ready(&self, plan: &Plan, execution: &ExecutionReport, snapshot: Option<&Snapshot>) -> Vec<ReadyBackend> {
        let Some(snapshot) = snapshot else { return Vec::new() };
        let changed: BTreeSet<&BackendName> = plan
            .steps
            .iter()
            .filter(|step| execution.steps.get(&step.id) == Some(&StepOutcome::Done))
            .filter_map(|step| match &step.task {
                Some(Task::Put { backend, .. }) => Some(backend),
                _ => None,
            })
            .collect();
        let (mut ready, rest): (Vec<_>, Vec<_>) =
            ready_backends(snapshot).into_iter().partition(|ready| changed.contains(&ready.name));
        if execution.interrupt == Interrupt::None {
            mark_unreached(&mut ready, snapshot).await;
        }
        ready.extend(rest);
        ready.sort_by(|a, b| a.name.cmp(&b.name));
        ready
    }

    /// Plans again where another apply was faster. A fence that has not moved proves that the plan still holds, except
    /// for operations that were unfinished: the last holder may have finished them, which changes no revision.
    async fn revalidate(
        &self,
        session: &mut Session<'_>,
        lease: &Lease,
        planned: Plan,
        intent: &PlanOptions,
    ) -> Result<Revalidated, AppError> {
        // A home that was new a moment ago had no key yet under which to compare secrets.
        session.refresh_key().await?;
        let moved = lease.revision != planned.base;
        let unfinished = |step: &Step| matches!(step.reason, Reason::Unfinished | Reason::RemovalUnfinished);
        if !moved && !planned.steps.iter().any(unfinished) {
            return Ok(Revalidated::Proceed(planned));
        }
        let (next, snapshot) = session.observe_and_plan(intent).await?;
        self.accept(&next, intent)?;
        if next.is_empty() {
            return Ok(Revalidated::NothingToDo(next, snapshot));
        }
        if !self.options.approved && (moved || next.steps != planned.steps) {
            let finding =
                Diagnostic::new("plan.stale", "another apply changed the project after this plan was shown; nothing was done");
            return Err(AppError::new(Exit::Refused, finding.with_help("look at the new plan with\n    convexinfra plan")));
        }
        Ok(Revalidated::Proceed(next))
    }

    async fn execute_with_progress(&self, session: &Session<'_>, lease: &Lease, plan: &Plan) -> ExecutionReport {
        let (steps, notices) = (Mutex::new(BTreeMap::new()), Mutex::new(Vec::new()));
        let on_event = |event: Event| {
            match &event.kind {
                EventKind::StepFinished { id, end, .. } => {
                    steps.lock().unwrap_or_else(PoisonError::into_inner).insert(id.clone(), end.clone());
                }
                EventKind::StepProgress { message, .. } => {
                    let mut notices = notices.lock().unwrap_or_else(PoisonError::into_inner);
                    if notices.len() < MAX_NOTICES {
                        notices.push(message.clone());
                    }
                }
                _ => {}
            }
            self.reporter.event(&event);
        };
        let (project, summary, lints) = (plan.project.clone(), plan.summary, plan.lints.clone());
        on_event(EventKind::Started { project, summary, lints }.into());
        let interrupt = self.approver.interrupts(interrupt_message(plan));
        let executed = apply::execute(&apply::Execution {
            plan,
            control: session.control,
            lease,
            origin: session.manifest.desired.origin_if_known(),
            secrets: session.secrets.found(),
            env_files: &ManifestEnvFiles::new(&session.manifest, &plan.control_plane),
            parallelism: self.options.parallelism,
            interrupt: interrupt.clone(),
            on_event: &on_event,
        })
        .await;
        self.reporter.steps_ended();
        let interrupt = *interrupt.borrow();
        ExecutionReport {
            tally: executed.tally,
            steps: steps.into_inner().unwrap_or_else(PoisonError::into_inner),
            notices: notices.into_inner().unwrap_or_else(PoisonError::into_inner),
            interrupt,
            lease_lost: executed.lease_lost,
        }
    }

    /// Plans again after steps that all ended well; otherwise takes a snapshot only to tell where the backends are.
    async fn observe_after(
        &self,
        session: &Session<'_>,
        execution: &ExecutionReport,
        intent: &PlanOptions,
    ) -> (Observation, Option<Snapshot>) {
        let project = &session.manifest.desired.project;
        let snapshot_soon =
            async || timeout(FINAL_SNAPSHOT_TIMEOUT, session.control.snapshot(project)).await.ok().and_then(Result::ok);
        if execution.interrupt == Interrupt::Abort {
            // A second interrupt waits for nothing more.
            return (Observation::Skipped, None);
        }
        if execution.lease_lost.is_some() {
            return (Observation::Skipped, snapshot_soon().await);
        }
        if execution.tally.failed > 0 || execution.interrupt != Interrupt::None {
            return (Observation::Skipped, session.control.snapshot(project).await.ok());
        }
        match session.observe_and_plan(intent).await {
            Ok((left, snapshot)) => {
                let converged = left.is_empty();
                let unobserved = if converged { self.unobserved(&snapshot, intent) } else { None };
                (Observation::Planned { converged, unobserved }, Some(snapshot))
            }
            Err(error) => (Observation::Failed(observe_failed(&error)), snapshot_soon().await),
        }
    }

    fn nothing_to_do(&self, plan: Plan, snapshot: Snapshot, intent: &PlanOptions) -> Result<ApplyOutcome, AppError> {
        self.before()?;
        let unobserved = self.unobserved(&snapshot, intent);
        let exit = unobserved.as_ref().map_or(Exit::Done, |report| report.exit);
        let (errors, steps, notices) = (Vec::new(), BTreeMap::new(), Vec::new());
        let ready = ready_backends(&snapshot);
        Ok(ApplyOutcome { exit, errors, plan, steps, snapshot: Some(snapshot), ready, notices, unobserved })
    }

    /// Returns what could not be observed, for a command that is about the whole project.
    fn unobserved(&self, snapshot: &Snapshot, intent: &PlanOptions) -> Option<Report> {
        let about_all = matches!(self.role, Role::Command) && !intent.destroy;
        about_all.then(|| drift::unobserved(&crate::plan::detect_drift(snapshot).unknown)).flatten()
    }

    /// Refuses a plan that may not be carried out.
    fn accept(&self, planned: &Plan, intent: &PlanOptions) -> Result<(), AppError> {
        if let Some(finding) = self.saved.and_then(|saved| saved_plan::staleness(saved, planned)) {
            return Err(AppError::new(Exit::Refused, finding));
        }
        let mut refusals = planned.refusals.clone();
        let allowed: Vec<BackendName> = self.options.allow_destroy.iter().cloned().collect();
        let mut destructions = destruction_refusals(planned, &allowed);
        // What is refused anyway, such as what is protected, is not destroyed by being allowed.
        let refused = |finding: &Diagnostic| refusals.iter().any(|refusal| refusal.address == finding.address);
        destructions.retain(|finding| !refused(finding));
        if destructions.len() > 1
            && planned.refusals.is_empty()
            && let Some(last) = destructions.last_mut()
        {
            last.help = Some(command_allowing_all(planned, intent, self.options.approved));
        }
        refusals.extend(destructions);
        if refusals.is_empty() {
            return Ok(());
        }
        self.reporter.refused(planned);
        Err(plan::refusal_error(&refusals))
    }

    fn before(&self) -> Result<(), AppError> {
        match self.role {
            Role::Command => Ok(()),
            Role::Part(hook) => hook(),
        }
    }

    /// Asks for the names of backends that a `destroy` names and that were not allowed yet.
    fn confirm_destruction(&mut self, planned: &Plan, intent: &PlanOptions) {
        let BackendSelection::Only(named) = &intent.selection else { return };
        let open: BTreeSet<BackendName> = planned
            .destroyed()
            .into_iter()
            .filter(|name| named.contains(*name) && !self.options.allow_destroy.contains(*name))
            .cloned()
            .collect();
        if !open.is_empty() && planned.refusals.is_empty() {
            self.options.allow_destroy.extend(self.approver.confirm_destruction(planned, &open));
        }
    }

    /// Waits until no other apply holds the lease, so that the plan that is shown is the one that is carried out.
    async fn wait_for_lease(&self, session: &Session<'_>, deadline: Option<Instant>) -> Result<(), AppError> {
        let Some(deadline) = deadline else { return Ok(()) };
        let project = &session.manifest.desired.project;
        let mut told = false;
        while let Some(holder) = session.control.lease_holder(project).await? {
            if Instant::now() >= deadline {
                return Err(ControlError::LeaseHeld { project: project.clone(), holder }.into());
            }
            if !std::mem::replace(&mut told, true) {
                self.reporter.notice(&format!(
                    "waiting for another apply: process {} of {} on {}",
                    holder.process, holder.user, holder.host
                ));
            }
            tokio::time::sleep(LEASE_POLL_INTERVAL.min(deadline.saturating_duration_since(Instant::now()))).await;
        }
        Ok(())
    }

    async fn acquire(&self, session: &Session<'_>, deadline: Option<Instant>) -> Result<Lease, AppError> {
        loop {
            match session.control.acquire_lease(&session.manifest.desired.project, own_holder()).await {
                Err(ControlError::LeaseHeld { .. }) if deadline.is_some_and(|deadline| Instant::now() < deadline) => {
                    tokio::time::sleep(LEASE_POLL_INTERVAL).await;
                }
                result => return Ok(result?),
            }
        }
    }
}

/// Returns whether anything but allowed destruction happens: each destroyed backend was allowed by name, which says
/// more than a yes.
fn needs_approval(plan: &Plan) -> bool {
    let destroys = plan.steps.iter().any(|step| step.action == Action::Destroy);
    !destroys || plan.steps.iter().any(|step| !matches!(step.action, Action::Destroy | Action::Write))
}

/// Refuses what the token does not allow before anything is done: an env file must not be cleared for a backend that
/// then stays.
fn check_scope(plan: &Plan, snapshot: &Snapshot) -> Result<(), AppError> {
    let Some(has) = snapshot.control_plane.scope else { return Ok(()) };
    let destroys = plan.steps.iter().any(|step| match &step.task {
        Some(Task::Remove { backend, database, .. }) => {
            removal_needs_destroy(snapshot.backend(backend).and_then(|backend| backend.expires_at), *database)
        }
        _ => false,
    });
    let needs = if destroys { Scope::Destroy } else { Scope::Apply };
    if has >= needs {
        return Ok(());
    }
    let message = format!("the token has the scope `{has}`, and this needs `{needs}`; nothing was done");
    let help = format!("ask an operator for one with\n    convexinfra token create --project {} --scope {needs}", plan.project);
    Err(AppError::new(Exit::NotAuthorised, Diagnostic::new("auth.scope", message).with_help(help)))
}
