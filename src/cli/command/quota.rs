//! `convexinfra quota`: what a project may have at most in a control plane.

use crate::api::ResourceLevel;
use crate::app::{AppError, require_ownership};
use crate::cli::args::{Quota as Args, QuotaCommand, QuotaLimit, QuotaLimits, QuotaTarget};
use crate::model::{Exit, Quota, Usage};
use crate::render::{QuotaDocument, quota_table};
use crate::{app::LoadedManifest, cli::context::Context};

/// Shows or sets ceilings.
pub(super) async fn run(context: &Context, args: &Args) -> Result<Exit, AppError> {
    match &args.command {
        QuotaCommand::Show { whose } => {
            let (reach, loaded) = quota_scope(context, whose)?;
            let desired = loaded.as_ref().map(|loaded| &loaded.desired);
            if let ResourceLevel::Project(project) = &reach {
                require_ownership(context.control(desired)?, project, desired).await?;
            }
            let quota = context.administration(desired)?.quota(&reach).await?;
            report(context, loaded.as_ref(), reach, quota).await
        }
        QuotaCommand::Set { whose, ceilings } => {
            let (reach, loaded) = quota_scope(context, whose)?;
            let desired = loaded.as_ref().map(|loaded| &loaded.desired);
            if let ResourceLevel::Project(project) = &reach {
                super::require_own_or_typed(context, project, desired).await?;
            }
            let control = context.administration(desired)?;
            // A project that gets its first own quota starts from everybody's, so that naming one ceiling lifts no other.
            let quota = with(ceilings, control.quota(&reach).await?);
            control.set_quota(&reach, &quota).await?;
            report(context, loaded.as_ref(), reach, quota).await
        }
    }
}

fn quota_scope(context: &Context, whose: &QuotaTarget) -> Result<(ResourceLevel, Option<LoadedManifest>), AppError> {
    if whose.default {
        return Ok((ResourceLevel::ControlPlane, context.load_if_there()?));
    }
    let (project, loaded) = context.project()?;
    Ok((ResourceLevel::Project(project), loaded))
}

fn with(typed: &QuotaLimits, before: Quota) -> Quota {
    Quota {
        backends: QuotaLimit::or_previous(typed.backends, before.backends),
        cpus: QuotaLimit::or_previous(typed.cpus, before.cpus),
        memory: QuotaLimit::or_previous(typed.memory, before.memory),
        disk: QuotaLimit::or_previous(typed.disk, before.disk),
        monthly_usd: QuotaLimit::or_previous(typed.monthly_usd, before.monthly_usd),
    }
}

async fn report(
    context: &Context,
    loaded: Option<&LoadedManifest>,
    reach: ResourceLevel,
    quota: Quota,
) -> Result<Exit, AppError> {
    let (project, usage) = match reach {
        ResourceLevel::ControlPlane => (None, None),
        ResourceLevel::Project(project) => {
            let snapshot = context.control(loaded.map(|loaded| &loaded.desired))?.snapshot(&project).await?;
            (Some(project), Some(Usage::of(snapshot.backends.iter().map(|backend| &backend.recorded))))
        }
    };
    let document = QuotaDocument { format: "convexinfra.quota/1", project, quota: quota.into(), usage: usage.map(Into::into) };
    context.printer.output(&quota_table(&document, context.printer.out_style()));
    context.printer.document(&document);
    Ok(Exit::Done)
}
