//! `convexinfra quota`: what a project may have at most in a control plane.
//!
//! Must not do: enforce it; the control plane does.

use crate::cli::args::{Ceiling, Ceilings, Quota as Args, QuotaCommand, Whose};
use crate::cli::context::{Context, Loaded};
use crate::cli::failure::Failure;
use crate::control::Reach;
use crate::model::{Exit, Quota, Usage};
use crate::render::{QuotaDocument, quota_table};

/// Shows or sets ceilings.
pub(super) async fn run(context: &Context, args: &Args) -> Result<Exit, Failure> {
    match &args.command {
        QuotaCommand::Show { whose } => {
            let (reach, loaded) = reach(context, whose)?;
            let quota = context.administration(loaded.as_ref().map(|loaded| &loaded.desired))?.quota(&reach).await?;
            report(context, loaded.as_ref(), reach, quota).await
        }
        QuotaCommand::Set { whose, ceilings } => {
            let (reach, loaded) = reach(context, whose)?;
            let control = context.administration(loaded.as_ref().map(|loaded| &loaded.desired))?;
            // A project that gets its first own quota starts from everybody's, so that naming one ceiling lifts no other.
            let quota = with(ceilings, control.quota(&reach).await?);
            control.set_quota(&reach, &quota).await?;
            report(context, loaded.as_ref(), reach, quota).await
        }
    }
}

fn reach(context: &Context, whose: &Whose) -> Result<(Reach, Option<Loaded>), Failure> {
    if whose.default {
        return Ok((Reach::Everywhere, context.load_if_there()?));
    }
    let (project, loaded) = context.project()?;
    Ok((Reach::Project(project), loaded))
}

fn with(typed: &Ceilings, before: Quota) -> Quota {
    Quota {
        backends: Ceiling::over(typed.backends, before.backends),
        cpus: Ceiling::over(typed.cpus, before.cpus),
        memory: Ceiling::over(typed.memory, before.memory),
        disk: Ceiling::over(typed.disk, before.disk),
        monthly_usd: Ceiling::over(typed.monthly_usd, before.monthly_usd),
    }
}

async fn report(context: &Context, loaded: Option<&Loaded>, reach: Reach, quota: Quota) -> Result<Exit, Failure> {
    let (project, usage) = match reach {
        Reach::Everywhere => (None, None),
        Reach::Project(project) => {
            let snapshot = context.control(loaded.map(|loaded| &loaded.desired))?.snapshot(&project).await?;
            (Some(project), Some(Usage::of(snapshot.backends.iter().map(|backend| &backend.recorded))))
        }
    };
    let document = QuotaDocument { format: "convexinfra.quota/1", project, quota, usage };
    context.printer.result(&quota_table(&document, context.printer.out_style()));
    context.printer.document(&document);
    Ok(Exit::Done)
}
