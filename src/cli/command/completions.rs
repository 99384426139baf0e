//! `convexinfra completions`: completions for a shell, and nothing else on standard output.

use clap::CommandFactory;

use crate::app::AppError;
use crate::cli::args::{Cli, Completions as Args};
use crate::cli::context::Context;
use crate::model::Exit;

/// Prints completions.
pub(super) fn run(context: &Context, args: &Args) -> Result<Exit, AppError> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "convexinfra", &mut script);
    context.printer.raw(&String::from_utf8_lossy(&script));
    Ok(Exit::Done)
}
