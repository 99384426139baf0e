//! `convexinfra drift`: what differs from what was last applied. Changes nothing, whatever it finds.
//!
//! Must not do: compare with the manifest, which may have been edited since.

use serde::Serialize;

use crate::cli::context::Context;
use crate::cli::failure::Failure;
use crate::model::{Address, Exit, ProjectName, Revision};
use crate::plan::{self, Drift, Unseen};
use crate::render;

/// The document that `drift --json` prints.
#[derive(Serialize)]
struct Document<'a> {
    format: &'static str,
    project: &'a ProjectName,
    revision: Revision,
    drift: &'a [Drift],
    unfinished: &'a [Address],
    unknown: Vec<&'a Address>,
    /// Why what is unknown could not be looked at.
    unseen: &'a [Unseen],
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
        unknown: report.unknown.iter().map(|unseen| &unseen.address).collect(),
        unseen: &report.unknown,
    });
    let mut blind = report.unknown.iter().map(|unseen| unseen.why.exit_unseen());
    Ok(match (report.drift.is_empty(), blind.next()) {
        (false, _) => Exit::Drift,
        (true, Some(first)) if blind.all(|exit| exit == first) => first,
        (true, Some(_)) => Exit::Unreachable,
        (true, None) => Exit::Done,
    })
}
