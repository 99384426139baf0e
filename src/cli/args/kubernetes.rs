//! The words of `kubernetes` and `forward`.

use clap::builder::FalseyValueParser;
use clap::{Args, Subcommand};

use super::BackendArg;

#[derive(Debug, Args)]
pub(crate) struct Kubernetes {
    #[command(subcommand)]
    pub(crate) command: KubernetesCommand,
}

#[derive(Debug, Subcommand)]
pub(crate) enum KubernetesCommand {
    /// Print the least Role that the provider works with, to be applied with `kubectl`.
    Role {
        /// The namespace.
        #[arg(long, short = 'n', value_name = "NAME", default_value = "default", env = "CONVEXINFRA_KUBERNETES_NAMESPACE")]
        namespace: String,
    },
}

#[derive(Debug, Args)]
pub(crate) struct Forward {
    #[command(flatten)]
    pub(crate) backend: BackendArg,
    /// The port of this machine for the API, and the one after it for HTTP actions; those of its URL where it has some here.
    #[arg(long, short = 'p', value_name = "PORT", env = "CONVEXINFRA_FORWARD_PORT", value_parser = clap::value_parser!(u16).range(1..65535))]
    pub(crate) port: Option<u16>,
    /// Go on after this command has ended.
    #[arg(long, env = "CONVEXINFRA_BACKGROUND", value_parser = FalseyValueParser::new())]
    pub(crate) background: bool,
}
