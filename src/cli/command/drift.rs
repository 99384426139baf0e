//! `convexinfra drift`: what differs from what was last applied. Changes nothing, whatever it finds.
//!
//! Must not do: compare with the manifest, which may have been edited since.

use serde::Serialize;

use crate::cli::context::Context;
use crate::cli::error::CliError;
use crate::model::{Address, Diagnostic, Exit, ProjectName, Report, Revision};
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
    /// Why what is unknown could not be looked at.
    unseen: &'a [UnobservedBackend],
}

/// Looks for drift.
pub(super) async fn run(context: &Context) -> Result<Exit, CliError> {
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
    Ok(match unobserved(&report.unknown) {
        _ if !report.drift.is_empty() => Exit::Drift,
        Some(report) => report.exit,
        None => Exit::Done,
    })
}

/// What could not be looked at, as a failure; none where everything was seen. The exit code is theirs where they agree.
pub(super) fn unobserved(unseen: &[UnobservedBackend]) -> Option<Report> {
    let mut exits = unseen.iter().map(|unseen| unseen.why.exit_unobserved());
    let first = exits.next()?;
    let exit = if exits.all(|exit| exit == first) { first } else { Exit::Unreachable };
    let error = |UnobservedBackend { address, why }: &UnobservedBackend| {
        let message = format!("nothing is known of {address}, so nobody can say that it is as it should be: {}", why.message);
        Diagnostic { message, ..why.clone() }
    };
    Some(Report { exit, errors: unseen.iter().map(error).collect() })
}
