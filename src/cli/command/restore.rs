//! `convexinfra restore`: replaces the data of a backend by that of a snapshot.

use serde_json::json;

use super::snapshot::{failed, store};
use crate::api::{ControlPlane, StartMode, Work};
use crate::app::{AppError, lifecycle, select_backend};
use crate::cli::args::{ReplaceArgs, Restore as Args};
use crate::cli::context::Context;
use crate::cli::terminal::Terminal;
use crate::model::{ActualBackend, BackendName, Desired, Diagnostic, Exit};
use crate::render::{describe_snapshot, graded_data};
use crate::snapshot::SnapshotManifest;

/// Replaces the data of a backend.
pub(super) async fn run(context: &Context, args: &Args) -> Result<Exit, AppError> {
    let (project, loaded) = context.project()?;
    let desired = loaded.as_ref().map(|loaded| &loaded.desired);
    let control = context.embedded(desired)?;
    let snapshot = control.snapshot(&project).await?;
    let name = select_backend(&snapshot, desired, args.backend.name.as_ref())?;
    let id = &args.snapshot;
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
    context.printer.output(&format!("`{name}` has the data of `{id}`; what it had before is kept until the next restore\n"));
    context.printer.json("convexinfra.restore/1", json!({ "name": name, "snapshot": id }));
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
