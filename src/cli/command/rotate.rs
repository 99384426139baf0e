//! `convexinfra key rotate`: another instance secret and admin key for a backend, and its env files with them.

use crate::api::Work;
use crate::app::env_files::ManifestEnvFiles;
use crate::app::{AppError, lifecycle, select_backend};
use crate::cli::args::Rotate as Args;
use crate::cli::context::Context;
use crate::cli::terminal::Terminal;
use crate::model::{Desired, Exit};

/// Rotates the key of a backend.
pub(super) async fn run(context: &Context, args: &Args) -> Result<Exit, AppError> {
    let (project, loaded) = context.project()?;
    let desired = loaded.as_ref().map(|loaded| &loaded.desired);
    let control = context.control(desired)?;
    let snapshot = control.snapshot(&project).await?;
    let name = select_backend(&snapshot, desired, args.name.as_ref())?;
    let terminal = Terminal::new(&context.printer);
    if !args.yes {
        let question = format!(
            "`{name}` is restarted under another instance secret, and every key of it that was made before is refused then. \
             rotate it? [y/N] "
        );
        terminal.confirm(&question)?;
    }
    let origin = desired.and_then(Desired::origin_if_known);
    lifecycle::run(control, &project, origin.map(str::to_owned), &name, Work::RotateKey {}, &terminal).await?;
    let mut written = Vec::new();
    if let Some(loaded) = &loaded {
        let credentials = control.credentials(&project, &name, origin).await?;
        let files = ManifestEnvFiles::new(loaded, &snapshot.control_plane.name);
        written =
            files.rewrite(&loaded.desired, &name, &credentials).map_err(|finding| AppError::new(Exit::Failed, finding))?;
    }
    context.printer.output(&format!("`{name}` has another key\n"));
    for path in &written {
        context.printer.output(&format!("`{path}` has it\n"));
    }
    context
        .printer
        .status(&format!("hand it to what else uses `{name}`, such as a CI secret, with\n    convexinfra env {name}\n"));
    context.printer.json("convexinfra.key_rotation/1", serde_json::json!({ "name": name, "env_files": written }));
    Ok(Exit::Done)
}
