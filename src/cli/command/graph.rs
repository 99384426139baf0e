//! `convexinfra graph`: the graph of the plan.

use crate::api::IfMissing;
use crate::app::secrets::ComparisonMode;
use crate::app::{AppError, Session, check_ownership};
use crate::cli::args::{Graph as Args, GraphNotation};
use crate::cli::context::Context;
use crate::model::Exit;
use crate::plan::PlanOptions;
use crate::render::{GraphFormat, declared_graph, graph};

/// Draws the graph of the plan.
pub(super) async fn run(context: &Context, args: &Args) -> Result<Exit, AppError> {
    let manifest = context.load()?;
    let control = context.control(Some(&manifest.desired))?;
    let session = Session::open(control, manifest, IfMissing::ReturnNone, ComparisonMode::BestEffort).await?;
    let (plan, snapshot) = session.observe_and_plan(&PlanOptions::default()).await?;
    check_ownership(&snapshot, Some(&session.manifest.desired))?;
    let (format, notation) = match args.format {
        GraphNotation::Dot => (GraphFormat::Dot, "dot"),
        GraphNotation::Mermaid => (GraphFormat::Mermaid, "mermaid"),
    };
    // Without changes the graph of the plan is empty, and what is declared is what a reader wants to see.
    let text = if plan.is_empty() { declared_graph(&session.manifest.desired, format) } else { graph(&plan, format) };
    context.printer.output(&text);
    context.printer.json("convexinfra.graph/1", serde_json::json!({ "notation": notation, "text": text }));
    Ok(Exit::Done)
}
