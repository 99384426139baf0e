//! `convexinfra status`: what the project has, or all projects.

use crate::app::{AppError, status};
use crate::cli::args::Status as Args;
use crate::cli::context::Context;
use crate::model::Exit;
use crate::render::{status_all_table, status_table};

/// Shows what the project has, or all projects of the control plane.
pub(super) async fn run(context: &Context, args: &Args) -> Result<Exit, AppError> {
    let style = context.printer.out_style();
    if args.all {
        let loaded = context.load_if_there()?;
        let control = context.control(loaded.as_ref().map(|loaded| &loaded.desired))?;
        let (document, exit) = status::status_all(control).await?;
        context.printer.output(&status_all_table(&document, style));
        context.printer.document(&document);
        return Ok(exit);
    }
    let (project, loaded) = context.project()?;
    let control = context.control(loaded.as_ref().map(|loaded| &loaded.desired))?;
    let (document, exit) = status::status(control, project, loaded.as_ref()).await?;
    context.printer.output(&status_table(&document, style));
    context.printer.document(&document);
    Ok(exit)
}
