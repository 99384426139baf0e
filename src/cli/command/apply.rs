//! `convexinfra apply`: makes it so, exactly as planned.
//!
//! Must not do: do anything that was not shown, or destroy what was not named.

use std::collections::BTreeMap;
use std::io::{BufRead, IsTerminal};

use super::plan;
use crate::apply::{Event, EventKind, Execution, Tally, execute};
use crate::cli::args::{Apply as Args, Consent};
use crate::cli::bars::Bars;
use crate::cli::context::{Context, Loaded};
use crate::cli::env_files::ManifestEnvFiles;
use crate::cli::failure::Failure;
use crate::cli::locate::below;
use crate::cli::{saved_plan, secrets, signal};
use crate::control::{Claim, ControlPlane, KeyNeed, Lease};
use crate::host::here;
use crate::model::{Exit, Finding, Phase, Snapshot};
use crate::plan::{Action, Intent, Plan, Task, destruction_refusals};
use crate::render;

/// Applies the manifest, or a saved plan.
pub(super) async fn run(context: &Context, args: &Args) -> Result<Exit, Failure> {
    let saved = args.plan.as_deref().map(saved_plan::read).transpose()?;
    let (loaded, values) = context.load_with_secrets(KeyNeed::IfThere).await?;
    plan::warnings(context, &loaded);
    Applying { context, loaded: &loaded, values: &values, consent: &args.consent, saved: saved.as_ref() }
        .run(&plan::intent(&args.scope))
        .await
}

/// One apply or destroy.
pub(super) struct Applying<'a> {
    pub(super) context: &'a Context,
    pub(super) loaded: &'a Loaded,
    pub(super) values: &'a secrets::Values,
    pub(super) consent: &'a Consent,
    pub(super) saved: Option<&'a Plan>,
}

