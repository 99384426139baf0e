//! `convexinfra drift`: what differs from what was last applied. Changes nothing, whatever it finds.
//!
//! Must not do: compare with the manifest, which may have been edited since.

use serde::Serialize;

use crate::cli::context::Context;
use crate::cli::failure::Failure;
use crate::model::{Address, Exit, ProjectName, Revision};
use crate::plan::{self, Drift};
use crate::render;

/// The document that `drift --json` prints.
#[derive(Serialize)]
struct Document<'a> {
    format: &'static str,
    project: &'a ProjectName,
    revision: Revision,
    drift: &'a [Drift],
    unfinished: &'a [Address],
    unknown: &'a [Address],
}

/// Looks for drift.
pub(super) async fn run(context: &Context) -> Result<Exit, Failure> {
    let (project, loaded) = context.project()?;
    let control = context.control(loaded.as_ref().map(|loaded| &loaded.desired))?;
    let snapshot = control.snapshot(&project).await?;
    let report = plan::drift(&snapshot);
    context.printer.result(&render::drift(&report, &snapshot, context.printer.out_style()));
    context.printer.document(&Document {
        format: "convexinfra.drift/1",
        project: &project,
        revision: snapshot.revision,
        drift: &report.drift,
        unfinished: &report.unfinished,
        unknown: &report.unknown,
    });
    Ok(match (report.drift.is_empty(), report.unknown.is_empty()) {
        (false, _) => Exit::Drift,
        (true, false) => Exit::Unreachable,
        (true, true) => Exit::Done,
    })
}
