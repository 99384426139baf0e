//! The words of `convexinfra schema`.
//!
//! Must not do: look at anything but the words and the variables that stand for them.

use clap::{Args, ValueEnum};

#[derive(Debug, Args)]
pub(crate) struct Schema {
    /// Which document.
    #[arg(value_enum, default_value_t)]
    pub(crate) document: SchemaDocument,
}

/// A document that has a schema.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum SchemaDocument {
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
    /// What `log --json` prints.
    Log,
    /// What `token create --json` prints.
    Token,
    /// What `token list --json` prints.
    Tokens,
    /// What `quota show --json` prints.
    Quota,
    /// The contract of a served control plane, as OpenAPI.
    ControlPlane,
}
