//! `convexinfra key rotate-master`: another master key for a home, whose server does not run meanwhile.

use crate::app::AppError;
use crate::cli::args::RotateMaster as Args;
use crate::cli::context::{Context, secret_variable};
use crate::cli::env_vars::{MASTER_KEY, NEXT_MASTER_KEY};
use crate::cli::terminal::Terminal;
use crate::host::NativePlatform;
use crate::model::Exit;

/// Rotates the master key.
pub(super) fn run(context: &Context, args: &Args) -> Result<Exit, AppError> {
    let home = context.home()?;
    let terminal = Terminal::new(&context.printer);
    if !args.yes {
        let question = format!(
            "everything in `{}` is sealed under another master key; backups from before open with the old one only. rotate it? [y/N] ",
            home.display()
        );
        terminal.confirm(&question)?;
    }
    let (known, next) = (secret_variable(MASTER_KEY), secret_variable(NEXT_MASTER_KEY));
    let is_outside = known.is_some();
    NativePlatform::new(home.clone(), known, None).rotate_master_key(next.as_ref(), NEXT_MASTER_KEY)?;
    let place = if is_outside { format!("`{NEXT_MASTER_KEY}`") } else { format!("`{}`", home.join("master.key").display()) };
    context.printer.output(&format!("the master key is the one in {place}\n"));
    if is_outside {
        context.printer.status(&format!("give it to every command and server from now on, as `{MASTER_KEY}`\n"));
    }
    context.printer.status("keep the old one with the backups from before: they open with no other\n");
    context
        .printer
        .json("convexinfra.master_key_rotation/1", serde_json::json!({ "home": home, "place": place.trim_matches('`') }));
    Ok(Exit::Done)
}
