//! `convexinfra restore`: replaces the data of a backend by that of a snapshot.

use serde_json::json;

use super::snapshot::{failed, store};
use crate::api::{ControlPlane, StartMode, Work};
use crate::app::{AppError, lifecycle, select_backend};
use crate::cli::args::{ReplaceArgs, Restore as Args};
use crate::cli::context::Context;
use crate::cli::terminal::Terminal;
use crate::model::{ActualBackend, BackendName, Desired, Diagnostic, Exit, ProjectName};
use crate::render::{describe_snapshot, graded_data};
use crate::snapshot::SnapshotManifest;

/// Replaces the data of a backend.
pub(super) async fn run(context: &Context, args: &Args) -> Result<Exit, AppError> {
    let (project, loaded) = context.project()?;
    let desired = loaded.as_ref().map(|loaded| &loaded.desired);
    let control = context.embedded(desired)?;
    let snapshot = control.snapshot(&project).await?;
    let name = select_backend(&snapshot, desired, args.backend.name.as_ref())?;
    let Some(id) = &args.snapshot else { return drop_previous(context, &project, desired, &name, args.consent.yes).await };
    let manifest = store(context, &project, desired).await?.get(id).map_err(failed)?;
    let backend = snapshot.backend(&name);
    context.printer.status(&plan_text(&manifest, backend));
    let terminal = Terminal::new(&context.printer);
    let command = format!("convexinfra restore {name} --snapshot {id}");
    require_consent(&terminal, &args.consent, &name, ("replace it?", &command))?;
    let origin = desired.and_then(Desired::origin_if_known).map(str::to_owned);
    lifecycle::run(
        control,
        &project,
        origin,
        &name,
        Work::Restore { snapshot: id.clone(), release: None, start: StartMode::AsItWas },
        &terminal,
    )
    .await?;
    context.printer.output(&format!("`{name}` has the data of `{id}`; what it had before is kept until the next restore, or until\n    convexinfra restore {name} --drop-previous\n"));
    context.printer.json("convexinfra.restore/1", json!({ "name": name, "snapshot": id }));
    Ok(Exit::Done)
}

/// Deletes the data from before the last restore.
async fn drop_previous(
    context: &Context,
    project: &ProjectName,
    desired: Option<&Desired>,
    name: &BackendName,
    yes: bool,
) -> Result<Exit, AppError> {
    let terminal = Terminal::new(&context.printer);
    if !yes {
        terminal
            .confirm(&format!("the data that `{name}` had before its last restore is deleted for good; delete it? [y/N] "))?;
    }
    let origin = desired.and_then(Desired::origin_if_known).map(str::to_owned);
    lifecycle::run(context.embedded(desired)?, project, origin, name, Work::DropPrevious {}, &terminal).await?;
    context.printer.output(&format!("`{name}` keeps no data from before a restore\n"));
    context.printer.json("convexinfra.restore/1", json!({ "name": name, "previous_dropped": true }));
    Ok(Exit::Done)
}

/// Requires that the replacement of a backend's data was allowed by its name, and confirms it with a question; `command` is
/// what was typed, without consent.
///
/// # Errors
/// It was not.
pub(super) fn require_consent(
    terminal: &Terminal,
    consent: &ReplaceArgs,
    name: &BackendName,
    (question, command): (&str, &str),
) -> Result<(), AppError> {
    let command = format!("{command} --allow-replace {name}");
    if consent.allow_replace.as_ref() != Some(name) {
        let finding =
            Diagnostic::new("restore.not_allowed", format!("the data of `{name}` would be replaced, and that was not allowed"));
        return Err(AppError::new(Exit::Refused, finding.with_help(format!("allow it with\n    {command}"))));
    }
    if consent.yes { Ok(()) } else { terminal.confirm(&format!("{question} [y/N] ")) }
}

/// Says what is replaced by what.
pub(super) fn plan_text(manifest: &SnapshotManifest, backend: Option<&ActualBackend>) -> String {
    let replaced = backend.map(|backend| {
        let data = graded_data(backend.data_size.as_ref(), backend.last_snapshot);
        format!("it replaces the data of `{}`: {data}\n", backend.name)
    });
    format!("{}{}", describe_snapshot(manifest), replaced.unwrap_or_default())
}
