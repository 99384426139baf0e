//! `convexinfra drift`: what differs from what was last applied. Changes nothing.

use crate::app::{AppError, check_ownership, drift, env_file_check};
use crate::cli::context::Context;
use crate::model::Exit;
use crate::plan;
use crate::render::{self, DriftDocument};

/// Detects drift.
pub(super) async fn run(context: &Context) -> Result<Exit, AppError> {
    let (project, loaded) = context.project()?;
    let desired = loaded.as_ref().map(|loaded| &loaded.desired);
    let control = context.control(desired)?;
    let snapshot = control.snapshot(&project).await?;
    check_ownership(&snapshot, desired)?;
    let mut report = plan::detect_drift(&snapshot);
    if let Some(manifest) = &loaded {
        drift::add_env_files(&mut report, env_file_check::check(control, manifest, &snapshot).await?);
    }
    context.printer.output(&render::drift(&report, &snapshot, context.printer.out_style()));
    context.printer.document(&DriftDocument {
        format: "convexinfra.drift/1",
        project: &project,
        revision: snapshot.revision,
        drift: &report.drift,
        unfinished: &report.unfinished,
        unknown: report.unknown.iter().map(|unseen| &unseen.address).collect(),
        unseen: &report.unknown,
    });
    Ok(drift::exit(&report))
}
