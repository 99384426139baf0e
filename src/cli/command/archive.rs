//! `convexinfra archive`: writes the data of a backend into a zip file.

use crate::app::archive::{ArchiveRequest, RunningExport, archive};
use crate::app::{AppError, select_backend};
use crate::cli::args::Archive as Args;
use crate::cli::context::Context;
use crate::cli::signal;
use crate::cli::terminal::Terminal;
use crate::convex::export::ExportedFiles;
use crate::model::{Desired, Exit};
use crate::render::{ArchiveDocument, describe_archive};

/// Archives a backend.
pub(super) async fn run(context: &Context, args: &Args) -> Result<Exit, AppError> {
    let interrupt = signal::shutdown_signal();
    let (project, loaded) = context.project()?;
    let desired = loaded.as_ref().map(|loaded| &loaded.desired);
    let control = context.control(desired)?;
    let backend = select_backend(&control.snapshot(&project).await?, desired, args.backend.name.as_ref())?;
    let credentials = control.credentials(&project, &backend, desired.and_then(Desired::origin_if_known)).await?;
    let request = ArchiveRequest {
        backend,
        out: args.out.clone(),
        files: if args.without_files { ExportedFiles::Excluded } else { ExportedFiles::Included },
        timeout: args.timeout,
        running: if args.cancel_running { RunningExport::Cancel } else { RunningExport::Keep },
    };
    let written = archive(&request, credentials, interrupt, &Terminal::new(&context.printer)).await?;
    let document = ArchiveDocument {
        format: "convexinfra.archive/1",
        name: &request.backend,
        path: &request.out,
        taken_at: written.taken_at.map(|moment| moment.to_string()),
        bytes: written.bytes,
        sha256: &written.sha256,
        content: &written.content,
    };
    context.printer.output(&describe_archive(&document));
    context.printer.document(&document);
    Ok(Exit::Done)
}
