//! What the manifest says.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::address::Address;
use super::certificates::CertificateFile;
use super::field::FieldPath;
use super::fingerprint::{Digest, Fingerprint};
use super::name::{BackendName, ProjectName};
use super::secret::SecretRef;
use super::size::{ByteSize, Cpus};
use super::spec::BackendSpec;

/// What the origin of a project starts with when it is the remote of a repository; any other is a folder of one machine.
pub const REMOTE_ORIGIN: &str = "repository ";

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

impl Desired {
    /// Returns where the manifest is applied from, unless that is not known.
    pub fn origin_if_known(&self) -> Option<&str> {
        Some(self.origin.as_str()).filter(|origin| !origin.is_empty())
    }

    /// Returns whether the manifest is applied from a repository with a remote.
    pub fn has_remote(&self) -> bool {
        self.origin.starts_with(REMOTE_ORIGIN)
    }
}

/// One backend that the manifest wants.
#[derive(Debug, Clone, PartialEq)]
pub struct DesiredBackend {
    /// What it should be.
    pub spec: BackendSpec,
    /// The env files that tell clients where it is.
    pub env_files: Vec<EnvFileTarget>,
    /// What is known of its secrets. Empty until the command resolves them.
    pub secrets: BTreeMap<FieldPath, SecretState>,
    /// The secrets that are nothing but a template that was never filled in, and how such a one is written. Empty until the
    /// command resolves them.
    pub templates: BTreeMap<FieldPath, &'static str>,
    /// The file of `storage.tls`, where the manifest names one. None until the command reads it.
    pub certificate_file: Option<CertificateFile>,
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
    /// Its value is at hand, but the token of this plan may not see the key to fingerprint it with.
    Withheld,
    /// Its value is at hand and of no use, and this is why. Never shows any of it.
    Unusable(String),
}

/// The env file that a manifest's only backend has when it names none.
pub const DEFAULT_ENV_FILE: &str = ".env.local";

/// One env file of a backend.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EnvFileTarget {
    /// The path, relative to the manifest's folder, as the manifest writes it.
    pub path: String,
    /// What is written into it.
    pub contents: EnvFileContents,
}

/// What is written into an env file.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum EnvFileContents {
    /// URL and admin key.
    #[default]
    Pair,
    /// The framework's own URL variables: no secret.
    Client,
    /// All of them.
    Both,
}

impl EnvFileContents {
    /// The words in the manifest.
    pub const WORDS: [&'static str; 3] = ["pair", "client", "both"];

    /// Parses a word of the manifest.
    pub fn parse(word: &str) -> Option<Self> {
        [Self::Pair, Self::Client, Self::Both].into_iter().zip(Self::WORDS).find(|(_, known)| *known == word).map(|(it, _)| it)
    }

    /// Whether URL and admin key are written.
    pub fn has_pair(self) -> bool {
        self != Self::Client
    }

    /// Whether the framework's own URL variables are written.
    pub fn has_client(self) -> bool {
        self != Self::Pair
    }
}

impl DesiredBackend {
    /// Returns the env files, each with what a step about it is about.
    pub fn env_file_addresses(&self, name: &BackendName) -> impl Iterator<Item = (Address, &EnvFileTarget)> {
        self.env_files.iter().enumerate().map(|(index, target)| {
            let address = if index == 0 { Address::env_file(name) } else { Address::env_file_at(name, &target.path) };
            (address, target)
        })
    }
}

/// What stands in an env file now, as far as it concerns us.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EnvFileState {
    /// There is a file or could be one, and writing it would not lose anything.
    Writable {
        /// What stands there.
        content: EnvFileContent,
        /// Whether it lies where the manifest may not write: it is named, and left as it is.
        outside: bool,
        /// What is worth saying about the file (other variables that win over ours, say).
        warnings: Vec<String>,
    },
    /// Writing would lose something or leak something: the reason, and what to do.
    Refused {
        /// A stable name of the reason.
        code: String,
        /// What is in the way.
        message: String,
    },
}

/// What stands in an env file that may be written.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct EnvFileContent {
    /// Whether what stands there is what we would write.
    pub up_to_date: bool,
    /// Whether a block of the backend is in it.
    pub has_block: bool,
    /// Whether the version control system does not ignore it, and apply can change that.
    pub needs_ignore_rule: bool,
    /// Its mode, where others may read the key in it, and apply can change that.
    pub exposed_mode: Option<u32>,
    /// The URL that stands there, if any.
    pub url: Option<String>,
    /// The fingerprint of the key that stands there, if any.
    pub admin_key: Option<Fingerprint>,
    /// What writing would change, as a unified diff without values that are secret or not ours.
    pub difference: String,
    /// What taking the block out would change, in the same form.
    pub removal: String,
}

/// Which request an env file goes back to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RequestedBy {
    /// The manifest: the file is cleared when the manifest names it no more.
    Manifest,
    /// `env NAME --write`: the file stays until its backend is destroyed.
    Command,
}

/// An env file that was written before and that the manifest does not name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RememberedEnvFile {
    /// What a step about it is about.
    pub address: Address,
    /// The file.
    pub target: EnvFileTarget,
    /// Which request it goes back to.
    pub requested_by: RequestedBy,
    /// Whether it lies outside of this checkout, such as in another work tree of the repository.
    pub elsewhere: bool,
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
