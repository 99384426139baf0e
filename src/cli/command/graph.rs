//! `convexinfra graph`: the graph of the plan.
//!
//! Must not do: change anything; a graph is a plan seen from the side.

use crate::cli::args::{Graph as Args, GraphNotation};
use crate::cli::context::Context;
use crate::cli::failure::Failure;
use crate::cli::secrets::Comparison;
use crate::control::KeyNeed;
use crate::model::Exit;
use crate::plan::Intent;
use crate::render::{GraphFormat, graph};

/// Draws the graph of the plan.
pub(super) async fn run(context: &Context, args: &Args) -> Result<Exit, Failure> {
    let (loaded, _) = context.load_with_secrets(KeyNeed::IfThere, Comparison::AsFarAsAllowed).await?;
    let control = context.control(Some(&loaded.desired))?;
    let plan = super::plan::make(control, &loaded, &Intent::default()).await?;
    let (format, notation) = match args.format {
        GraphNotation::Dot => (GraphFormat::Dot, "dot"),
        GraphNotation::Mermaid => (GraphFormat::Mermaid, "mermaid"),
    };
    let text = graph(&plan, format);
    context.printer.result(&text);
    context.printer.reply("convexinfra.graph/1", serde_json::json!({ "notation": notation, "text": text }));
    Ok(Exit::Done)
}
