//! The words of `convexinfra key`.

use clap::builder::FalseyValueParser;
use clap::{Args, Subcommand};

use crate::model::BackendName;

#[derive(Debug, Args)]
pub(crate) struct Key {
    #[command(subcommand)]
    pub(crate) command: KeyCommand,
}

#[derive(Debug, Subcommand)]
pub(crate) enum KeyCommand {
    /// Make a key under the instance secret in `CONVEXINFRA_INSTANCE_SECRET`.
    Issue {
        /// The instance.
        #[arg(long, value_name = "NAME", env = "CONVEXINFRA_INSTANCE_NAME")]
        instance_name: String,
        /// A key that may look and not touch.
        #[arg(long, conflicts_with = "system", env = "CONVEXINFRA_READ_ONLY", value_parser = FalseyValueParser::new())]
        read_only: bool,
        /// A key of the system, which only internal endpoints take.
        #[arg(long, env = "CONVEXINFRA_SYSTEM", value_parser = FalseyValueParser::new())]
        system: bool,
    },
    /// Check the key on standard input under the instance secret in `CONVEXINFRA_INSTANCE_SECRET`.
    Check {
        /// The instance; by default the one that the key names.
        #[arg(long, value_name = "NAME", env = "CONVEXINFRA_INSTANCE_NAME")]
        instance_name: Option<String>,
    },
    /// Give a backend another instance secret and admin key; every key from before is refused then.
    Rotate(Rotate),
    /// Seal everything in this home under another master key, while nothing else writes there.
    RotateMaster(RotateMaster),
}

#[derive(Debug, Args)]
pub(crate) struct Rotate {
    /// The backend; may be left out when there is just one.
    pub(crate) name: Option<BackendName>,
    /// Do not ask.
    #[arg(long, short = 'y')]
    pub(crate) yes: bool,
}

#[derive(Debug, Args)]
pub(crate) struct RotateMaster {
    /// Do not ask.
    #[arg(long, short = 'y')]
    pub(crate) yes: bool,
}
