//! Flags of the commands that make a plan or carry one out.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use clap::builder::FalseyValueParser;

use super::time_span;
use crate::app::ApplyOptions;
use crate::model::{BackendName, TimeSpan};

#[derive(Debug, Args)]
pub(crate) struct PlanScope {
    /// Make this repository the home of a project that was last applied from another one.
    #[arg(long, env = "CONVEXINFRA_TAKE_OVER", value_parser = FalseyValueParser::new())]
    pub(crate) take_over: bool,

    /// Let a backend run a release of which nothing says that it is newer than the one before
    #[arg(long, value_name = "NAME")]
    pub(crate) allow_downgrade: Vec<BackendName>,

    /// Let the data of a backend move to another database, for which it is stopped; once for each
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    pub(crate) allow_move: Vec<BackendName>,

    /// Create backends again that were removed because their `ttl` ended
    #[arg(long)]
    pub(crate) renew: bool,

    #[command(flatten)]
    pub(crate) final_snapshot: FinalSnapshotArgs,
}

#[derive(Debug, Args)]
pub(crate) struct FinalSnapshotArgs {
    // No variable stands for it: a forgotten export would take the way back away.
    /// Take no last snapshot of a backend before its data is destroyed.
    #[arg(long)]
    pub(crate) no_last_snapshot: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Plan {
    #[command(flatten)]
    pub(crate) scope: PlanScope,
    /// Exit 2 when changes are pending, 3 when nothing but drift is.
    #[arg(long, visible_alias = "detailed-exit-code", env = "CONVEXINFRA_DETAILED_EXITCODE", value_parser = FalseyValueParser::new())]
    pub(crate) detailed_exitcode: bool,
    /// Save the plan, without secrets, for `apply --plan`.
    #[arg(long, value_name = "FILE", env = "CONVEXINFRA_OUT")]
    pub(crate) out: Option<PathBuf>,
    /// Print Markdown for the comment under a pull request.
    #[arg(long, conflicts_with = "json", env = "CONVEXINFRA_MARKDOWN", value_parser = FalseyValueParser::new())]
    pub(crate) markdown: bool,
}

#[derive(Debug, Args)]
pub(crate) struct ApprovalArgs {
    /// Do not ask; answers for everything that destroys nothing.
    #[arg(long, short = 'y', env = "CONVEXINFRA_YES", value_parser = FalseyValueParser::new())]
    pub(crate) yes: bool,
    // No variable stands for it: a forgotten export would take the guard away.
    /// Allow that this backend and its data are destroyed; once for each.
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    pub(crate) allow_destroy: Vec<BackendName>,
    /// How many steps run at once at most.
    #[arg(long, value_name = "N", default_value_t = 64, value_parser = clap::value_parser!(u16).range(1..=1024), env = "CONVEXINFRA_PARALLELISM")]
    pub(crate) parallelism: u16,
}

impl ApprovalArgs {
    /// Returns what the arguments allow.
    pub(crate) fn options(&self, lock: &LockArgs) -> ApplyOptions {
        ApplyOptions {
            approved: self.yes,
            allow_destroy: self.allow_destroy.iter().cloned().collect(),
            parallelism: usize::from(self.parallelism),
            wait_for_lock: lock.duration(),
        }
    }
}

#[derive(Debug, Args)]
pub(crate) struct LockArgs {
    /// How long to wait for another apply of the project to end, such as `5m`; without it that is an error (5).
    #[arg(long, value_name = "DURATION", value_parser = time_span, env = "CONVEXINFRA_WAIT_FOR_LOCK")]
    pub(crate) wait_for_lock: Option<TimeSpan>,
}

impl LockArgs {
    /// Returns how long to wait for the lease.
    pub(crate) fn duration(&self) -> Option<Duration> {
        self.wait_for_lock.map(|span| Duration::from_secs(span.seconds()))
    }
}

#[derive(Debug, Args)]
pub(crate) struct Apply {
    #[command(flatten)]
    pub(crate) scope: PlanScope,
    #[command(flatten)]
    pub(crate) approval: ApprovalArgs,
    #[command(flatten)]
    pub(crate) lock: LockArgs,
    /// Carry out exactly this saved plan.
    #[arg(long, value_name = "FILE", env = "CONVEXINFRA_PLAN")]
    pub(crate) plan: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct Destroy {
    /// The backends; all of the project when none is named.
    pub(crate) names: Vec<BackendName>,
    /// Keep their volumes, where the provider can (`fly`).
    #[arg(long, env = "CONVEXINFRA_KEEP_DATA", value_parser = FalseyValueParser::new())]
    pub(crate) keep_data: bool,
    /// Drop their databases on servers of yours as well; they stay otherwise.
    #[arg(long, requires = "allow_destroy", env = "CONVEXINFRA_WITH_DATABASE", value_parser = FalseyValueParser::new())]
    pub(crate) with_database: bool,
    /// Remove what they have in S3 buckets as well, under the prefix that each database names and no other.
    #[arg(long, requires = "with_database", env = "CONVEXINFRA_WITH_FILES", value_parser = FalseyValueParser::new())]
    pub(crate) with_files: bool,
    #[command(flatten)]
    pub(crate) final_snapshot: FinalSnapshotArgs,
    #[command(flatten)]
    pub(crate) approval: ApprovalArgs,
    #[command(flatten)]
    pub(crate) lock: LockArgs,
}
