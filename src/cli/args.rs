//! The command line.
//!
//! Must not do: look at anything but the words and the variables that stand for them.

mod archive;
mod fork;
mod key;
mod kubernetes;
mod log;
mod plan;
mod provision;
mod quota;
mod schema;
mod serve;
mod server;
mod show;
mod snapshot;
mod token;
mod trust;
mod upgrade;

use std::path::PathBuf;

use clap::builder::FalseyValueParser;
use clap::{Args, Parser, Subcommand, ValueEnum};

pub(crate) use self::archive::Archive;
pub(crate) use self::fork::Fork;
pub(crate) use self::key::{Key, KeyCommand, Rotate, RotateMaster};
pub(crate) use self::kubernetes::{Forward, ForwardedPart, Kubernetes, KubernetesCommand, Render};
pub(crate) use self::log::Log;
pub(crate) use self::plan::{Apply, ApprovalArgs, Destroy, FinalSnapshotArgs, LockArgs, Plan, PlanScope};
pub(crate) use self::provision::{Deprovision, Forget, Import, Provision, Recover};
pub(crate) use self::quota::{Quota, QuotaCommand, QuotaLimit, QuotaLimits, QuotaTarget};
pub(crate) use self::schema::Schema;
pub(crate) use self::serve::{LogFormat, LogLevel, Serve};
pub(crate) use self::server::{Server, ServerCommand};
pub(crate) use self::show::{Env, EnvFormat, Graph, GraphNotation, Logs, Skill, SkillCommand};
pub(crate) use self::snapshot::{ReplaceArgs, Restore, RetentionArgs, Snapshot, SnapshotCommand};
pub(crate) use self::token::{Token, TokenCommand};
pub(crate) use self::trust::{Trust, TrustCommand};
pub(crate) use self::upgrade::{Releases, Rollback, Upgrade};
use crate::api::client::ControlPlaneUrl;
use crate::model::{BackendName, Exit, ProjectName, TimeSpan};

/// The exit codes as they follow the help.
fn exit_codes() -> String {
    let rows = Exit::ALL.into_iter().map(|exit| format!("  {:<4} {}", exit.code(), exit.meaning().replace('`', "")));
    format!("Exit codes:\n{}", rows.collect::<Vec<_>>().join("\n"))
}

const EXAMPLES: &str = "\
Examples:
  convexinfra init                             write a manifest for this repository
  convexinfra plan                             see what would change, and why
  convexinfra apply                            make it so and write .env.local
  convexinfra apply --yes --json               the same for a program
  convexinfra drift                            fail (3) when something was changed by hand
  convexinfra destroy dev --allow-destroy dev  take a backend away with its data";

/// The provider of a first backend.
pub(crate) const DEFAULT_PROVIDER: &str = "local";

/// Declarative infrastructure as code for self-hosted Convex backends.
#[derive(Debug, Parser)]
#[command(name = "convexinfra", version, before_help = EXAMPLES, after_help = exit_codes(), max_term_width = 100)]
#[command(arg_required_else_help = true, disable_help_subcommand = false)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// What every command understands.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Everywhere")]
pub(crate) struct Global {
    /// The manifest; without it `convex.toml` is looked for here and in the folders above.
    #[arg(long, short = 'm', global = true, value_name = "PATH", env = "CONVEXINFRA_MANIFEST")]
    pub(crate) manifest: Option<PathBuf>,
    /// Another project name than the manifest's, for a worktree of its own.
    #[arg(long, global = true, value_name = "NAME", env = "CONVEXINFRA_PROJECT")]
    pub(crate) project: Option<ProjectName>,
    /// The control plane, instead of the manifest's: its URL, or `embedded` for the one on this machine.
    #[arg(long, global = true, value_name = "URL", env = "CONVEXINFRA_CONTROL_PLANE")]
    pub(crate) control_plane: Option<String>,
    /// Certificates to trust besides the system's when talking to the control plane, as PEM.
    #[arg(long, global = true, value_name = "FILE", env = "CONVEXINFRA_CA_FILE")]
    pub(crate) control_plane_ca: Option<PathBuf>,
    /// Where the embedded control plane lives; by default below the user's data directory.
    #[arg(long, global = true, value_name = "PATH", env = "CONVEXINFRA_HOME")]
    pub(crate) home: Option<PathBuf>,
    /// Documents for programs on standard output, and nothing else there.
    #[arg(long, global = true, env = "CONVEXINFRA_JSON", value_parser = FalseyValueParser::new())]
    pub(crate) json: bool,
    /// The same documents into a file, beside the text for people.
    #[arg(long, global = true, value_name = "FILE", env = "CONVEXINFRA_JSON_INTO")]
    pub(crate) json_into: Option<PathBuf>,
    /// When to use colour.
    #[arg(long, global = true, value_enum, default_value_t, env = "CONVEXINFRA_COLOR")]
    pub(crate) color: ColorChoice,
}

