//! `convexinfra kubernetes`: what has to do with clusters alone.

use crate::app::AppError;
use crate::cli::args::{Kubernetes as Args, KubernetesCommand};
use crate::cli::context::Context;
use crate::model::Exit;
use crate::provider::kubernetes::role_text;

/// Runs one of them.
pub(super) fn run(context: &Context, args: &Args) -> Result<Exit, AppError> {
    match &args.command {
        KubernetesCommand::Role { namespace } => {
            let text = role_text(namespace);
            context.printer.output(&text);
            context.printer.json("convexinfra.kubernetes_role/1", serde_json::json!({ "yaml": text }));
            Ok(Exit::Done)
        }
    }
}
