//! The arguments of commands that show something: `env`, `logs`, `graph`, `skill`.

use std::path::PathBuf;

use clap::builder::FalseyValueParser;
use clap::{Args, Subcommand, ValueEnum};

use super::BackendArg;

#[derive(Debug, Args)]
pub(crate) struct Env {
    #[command(flatten)]
    pub(crate) backend: BackendArg,
    /// The form in which to print.
    #[arg(long, value_enum, default_value_t, env = "CONVEXINFRA_FORMAT")]
    pub(crate) format: EnvFormat,
    /// Write the env file at this path instead of printing.
    #[arg(long, value_name = "PATH", conflicts_with = "format", env = "CONVEXINFRA_WRITE")]
    pub(crate) write: Option<PathBuf>,
    /// Put the admin key into JSON as well. The other forms always have it, except for `url`.
    #[arg(long)]
    pub(crate) show_key: bool,
}

/// The form in which coordinates are printed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum EnvFormat {
    /// `NAME=value` lines.
    #[default]
    Dotenv,
    /// One JSON object.
    Json,
    /// `export NAME=value` lines.
    Shell,
    /// Lines for the file that `$GITHUB_ENV` names.
    Github,
    /// The URL and nothing else.
    Url,
}

#[derive(Debug, Args)]
pub(crate) struct Logs {
    #[command(flatten)]
    pub(crate) backend: BackendArg,
    /// Go on with what is written from now on.
    #[arg(long, short = 'f', env = "CONVEXINFRA_FOLLOW", value_parser = FalseyValueParser::new())]
    pub(crate) follow: bool,
    /// How many of the last lines to begin with.
    #[arg(long, short = 'n', value_name = "LINES", default_value_t = 100, env = "CONVEXINFRA_TAIL", value_parser = clap::value_parser!(u32).range(..=100_000))]
    pub(crate) tail: u32,
    /// Show the lines about convexinfra's own probes as well.
    #[arg(long, env = "CONVEXINFRA_ALL", value_parser = FalseyValueParser::new())]
    pub(crate) all: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Graph {
    /// The notation.
    #[arg(long, value_enum, default_value_t, env = "CONVEXINFRA_GRAPH_FORMAT")]
    pub(crate) format: GraphNotation,
}

/// The notation of a graph.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum GraphNotation {
    /// Graphviz.
    #[default]
    Dot,
    /// Mermaid.
    Mermaid,
}

#[derive(Debug, Args)]
pub(crate) struct Skill {
    #[command(subcommand)]
    pub(crate) command: SkillCommand,
}

#[derive(Debug, Subcommand)]
pub(crate) enum SkillCommand {
    /// Write it into a repository.
    Install {
        /// The folder that skills are kept in.
        #[arg(long, value_name = "PATH", default_value = ".claude/skills", env = "CONVEXINFRA_SKILL_DIR")]
        dir: PathBuf,
    },
    /// Print it.
    Show,
}
