//! `convexinfra status`: what the project has.

use crate::app::{AppError, status};
use crate::cli::context::Context;
use crate::model::Exit;
use crate::render::status_table;

/// Shows what the project has.
pub(super) async fn run(context: &Context) -> Result<Exit, AppError> {
    let (project, loaded) = context.project()?;
    let control = context.control(loaded.as_ref().map(|loaded| &loaded.desired))?;
    let document = status::status(control, project).await?;
    context.printer.output(&status_table(&document, context.printer.out_style()));
    context.printer.document(&document);
    Ok(Exit::Done)
}
