//! The schemas of everything that programs read or write, generated from the types themselves.

use crate::apply::Event;
use crate::manifest;
use crate::plan::Plan;
use crate::render::{ErrorDocument, IssuedDocument, LogDocument, QuotaDocument, StatusDocument, TokensDocument};
use crate::server;

/// A document that has a schema.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SchemaDocument {
    /// The manifest.
    Manifest,
    /// A plan.
    Plan,
    /// One event of an apply.
    Events,
    /// A failure.
    Error,
    /// What there is.
    Status,
    /// What has happened.
    Log,
    /// A token that was just made.
    Token,
    /// The tokens of a control plane.
    Tokens,
    /// What a project may have.
    Quota,
    /// The contract of a served control plane, as OpenAPI.
    ControlPlane,
}

impl SchemaDocument {
    /// Every document.
    pub const ALL: [Self; 10] = [
        Self::Manifest,
        Self::Plan,
        Self::Events,
        Self::Error,
        Self::Status,
        Self::Log,
        Self::Token,
        Self::Tokens,
        Self::Quota,
        Self::ControlPlane,
    ];

    /// The file below `schema/` that holds its schema.
    pub fn file(self) -> &'static str {
        match self {
            Self::Manifest => "convex.schema.json",
            Self::Plan => "plan.schema.json",
            Self::Events => "events.schema.json",
            Self::Error => "error.schema.json",
            Self::Status => "status.schema.json",
            Self::Log => "log.schema.json",
            Self::Token => "token.schema.json",
            Self::Tokens => "tokens.schema.json",
            Self::Quota => "quota.schema.json",
            Self::ControlPlane => "control-plane.openapi.json",
        }
    }
}

/// The schema of a document as text.
pub fn schema_text(document: SchemaDocument) -> String {
    let schema = match document {
        SchemaDocument::Manifest => manifest::schema(),
        SchemaDocument::Plan => schemars::schema_for!(Plan).to_value(),
        SchemaDocument::Events => schemars::schema_for!(Event).to_value(),
        SchemaDocument::Error => schemars::schema_for!(ErrorDocument<'_>).to_value(),
        SchemaDocument::Status => schemars::schema_for!(StatusDocument).to_value(),
        SchemaDocument::Log => schemars::schema_for!(LogDocument<'_>).to_value(),
        SchemaDocument::Token => schemars::schema_for!(IssuedDocument<'_>).to_value(),
        SchemaDocument::Tokens => schemars::schema_for!(TokensDocument).to_value(),
        SchemaDocument::Quota => schemars::schema_for!(QuotaDocument).to_value(),
        SchemaDocument::ControlPlane => server::openapi(),
    };
    // A value of plain JSON always prints.
    let mut text = serde_json::to_string_pretty(&schema).unwrap_or_default();
    text.push('\n');
    text
}
