//! `convexinfra plan`: shows what would change, and changes nothing.

use crate::api::IfMissing;
use crate::app::secrets::ComparisonMode;
use crate::app::{AppError, LoadedManifest, Session, plan, saved_plan};
use crate::cli::args::{Plan as Args, PlanScope};
use crate::cli::context::Context;
use crate::cli::error::terminal_width;
use crate::model::{Exit, shell_word};
use crate::plan::PlanOptions;
use crate::render;

/// Shows the plan.
pub(super) async fn run(context: &Context, args: &Args) -> Result<Exit, AppError> {
    let if_missing = if args.out.is_some() { IfMissing::Create } else { IfMissing::ReturnNone };
    let manifest = context.load()?;
    let control = context.control(Some(&manifest.desired))?;
    let session = Session::open(control, manifest, if_missing, ComparisonMode::BestEffort).await?;
    let (plan, snapshot) = session.observe_and_plan(&options(&args.scope)).await?;
    print_warnings(context, &session.manifest);
    // First, so that a plan that cannot be saved gives one document, the error.
    if let Some(path) = &args.out {
        saved_plan::save(&plan, path)?;
    }
    if args.markdown {
        context.printer.raw(&render::markdown(&plan));
    } else {
        context.printer.output(&render::plan(&plan, context.printer.out_style()));
    }
    context.printer.document(&plan);
    if let Some(path) = &args.out {
        context.printer.status(&format!(
            "saved; carry it out with\n    convexinfra apply --plan {}\n",
            shell_word(&path.display().to_string())
        ));
    }
    Ok(plan::exit(&plan, &snapshot, args.detailed_exitcode))
}

/// Returns the options of a plan for the whole manifest.
pub(super) fn options(scope: &PlanScope) -> PlanOptions {
    PlanOptions {
        take_over: scope.take_over,
        allow_move: scope.allow_move.iter().cloned().collect(),
        allow_downgrade: scope.allow_downgrade.iter().cloned().collect(),
        renew: scope.renew,
        skip_final_snapshot: scope.final_snapshot.no_last_snapshot,
        ..PlanOptions::default()
    }
}

/// Prints what deserves attention in the manifest itself.
pub(super) fn print_warnings(context: &Context, manifest: &LoadedManifest) {
    if !manifest.warnings.is_empty() {
        let file = manifest.path.display().to_string();
        let style = context.printer.err_style();
        let text = render::problems(&manifest.warnings, &manifest.text, &file, terminal_width(), style);
        context.printer.status(&format!("{text}\n"));
    }
}
