//! The arguments of `fork`.

use clap::Args;

use super::LockArgs;
use crate::model::BackendName;

#[derive(Debug, Args)]
pub(crate) struct Fork {
    /// The backend whose data is copied; it stops for a moment.
    pub(crate) from: BackendName,
    /// The backend that is made.
    pub(crate) to: BackendName,
    /// Copy everything: documents, files, code, variables, crons and jobs. It starts paused.
    #[arg(long)]
    pub(crate) exact: bool,
    /// How long it lives.
    #[arg(long, value_name = "DURATION")]
    pub(crate) ttl: Option<String>,
    /// Its env file.
    #[arg(long, value_name = "FILE")]
    pub(crate) env_file: Option<String>,
    /// Do not ask.
    #[arg(long, short = 'y')]
    pub(crate) yes: bool,
    #[command(flatten)]
    pub(crate) lock: LockArgs,
}
