//! The arguments of `upgrade`, `rollback` and `releases`.

use clap::Args;

use super::{ApprovalArgs, LockArgs, ReplaceArgs};
use crate::model::{BackendName, Release};

#[derive(Debug, Args)]
pub(crate) struct Upgrade {
    /// The backend.
    pub(crate) name: BackendName,
    /// The release, or `latest` for the newest that Convex has published.
    #[arg(long, value_name = "RELEASE", default_value = "latest", value_parser = Release::parse)]
    pub(crate) to: Release,
    #[command(flatten)]
    pub(crate) approval: ApprovalArgs,
    #[command(flatten)]
    pub(crate) lock: LockArgs,
}

#[derive(Debug, Args)]
pub(crate) struct Rollback {
    /// The backend.
    pub(crate) name: BackendName,
    #[command(flatten)]
    pub(crate) consent: ReplaceArgs,
}

#[derive(Debug, Args)]
pub(crate) struct Releases {
    /// Only the backends for which a newer release is known.
    #[arg(long)]
    pub(crate) outdated: bool,
}
