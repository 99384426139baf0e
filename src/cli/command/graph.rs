//! `convexinfra graph`: the graph of the plan.
//!
//! Must not do: change anything; a graph is a plan seen from the side.

use crate::api::IfMissing;
use crate::cli::args::{Graph as Args, GraphNotation};
use crate::cli::context::Context;
use crate::cli::error::CliError;
use crate::cli::secrets::ComparisonMode;
use crate::model::Exit;
use crate::plan::PlanOptions;
use crate::render::{GraphFormat, graph};

/// Draws the graph of the plan.
pub(super) async fn run(context: &Context, args: &Args) -> Result<Exit, CliError> {
    let (loaded, _) = context.load_with_secrets(IfMissing::ReturnNone, ComparisonMode::BestEffort).await?;
    let control = context.control(Some(&loaded.desired))?;
    let plan = super::plan::plan_only(control, &loaded, &PlanOptions::default()).await?;
    let (format, notation) = match args.format {
        GraphNotation::Dot => (GraphFormat::Dot, "dot"),
        GraphNotation::Mermaid => (GraphFormat::Mermaid, "mermaid"),
    };
    let text = graph(&plan, format);
    context.printer.output(&text);
    context.printer.json("convexinfra.graph/1", serde_json::json!({ "notation": notation, "text": text }));
    Ok(Exit::Done)
}
