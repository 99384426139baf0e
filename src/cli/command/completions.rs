//! `convexinfra completions`: completions for a shell, and nothing else on standard output.

use crate::app::AppError;
use crate::cli::args::Completions as Args;
use crate::cli::completion;
use crate::cli::context::Context;
use crate::model::{Diagnostic, Exit};

/// Prints completions.
pub(super) fn run(context: &Context, args: &Args) -> Result<Exit, AppError> {
    let script = completion::script(args.shell).map_err(|error| {
        AppError::new(
            Exit::Failed,
            Diagnostic::new("completions.shell", format!("no completions for `{}`: {error}", args.shell)),
        )
    })?;
    context.printer.raw(&String::from_utf8_lossy(&script));
    Ok(Exit::Done)
}
