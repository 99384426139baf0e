//! `convexinfra log`: what has happened to a project, or to the control plane itself, and whether that is all true.
//!
//! Must not do: show a secret.

use crate::api::{ControlPlane, HistoryPage, HistoryVerification, ResourceLevel};
use crate::app::{AppError, require_ownership};
use crate::cli::args::Log as Args;
use crate::cli::context::Context;
use crate::model::{Diagnostic, Exit, Report};
use crate::render::{LogDocument, LogEntry, log, log_check};

/// Shows what has happened, newest last, or checks it.
pub(super) async fn run(context: &Context, args: &Args) -> Result<Exit, AppError> {
    let (reach, loaded) = if args.everywhere {
        (ResourceLevel::ControlPlane, context.load_if_there()?)
    } else {
        let (project, loaded) = context.project()?;
        (ResourceLevel::Project(project), loaded)
    };
    let desired = loaded.as_ref().map(|loaded| &loaded.desired);
    let control = context.control(desired)?;
    // That a history is whole tells nothing of what is in it, and has to work where nothing else can be read.
    if args.verify {
        return verify(context, control, &reach, args.head.as_deref()).await;
    }
    if let ResourceLevel::Project(project) = &reach {
        require_ownership(control, project, desired).await?;
    }
    let entries = control.history(&reach, HistoryPage::last(args.limit)).await?;
    let entries = entries.iter().map(LogEntry::new).collect();
    let document = LogDocument { format: "convexinfra.log/1", project: reach.project(), entries };
    context.printer.output(&log(&document));
    context.printer.document(&document);
    Ok(Exit::Done)
}

async fn verify(
    context: &Context,
    control: &dyn ControlPlane,
    reach: &ResourceLevel,
    noted: Option<&str>,
) -> Result<Exit, AppError> {
    let check = control.verify_history(reach, noted).await?;
    if check.breaks.is_empty() {
        context.printer.output(&log_check(&check));
        let HistoryVerification { entries, unbound, pruned, head, noted, breaks } = check;
        let document = serde_json::json!({
            "project": reach.project(), "entries": entries, "unbound": unbound, "pruned": pruned, "head": head, "noted": noted, "breaks": breaks,
        });
        context.printer.json("convexinfra.log_check/1", document);
        return Ok(Exit::Done);
    }
    let help = "the store was changed beside convexinfra; compare it with a backup, and with a hash that was noted elsewhere";
    let finding = |message| Diagnostic::new("history.broken", message).with_help(help);
    Err(AppError::from(Report { exit: Exit::Failed, errors: check.breaks.into_iter().map(finding).collect() }))
}
