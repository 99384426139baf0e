//! `convexinfra trust`: the control planes that get tokens although only a manifest names them.

use crate::app::AppError;
use crate::cli::args::{Trust as Args, TrustCommand};
use crate::cli::context::Context;
use crate::cli::trust::TrustFile;
use crate::model::Exit;

/// Adds, lists or removes control planes.
pub(super) fn run(context: &Context, args: &Args) -> Result<Exit, AppError> {
    let file = TrustFile::of_user()?;
    let text = match &args.command {
        TrustCommand::Add { url } if file.add(url)? => format!("`{url}` is trusted now\n"),
        TrustCommand::Add { url } => format!("`{url}` was trusted already\n"),
        TrustCommand::Remove { url } if file.remove(url)? => format!("`{url}` is trusted no more\n"),
        TrustCommand::Remove { url } => format!("`{url}` was not trusted\n"),
        TrustCommand::List => String::new(),
    };
    let origins = file.origins()?;
    let text = match args.command {
        TrustCommand::List if origins.is_empty() => "no control plane is trusted\n".to_owned(),
        TrustCommand::List => origins.iter().map(|origin| format!("{origin}\n")).collect(),
        _ => text,
    };
    context.printer.output(&text);
    context.printer.json("convexinfra.trust/1", serde_json::json!({ "trusted": origins, "file": file.path() }));
    Ok(Exit::Done)
}
