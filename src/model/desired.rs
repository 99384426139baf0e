//! What the manifest says.
//!
//! Must not do: know where in a text anything was said, or hold a secret's value.

use std::collections::BTreeMap;

use super::field::FieldPath;
use super::fingerprint::{Digest, Fingerprint};
use super::name::{BackendName, ProjectName};
use super::secret::SecretRef;
use super::size::{ByteSize, Cpus};
use super::spec::BackendSpec;

/// Everything that the manifest says, checked and with defaults applied.
#[derive(Debug, Clone, PartialEq)]
pub struct Desired {
    /// The project.
    pub project: ProjectName,
    /// The control plane's URL; none means the one embedded in this process.
    pub control_plane: Option<String>,
    /// Ceilings over all backends.
    pub budget: Budget,
    /// The backends.
    pub backends: BTreeMap<BackendName, DesiredBackend>,
    /// Renames that are not destroy and create.
    pub moved: Vec<Moved>,
    /// The digest of the manifest's bytes.
    pub manifest: Digest,
    /// Where the manifest is applied from: the git remote, else the folder. Empty until the command fills it in.
    pub origin: String,
}

/// One backend that the manifest wants.
#[derive(Debug, Clone, PartialEq)]
pub struct DesiredBackend {
    /// What it should be.
    pub spec: BackendSpec,
    /// The env file that tells clients where it is.
    pub env_file: Option<EnvFileTarget>,
    /// What is known of its secrets. Empty until the command resolves them.
    pub secrets: BTreeMap<FieldPath, SecretState>,
}

/// What is known of a secret while planning.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SecretState {
    /// Its value is at hand, and this is its fingerprint.
    Known(Fingerprint),
    /// Its value is at hand, but there is no key yet to fingerprint it with: the control plane is new.
    Unkeyed,
    /// Its value is not at hand, so it cannot be compared here.
    Unavailable(SecretRef),
    /// Its value is where it should be and cannot be read, and this is why; so it cannot be compared here.
    Unreadable(String),
    /// Its value is at hand, but whoever plans may not know the key to fingerprint it with.
    Withheld,
    /// Its value is at hand and of no use, and this is why. Never shows any of it.
    Unusable(String),
}

/// The env file that a manifest's only backend has when it names none.
pub const DEFAULT_ENV_FILE: &str = ".env.local";

/// The env file of one backend.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EnvFileTarget {
    /// The path, relative to the manifest's folder, as the manifest writes it.
    pub path: String,
    /// Whether the framework's own URL variables are written as well.
    pub client_vars: bool,
}

/// What stands in an env file now, as far as it concerns us.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EnvFileState {
    /// There is a file or could be one, and writing it would not lose anything.
    Writable {
        /// Whether what stands there is what we would write.
        current: bool,
        /// The URL that stands there, if any.
        url: Option<String>,
        /// The fingerprint of the key that stands there, if any.
        admin_key: Option<Fingerprint>,
        /// What is worth saying about the file (other variables that win over ours, say).
        warnings: Vec<String>,
        /// What writing would change, as a unified diff without values that are secret or not ours.
        difference: String,
    },
    /// Writing would lose something or reach somebody: the reason, and what to do.
    Refused {
        /// A stable name of the reason.
        code: String,
        /// What is in the way.
        message: String,
    },
}

/// `[[moved]]`: the backend that was called `from` is now called `to`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Moved {
    /// The old name.
    pub from: BackendName,
    /// The new name.
    pub to: BackendName,
}

/// Ceilings over all backends of one manifest.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Budget {
    /// Processor.
    pub cpus: Option<Cpus>,
    /// Memory.
    pub memory: Option<ByteSize>,
    /// Disk.
    pub disk: Option<ByteSize>,
    /// US dollars a month.
    pub monthly_usd: Option<f64>,
}
