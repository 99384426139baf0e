//! `convexinfra schema`: the schemas of everything that programs read or write.

use crate::app::AppError;
use crate::cli::args::Schema as Args;
use crate::cli::context::Context;
use crate::model::Exit;
use crate::schema;

/// Prints a schema.
pub(super) fn run(context: &Context, args: &Args) -> Result<Exit, AppError> {
    context.printer.raw(&schema::schema_text(args.document));
    Ok(Exit::Done)
}
