//! Runs Convex's own `convex-local-backend` as processes of this machine.
//!
//! The Convex client's own cache is read and never changed. A binary that is not the recorded one is not run.

mod archive;
mod binary_cache;
mod download;
mod file_identity;
mod origin;
mod published_digest;

use std::path::{Path, PathBuf};
use std::time::Duration;

use self::binary_cache::BinaryCache;
use self::file_identity::FileIdentity;
use super::launch_spec::{ExecutableSpec, data_paths, launch_spec};
use super::process::Supervisor;
use super::process_driver::ProcessDriver;
use super::{ProgressFn, ProviderError, async_trait};
use crate::convex::launch::SecretDelivery;
use crate::convex::release;
use crate::model::{FieldDrift, Observation, ProviderKind, ProviderState, Release, ResolvedBackend, Storage};

/// Where binaries come from.
#[derive(Debug, Clone)]
pub struct DownloadSources {
    /// Below this URL lies `<tag>/<asset>`.
    pub downloads: String,
    /// What names the newest release.
    pub latest: String,
    /// Below this URL a release is described by its tag, with the digests of its files; none for a mirror, which
    /// publishes none.
    pub digests: Option<String>,
    /// The cache of the Convex client, which is read and never written; none where there is no home directory.
    pub convex_cache: Option<PathBuf>,
    /// How long a download may stand still before it is tried again.
    pub stall: Duration,
}

impl DownloadSources {
    /// Returns Convex's own servers; `home` is the user's home directory.
    pub fn official(home: Option<&Path>) -> Self {
        Self {
            downloads: release::DOWNLOADS.to_owned(),
            latest: release::LATEST_POINTER.to_owned(),
            digests: Some(release::RELEASES_BY_TAG.to_owned()),
            convex_cache: home.map(|home| home.join(".cache/convex/binaries")),
            stall: Duration::from_secs(30),
        }
    }

    /// Returns the sources with another place to download from.
    #[must_use]
    pub fn with_mirror(self, downloads: String) -> Self {
        Self { downloads, digests: None, ..self }
    }
}

/// Runs backends with Convex's own binary.
#[derive(Debug, Clone)]
pub struct Local {
    supervisor: Supervisor,
    cache: BinaryCache,
}

/// The executable of one backend, found and identified.
#[derive(Debug, Clone)]
struct Binary {
    path: PathBuf,
    sha256: String,
    stamp: FileIdentity,
    release: Option<Release>,
}

impl Local {
    /// Backends and binaries below `home`; `executable` is convexinfra itself, which starts them detached.
    pub fn new(home: PathBuf, executable: PathBuf, sources: DownloadSources) -> Self {
        Self { cache: BinaryCache::new(home.join("binaries"), sources), supervisor: Supervisor::new(home, executable) }
    }

    /// Sets how long processes have to end by themselves, instead of ten seconds.
    #[must_use]
    pub fn with_grace(self, grace: Duration) -> Self {
        Self { supervisor: self.supervisor.with_grace(grace), ..self }
    }

    /// Returns the newest release that Convex names, or the newest on this machine where Convex cannot be asked.
    ///
    /// # Errors
    /// [`ProviderError`] when neither says one.
    pub async fn newest_release(&self, notice: ProgressFn<'_>) -> Result<Release, ProviderError> {
        self.cache.newest_release(notice).await
    }

    async fn binary(&self, placement: &ResolvedBackend, notice: ProgressFn<'_>) -> Result<Binary, ProviderError> {
        match &placement.spec.settings.local.binary {
            Some(path) => user_binary(placement, Path::new(path)).await,
            None => self.cache.binary(placement, notice).await,
        }
    }

    fn executable_spec(binary: PathBuf, sha256: Option<String>, release: Option<Release>) -> ExecutableSpec {
        ExecutableSpec { path: binary, sha256, sub_command: None, secret: SecretDelivery::Flag, release }
    }

    /// The binary as it was recorded and as it is now, without fetching anything.
    async fn inspect_binary(&self, placement: &ResolvedBackend) -> Result<BinaryState, ProviderError> {
        let recorded = RecordedBinary::of(&placement.provider_state);
        let path = match (&placement.spec.settings.local.binary, &recorded) {
            (Some(path), _) => PathBuf::from(path),
            (None, Some(recorded)) => recorded.path.clone(),
            (None, None) => return Ok(BinaryState::NotRecorded),
        };
        let Some(stamp) = FileIdentity::of(&path)? else { return Ok(BinaryState::Missing(path)) };
        let sha256 = match recorded.filter(|recorded| recorded.path == path && recorded.stamp == stamp) {
            Some(recorded) => recorded.sha256,
            None => file_identity::sha256(&path).await?,
        };
        Ok(BinaryState::Present { path, sha256 })
    }
}

