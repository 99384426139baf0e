//! `convexinfra apply`: makes it so, exactly as planned.
//!
//! Must not do: do anything that was not shown, or destroy what was not named.

use std::collections::BTreeMap;
use std::io::{BufRead, IsTerminal};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::timeout;

use super::{drift, plan};
use crate::api::{ControlPlane, IfMissing, Lease, OriginPolicy};
use crate::apply::{Event, EventKind, Executed, Execution, Interrupt, ReadyBackend, StepOutcome, Tally, execute};
use crate::cli::args::{Apply as Args, ApprovalArgs};
use crate::cli::context::{Context, LoadedManifest};
use crate::cli::discovery::join_display;
use crate::cli::env_files::ManifestEnvFiles;
use crate::cli::error::CliError;
use crate::cli::progress::ProgressReporter;
use crate::cli::secrets::{self, ComparisonMode};
use crate::cli::{saved_plan, signal};
use crate::host::{EMBEDDED, own_holder};
use crate::model::{Diagnostic, Endpoints, Exit, Phase, Report, Scope, Snapshot};
use crate::plan::{Action, Lint, Plan, PlanOptions, Reason, Step, StepId, Task, destruction_refusals};
use crate::render;

/// How long to look once more, only to tell where the backends are.
const FINAL_SNAPSHOT_TIMEOUT: Duration = Duration::from_secs(5);

/// Applies the manifest, or a saved plan.
pub(super) async fn run(context: &Context, args: &Args) -> Result<Exit, CliError> {
    let saved = args.plan.as_deref().map(saved_plan::read).transpose()?;
    let (loaded, values) = context.load_with_secrets(IfMissing::ReturnNone, ComparisonMode::Strict).await?;
    plan::print_warnings(context, &loaded);
    ApplyRun { context, loaded: &loaded, values: &values, consent: &args.consent, saved: saved.as_ref(), part: None }
        .run(&plan::intent(&args.scope))
        .await?
        .into_exit()
}

/// One apply or destroy.
pub(super) struct ApplyRun<'a> {
    pub(super) context: &'a Context,
    pub(super) loaded: &'a LoadedManifest,
    pub(super) values: &'a secrets::ResolvedSecrets,
    pub(super) consent: &'a ApprovalArgs,
    pub(super) saved: Option<&'a Plan>,
    pub(super) part: Option<PreApplyHook<'a>>,
}

/// The command that an apply is a part of. It says itself what came of it.
pub(super) struct PreApplyHook<'a> {
    /// What it does once nothing stands in the way, and before anything is done.
    pub(super) before: &'a dyn Fn() -> Result<(), CliError>,
}

/// How an apply ended.
pub(super) struct ApplyOutcome {
    pub(super) exit: Exit,
    /// Why it did not end well.
    errors: Vec<Diagnostic>,
    /// What there was at its end, where somebody looked.
    pub(super) snapshot: Option<Snapshot>,
    /// What its steps had to say, such as what they left where it is.
    pub(super) notices: Vec<String>,
    /// What was worth a look in its plan.
    pub(super) lints: Vec<Lint>,
    /// What nobody could look at when everything else was done, or why the rest was left.
    unobserved: Option<Report>,
}

impl ApplyOutcome {
    /// The exit code. No step has told of what could not be looked at, so that is a failure of its own.
    pub(super) fn into_exit(self) -> Result<Exit, CliError> {
        self.unobserved.map_or(Ok(self.exit), |blind| Err(CliError::from(blind)))
    }

    /// The same as a failure, unless it ended well.
    pub(super) fn into_result(self) -> Result<Self, CliError> {
        if self.exit == Exit::Done {
            return Ok(self);
        }
        let mut errors = self.errors;
        errors.extend(self.unobserved.into_iter().flat_map(|blind| blind.errors));
        Err(CliError::from(Report { exit: self.exit, errors }))
    }
}

