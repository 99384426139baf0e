//! `convexinfra validate`: every mistake in the manifest.
//!
//! Must not do: ask a control plane, or stop at the first mistake.

use crate::app::AppError;
use crate::app::fix;
use crate::cli::args::Validate as Args;
use crate::cli::context::Context;
use crate::manifest::located;
use crate::model::Exit;
use crate::render::{ValidateDocument, counted};

/// Checks the manifest.
pub(super) fn run(context: &Context, args: &Args) -> Result<Exit, AppError> {
    if args.fix {
        let path = context.manifest_path()?;
        let (fixed, text) = fix::fix(&path, context.global.project.as_ref())?;
        if let Some(text) = text {
            fix::write(&path, &text)?;
        }
        context.printer.status(&format!("{} made in `{}`\n", counted(fixed, "edit"), path.display()));
    }
    let loaded = context.load()?;
    super::plan::print_warnings(context, &loaded);
    let file = loaded.path.display().to_string();
    let backends = loaded.desired.backends.len();
    context.printer.output(&format!(
        "`{file}` is valid: project `{}`, {}\n",
        loaded.desired.project,
        counted(backends, "backend")
    ));
    context.printer.document(&ValidateDocument {
        format: "convexinfra.validate/1",
        warnings: located(&loaded.warnings, &loaded.text, &file),
        manifest: file,
        project: loaded.desired.project.to_string(),
        backends,
    });
    Ok(Exit::Done)
}
