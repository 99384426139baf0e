//! `convexinfra skill`: the skill that tells coding agents how to use convexinfra.

use std::fs;

use crate::app::AppError;
use crate::cli::args::{Skill as Args, SkillCommand};
use crate::cli::context::Context;
use crate::model::{Diagnostic, Exit};

/// The skill, as in this repository.
const SKILL: &str = include_str!("../../../skills/convexinfra/SKILL.md");

/// Writes or prints the skill.
pub(super) fn run(context: &Context, args: &Args) -> Result<Exit, AppError> {
    match &args.command {
        SkillCommand::Show => {
            context.printer.output(SKILL);
            context.printer.json("convexinfra.skill/1", serde_json::json!({ "text": SKILL }));
        }
        SkillCommand::Install { dir } => {
            let folder = dir.join("convexinfra");
            let path = folder.join("SKILL.md");
            fs::create_dir_all(&folder).and_then(|()| fs::write(&path, SKILL)).map_err(|error| {
                AppError::new(
                    Exit::Failed,
                    Diagnostic::new("skill.not_written", format!("`{}` could not be written: {error}", path.display())),
                )
            })?;
            context.printer.output(&format!("wrote `{}`\n", path.display()));
            context.printer.json("convexinfra.skill/1", serde_json::json!({ "path": path }));
        }
    }
    Ok(Exit::Done)
}