impl ApplyRun<'_> {
    /// Plans, asks, takes the lease, carries out, looks again.
    pub(super) async fn run(&self, intent: &PlanOptions) -> Result<ApplyOutcome, CliError> {
        let control = self.context.control(Some(&self.loaded.desired))?;
        let (mut current, snapshot) = plan::observe_and_plan(control, self.loaded, intent, ComparisonMode::Strict).await?;
        self.accept(&current)?;
        if !intent.destroy {
            plan::require_readable_secrets(self.values, &intent.selection)?;
        }
        if current.is_empty() {
            return self.nothing_to_do(&current, snapshot, intent);
        }
        check_scope(&current, &snapshot)?;
        self.context.printer.status(&render::plan(&current, self.context.printer.err_style()));
        plan::require_secrets(&current, self.values)?;
        self.ask(&current)?;

        let lease = control.acquire_lease(&self.loaded.desired.project, own_holder()).await?;
        let result = self.under_lease(control, &lease, &mut current, intent).await;
        // A lease that cannot be given back runs out by itself.
        let _ = control.release_lease(&lease).await;
        result
    }

    fn nothing_to_do(&self, current: &Plan, snapshot: Snapshot, intent: &PlanOptions) -> Result<ApplyOutcome, CliError> {
        self.before()?;
        let printer = &self.context.printer;
        if self.part.is_some() {
            // Whoever asked says what there is.
        } else if intent.destroy {
            printer.output(&format!("nothing to destroy: `{}` has no such backends\n", current.project));
        } else {
            printer.output(&render::plan(current, printer.out_style()));
        }
        let (tally, backends, blind) = (Tally::default(), ready_backends(&snapshot), self.blind(&snapshot, intent));
        let (exit, converged) = blind.as_ref().map_or((Exit::Done, Some(true)), |blind| (blind.exit, None));
        printer.document(&Event::from(EventKind::Finished { tally, exit, converged, backends }));
        let lints = current.lints.clone();
        Ok(ApplyOutcome { exit, errors: Vec::new(), snapshot: Some(snapshot), notices: Vec::new(), lints, unobserved: blind })
    }

    /// What could not be looked at, for a command that is about all that there is.
    fn blind(&self, snapshot: &Snapshot, intent: &PlanOptions) -> Option<Report> {
        let about_all = self.part.is_none() && !intent.destroy;
        about_all.then(|| drift::unobserved(&crate::plan::detect_drift(snapshot).unknown)).flatten()
    }

    /// Whether this plan may be carried out at all.
    fn accept(&self, current: &Plan) -> Result<(), CliError> {
        if let Some(finding) = self.saved.and_then(|saved| saved_plan::staleness(saved, current)) {
            return Err(CliError::new(Exit::Refused, finding));
        }
        let mut refusals = current.refusals.clone();
        refusals.extend(destruction_refusals(current, &self.consent.allow_destroy));
        if refusals.is_empty() {
            return Ok(());
        }
        self.context.printer.status(&render::refused_plan(current, self.context.printer.err_style()));
        self.context.printer.status("\nnothing was done\n");
        Err(plan::refusal_error(&refusals))
    }

    fn ask(&self, current: &Plan) -> Result<(), CliError> {
        if self.consent.yes || self.saved.is_some() {
            return Ok(());
        }
        let destroys = current.steps.iter().any(|step| step.action == Action::Destroy);
        if destroys && !current.steps.iter().any(|step| step.action != Action::Destroy && step.action != Action::Write) {
            // Every destruction was allowed by name already, which says more than a yes.
            return Ok(());
        }
        if self.context.printer.is_json() || !std::io::stdin().is_terminal() || !std::io::stderr().is_terminal() {
            let finding = Diagnostic::new("usage.not_confirmed", "there is no terminal to ask on, so nothing was done");
            return Err(CliError::new(Exit::Usage, finding.with_help("say yes with\n    convexinfra apply --yes")));
        }
        self.context.printer.status("\nmake it so? [y/N] ");
        let mut answer = String::new();
        let read = std::io::stdin().lock().read_line(&mut answer);
        if read.is_ok() && matches!(answer.trim().to_lowercase().as_str(), "y" | "yes") {
            return Ok(());
        }
        let finding = Diagnostic::new("apply.declined", "not confirmed, so nothing was done");
        Err(CliError::new(Exit::Interrupted, finding))
    }

    async fn under_lease(
        &self,
        control: &dyn ControlPlane,
        lease: &Lease,
        current: &mut Plan,
        intent: &PlanOptions,
    ) -> Result<ApplyOutcome, CliError> {
        // In a home that was new a moment ago there was no key yet under which to compare secrets.
        let keyed = self.loaded.with_fingerprints(control, self.values).await?;
        // What was unfinished may have been finished by whoever held the lease, which changes no revision.
        let unfinished = |step: &Step| matches!(step.reason, Reason::Unfinished | Reason::RemovalUnfinished);
        let moved = lease.revision != current.base;
        if moved || current.steps.iter().any(unfinished) {
            // Somebody was faster. What was shown is not what would be done now.
            let (next, snapshot) = plan::observe_and_plan(control, &keyed, intent, ComparisonMode::Strict).await?;
            self.accept(&next)?;
            if next.is_empty() {
                return self.nothing_to_do(&next, snapshot, intent);
            }
            if !self.consent.yes && (moved || next.steps != current.steps) {
                let finding = Diagnostic::new(
                    "plan.stale",
                    "somebody else applied while this plan was being looked at, so nothing was done",
                );
                return Err(CliError::new(Exit::Refused, finding.with_help("look at the new plan with\n    convexinfra plan")));
            }
            *current = next;
        }
        let claim = if intent.take_over { OriginPolicy::TakeOver } else { OriginPolicy::IfUnclaimed };
        control.set_origin(lease, &self.loaded.desired.origin, claim).await?;
        self.before()?;
        let bars = Arc::new(ProgressReporter::new(&self.context.printer));
        let (ends, notices) = (Mutex::new(BTreeMap::new()), Mutex::new(Vec::new()));
        let listener = |event: Event| {
            match &event.kind {
                EventKind::StepFinished { id, end, .. } => {
                    ends.lock().unwrap_or_else(PoisonError::into_inner).insert(id.clone(), end.clone());
                }
                EventKind::StepProgress { message, .. } => {
                    notices.lock().unwrap_or_else(PoisonError::into_inner).push(message.clone());
                }
                _ => {}
            }
            bars.on_event(&event);
        };
        let (project, lints) = (current.project.clone(), current.lints.clone());
        listener(EventKind::Started { project, summary: current.summary, lints }.into());
        let interrupt = {
            let bars = Arc::clone(&bars);
            signal::watch_interrupts(interrupt_message(current), move |words| bars.print(words))
        };
        let env_files = ManifestEnvFiles::new(&self.loaded.folder, &self.loaded.desired.project);
        let execution = Execution {
            plan: current,
            control,
            lease,
            secrets: self.values.found(),
            env_files: &env_files,
            parallelism: usize::from(self.consent.parallelism),
            interrupt: interrupt.clone(),
            on_event: &listener,
        };
        let Executed { tally, lease_lost: lost } = execute(&execution).await;
        bars.finish();
        let asked = *interrupt.borrow();
        // What was done is told whatever comes of looking at it.
        let (after, blind) = match (&lost, tally.failed, asked) {
            (Some(lost), _, _) => (None, Some(lost.report())),
            (None, 0, Interrupt::None) => match plan::observe_and_plan(control, &keyed, intent, ComparisonMode::Strict).await {
                Ok((left, seen)) => {
                    let blind = left.is_empty().then(|| self.blind(&seen, intent)).flatten();
                    (Some((left, seen)), blind)
                }
                Err(failure) => (None, Some(observe_failed(&failure))),
            },
            _ => (None, None),
        };
        let converged = if blind.is_some() { None } else { after.as_ref().map(|(left, _)| left.is_empty()) };
        let exit = match (tally.failed, asked, converged) {
            _ if let Some(lost) = &lost => lost.report().exit,
            (_, Interrupt::Finish | Interrupt::Abort, _) => Exit::Interrupted,
            (0, _, None) if let Some(blind) = &blind => blind.exit,
            (0, _, Some(true) | None) => Exit::Done,
            (0, _, Some(false)) => Exit::Failed,
            (1.., _, _) => exit_of_failures(&ends.lock().unwrap_or_else(PoisonError::into_inner)),
        };
        // Looking takes as long as the slowest provider, so what was just seen is not looked at again; and whoever
        // said twice to stop waits for nothing more.
        let snapshot = match (after, asked) {
            (Some((_, snapshot)), _) => Some(snapshot),
            (None, Interrupt::Abort) => None,
            (None, _) if blind.is_some() => {
                timeout(FINAL_SNAPSHOT_TIMEOUT, control.snapshot(&current.project)).await.ok().and_then(Result::ok)
            }
            (None, _) => control.snapshot(&current.project).await.ok(),
        };
        let backends = snapshot.as_ref().map(ready_backends).unwrap_or_default();
        bars.on_event(&EventKind::Finished { tally, exit, converged, backends: backends.clone() }.into());
        let ends = ends.into_inner().unwrap_or_else(PoisonError::into_inner);
        if self.part.is_none() {
            self.context.printer.output(&result_lines(&self.loaded.folder, &backends, current, &ends));
        }
        let notices = std::mem::take(&mut *notices.lock().unwrap_or_else(PoisonError::into_inner));
        let (errors, lints) = (errors(current, &ends, exit, converged), current.lints.clone());
        Ok(ApplyOutcome { exit, errors, snapshot, notices, lints, unobserved: blind })
    }

    /// What the command that this is a part of does once nothing stands in the way.
    fn before(&self) -> Result<(), CliError> {
        self.part.as_ref().map_or(Ok(()), |part| (part.before)())
    }
}

