//! Why a provider could not do what was asked.

use super::fly;
#[cfg(feature = "native")]
use super::{docker, kubernetes};
/// Why a provider could not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum ProviderError {
    /// The data was there when the backend was last ready, and is gone. Starting would begin with nothing.
    #[error("the data of `{instance}` is gone: `{place}` was there when it was last ready")]
    DataMissing {
        /// The instance.
        instance: String,
        /// Where the data was.
        place: String,
    },
    /// Another process has taken a port that this backend listens on.
    #[error("port {port} is taken by {}", holder.as_deref().unwrap_or("another process"))]
    PortTaken {
        /// The port.
        port: u16,
        /// The process, where the system tells it.
        holder: Option<String>,
    },
    /// Another container publishes a port that this backend listens on.
    #[error("port {port} is published by the container `{container}`")]
    PortPublished {
        /// The port.
        port: u16,
        /// The container.
        container: String,
    },
    /// Another container runs as a backend on the same volume.
    #[error("the volume `{volume}` is used by {user} as well, and two backends on one database destroy it")]
    VolumeShared {
        /// The volume.
        volume: String,
        /// The other container, with what starts it.
        user: String,
        /// Its name.
        container: String,
        /// Whether a compose file starts it.
        is_composed: bool,
    },
    /// A volume cannot be removed as long as a container has it.
    #[error("the volume `{volume}` is not removed, because the container `{container}` has it")]
    VolumeInUse {
        /// The volume.
        volume: String,
        /// The name of the container.
        container: String,
    },
    /// The engine calls the container healthy, and its published port does not answer from here.
    #[error("the engine calls the container of `{name}` healthy, and `{url}` does not answer from here")]
    NotReachable {
        /// The backend.
        name: String,
        /// The URL.
        url: String,
    },
    /// The backend was made on another engine, and this one has nothing of it.
    #[error(
        "`{name}` was made on the Docker engine at `{recorded}`, and the one at `{found}` is another one that has nothing of it"
    )]
    OtherEngine {
        /// The backend.
        name: String,
        /// The address of the engine that has it.
        recorded: String,
        /// The address of this one.
        found: String,
    },
    /// The backend was made in another cluster, and this one has nothing of it.
    #[error("`{name}` was made in the cluster at `{recorded}`, and the one at `{found}` is another one that has nothing of it")]
    OtherCluster {
        /// The backend.
        name: String,
        /// The address of the cluster that has it.
        recorded: String,
        /// The address of this one.
        found: String,
    },
    /// The process started and ended again at once.
    #[error("the backend stopped right after its start ({status})")]
    Exited {
        /// How it ended.
        status: String,
        /// The last lines of its log.
        log: Vec<String>,
    },
    /// The process does not end, not even when killed.
    #[error("process {pid} does not end")]
    WillNotStop {
        /// The process.
        pid: i32,
    },
    /// The executable is not available.
    #[error("no `convex-local-backend` for this backend: {reason}")]
    NoBinary {
        /// What was tried.
        reason: String,
    },
    /// A download failed, or its place is not allowed.
    #[error("`{url}` could not be downloaded: {reason}")]
    Download {
        /// Where from.
        url: String,
        /// Why.
        reason: String,
    },
    /// This machine trusts no HTTPS server, so nothing can be downloaded.
    #[error("`{url}` cannot be downloaded: {}", crate::model::NO_AUTHORITIES)]
    NoAuthorities {
        /// Where from.
        url: String,
    },
    /// A downloaded file is not the one that its release published, or that the manifest pins.
    #[error("`{url}` is not the expected file: it has {found} instead of {expected}, and was deleted")]
    DigestMismatch {
        /// Where from.
        url: String,
        /// The published or pinned digest.
        expected: String,
        /// The digest of the file.
        found: String,
    },
    /// The executable is not the one that was recorded.
    #[error(
        "`{path}` is not the file that was recorded: SHA-256 {found} instead of {recorded}; restore it, or delete it to download it again"
    )]
    BinaryChanged {
        /// The executable.
        path: String,
        /// The digest recorded.
        recorded: String,
        /// The digest found.
        found: String,
    },
    /// This provider cannot do what the specification asks.
    #[error("{0}")]
    Unsupported(String),
    /// A file or directory could not be read or written.
    #[error("`{path}` could not be {verb}")]
    File {
        /// The file or directory.
        path: String,
        /// `read`, `written`, `created`, `removed`, …
        verb: &'static str,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// A process could not be started or signalled.
    #[error("`{program}` could not be {verb}")]
    Process {
        /// The program.
        program: String,
        /// `started`, `signalled`, …
        verb: &'static str,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// An image is not available.
    #[error("the image `{image}` is not available: {reason}")]
    Image {
        /// How it was asked for.
        image: String,
        /// Why not, and what to do about it.
        reason: String,
    },
    /// The Docker engine does not answer.
    #[error("the Docker engine at `{address}` does not answer: {reason}")]
    EngineUnreachable {
        /// Where it should be.
        address: String,
        /// What came instead of an answer.
        reason: String,
    },
    /// The Docker engine says no.
    #[error("the Docker engine could not {verb}: {reason}")]
    Engine {
        /// What it was asked for.
        verb: String,
        /// What it said.
        reason: String,
    },
    /// The build is older than the one that has run on the data, whose format only goes forward.
    #[error(
        "`{image}` was built on {built}, and a build of {ran} has already run on this data, whose format only goes forward; nothing was touched"
    )]
    Downgrade {
        /// The image.
        image: String,
        /// The day of its build.
        built: String,
        /// The day of the build that has run.
        ran: String,
    },
    /// A replacement did not become ready, and what ran before runs again.
    #[error("the new container did not become ready ({reason}), so the one from before runs again")]
    NotReplaced {
        /// How it failed.
        reason: String,
        /// The last lines of its log.
        log: Vec<String>,
    },
    /// A replacement of another build did not become ready, and what ran before cannot be trusted with the data any more.
    #[error(
        "the new container did not become ready ({reason}), and it has written to the data, which the build from before may not be \
         able to read any more: that one stays stopped, as the container `{previous}`"
    )]
    NotRolledBack {
        /// How it failed.
        reason: String,
        /// The container from before.
        previous: String,
        /// The last lines of its log.
        log: Vec<String>,
    },
    /// Fly did not do what was asked.
    #[error(transparent)]
    Fly(#[from] fly::FlyError),
    /// A cluster did not do what was asked.
    #[cfg(feature = "native")]
    #[error(transparent)]
    Kubernetes(#[from] kubernetes::KubernetesError),
    /// A server was not reached over SSH.
    #[cfg(feature = "native")]
    #[error(transparent)]
    Ssh(#[from] docker::SshError),
    /// The proxy of an engine cannot serve a route.
    #[cfg(feature = "native")]
    #[error(transparent)]
    Proxy(#[from] docker::ProxyError),
    /// Something outside this machine did not answer as it should.
    #[error("{0}")]
    Unreachable(String),
}

impl ProviderError {
    /// The code for what a provider cannot do.
    pub const UNSUPPORTED: &'static str = "provider.unsupported";

    /// A stable name of the situation.
    pub fn code(&self) -> &'static str {
        match self {
            Self::DataMissing { .. } => "provider.data_missing",
            Self::PortTaken { .. } | Self::PortPublished { .. } => "provider.port_taken",
            Self::VolumeShared { .. } => "provider.volume_shared",
            Self::VolumeInUse { .. } => "provider.volume_in_use",
            Self::NotReachable { .. } => "provider.not_reachable",
            Self::OtherEngine { .. } => "provider.other_engine",
            Self::Exited { .. } => "provider.exited",
            Self::WillNotStop { .. } => "provider.will_not_stop",
            Self::NoBinary { .. } => "provider.no_binary",
            Self::DigestMismatch { .. } => "provider.digest_mismatch",
            Self::BinaryChanged { .. } => "provider.binary_changed",
            Self::Unsupported(_) => Self::UNSUPPORTED,
            Self::File { .. } => "provider.file",
            Self::Process { .. } => "provider.process",
            Self::OtherCluster { .. } => "provider.other_cluster",
            Self::Fly(error) => error.code(),
            #[cfg(feature = "native")]
            Self::Kubernetes(error) => error.code(),
            #[cfg(feature = "native")]
            Self::Ssh(error) => error.code(),
            #[cfg(feature = "native")]
            Self::Proxy(error) => error.code(),
            Self::Image { .. } => "provider.image",
            Self::EngineUnreachable { .. } | Self::Unreachable(_) | Self::Download { .. } => "provider.unreachable",
            Self::NoAuthorities { .. } => "local.no_authorities",
            Self::Engine { .. } => "provider.engine",
            Self::Downgrade { .. } => "provider.downgrade",
            Self::NotReplaced { .. } => crate::model::NOT_REPLACED,
            Self::NotRolledBack { .. } => "provider.not_rolled_back",
        }
    }
}
