//! The arguments of `convexinfra schema`.

use clap::Args;

use crate::schema::SchemaDocument;

#[derive(Debug, Args)]
pub(crate) struct Schema {
    /// Which document.
    #[arg(value_enum, default_value_t)]
    pub(crate) document: SchemaDocument,
}
