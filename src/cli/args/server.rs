//! The words of `server`.

use clap::{Args, Subcommand};

#[derive(Debug, Args)]
pub(crate) struct Server {
    #[command(subcommand)]
    pub(crate) command: ServerCommand,
}

#[derive(Debug, Subcommand)]
pub(crate) enum ServerCommand {
    /// Look at a server of the manifest: its engine, room, clock, ports, and where its backends' hosts lead. Changes nothing.
    Check {
        /// The name in `[servers]`.
        name: String,
    },
}
