//! `convexinfra releases`: which releases backends are at, and which newer ones are known.

use super::upgrade::newest_release;
use crate::app::releases::{ReleaseEntry, client_lints, newest};
use crate::app::{AppError, check_ownership};
use crate::cli::args::Releases as Args;
use crate::cli::context::Context;
use crate::model::Exit;
use crate::render::release_table;

/// Shows the releases of the project's backends, and the newest one that is known.
pub(super) async fn run(context: &Context, args: &Args) -> Result<Exit, AppError> {
    let (project, loaded) = context.project()?;
    let desired = loaded.as_ref().map(|loaded| &loaded.desired);
    let snapshot = context.control(desired)?.snapshot(&project).await?;
    check_ownership(&snapshot, desired)?;
    // Convex may be out of reach; the releases that this program knows are a floor.
    let newest = newest(newest_release(context).await.ok());
    let entries = snapshot.backends.iter().map(|backend| ReleaseEntry::new(backend, &newest));
    let entries: Vec<ReleaseEntry> = entries.filter(|entry| entry.outdated || !args.outdated).collect();
    let lints = loaded.as_ref().map(|loaded| client_lints(loaded, &entries)).unwrap_or_default();
    let rows = entries.iter().map(|entry| {
        let release = entry.release.as_ref().map_or_else(|| "not pinned".to_owned(), ToString::to_string);
        let state = if entry.outdated { "a newer one is known" } else { "" };
        [entry.name.clone(), release, state.to_owned()]
    });
    let style = context.printer.out_style();
    context.printer.output(&release_table(&rows.collect::<Vec<_>>(), style));
    context.printer.output(&format!("the newest release that is known is {newest}\n"));
    if let Some(outdated) = entries.iter().find(|entry| entry.outdated) {
        context.printer.status(&format!("upgrade with\n    convexinfra upgrade {}\n", outdated.name));
    }
    for lint in &lints {
        context.printer.status(&format!("{}\n", lint.message));
    }
    let document = serde_json::json!({ "newest": newest, "backends": entries, "lints": lints });
    context.printer.json("convexinfra.releases/1", document);
    Ok(Exit::Done)
}
