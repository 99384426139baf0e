//! The words of `kubernetes` and `forward`.

use clap::builder::FalseyValueParser;
use clap::{Args, Subcommand, ValueEnum};

use super::BackendArg;
use crate::model::BackendName;

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

/// A part of a backend that `forward` leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum ForwardedPart {
    /// The API.
    Api,
    /// The HTTP actions.
    Site,
    /// The dashboard.
    Dashboard,
}

#[derive(Debug, Args)]
pub(crate) struct Render {
    /// The backends; all of the provider when none is named.
    #[arg(value_name = "NAME")]
    pub(crate) names: Vec<BackendName>,
    /// The provider whose objects are printed.
    #[arg(long, default_value = "kubernetes", value_parser = ["kubernetes"], env = "CONVEXINFRA_RENDER_PROVIDER")]
    pub(crate) provider: String,
    /// The ClusterSecretStore of External Secrets that has the instance secrets; without one, a comment says which Secret to make.
    #[arg(long, value_name = "STORE", env = "CONVEXINFRA_SECRET_STORE")]
    pub(crate) secret_store: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct Forward {
    #[command(flatten)]
    pub(crate) backend: BackendArg,
    /// The part, where the backend is on a server; API and HTTP actions when left out.
    #[arg(value_enum)]
    pub(crate) part: Option<ForwardedPart>,
    /// The port of this machine for the API, and the one after it for HTTP actions; those of its URL where it has some here. Of a
    /// single part, its own.
    #[arg(long, short = 'p', value_name = "PORT", env = "CONVEXINFRA_FORWARD_PORT", value_parser = clap::value_parser!(u16).range(1..65535))]
    pub(crate) port: Option<u16>,
    /// Go on after this command has ended.
    #[arg(long, env = "CONVEXINFRA_BACKGROUND", value_parser = FalseyValueParser::new())]
    pub(crate) background: bool,
}
