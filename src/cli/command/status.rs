//! `convexinfra status`: what there is.
//!
//! Must not do: change anything, or take silence for absence.

use crate::cli::context::Context;
use crate::cli::error::CliError;
use crate::model::{Exit, Usage};
use crate::render::{LeaseEntry, OperationEntry, StatusDocument, StatusEntry, status_table};

/// Shows what there is.
pub(super) async fn run(context: &Context) -> Result<Exit, CliError> {
    let (project, loaded) = context.project()?;
    let control = context.control(loaded.as_ref().map(|loaded| &loaded.desired))?;
    let snapshot = control.snapshot(&project).await?;
    let holder = control.lease_holder(&project).await?;
    let running = snapshot.control_plane.outlives_commands() || holder.is_some();
    let document = StatusDocument {
        format: "convexinfra.status/1",
        lease: holder.as_ref().map(LeaseEntry::new),
        project,
        control_plane: snapshot.control_plane.name.clone(),
        revision: snapshot.revision,
        operations: snapshot.operations.iter().map(|record| OperationEntry::new(record, running)).collect(),
        quota: snapshot.quota,
        usage: Usage::of(snapshot.backends.iter().map(|backend| &backend.recorded)),
        backends: snapshot.backends.iter().map(StatusEntry::new).collect(),
    };
    context.printer.output(&status_table(&document, context.printer.out_style()));
    context.printer.document(&document);
    Ok(Exit::Done)
}
