//! `convexinfra schema`: the schemas of everything that programs read or write.
//!
//! Must not do: read a manifest.

use crate::app::AppError;
use crate::cli::args::{Schema as Args, SchemaDocument};
use crate::cli::context::Context;
use crate::model::Exit;
use crate::schema;

/// Prints a schema.
pub(super) fn run(context: &Context, args: &Args) -> Result<Exit, AppError> {
    let document = match args.document {
        SchemaDocument::Manifest => schema::SchemaDocument::Manifest,
        SchemaDocument::Plan => schema::SchemaDocument::Plan,
        SchemaDocument::Events => schema::SchemaDocument::Events,
        SchemaDocument::Error => schema::SchemaDocument::Error,
        SchemaDocument::Status => schema::SchemaDocument::Status,
        SchemaDocument::Log => schema::SchemaDocument::Log,
        SchemaDocument::Token => schema::SchemaDocument::Token,
        SchemaDocument::Tokens => schema::SchemaDocument::Tokens,
        SchemaDocument::Quota => schema::SchemaDocument::Quota,
        SchemaDocument::ControlPlane => schema::SchemaDocument::ControlPlane,
    };
    context.printer.raw(&schema::schema_text(document));
    Ok(Exit::Done)
}
