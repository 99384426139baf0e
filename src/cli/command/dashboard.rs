//! `convexinfra dashboard`: where the dashboard of a backend is.

use std::process::Stdio;

use crate::app::{AppError, select_backend};
use crate::cli::args::BackendArg as Args;
use crate::cli::context::Context;
use crate::cli::printer::stderr_is_interactive;
use crate::model::{Diagnostic, Exit};

/// Prints the dashboard's URL, and opens it on a desktop.
pub(super) async fn run(context: &Context, args: &Args) -> Result<Exit, AppError> {
    let (project, loaded) = context.project()?;
    let desired = loaded.as_ref().map(|loaded| &loaded.desired);
    let control = context.control(desired)?;
    let snapshot = control.snapshot(&project).await?;
    let name = select_backend(&snapshot, desired, args.name.as_ref())?;
    let backend = snapshot.backend(&name);
    let Some(url) = backend.and_then(|backend| backend.dashboard_url.clone()) else {
        let provider = backend.map(|backend| backend.recorded.provider);
        let help = match provider {
            Some(provider) if provider.descriptor().runs_dashboards => format!(
                "write `dashboard = true` into `[backends.{name}]` and apply, or look at it with any other dashboard and what this \
                 prints\n    convexinfra env {name}"
            ),
            _ => format!(
                "run the official dashboard image yourself and log in with what this prints\n    convexinfra env {name}"
            ),
        };
        let message = format!("`{name}` has no dashboard");
        return Err(AppError::new(Exit::Failed, Diagnostic::new("dashboard.unavailable", message).with_help(help)));
    };
    context.printer.output(&format!("{url}\n"));
    context.printer.json("convexinfra.dashboard/1", serde_json::json!({ "name": name, "url": url }));
    if !context.printer.wants_documents() && stderr_is_interactive() {
        context.printer.status(&format!("log in with the admin key that this prints\n    convexinfra env {name}\n"));
        open(&url);
    }
    Ok(Exit::Done)
}

/// Opens a page on a desktop. Where that does not work, the URL was printed.
fn open(url: &str) {
    let program = if cfg!(target_os = "macos") {
        "open"
    } else if std::env::var_os("DISPLAY").is_some() || std::env::var_os("WAYLAND_DISPLAY").is_some() {
        "xdg-open"
    } else {
        return;
    };
    let _ = crate::system::command(program).arg(url).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
}
