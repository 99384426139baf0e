//! `convexinfra log`: what has happened to a project, or to the control plane itself, and whether that is all true.
//!
//! Must not do: show a secret.

use crate::cli::args::Log as Args;
use crate::cli::context::Context;
use crate::cli::failure::Failure;
use crate::control::{ControlPlane, HistoryCheck, Reach};
use crate::model::{Exit, Finding, Report};
use crate::render::{LogDocument, LogEntry, log, log_check};

/// Shows what has happened, newest last, or checks it.
pub(super) async fn run(context: &Context, args: &Args) -> Result<Exit, Failure> {
    let (reach, loaded) = if args.everywhere {
        (Reach::Everywhere, context.load_if_there()?)
    } else {
        let (project, loaded) = context.project()?;
        (Reach::Project(project), loaded)
    };
    let control = context.control(loaded.as_ref().map(|loaded| &loaded.desired))?;
    if args.verify {
        return verify(context, control, &reach, args.head.as_deref()).await;
    }
    let entries = control.history(&reach, args.limit).await?;
    let entries = entries.iter().map(LogEntry::new).collect();
    let document = LogDocument { format: "convexinfra.log/1", project: reach.project(), entries };
    context.printer.result(&log(&document));
    context.printer.document(&document);
    Ok(Exit::Done)
}

async fn verify(context: &Context, control: &dyn ControlPlane, reach: &Reach, noted: Option<&str>) -> Result<Exit, Failure> {
    let check = control.check_history(reach, noted).await?;
    if check.breaks.is_empty() {
        context.printer.result(&log_check(&check));
        let HistoryCheck { entries, unbound, head, noted, breaks } = check;
        let document = serde_json::json!({
            "project": reach.project(), "entries": entries, "unbound": unbound, "head": head, "noted": noted, "breaks": breaks,
        });
        context.printer.reply("convexinfra.log_check/1", document);
        return Ok(Exit::Done);
    }
    let help =
        "somebody changed the store beside convexinfra; compare it with a backup, and with a hash that was noted elsewhere";
    let finding = |message| Finding::new("history.broken", message).with_help(help);
    Err(Failure::from(Report { exit: Exit::Failed, errors: check.breaks.into_iter().map(finding).collect() }))
}
