//! The schemas of everything that programs read or write, generated from the types themselves.

use crate::apply::Event;
use crate::manifest;
use crate::plan::Plan;
use crate::render::{
    ArchiveDocument, DeprovisionDocument, DriftDocument, EnvDocument, ErrorDocument, InitDocument, IssuedDocument, LogDocument,
    LogLineDocument, ProvisionDocument, QuotaDocument, StatusAllDocument, StatusDocument, TokensDocument, ValidateDocument,
};
use crate::server;

/// A document that has a schema.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum SchemaDocument {
    /// The manifest, `convex.toml`.
    #[default]
    Manifest,
    /// What `plan --json` prints.
    Plan,
    /// What `apply --json` prints, a line each.
    Events,
    /// What every command prints with `--json` when it fails.
    Error,
    /// What `status --json` prints.
    Status,
    /// What `status --all --json` prints.
    StatusAll,
    /// What `log --json` prints.
    Log,
    /// What `token create --json` prints.
    Token,
    /// What `token list --json` prints.
    Tokens,
    /// What `quota show --json` prints.
    Quota,
    /// What `drift --json` prints.
    Drift,
    /// What `validate --json` prints.
    Validate,
    /// What `env --json` prints.
    Env,
    /// What `provision --json` prints.
    Provision,
    /// What `deprovision --json` prints.
    Deprovision,
    /// What `init --json` prints.
    Init,
    /// What `archive --json` prints.
    Archive,
    /// What `logs --json` prints, a line each.
    LogLine,
    /// The contract of a served control plane, as OpenAPI.
    ControlPlane,
}

impl SchemaDocument {
    /// Every document.
    pub const ALL: [Self; 19] = [
        Self::Manifest,
        Self::Plan,
        Self::Events,
        Self::Error,
        Self::Status,
        Self::StatusAll,
        Self::Log,
        Self::Token,
        Self::Tokens,
        Self::Quota,
        Self::Drift,
        Self::Validate,
        Self::Env,
        Self::Provision,
        Self::Deprovision,
        Self::Init,
        Self::Archive,
        Self::LogLine,
        Self::ControlPlane,
    ];

    /// Returns the file below `schema/` that holds the schema.
    pub fn file(self) -> &'static str {
        match self {
            Self::Manifest => "convex.schema.json",
            Self::Plan => "plan.schema.json",
            Self::Events => "events.schema.json",
            Self::Error => "error.schema.json",
            Self::Status => "status.schema.json",
            Self::StatusAll => "status-all.schema.json",
            Self::Log => "log.schema.json",
            Self::Token => "token.schema.json",
            Self::Tokens => "tokens.schema.json",
            Self::Quota => "quota.schema.json",
            Self::Drift => "drift.schema.json",
            Self::Validate => "validate.schema.json",
            Self::Env => "env.schema.json",
            Self::Provision => "provision.schema.json",
            Self::Deprovision => "deprovision.schema.json",
            Self::Init => "init.schema.json",
            Self::Archive => "archive.schema.json",
            Self::LogLine => "log-line.schema.json",
            Self::ControlPlane => "control-plane.openapi.json",
        }
    }
}

/// Returns the schema of a document as text.
pub fn schema_text(document: SchemaDocument) -> String {
    let schema = match document {
        SchemaDocument::Manifest => manifest::schema(),
        SchemaDocument::ControlPlane => server::openapi(),
        SchemaDocument::Plan => schemars::schema_for!(Plan).to_value(),
        SchemaDocument::Events => schemars::schema_for!(Event).to_value(),
        SchemaDocument::Error => schemars::schema_for!(ErrorDocument<'_>).to_value(),
        SchemaDocument::Status => schemars::schema_for!(StatusDocument).to_value(),
        SchemaDocument::StatusAll => schemars::schema_for!(StatusAllDocument).to_value(),
        SchemaDocument::Log => schemars::schema_for!(LogDocument<'_>).to_value(),
        SchemaDocument::Token => schemars::schema_for!(IssuedDocument<'_>).to_value(),
        SchemaDocument::Tokens => schemars::schema_for!(TokensDocument).to_value(),
        SchemaDocument::Quota => schemars::schema_for!(QuotaDocument).to_value(),
        SchemaDocument::Drift => schemars::schema_for!(DriftDocument<'_>).to_value(),
        SchemaDocument::Validate => schemars::schema_for!(ValidateDocument).to_value(),
        SchemaDocument::Env => schemars::schema_for!(EnvDocument<'_>).to_value(),
        SchemaDocument::Provision => schemars::schema_for!(ProvisionDocument<'_>).to_value(),
        SchemaDocument::Deprovision => schemars::schema_for!(DeprovisionDocument<'_>).to_value(),
        SchemaDocument::Init => schemars::schema_for!(InitDocument<'_>).to_value(),
        SchemaDocument::Archive => schemars::schema_for!(ArchiveDocument<'_>).to_value(),
        SchemaDocument::LogLine => schemars::schema_for!(LogLineDocument<'_>).to_value(),
    };
    // A value of plain JSON always prints.
    let mut text = serde_json::to_string_pretty(&schema).unwrap_or_default();
    text.push('\n');
    text
}