/// Refuses what the token does not allow, before anything is done: an env file must not be cleared for a backend that
/// then stays.
fn check_scope(current: &Plan, snapshot: &Snapshot) -> Result<(), CliError> {
    let Some(has) = snapshot.control_plane.scope else { return Ok(()) };
    let destroys = current.steps.iter().any(|step| matches!(step.task, Some(Task::Remove { .. })));
    let needs = if destroys { Scope::Destroy } else { Scope::Apply };
    if has >= needs {
        return Ok(());
    }
    let message = format!("the token has the scope `{has}`, and this needs `{needs}`, so nothing was done");
    let help =
        format!("ask an operator for one with\n    convexinfra token create --project {} --scope {needs}", current.project);
    Err(CliError::new(Exit::NotAuthorised, Diagnostic::new("auth.scope", message).with_help(help)))
}

/// The backends that are ready, and where they are.
pub(super) fn ready_backends(snapshot: &Snapshot) -> Vec<ReadyBackend> {
    let ready = snapshot.backends.iter().filter(|found| found.phase == Phase::Ready && !found.recorded.is_record_only());
    ready
        .filter_map(|found| {
            let Endpoints { url, site_url } = found.endpoints.clone()?;
            Some(ReadyBackend { name: found.name.clone(), url, site_url })
        })
        .collect()
}

