//! The arguments of `archive`.

use std::path::PathBuf;

use clap::Args;

use super::BackendArg;
use crate::model::TimeSpan;

#[derive(Debug, Args)]
pub(crate) struct Archive {
    #[command(flatten)]
    pub(crate) backend: BackendArg,
    /// The zip file to write. A file that is there is never replaced.
    #[arg(long, value_name = "FILE")]
    pub(crate) out: PathBuf,
    /// Leave out the files of the deployment, and archive its documents only.
    #[arg(long)]
    pub(crate) without_files: bool,
    /// How long the deployment may work on it before it is cancelled.
    #[arg(long, value_name = "DURATION", default_value = "1h", value_parser = TimeSpan::parse)]
    pub(crate) timeout: TimeSpan,
    /// Cancel an export that the deployment works on already.
    #[arg(long)]
    pub(crate) cancel_running: bool,
}
