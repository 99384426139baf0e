//! `convexinfra schema`: the schemas of everything that programs read or write.
//!
//! Must not do: read a manifest.

use crate::cli::args::{Schema as Args, SchemaDocument};
use crate::cli::context::Context;
use crate::cli::failure::Failure;
use crate::model::Exit;
use crate::schema;

/// Prints a schema.
pub(super) fn run(context: &Context, args: &Args) -> Result<Exit, Failure> {
    let document = match args.document {
        SchemaDocument::Manifest => schema::Document::Manifest,
        SchemaDocument::Plan => schema::Document::Plan,
        SchemaDocument::Events => schema::Document::Events,
        SchemaDocument::Error => schema::Document::Error,
        SchemaDocument::Status => schema::Document::Status,
        SchemaDocument::Log => schema::Document::Log,
        SchemaDocument::Token => schema::Document::Token,
        SchemaDocument::Tokens => schema::Document::Tokens,
        SchemaDocument::Quota => schema::Document::Quota,
        SchemaDocument::ControlPlane => schema::Document::ControlPlane,
    };
    context.printer.raw(&schema::text(document));
    Ok(Exit::Done)
}