impl Applying<'_> {
    /// Plans, asks, takes the lease, carries out, looks again.
    pub(super) async fn run(&self, intent: &Intent) -> Result<Exit, Failure> {
        let control = self.context.control(Some(&self.loaded.desired))?;
        let mut current = plan::make(control, self.loaded, intent).await?;
        self.accept(&current)?;
        if current.is_empty() {
            self.nothing_to_do(&current, intent);
            return Ok(Exit::Done);
        }
        self.context.printer.talk(&render::plan(&current, self.context.printer.err_style()));
        plan::secrets_at_hand(&current, self.values)?;
        self.ask(&current)?;

        let lease = control.acquire(&self.loaded.desired.project, here()).await?;
        let result = self.under_lease(control, &lease, &mut current, intent).await;
        // A lease that cannot be given back runs out by itself.
        let _ = control.release(&lease).await;
        result
    }

    fn nothing_to_do(&self, current: &Plan, intent: &Intent) {
        let printer = &self.context.printer;
        if intent.destroy {
            printer.result(&format!("nothing to destroy: `{}` has no such backends\n", current.project));
        } else {
            printer.result(&render::plan(current, printer.out_style()));
        }
        let finished = EventKind::Finished { tally: Tally::default(), exit: Exit::Done, converged: Some(true) };
        printer.document(&Event::from(finished));
    }

    /// Whether this plan may be carried out at all.
    fn accept(&self, current: &Plan) -> Result<(), Failure> {
        if let Some(finding) = self.saved.and_then(|saved| saved_plan::stale(saved, current)) {
            return Err(Failure::new(Exit::Refused, finding));
        }
        let mut refusals = current.refusals.clone();
        refusals.extend(destruction_refusals(current, &self.consent.allow_destroy));
        if refusals.is_empty() {
            return Ok(());
        }
        self.context
            .printer
            .talk(&render::plan(&Plan { refusals: Vec::new(), ..current.clone() }, self.context.printer.err_style()));
        self.context.printer.talk("\nnothing was done\n");
        Err(plan::refused(&refusals))
    }

    fn ask(&self, current: &Plan) -> Result<(), Failure> {
        if self.consent.yes || self.saved.is_some() {
            return Ok(());
        }
        let destroys = current.steps.iter().any(|step| step.action == Action::Destroy);
        if destroys && !current.steps.iter().any(|step| step.action != Action::Destroy && step.action != Action::Write) {
            // Every destruction was allowed by name already, which says more than a yes.
            return Ok(());
        }
        if self.context.printer.is_json() || !std::io::stdin().is_terminal() || !std::io::stderr().is_terminal() {
            let finding = Finding::new("usage.not_confirmed", "there is no terminal to ask on, so nothing was done");
            return Err(Failure::new(Exit::Usage, finding.with_help("say yes with\n    convexinfra apply --yes")));
        }
        self.context.printer.talk("\nmake it so? [y/N] ");
        let mut answer = String::new();
        let read = std::io::stdin().lock().read_line(&mut answer);
        if read.is_ok() && matches!(answer.trim().to_lowercase().as_str(), "y" | "yes") {
            return Ok(());
        }
        let finding = Finding::new("apply.declined", "not confirmed, so nothing was done");
        Err(Failure::new(Exit::Interrupted, finding))
    }

    async fn under_lease(
        &self,
        control: &dyn ControlPlane,
        lease: &Lease,
        current: &mut Plan,
        intent: &Intent,
    ) -> Result<Exit, Failure> {
        // In a home that was new a moment ago there was no key yet under which to compare secrets.
        let keyed = self.loaded.with_fingerprints(control, self.values).await?;
        if lease.revision != current.base {
            // Somebody was faster. What was shown is not what would be done now.
            let next = plan::make(control, &keyed, intent).await?;
            self.accept(&next)?;
            if next.is_empty() {
                self.nothing_to_do(&next, intent);
                return Ok(Exit::Done);
            }
            if !self.consent.yes {
                let finding = Finding::new(
                    "plan.stale",
                    "somebody else applied while this plan was being looked at, so nothing was done",
                );
                return Err(Failure::new(Exit::Refused, finding.with_help("look at the new plan with\n    convexinfra plan")));
            }
            *current = next;
        }
        let claim = if intent.take_over { Claim::TakeOver } else { Claim::IfUnclaimed };
        control.settle(lease, &self.loaded.desired.origin, claim).await?;
        let bars = Bars::new(&self.context.printer);
        let listener = |event: Event| bars.hear(&event);
        listener(EventKind::Started { project: current.project.clone(), summary: current.summary }.into());
        let interrupt = {
            let printer = self.context.printer.clone();
            signal::listen(move |words| printer.talk(words))
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
            listener: &listener,
        };
        let tally = execute(&execution).await;
        bars.close();
        let tally = tally?;
        let interrupted = *interrupt.borrow() != crate::apply::Interrupt::None;
        let after = match (tally.failed, interrupted) {
            (0, false) => Some(plan::look(control, &keyed, intent).await?),
            _ => None,
        };
        let converged = after.as_ref().map(|(left, _)| left.is_empty());
        let exit = match (tally.failed, interrupted, converged) {
            (_, true, _) => Exit::Interrupted,
            (0, _, Some(true) | None) => Exit::Done,
            _ => Exit::Failed,
        };
        bars.hear(&EventKind::Finished { tally, exit, converged }.into());
        // Looking takes as long as the slowest provider, so what was just seen is not looked at again.
        let snapshot = match after {
            Some((_, snapshot)) => snapshot,
            None => control.snapshot(&current.project).await?,
        };
        self.results(&snapshot, current);
        Ok(exit)
    }

    /// Says where the backends are and what was written.
    fn results(&self, snapshot: &Snapshot, current: &Plan) {
        let ready: BTreeMap<_, _> =
            snapshot.backends.iter().filter(|found| found.phase == Phase::Ready).map(|found| (&found.name, found)).collect();
        let mut text = String::new();
        for step in &current.steps {
            match &step.task {
                Some(Task::Put { backend, spec, .. }) if !spec.is_record_only() => {
                    if let Some(endpoints) = ready.get(backend).and_then(|found| found.endpoints.as_ref()) {
                        text.push_str(&format!("`{backend}` is ready at {}\n", endpoints.url));
                    }
                }
                Some(Task::WriteEnvFile { backend, target }) => {
                    let path = below(&self.loaded.folder, &target.path);
                    if path.exists() {
                        text.push_str(&format!("`{}` points to `{backend}`\n", path.display()));
                    }
                }
                _ => {}
            }
        }
        self.context.printer.result(&text);
    }
}