/// Says where the backends are and what was written, as far as this run did it.
fn result_lines(folder: &Path, ready: &[ReadyBackend], current: &Plan, ends: &BTreeMap<StepId, StepOutcome>) -> String {
    let mut text = String::new();
    for step in current.steps.iter().filter(|step| ends.get(&step.id) == Some(&StepOutcome::Done)) {
        match &step.task {
            Some(Task::Put { backend, spec, .. }) if !spec.is_record_only() => {
                if let Some(found) = ready.iter().find(|found| found.name == *backend) {
                    text.push_str(&format!("`{backend}` is ready at {}\n", found.url));
                }
            }
            Some(Task::WriteEnvFile { backend, target }) => {
                text.push_str(&format!("`{}` points to `{backend}`\n", join_display(folder, &target.path).display()));
            }
            _ => {}
        }
    }
    text
}

/// Why nobody knows what came of it, when everything was done.
fn observe_failed(failure: &CliError) -> Report {
    let Report { exit, mut errors } = failure.report();
    for error in &mut errors {
        error.message = format!("everything was done, and what came of it could not be looked at: {}", error.message);
    }
    Report { exit, errors }
}

/// The exit code where steps failed: what they all failed for, such as a provider that does not answer.
fn exit_of_failures(ends: &BTreeMap<StepId, StepOutcome>) -> Exit {
    Diagnostic::exit_of(ends.values().filter_map(|end| match end {
        StepOutcome::Failed { error } => Some(error),
        _ => None,
    }))
}

/// What whoever says twice to stop leaves behind.
fn interrupt_message(current: &Plan) -> &'static str {
    if continues_remotely(current) {
        "left; the control plane goes on with what it has begun, and `convexinfra status` shows it\n"
    } else {
        "left as it is; run the same command again to go on\n"
    }
}

/// Whether what has begun goes on without this command.
fn continues_remotely(current: &Plan) -> bool {
    current.control_plane != EMBEDDED
}

/// Why a run did not end well, for a command that reports it as its own failure.
fn errors(current: &Plan, ends: &BTreeMap<StepId, StepOutcome>, exit: Exit, converged: Option<bool>) -> Vec<Diagnostic> {
    let failed = |step: &Step| match ends.get(&step.id) {
        Some(StepOutcome::Failed { error }) => {
            Some(Diagnostic { message: format!("{}: {}", step.address, error.message), ..error.clone() })
        }
        _ => None,
    };
    let mut errors: Vec<Diagnostic> = current.steps.iter().filter_map(failed).collect();
    match exit {
        Exit::Interrupted => errors.push(
            Diagnostic::new("apply.interrupted", "interrupted before everything was done; what is done stays done")
                .with_help(if continues_remotely(current) {
                    "the control plane goes on with what it has begun; look at it with\n    convexinfra status\nand run the same command again for the rest"
                } else {
                    "run the same command again to go on"
                }),
        ),
        Exit::Failed if errors.is_empty() && converged == Some(false) => errors.push(
            Diagnostic::new("apply.not_converged", "everything was done, and planning again still finds something to do")
                .with_help("see what with\n    convexinfra plan"),
        ),
        _ => {}
    }
    errors
}
