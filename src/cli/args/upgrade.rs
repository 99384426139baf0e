//! The arguments of `upgrade`, `rollback` and `releases`.

use clap::Args;

use super::{ApprovalArgs, LockArgs};
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
    // No variable stands for it: a forgotten export would take the guard away.
    /// Allow that the data of this backend is replaced.
    #[arg(long, value_name = "NAME")]
    pub(crate) allow_replace: Option<BackendName>,
    /// Do not ask.
    #[arg(long, short = 'y')]
    pub(crate) yes: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Releases {
    /// Only the backends for which a newer release is known.
    #[arg(long)]
    pub(crate) outdated: bool,
}
