//! Flags of the commands that bring one backend about, take it over, or let it go.

use std::path::PathBuf;

use clap::Args;
use clap::builder::FalseyValueParser;

use super::{FinalSnapshotArgs, LockArgs};
use crate::model::BackendName;
use crate::provider::kubernetes::WorkloadName;

#[derive(Debug, Args)]
pub(crate) struct Provision {
    /// The backend.
    pub(crate) name: BackendName,
    /// Where it runs, when it is not in the manifest yet; `local` where there is no manifest.
    #[arg(long, value_parser = ["simulated", "local", "docker", "fly", "kubernetes"], env = "CONVEXINFRA_PROVIDER")]
    pub(crate) provider: Option<String>,
    /// The executable of a local backend, when it is not in the manifest yet; without it Convex's own is downloaded.
    #[arg(long, value_name = "PATH", env = "CONVEXINFRA_BINARY")]
    pub(crate) binary: Option<PathBuf>,
    /// In which region, when it is not in the manifest yet.
    #[arg(long, env = "CONVEXINFRA_REGION")]
    pub(crate) region: Option<String>,
    /// Which build, when it is not in the manifest yet.
    #[arg(long, env = "CONVEXINFRA_RELEASE")]
    pub(crate) release: Option<String>,
    /// How long it lives, when it is not in the manifest yet.
    #[arg(long, env = "CONVEXINFRA_TTL")]
    pub(crate) ttl: Option<String>,
    /// Its env file, when it is not in the manifest yet.
    #[arg(long, env = "CONVEXINFRA_ENV_FILE")]
    pub(crate) env_file: Option<String>,
    /// Print the admin key as well.
    #[arg(long)]
    pub(crate) show_key: bool,
    #[command(flatten)]
    pub(crate) lock: LockArgs,
}

#[derive(Debug, Args)]
pub(crate) struct Deprovision {
    /// The backend.
    pub(crate) name: BackendName,
    /// Allow that this backend and its data are destroyed.
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    pub(crate) allow_destroy: Vec<BackendName>,
    #[command(flatten)]
    pub(crate) final_snapshot: FinalSnapshotArgs,
    /// Keep its volume, where the provider can (`fly`).
    #[arg(long, env = "CONVEXINFRA_KEEP_DATA", value_parser = FalseyValueParser::new())]
    pub(crate) keep_data: bool,
    /// Drop its database on a server of yours as well; it stays otherwise.
    #[arg(long, requires = "allow_destroy", env = "CONVEXINFRA_WITH_DATABASE", value_parser = FalseyValueParser::new())]
    pub(crate) with_database: bool,
    /// Remove what it has in S3 buckets as well, under the prefix that its database names and no other.
    #[arg(long, requires = "with_database", env = "CONVEXINFRA_WITH_FILES", value_parser = FalseyValueParser::new())]
    pub(crate) with_files: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Import {
    /// The backend of the manifest that it becomes.
    pub(crate) name: BackendName,
    /// The container to take over.
    #[arg(long, value_name = "ID", env = "CONVEXINFRA_CONTAINER")]
    pub(crate) container: Option<String>,
    /// The StatefulSet of a cluster to take over, with its claim.
    #[arg(long, value_name = "NAMESPACE/NAME", conflicts_with_all = ["container", "deployment"])]
    pub(crate) statefulset: Option<WorkloadName>,
    /// The Deployment of a cluster to take over, with its claim.
    #[arg(long, value_name = "NAMESPACE/NAME", conflicts_with = "container")]
    pub(crate) deployment: Option<WorkloadName>,
}

#[derive(Debug, Args)]
pub(crate) struct Recover {
    /// The backend; all of the project when left out.
    pub(crate) name: Option<BackendName>,
}

#[derive(Debug, Args)]
pub(crate) struct Forget {
    /// The backend.
    pub(crate) name: BackendName,
    /// Do not ask.
    #[arg(long, short = 'y')]
    pub(crate) yes: bool,
}
