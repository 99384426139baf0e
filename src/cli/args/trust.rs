//! The arguments of `convexinfra trust`.

use clap::{Args, Subcommand};

use crate::api::client::ControlPlaneUrl;

#[derive(Debug, Args)]
pub(crate) struct Trust {
    #[command(subcommand)]
    pub(crate) command: TrustCommand,
}

#[derive(Debug, Subcommand)]
pub(crate) enum TrustCommand {
    /// Trust a control plane: it gets your token although only a manifest names it.
    Add {
        /// The URL of the control plane.
        #[arg(value_name = "URL", value_parser = super::control_plane_url)]
        url: ControlPlaneUrl,
    },
    /// List the control planes that you trust.
    List,
    /// Trust a control plane no more.
    Remove {
        /// The URL of the control plane.
        #[arg(value_name = "URL", value_parser = super::control_plane_url)]
        url: ControlPlaneUrl,
    },
}
