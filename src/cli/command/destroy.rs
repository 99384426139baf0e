//! `convexinfra destroy`: destroys backends with their data, each allowed by its name.

use crate::api::IfMissing;
use crate::app::secrets::ComparisonMode;
use crate::app::{AppError, ApplyRun, Role, Session, destroy};
use crate::cli::args::Destroy as Args;
use crate::cli::context::Context;
use crate::cli::terminal::Terminal;
use crate::model::{DatabaseReclaim, Exit, VolumeReclaim};
use crate::plan::PlanOptions;

/// Destroys the named backends, or all of the project.
pub(super) async fn run(context: &Context, args: &Args) -> Result<Exit, AppError> {
    // The manifest of a project may be lost; its name is enough.
    let manifest = context.load_or_empty()?;
    context.make_room(Some(&manifest.desired))?;
    let control = context.control(Some(&manifest.desired))?;
    let mut session = Session::open(control, manifest, IfMissing::ReturnNone, ComparisonMode::Strict).await?;
    let (volume, database) = (volume_reclaim(args.keep_data), database_reclaim(args.with_database, args.with_files));
    let options = PlanOptions {
        skip_final_snapshot: args.final_snapshot.no_last_snapshot,
        ..destroy::options(&session, &args.names, volume, database).await?
    };
    let terminal = Terminal::new(&context.printer);
    let mut run = ApplyRun {
        reporter: &terminal,
        approver: &terminal,
        options: args.approval.options(&args.lock),
        saved: None,
        role: Role::Command,
    };
    let outcome = run.run(&mut session, &options).await?;
    super::apply::report(context, &session.manifest, &outcome, &options);
    outcome.into_exit()
}

/// Returns what the flag `--keep-data` means.
pub(super) fn volume_reclaim(keep_data: bool) -> VolumeReclaim {
    if keep_data { VolumeReclaim::Retain } else { VolumeReclaim::Delete }
}

/// Returns what the flags `--with-database` and `--with-files` mean.
pub(super) fn database_reclaim(with_database: bool, with_files: bool) -> DatabaseReclaim {
    match (with_database, with_files) {
        (false, _) => DatabaseReclaim::Retain,
        (true, false) => DatabaseReclaim::Delete,
        (true, true) => DatabaseReclaim::DeleteWithFiles,
    }
}