enum BinaryState {
    NotRecorded,
    Missing(PathBuf),
    Present { path: PathBuf, sha256: String },
}

/// An executable that the manifest names. It belongs to the user, so another content is a reason to restart and
/// no error.
async fn user_binary(placement: &ResolvedBackend, path: &Path) -> Result<Binary, ProviderError> {
    let stamp = FileIdentity::of_executable(path)?;
    let recorded =
        RecordedBinary::of(&placement.provider_state).filter(|recorded| recorded.path == path && recorded.stamp == stamp);
    let sha256 = match recorded {
        Some(recorded) => recorded.sha256,
        None => file_identity::sha256(path).await?,
    };
    Ok(Binary { path: path.to_owned(), sha256, stamp, release: placement.spec.release.clone() })
}

/// What the last `ensure` noted.
struct RecordedBinary {
    path: PathBuf,
    sha256: String,
    stamp: FileIdentity,
}

impl RecordedBinary {
    fn of(references: &ProviderState) -> Option<Self> {
        Some(Self {
            path: PathBuf::from(references.get("binary")?),
            sha256: references.get("binary_sha256")?.clone(),
            stamp: FileIdentity::from(references.get("binary_stamp")?.as_str()),
        })
    }
}

fn recorded_release(placement: &ResolvedBackend) -> Option<Release> {
    placement.provider_state.get("release").and_then(|text| Release::parse(text).ok()).filter(Release::is_pinned)
}

impl Binary {
    fn provider_state(&self) -> ProviderState {
        let mut references = ProviderState::from([
            ("binary".to_owned(), self.path.display().to_string()),
            ("binary_sha256".to_owned(), self.sha256.clone()),
            ("binary_stamp".to_owned(), self.stamp.to_string()),
        ]);
        if let Some(release) = self.release.as_ref().filter(|release| release.is_pinned()) {
            references.insert("release".to_owned(), release.to_string());
        }
        references
    }
}

#[async_trait]
impl ProcessDriver for Local {
    const KIND: ProviderKind = ProviderKind::Local;

    fn supervisor(&self) -> &Supervisor {
        &self.supervisor
    }

    async fn observe_process(&self, placement: &ResolvedBackend) -> Result<Observation, ProviderError> {
        let place = self.supervisor.backend_dir(&placement.id)?;
        let (path, sha256, gone) = match self.inspect_binary(placement).await? {
            BinaryState::NotRecorded => (PathBuf::new(), None, None),
            BinaryState::Missing(path) => (path.clone(), None, Some(path)),
            BinaryState::Present { path, sha256 } => (path, Some(sha256), None),
        };
        let release = match placement.spec.settings.local.binary {
            Some(_) => placement.spec.release.clone(),
            None => recorded_release(placement),
        };
        let launch = launch_spec(placement, &place, Self::executable_spec(path, sha256, release)).ok();
        let data = data_paths(placement, &place);
        let mut observation = self.supervisor.observe(placement, launch.as_ref(), &data).await?;
        if let Some(path) = gone {
            observation.drift.push(FieldDrift::new("binary", path.display().to_string(), "missing"));
        }
        Ok(observation)
    }

    async fn ensure_process(
        &self,
        placement: &ResolvedBackend,
        notice: ProgressFn<'_>,
    ) -> Result<ProviderState, ProviderError> {
        let place = self.supervisor.backend_dir(&placement.id)?;
        if placement.spec.storage.server().is_some_and(|server| server.managed) {
            return Err(ProviderError::Unsupported(format!(
                "`local` runs no database server of its own: give `{}` a URL in `storage.url`, or keep its documents in {}",
                placement.name,
                Storage::Sqlite.engine()
            )));
        }
        let binary = self.binary(placement, notice).await?;
        let program = Self::executable_spec(binary.path.clone(), Some(binary.sha256.clone()), binary.release.clone());
        let launch = launch_spec(placement, &place, program)?;
        self.supervisor.ensure(placement, &launch, &data_paths(placement, &place)).await?;
        Ok(binary.provider_state())
    }
}
