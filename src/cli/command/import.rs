//! `convexinfra import`: takes over what something else started.
//!
//! Must not do: half of it. While nothing can be taken over, it says so and changes nothing.

use crate::cli::args::Import as Args;
use crate::cli::failure::Failure;
use crate::model::{Exit, Finding};

/// Says that there is nothing yet that could be taken over.
pub(super) fn run(args: &Args) -> Result<Exit, Failure> {
    let what = args.container.as_ref().map_or_else(|| "a backend".to_owned(), |id| format!("container `{id}`"));
    let message =
        format!("{what} cannot be taken over as `{}`: provider `docker` is not available in this control plane", args.name);
    let help = "move the data instead: `npx convex export` there, `npx convex import --replace-all` here";
    Err(Failure::new(Exit::Refused, Finding::new("import.provider_unavailable", message).with_help(help)))
}
