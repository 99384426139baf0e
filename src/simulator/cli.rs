//! The command line of `convex-local-backend`, flag by flag.

use std::ffi::OsString;
use std::net::Ipv4Addr;
use std::path::PathBuf;

use clap::builder::BoolishValueParser;
use clap::error::ErrorKind;
use clap::{Args, CommandFactory, Parser, Subcommand, ValueEnum};

/// A simulated Convex backend that runs no functions.
#[derive(Debug, Parser)]
#[command(name = "simulate-backend", bin_name = "convexinfra simulate-backend", version, subcommand_negates_reqs = true)]
pub(super) struct Arguments {
    /// The SQLite file, or a server's URL. That may also come from the environment, so that our own command lines do not
    /// show it.
    #[arg(default_value = "convex_local_backend.sqlite3", env = "SIMULATED_DATABASE_URL", hide_env_values = true)]
    pub(super) db_spec: String,

    /// What kind of database that is.
    #[arg(short, long, value_enum, default_value = "sqlite")]
    pub(super) db: DatabaseDriver,

    /// The address to listen on.
    #[arg(short, long, default_value = "0.0.0.0")]
    pub(super) interface: Ipv4Addr,

    /// The port of the API.
    #[arg(short, long, default_value_t = 3210)]
    pub(super) port: u16,

    /// The port of the HTTP actions.
    #[arg(long, default_value_t = 3211)]
    pub(super) site_proxy_port: u16,

    /// The URL of the API as clients see it.
    #[arg(long, requires = "convex_site")]
    pub(super) convex_origin: Option<String>,

    /// The URL of the HTTP actions as clients see it.
    #[arg(long, requires = "convex_origin")]
    pub(super) convex_site: Option<String>,

    /// Accepted and not used: there are no actions to fetch for.
    #[arg(long)]
    pub(super) convex_http_proxy: Option<String>,

    #[command(flatten)]
    pub(super) instance: Instance,

    /// The directory for files.
    #[arg(long, default_value = "convex_local_storage", conflicts_with = "s3_storage")]
    pub(super) local_storage: PathBuf,

    /// Files are kept in S3.
    #[arg(long)]
    pub(super) s3_storage: bool,

    /// TLS is left to the server's URL.
    #[arg(long)]
    pub(super) do_not_require_ssl: bool,

    /// Accepted and not used: nothing is ever sent.
    #[arg(long, env = "DISABLE_BEACON", value_parser = BoolishValueParser::new())]
    pub(super) disable_beacon: bool,

    /// Accepted and not used: there are no functions that log.
    #[arg(long)]
    pub(super) redact_logs_to_client: bool,

    /// Accepted and not used.
    #[arg(long)]
    pub(super) local_log_sink: Option<PathBuf>,

    #[arg(long, hide = true)]
    pub(super) sentry_identifier: Option<String>,

    #[arg(long, hide = true)]
    pub(super) beacon_tag: Option<String>,

    #[arg(long, hide = true)]
    pub(super) beacon_fields: Option<String>,

    #[command(subcommand)]
    pub(super) command: Option<Command>,
}

/// Says who the backend is. The secret may also come from the environment, so that our own command lines do not show it.
#[derive(Debug, Args)]
pub(super) struct Instance {
    /// What the backend calls itself.
    #[arg(long)]
    pub(super) instance_name: Option<String>,

    /// Its secret: 64 hex digits.
    #[arg(long, env = "INSTANCE_SECRET", hide_env_values = true)]
    pub(super) instance_secret: Option<HiddenText>,
}

/// A text that `Debug` does not show.
#[derive(Clone)]
pub(super) struct HiddenText(pub(super) crate::model::Secret);

impl std::fmt::Debug for HiddenText {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

impl From<String> for HiddenText {
    fn from(text: String) -> Self {
        Self(crate::model::Secret::new(text))
    }
}

/// The kinds of database.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum DatabaseDriver {
    Sqlite,
    MysqlV5,
    MysqlV5Multitenant,
    PostgresV5,
}

/// Describes what can be asked instead of a start.
#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Makes keys without starting anything.
    #[command(subcommand)]
    Keygen(Keygen),
}

/// The kinds of key that can be made.
#[derive(Debug, Subcommand)]
pub(super) enum Keygen {
    /// Prints an admin key and nothing else.
    AdminKey(Instance),
}

impl Arguments {
    /// Parses a command line whose first word is the program's name.
    pub(super) fn read(words: impl IntoIterator<Item = OsString>) -> Result<Self, clap::Error> {
        Self::try_parse_from(words)
    }
}

impl Instance {
    /// Both parts, or the error that names what is missing.
    pub(super) fn complete(&self) -> Result<(&str, &crate::model::Secret), clap::Error> {
        match (&self.instance_name, &self.instance_secret) {
            (Some(name), Some(secret)) => Ok((name, &secret.0)),
            (name, secret) => {
                let missing: Vec<&str> = [
                    name.is_none().then_some("`--instance-name`"),
                    secret.is_none().then_some("`--instance-secret` (or the variable `INSTANCE_SECRET`)"),
                ]
                .into_iter()
                .flatten()
                .collect();
                let message = format!("a backend needs {}", missing.join(" and "));
                Err(Arguments::command().error(ErrorKind::MissingRequiredArgument, message))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(words: &str) -> Result<Arguments, clap::Error> {
        Arguments::read(std::iter::once("x").chain(words.split_whitespace()).map(OsString::from))
    }

    #[test]
    fn the_definition_holds_together() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn the_flags_are_those_of_the_real_one() {
        let all = "--instance-name n --instance-secret 00 -i 127.0.0.1 -p 1 --site-proxy-port 2 --convex-origin http://a \
                   --convex-site http://b --convex-http-proxy http://c --local-storage d --do-not-require-ssl \
                   --disable-beacon --redact-logs-to-client --local-log-sink e --sentry-identifier f --beacon-tag g \
                   --beacon-fields h -d sqlite i.sqlite3";
        let arguments = read(all).unwrap();
        assert_eq!((arguments.port, arguments.site_proxy_port), (1, 2));
        assert_eq!(arguments.db_spec, "i.sqlite3");
        assert!(!format!("{arguments:?}").contains("00"));
        for (db, driver) in
            [("postgres-v5", DatabaseDriver::PostgresV5), ("mysql-v5-multitenant", DatabaseDriver::MysqlV5Multitenant)]
        {
            assert_eq!(read(&format!("-d {db}")).unwrap().db, driver);
        }
        for wrong in
            ["--convex-origin http://a", "--convex-site http://a", "-d oracle", "--s3-storage --local-storage d", "-i ::1"]
        {
            assert_eq!(read(wrong).unwrap_err().exit_code(), 2, "{wrong}");
        }
        let half = read("--instance-name n").unwrap();
        if half.instance.instance_secret.is_none() {
            assert_eq!(half.instance.complete().unwrap_err().exit_code(), 2);
        }
    }
}