/// When to use colour.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum ColorChoice {
    /// On a terminal, unless `NO_COLOR` is set.
    #[default]
    Auto,
    /// Always.
    Always,
    /// Never.
    Never,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Write a commented manifest for this repository.
    Init(Init),
    /// Check the manifest and list every mistake in it.
    Validate(Validate),
    /// Show what would change, and why. Changes nothing.
    Plan(Plan),
    /// Make it so and write the env files.
    #[command(
        before_help = "Examples:\n  convexinfra apply\n  convexinfra apply --yes --json\n  convexinfra plan --out plan.json && convexinfra apply --plan plan.json --yes"
    )]
    Apply(Apply),
    /// Take backends away with their data.
    Destroy(Destroy),
    /// Look for changes that nobody asked for. Changes nothing; exits 3 when there are any.
    Drift,
    /// Show what there is.
    Status(Status),
    /// Print or write the coordinates of a backend.
    Env(Env),
    /// Wait until a backend answers.
    Wait(Wait),
    /// Show the log of a backend.
    Logs(Logs),
    /// Lead from ports of this machine to a backend in a cluster, for as long as it runs.
    Forward(Forward),
    /// What has to do with servers of your own alone.
    Server(Server),
    /// What has to do with clusters alone.
    Kubernetes(Kubernetes),
    /// Print the objects of backends as YAML, for tools that apply them from a repository.
    Render(Render),
    /// Draw the graph of the plan.
    Graph(Graph),
    /// Print a JSON schema.
    Schema(Schema),
    /// Print completions for a shell.
    Completions(Completions),
    /// Add a backend to the manifest if it is not there, bring it about and print where it is.
    Provision(Provision),
    /// Take a backend away and out of the manifest.
    Deprovision(Deprovision),
    /// Take over a backend that something else started.
    Import(Import),
    /// Take up again what runs on the engine and has no record any more.
    Recover(Recover),
    /// Stop a backend and keep its data; it stays stopped until it is started.
    Stop(BackendArg),
    /// Start a backend that was stopped.
    Start(BackendArg),
    /// Start the backends of this machine that should run and do not, such as after a reboot.
    Up(Up),
    /// Drop the record of a backend, and leave what runs and its data.
    Forget(Forget),
    /// Write the data of a backend into a zip file, as Convex exports it, and check it.
    Archive(Archive),
    /// Take, list, verify, export and delete snapshots: complete copies of a backend's data.
    Snapshot(Snapshot),
    /// Replace the data of a backend by that of a snapshot.
    Restore(Restore),
    /// Make a new backend with the data of another one.
    Fork(Fork),
    /// Let a paused backend run its functions, crons and jobs.
    Resume(BackendArg),
    /// Give a backend another release, with a way back where snapshots can be taken.
    Upgrade(Upgrade),
    /// Go back to the data and the release from before the last upgrade.
    Rollback(Rollback),
    /// Show which releases backends are at, and which newer ones are known.
    Releases(Releases),
    /// Show where the dashboard of a backend is.
    Dashboard(BackendArg),
    /// Show what has happened to the project.
    Log(Log),
    /// Make, list and end tokens of a control plane.
    Token(Token),
    /// Trust control planes that only a manifest names, on this machine.
    Trust(Trust),
    /// Show and set what a project may have at most in a control plane.
    Quota(Quota),
    /// Write the skill that tells coding agents how to use convexinfra.
    Skill(Skill),
    /// Make, check and rotate admin keys.
    Key(Key),
    /// Serve the control plane of this machine to a team.
    #[command(
        before_help = "Examples:\n  (umask 077; convexinfra serve --init > operator.token)\n  convexinfra serve\n  convexinfra serve --listen 0.0.0.0:7310 --tls-cert cert.pem --tls-key key.pem"
    )]
    Serve(Box<Serve>),
    /// Run the stand-in for `convex-local-backend`; takes the same arguments.
    #[command(name = "simulate-backend", disable_help_flag = true)]
    SimulateBackend {
        /// The arguments of `convex-local-backend`.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<std::ffi::OsString>,
    },
}

#[derive(Debug, Args)]
pub(crate) struct Init {
    /// Where the backend runs.
    #[arg(long, default_value = DEFAULT_PROVIDER, value_parser = ["simulated", "local", "docker", "fly", "kubernetes"], env = "CONVEXINFRA_PROVIDER")]
    pub(crate) provider: String,
}

#[derive(Debug, Args)]
pub(crate) struct Validate {
    /// Make every edit that is suggested, and write the manifest.
    #[arg(long, env = "CONVEXINFRA_FIX", value_parser = FalseyValueParser::new())]
    pub(crate) fix: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Status {
    /// All projects of the control plane: of this machine, or those that the token opens.
    #[arg(long, conflicts_with = "project", env = "CONVEXINFRA_STATUS_ALL", value_parser = FalseyValueParser::new())]
    pub(crate) all: bool,
}

#[derive(Debug, Args)]
pub(crate) struct BackendArg {
    /// The backend; may be left out when there is just one.
    pub(crate) name: Option<BackendName>,
}

#[derive(Debug, Args)]
pub(crate) struct Up {
    /// Write a unit of systemd that does it after each boot, instead of doing it now.
    #[arg(long)]
    pub(crate) on_boot: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Wait {
    #[command(flatten)]
    pub(crate) backend: BackendArg,
    /// How long, such as `30s` or `5m`.
    #[arg(long, value_name = "DURATION", default_value = "5m", value_parser = time_span, env = "CONVEXINFRA_TIMEOUT")]
    pub(crate) timeout: TimeSpan,
}

fn control_plane_url(text: &str) -> Result<ControlPlaneUrl, String> {
    ControlPlaneUrl::parse(text).map_err(|error| error.to_string())
}

fn time_span(text: &str) -> Result<TimeSpan, String> {
    TimeSpan::parse(text).map_err(|error| error.to_string())
}

#[derive(Debug, Args)]
pub(crate) struct Completions {
    /// The shell.
    #[arg(value_enum)]
    pub(crate) shell: clap_complete::Shell,
}
