//! The words of `convexinfra serve`.
//!
//! Must not do: look at anything but the words and the variables that stand for them.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use clap::builder::FalseyValueParser;
use clap::{Args, ValueEnum};

use crate::api::TokenOrigin;
use crate::model::{ByteSize, HostRule, TimeSpan};

#[derive(Debug, Args)]
pub(crate) struct Serve {
    /// The address; port 0 takes a free one.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:7310", env = "CONVEXINFRA_LISTEN")]
    pub(crate) listen: SocketAddr,
    /// Talk TLS with this certificate, in PEM, with those that lead to its issuer.
    #[arg(long, value_name = "FILE", requires = "tls_key", env = "CONVEXINFRA_TLS_CERT")]
    pub(crate) tls_cert: Option<PathBuf>,
    /// The key of that certificate, in PEM.
    #[arg(long, value_name = "FILE", requires = "tls_cert", env = "CONVEXINFRA_TLS_KEY")]
    pub(crate) tls_key: Option<PathBuf>,
    /// A proxy stands before this and does TLS; its word for who asks is logged.
    #[arg(long, env = "CONVEXINFRA_BEHIND_PROXY", value_parser = FalseyValueParser::new())]
    pub(crate) behind_proxy: bool,
    /// A URL by which clients reach this server, such as that of a proxy before it; may be given more than once. Tokens
    /// are bound to these URLs; without any, to the one that the request for a token came to.
    #[arg(long, value_name = "URL", value_delimiter = ',', value_parser = url, env = "CONVEXINFRA_PUBLIC_URL")]
    pub(crate) public_url: Vec<String>,
    /// Figures for Prometheus at `/metrics` of this address, without a token.
    #[arg(long, value_name = "ADDRESS", env = "CONVEXINFRA_METRICS_LISTEN")]
    pub(crate) metrics_listen: Option<SocketAddr>,
    /// A file with a token that a scraper has to show as a bearer token; required where other machines reach the address.
    #[arg(long, value_name = "FILE", requires = "metrics_listen", env = "CONVEXINFRA_METRICS_TOKEN_FILE")]
    pub(crate) metrics_token_file: Option<PathBuf>,
    /// How lines of the log are written.
    #[arg(long, value_enum, default_value_t, env = "CONVEXINFRA_LOG_FORMAT")]
    pub(crate) log_format: LogFormat,
    /// What is logged; `info` has a line for each request.
    #[arg(long, value_enum, default_value_t, env = "CONVEXINFRA_LOG_LEVEL")]
    pub(crate) log_level: LogLevel,
    /// How large the body of a request may be.
    #[arg(long, value_name = "SIZE", default_value = "4 MiB", value_parser = size, env = "CONVEXINFRA_BODY_LIMIT")]
    pub(crate) body_limit: ByteSize,
    /// How long the body of a request may take to arrive; twice as long for the whole.
    #[arg(long, value_name = "DURATION", default_value = "30s", value_parser = super::time_span, env = "CONVEXINFRA_REQUEST_TIMEOUT")]
    pub(crate) request_timeout: TimeSpan,
    /// How many requests a second one token may send, twice as many at once; 0 for any number.
    #[arg(long, value_name = "N", default_value_t = 1000, env = "CONVEXINFRA_RATE_LIMIT")]
    pub(crate) rate_limit: u32,
    /// Let clients name executables of this machine in `[backends.NAME.local]`. Whoever may apply can then run anything
    /// with the rights of this server.
    #[arg(long, env = "CONVEXINFRA_ALLOW_LOCAL_BINARIES", value_parser = FalseyValueParser::new())]
    pub(crate) allow_local_binaries: bool,
    /// Database servers that clients may name beside those with a public address: host names, `.domain`, addresses, `address/bits`,
    /// or `*` for every one.
    #[arg(long, value_name = "HOST", value_delimiter = ',', env = "CONVEXINFRA_ALLOW_DATABASE_HOSTS")]
    pub(crate) allow_database_hosts: Vec<HostRule>,
    /// Whether backends that run as processes of this machine are started again when they do not run.
    #[arg(long, value_name = "BOOL", default_value_t = true, action = clap::ArgAction::Set, env = "CONVEXINFRA_KEEP_RUNNING")]
    pub(crate) keep_running: bool,
    /// Images that clients may name beside the official ones, or parts of their names up to a slash,
    /// such as `ghcr.io/acme`.
    #[arg(long, value_name = "IMAGE", value_delimiter = ',', env = "CONVEXINFRA_ALLOW_IMAGES")]
    pub(crate) allow_images: Vec<String>,
    /// Networks of the Docker engine that clients' backends may join.
    #[arg(long, value_name = "NETWORK", value_delimiter = ',', env = "CONVEXINFRA_ALLOW_NETWORKS")]
    pub(crate) allow_networks: Vec<String>,
    /// Addresses that clients' backends may publish ports on beside loopback.
    #[arg(long, value_name = "ADDRESS", value_delimiter = ',', env = "CONVEXINFRA_ALLOW_PUBLISH")]
    pub(crate) allow_publish: Vec<IpAddr>,
    /// Labels that clients' backends may have on the Docker engine, or parts of their names up to a dot, such as `traefik`.
    /// Programs that go by labels do what these say.
    #[arg(long, value_name = "LABEL", value_delimiter = ',', env = "CONVEXINFRA_ALLOW_LABELS")]
    pub(crate) allow_labels: Vec<String>,
    /// How long operations have to end once it is told to stop; what has not goes on with the next server.
    #[arg(long, value_name = "DURATION", default_value = "30s", value_parser = super::time_span, env = "CONVEXINFRA_SHUTDOWN_GRACE")]
    pub(crate) shutdown_grace: TimeSpan,
    /// Make the first operator's token, print it once, and end.
    #[arg(long, env = "CONVEXINFRA_INIT", value_parser = FalseyValueParser::new())]
    pub(crate) init: bool,
    /// With `--init`: make another one, though there is one already.
    #[arg(long, requires = "init", env = "CONVEXINFRA_AGAIN", value_parser = FalseyValueParser::new())]
    pub(crate) again: bool,
    /// With `--init`: write the token into this new file, which only its owner may read, instead of printing it.
    #[arg(long, value_name = "FILE", requires = "init", env = "CONVEXINFRA_TOKEN_FILE")]
    pub(crate) token_file: Option<PathBuf>,
}

fn url(text: &str) -> Result<String, String> {
    match TokenOrigin::parse(text) {
        Some(_) => Ok(text.trim().trim_end_matches('/').to_owned()),
        None => Err("a URL looks like `https://convex-control.example.com`".to_owned()),
    }
}

fn size(text: &str) -> Result<ByteSize, String> {
    ByteSize::parse(text).map_err(|error| error.to_string())
}

/// How lines of the log are written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One JSON object each.
    Json,
}

/// What is logged.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum LogLevel {
    /// Bugs.
    Error,
    /// And what does not go as it should.
    Warn,
    /// And every request.
    #[default]
    Info,
    /// And every connection that ended early.
    Debug,
}
