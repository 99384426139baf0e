//! The arguments of `snapshot` and `restore`.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::{BackendArg, LockArgs};
use crate::model::{BackendName, SnapshotId};

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
pub(crate) struct Restore {
    #[command(flatten)]
    pub(crate) backend: BackendArg,
    /// The snapshot whose data it gets.
    #[arg(long, value_name = "ID")]
    pub(crate) snapshot: SnapshotId,
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
