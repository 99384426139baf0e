//! The arguments of `snapshot` and `restore`.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::{BackendArg, LockArgs, time_span};
use crate::model::{BackendName, SnapshotId, TimeSpan};

#[derive(Debug, Args)]
pub(crate) struct Snapshot {
    #[command(subcommand)]
    pub(crate) command: SnapshotCommand,
}

#[derive(Debug, Subcommand)]
pub(crate) enum SnapshotCommand {
    /// Take a snapshot of a backend, for which it stops for a moment.
    #[command(alias = "take")]
    Create {
        #[command(flatten)]
        backend: BackendArg,
        /// A line that is kept with it.
        #[arg(long, value_name = "TEXT")]
        note: Option<String>,
        /// Take it only where the last one is older, such as `6h`; for timers, which may run more often.
        #[arg(long, value_name = "DURATION", value_parser = time_span)]
        every: Option<TimeSpan>,
    },
    /// List the snapshots of a backend, or of the project.
    List {
        /// The backend; all of the project when left out.
        name: Option<BackendName>,
    },
    /// Show what is in a snapshot.
    Show {
        /// The snapshot.
        id: SnapshotId,
    },
    /// Read everything in a snapshot again; fails when anything is not what it was.
    Verify {
        /// The snapshot.
        id: SnapshotId,
    },
    /// Write a snapshot into a folder, to keep it elsewhere.
    Export {
        /// The snapshot.
        id: SnapshotId,
        /// The folder; there must be nothing in it.
        #[arg(long, value_name = "DIR")]
        out: PathBuf,
        /// Seal nothing: who has the folder reads all documents, files and variables in it.
        #[arg(long)]
        plain: bool,
    },
    /// Take the snapshot of an exported folder into the control plane.
    Import {
        /// The folder.
        folder: PathBuf,
    },
    /// Delete the snapshots that no rule keeps. The newest one of a backend, and the one that `rollback` goes back to, stay.
    Prune {
        /// The backend; all of the project when left out.
        name: Option<BackendName>,
        #[command(flatten)]
        retention: RetentionArgs,
        /// Show what would be deleted, and delete nothing.
        #[arg(long)]
        dry_run: bool,
        /// Do not ask.
        #[arg(long, short = 'y')]
        yes: bool,
    },
    /// Delete a snapshot with all that no other snapshot needs.
    #[command(alias = "rm")]
    Delete {
        /// The snapshot.
        id: SnapshotId,
        /// Do not ask.
        #[arg(long, short = 'y')]
        yes: bool,
    },
}

#[derive(Debug, Args)]
#[group(required = true, multiple = true)]
pub(crate) struct RetentionArgs {
    /// Keep this many of the newest ones of each backend.
    #[arg(long, value_name = "N")]
    pub(crate) keep_last: Option<usize>,
    /// Keep the newest one of each of this many days that have any, in UTC.
    #[arg(long, value_name = "N")]
    pub(crate) keep_daily: Option<usize>,
    /// Keep the newest one of each of this many weeks that have any, from Monday in UTC.
    #[arg(long, value_name = "N")]
    pub(crate) keep_weekly: Option<usize>,
}

#[derive(Debug, Args)]
pub(crate) struct Restore {
    #[command(flatten)]
    pub(crate) backend: BackendArg,
    /// The snapshot whose data it gets.
    #[arg(long, value_name = "ID", required_unless_present = "drop_previous")]
    pub(crate) snapshot: Option<SnapshotId>,
    /// Restore nothing, and delete the data from before the last restore that was kept beside it.
    #[arg(long, requires = "name", conflicts_with_all = ["snapshot", "allow_replace"])]
    pub(crate) drop_previous: bool,
    #[command(flatten)]
    pub(crate) consent: ReplaceArgs,
    #[command(flatten)]
    pub(crate) lock: LockArgs,
}

#[derive(Debug, Args)]
pub(crate) struct ReplaceArgs {
    // No variable stands for it: a forgotten export would take the guard away.
    /// Allow that the data of this backend is replaced.
    #[arg(long, value_name = "NAME")]
    pub(crate) allow_replace: Option<BackendName>,
    /// Do not ask.
    #[arg(long, short = 'y')]
    pub(crate) yes: bool,
}
