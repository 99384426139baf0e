//! `convexinfra dashboard`: where the dashboard of a backend is.
//!
//! Must not do: start one.

use super::the_backend;
use crate::cli::args::OneBackend as Args;
use crate::cli::context::Context;
use crate::cli::failure::Failure;
use crate::model::{Exit, Finding};

/// Says that no provider of this control plane runs a dashboard, and what to do instead.
pub(super) async fn run(context: &Context, args: &Args) -> Result<Exit, Failure> {
    let (project, loaded) = context.project()?;
    let control = context.control(loaded.as_ref().map(|loaded| &loaded.desired))?;
    let snapshot = control.snapshot(&project).await?;
    let name = the_backend(&snapshot, args.name.as_ref())?;
    let message = format!("`{name}` has no dashboard: none of the providers in this control plane runs one");
    let help =
        format!("run the official dashboard image yourself and log in with what this prints\n    convexinfra env {name}");
    Err(Failure::new(Exit::Failed, Finding::new("dashboard.unavailable", message).with_help(help)))
}
