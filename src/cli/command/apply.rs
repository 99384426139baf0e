//! `convexinfra apply`: carries out the plan, exactly as it was shown.

use std::collections::BTreeMap;
use std::path::Path;

use super::plan;
use crate::api::IfMissing;
use crate::app::discovery::join_display;
use crate::app::secrets::ComparisonMode;
use crate::app::{AppError, ApplyOutcome, ApplyRun, LoadedManifest, Role, Session, saved_plan, unchanged_event};
use crate::apply::StepOutcome;
use crate::cli::args::Apply as Args;
use crate::cli::context::Context;
use crate::cli::terminal::Terminal;
use crate::model::Exit;
use crate::plan::{PlanOptions, Task};
use crate::render;

/// Applies the manifest, or a saved plan.
pub(super) async fn run(context: &Context, args: &Args) -> Result<Exit, AppError> {
    let saved = args.plan.as_deref().map(saved_plan::read).transpose()?;
    let manifest = context.load()?;
    let control = context.control(Some(&manifest.desired))?;
    let mut session = Session::open(control, manifest, IfMissing::ReturnNone, ComparisonMode::Strict).await?;
    plan::print_warnings(context, &session.manifest);
    let terminal = Terminal::new(&context.printer);
    let options = plan::options(&args.scope);
    let mut run = ApplyRun {
        reporter: &terminal,
        approver: &terminal,
        options: args.approval.options(&args.lock),
        saved: saved.as_ref(),
        role: Role::Command,
    };
    let outcome = run.run(&mut session, &options).await?;
    report(context, &session.manifest, &outcome, &options);
    outcome.into_exit()
}

/// Prints how an apply or a destroy ended.
pub(super) fn report(context: &Context, manifest: &LoadedManifest, outcome: &ApplyOutcome, options: &PlanOptions) {
    let printer = &context.printer;
    if !outcome.is_unchanged() {
        return printer.output(&result_lines(&manifest.folder, outcome));
    }
    if options.destroy {
        printer.output(&format!("nothing to destroy: `{}` has no such backends\n", outcome.plan.project));
    } else {
        printer.output(&render::plan(&outcome.plan, printer.out_style()));
    }
    printer.document(&unchanged_event(outcome));
}

/// Says where the backends are and what was written, as far as this apply did it.
fn result_lines(folder: &Path, outcome: &ApplyOutcome) -> String {
    let mut text = String::new();
    let ready: BTreeMap<_, _> = outcome.ready.iter().map(|found| (&found.name, found)).collect();
    for step in outcome.plan.steps.iter().filter(|step| outcome.steps.get(&step.id) == Some(&StepOutcome::Done)) {
        match &step.task {
            Some(Task::Put { backend, spec, .. }) if !spec.is_record_only() => {
                if let Some(found) = ready.get(backend) {
                    text.push_str(&format!("{}\n", found.sentence()));
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
