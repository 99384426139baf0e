//! `convexinfra drift`: what differs from what was last applied. Changes nothing, whatever it finds.

use serde::Serialize;

use crate::app::{AppError, drift};
use crate::cli::context::Context;
use crate::model::{Address, Exit, ProjectName, Revision};
use crate::plan::{self, DriftItem, UnobservedBackend};
use crate::render;

/// The document that `drift --json` prints.
#[derive(Serialize)]
struct DriftDocument<'a> {
    format: &'static str,
    project: &'a ProjectName,
    revision: Revision,
    drift: &'a [DriftItem],
    unfinished: &'a [Address],
    unknown: Vec<&'a Address>,
    /// Why what is unknown could not be observed.
    unseen: &'a [UnobservedBackend],
}

/// Detects drift.
pub(super) async fn run(context: &Context) -> Result<Exit, AppError> {
    let (project, loaded) = context.project()?;
    let control = context.control(loaded.as_ref().map(|loaded| &loaded.desired))?;
    let snapshot = control.snapshot(&project).await?;
    let report = plan::detect_drift(&snapshot);
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
