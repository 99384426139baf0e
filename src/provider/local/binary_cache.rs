//! Finds the binary of a release: in our cache, in the Convex client's cache, or on Convex's servers.
//!
//! A downloaded archive is compared with a pinned or published digest before it is unpacked. One release is never
//! downloaded twice at the same time.

use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::archive::{ArchiveError, unpack};
use super::download::{DownloadOutcome, PartialDownload, root_cause};
use super::file_identity::{self, FileIdentity};
use super::origin::{Origin, read_text};
use super::published_digest::published_digest;
use super::{Binary, DownloadSources, RecordedBinary, recorded_release};
use crate::convex::release::{self, Platform};
use crate::failpoint;
use crate::model::{Release, ResolvedBackend};
use crate::provider::process::{FileLock, create_private_directory, file_error};
use crate::provider::{ProgressFn, ProviderError};

/// The largest answer that is read about the latest release.
const POINTER_MAX: usize = 64 * 1024;
/// The file beside a binary with the digest of the archive that it came from.
const ARCHIVE_DIGEST: &str = "archive-sha256";
/// How long to wait for another command that downloads the same release.
const DOWNLOAD_LOCK_TIMEOUT: Duration = Duration::from_secs(30 * 60);

/// The binary that a backend asks for.
struct BinaryRequest<'a> {
    release: Release,
    platform: Platform,
    /// The digest that the release's archive must have.
    pin: Option<&'a str>,
}

/// The directory `<home>/binaries`, with `<tag>/convex-local-backend` and `<tag>/sha256` for every release.
#[derive(Debug, Clone)]
pub(super) struct BinaryCache {
    directory: PathBuf,
    sources: DownloadSources,
}

impl BinaryCache {
    pub(super) fn new(directory: PathBuf, sources: DownloadSources) -> Self {
        Self { directory, sources }
    }

    /// Returns the binary that a backend asks for, downloading it where it is not on this machine.
    pub(super) async fn binary(&self, placement: &ResolvedBackend, notice: ProgressFn<'_>) -> Result<Binary, ProviderError> {
        let platform = Platform::detect().ok_or_else(|| ProviderError::NoBinary {
            reason: format!(
                "Convex publishes none for {} on {}: name one in `local.binary`, or use the provider `docker`",
                std::env::consts::OS,
                std::env::consts::ARCH
            ),
        })?;
        let release = self.resolve_release(placement, platform, notice).await?;
        let request = BinaryRequest { release, platform, pin: placement.spec.settings.local.archive_digest.as_deref() };
        let found = match self.find_installed(&request).await? {
            Some(found) => found,
            None => self.download(&request, notice).await?,
        };
        let release = request.release;
        match RecordedBinary::of(&placement.provider_state) {
            Some(recorded)
                if recorded.path == found.path
                    && recorded.sha256 != found.sha256
                    && recorded_release(placement).as_ref() == Some(&release) =>
            {
                Err(binary_changed(&found.path, recorded.sha256, found.sha256))
            }
            _ => Ok(found),
        }
    }

    /// Resolves the release of a backend to one that binaries are published for.
    async fn resolve_release(
        &self,
        placement: &ResolvedBackend,
        platform: Platform,
        notice: ProgressFn<'_>,
    ) -> Result<Release, ProviderError> {
        match &placement.spec.release {
            Some(release @ Release::Precompiled { .. }) => Ok(release.clone()),
            Some(Release::Commit(commit)) => {
                let is_it =
                    |tag: &Release| matches!(tag, Release::Precompiled { short, .. } if commit.starts_with(short.as_str()));
                self.cached_releases(platform).into_iter().find(is_it).ok_or_else(|| ProviderError::NoBinary {
                    reason: format!(
                        "binaries are published under tags, and none on this machine is of commit `{commit}`: \
                         name its tag, such as `precompiled-2026-08-21-{}`, as the release",
                        &commit[..7]
                    ),
                })
            }
            Some(Release::Digest(_)) => Err(ProviderError::NoBinary {
                reason: "the digest of an image names no binary: name a tag such as `precompiled-2026-08-21-652b828`"
                    .to_owned(),
            }),
            // What was resolved once stays: a restart is no upgrade.
            None | Some(Release::Latest) => match recorded_release(placement) {
                Some(release @ Release::Precompiled { .. }) => Ok(release),
                _ => self.resolve_latest(platform, notice).await,
            },
        }
    }

    /// Returns the newest release that Convex names, or that is on this machine.
    pub(super) async fn newest_release(&self, notice: ProgressFn<'_>) -> Result<Release, ProviderError> {
        // Which releases there are does not depend on the machine.
        self.resolve_latest(Platform::detect().unwrap_or(Platform::LinuxX86), notice).await
    }

    async fn resolve_latest(&self, platform: Platform, notice: ProgressFn<'_>) -> Result<Release, ProviderError> {
        let asked = async {
            let origin = Origin::parse(&self.sources.latest).map_err(|error| error.to_string())?;
            let client = origin.client(self.sources.stall).map_err(|error| error.to_string())?;
            let request = client.get(&self.sources.latest).timeout(Duration::from_secs(15));
            let response = request
                .header("Convex-Client", concat!("convexinfra-", env!("CARGO_PKG_VERSION")))
                .send()
                .await
                .and_then(reqwest::Response::error_for_status)
                .map_err(|error| root_cause(&error))?;
            let body = read_text(response, POINTER_MAX).await?;
            release::parse_latest(&body).map_err(|error| error.to_string())
        };
        match (asked.await, self.cached_releases(platform).into_iter().next()) {
            (Ok(release), _) => Ok(release),
            (Err(reason), Some(release)) => {
                notice(format!("the latest release is not known ({reason}); using `{release}`, which is on this machine"));
                Ok(release)
            }
            (Err(reason), None) => Err(ProviderError::Unreachable(format!(
                "`{}` does not say which release is the latest: {reason}",
                self.sources.latest
            ))),
        }
    }

    /// Returns the releases on this machine, newest first.
    fn cached_releases(&self, platform: Platform) -> Vec<Release> {
        let directories = std::iter::once(&self.directory).chain(&self.sources.convex_cache);
        let entries = directories.filter_map(|directory| std::fs::read_dir(directory).ok()).flatten().flatten();
        let with_binary = entries.filter(|entry| entry.path().join(platform.executable()).is_file());
        let mut releases: Vec<Release> = with_binary
            .filter_map(|entry| Release::parse(entry.file_name().to_str()?).ok())
            .filter(|release| matches!(release, Release::Precompiled { .. }))
            .collect();
        releases.sort();
        releases.reverse();
        releases
    }

    /// Returns the binary of a release if it is on this machine.
    async fn find_installed(&self, request: &BinaryRequest<'_>) -> Result<Option<Binary>, ProviderError> {
        let BinaryRequest { release, platform, pin } = request;
        for tag in release::candidate_tags(release) {
            let directory = self.directory.join(&tag);
            let path = directory.join(platform.executable());
            let archive = crate::system::read_regular_text(&directory.join(ARCHIVE_DIGEST), 4096).unwrap_or_default();
            if pin.is_none_or(|pin| pin == archive)
                && let Some(stamp) = FileIdentity::of(&path)?
                && let Some(sha256) = verified_digest(&directory, &path, &stamp).await?
            {
                return Ok(Some(Binary { path, sha256, stamp, release: Some(release.clone()) }));
            }
            // Which archive a binary of the client came from is not known.
            let cache = self.sources.convex_cache.as_ref().filter(|_| pin.is_none());
            let Some(path) = cache.map(|cache| cache.join(&tag).join(platform.executable())) else { continue };
            // A file that is not executable there is one that the client is still unpacking.
            if let Ok(stamp) = FileIdentity::of_executable(&path) {
                let sha256 = file_identity::sha256(&path).await?;
                return Ok(Some(Binary { path, sha256, stamp, release: Some(release.clone()) }));
            }
        }
        Ok(None)
    }

    /// Compares a downloaded archive with the pinned digest, else with the one that its release publishes, and reports
    /// where there is neither. Returns the archive's digest.
    async fn verify_archive(
        &self,
        archive: &Path,
        tag: &str,
        request: &BinaryRequest<'_>,
        notice: ProgressFn<'_>,
    ) -> Result<String, ProviderError> {
        let platform = request.platform;
        let found = file_identity::sha256(archive).await?;
        let expected = match (request.pin, &self.sources.digests) {
            (Some(pin), _) => Ok(Some(pin.to_owned())),
            (None, Some(releases)) => published_digest(releases, tag, &platform.asset()).await,
            (None, None) => Ok(None),
        };
        let reason = match expected {
            Ok(Some(expected)) if expected == found => return Ok(found),
            Ok(Some(expected)) => {
                let url = release::asset_url(&self.sources.downloads, tag, platform);
                return Err(ProviderError::DigestMismatch { url, expected, found });
            }
            Ok(None) => "no digest is published for it".to_owned(),
            Err(reason) => format!("its published digest is not known ({reason})"),
        };
        notice(format!(
            "the archive of {tag} was not verified: {reason}; pin it with `release = {{ tag = \"{tag}\", sha256 = \"{}\" }}`",
            found.trim_start_matches("sha256:")
        ));
        Ok(found)
    }

    async fn download(&self, request: &BinaryRequest<'_>, notice: ProgressFn<'_>) -> Result<Binary, ProviderError> {
        let BinaryRequest { release, platform, .. } = request;
        let directory = self.directory.join(release.to_string());
        create_private_directory(&self.directory)?;
        create_private_directory(&directory)?;
        let lock = directory.join("turn");
        let turn = match FileLock::acquire(&lock, Duration::ZERO).await? {
            Some(turn) => Some(turn),
            None => {
                notice(format!("waiting for another command that downloads `{release}`"));
                FileLock::acquire(&lock, DOWNLOAD_LOCK_TIMEOUT).await?
            }
        };
        let Some(_turn) = turn else {
            let message = format!("another command has been downloading `{release}` for more than 30 minutes");
            return Err(ProviderError::Unreachable(message));
        };
        if let Some(found) = self.find_installed(request).await? {
            return Ok(found);
        }
        let partial = PartialDownload::new(directory.join("download.zip"));
        let target = directory.join(platform.executable());
        // What was left by an earlier run may be damaged, and then only a clean start helps.
        for is_last in [false, true] {
            let tag = self.download_archive(&partial, release, *platform, notice).await?;
            let digest = self.verify_archive(partial.path(), &tag, request, notice).await.inspect_err(|_| partial.discard())?;
            let note = directory.join(ARCHIVE_DIGEST);
            std::fs::write(&note, digest).map_err(file_error(&note, "written"))?;
            match install(&directory, partial.path(), platform.executable(), &target).await {
                Ok(()) => break,
                Err(error) if is_last => return Err(error),
                Err(error) => {
                    notice(format!("downloading {release} again from the start: {error}"));
                    partial.discard();
                }
            }
        }
        partial.discard();
        self.find_installed(request).await?.ok_or_else(|| ProviderError::NoBinary {
            reason: format!("`{}` was removed right after it was downloaded", target.display()),
        })
    }

    /// Downloads the archive of a release. Returns the tag that it was found under.
    async fn download_archive(
        &self,
        partial: &PartialDownload,
        release: &Release,
        platform: Platform,
        notice: ProgressFn<'_>,
    ) -> Result<String, ProviderError> {
        let client = Origin::parse(&self.sources.downloads)?.client(self.sources.stall)?;
        let name = release.to_string();
        for tag in release::candidate_tags(release) {
            let url = release::asset_url(&self.sources.downloads, &tag, platform);
            if let DownloadOutcome::Complete = partial.fetch(&client, &url, &name, notice).await? {
                return Ok(tag);
            }
        }
        Err(ProviderError::NoBinary {
            reason: format!(
                "`{}` has no `{}` for `{release}` or the days beside it: choose another release",
                self.sources.downloads,
                platform.asset()
            ),
        })
    }
}

/// Unpacks beside the target, records the digest, and only then gives the binary its name.
async fn install(directory: &Path, archive: &Path, name: &'static str, target: &Path) -> Result<(), ProviderError> {
    let (fresh, note) = (directory.join("unpacking"), directory.join("sha256"));
    let (archive, target) = (archive.to_owned(), target.to_owned());
    let work = move || -> Result<(), ProviderError> {
        unpack(&archive, name, &fresh).map_err(|error| match error {
            ArchiveError::Disk(error) => file_error(&fresh, "written")(error),
            error => {
                let source = std::error::Error::source(&error).map(|source| format!(": {source}")).unwrap_or_default();
                ProviderError::NoBinary { reason: format!("{error}{source}") }
            }
        })?;
        failpoint::hit("provider.local.unpacked");
        let sha256 = file_identity::sha256_blocking(&fresh).map_err(file_error(&fresh, "read"))?;
        let stamp = FileIdentity::of(&fresh)?.map(|stamp| stamp.to_string()).unwrap_or_default();
        let written = std::fs::File::create(&note).and_then(|mut file| {
            writeln!(file, "{sha256} {stamp}")?;
            file.sync_all()
        });
        written.map_err(file_error(&note, "written"))?;
        failpoint::hit("provider.local.digest_written");
        std::fs::rename(&fresh, &target).map_err(file_error(&target, "written"))?;
        failpoint::hit("provider.local.binary_installed");
        Ok(())
    };
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|error| ProviderError::Unreachable(format!("unpacking was interrupted: {error}")))?
}

/// Returns the digest of a cached binary, which has to be the one recorded when it was downloaded. None where nothing was
/// recorded: what the file should be is unknown then, and it counts as missing.
async fn verified_digest(directory: &Path, path: &Path, stamp: &FileIdentity) -> Result<Option<String>, ProviderError> {
    let note = directory.join("sha256");
    let text = match crate::system::read_regular(&note, 4096).map_err(std::io::Error::from) {
        Ok(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(file_error(&note, "read")(error)),
    };
    let (noted, noted_stamp) = text.trim().split_once(' ').unwrap_or((text.trim(), ""));
    if !file_identity::is_digest(noted) {
        return Ok(None);
    }
    if FileIdentity::from(noted_stamp) == *stamp {
        return Ok(Some(noted.to_owned()));
    }
    let found = file_identity::sha256(path).await?;
    if noted == found { Ok(Some(found)) } else { Err(binary_changed(path, noted.to_owned(), found)) }
}

fn binary_changed(path: &Path, recorded: String, found: String) -> ProviderError {
    ProviderError::BinaryChanged { path: path.display().to_string(), recorded, found }
}
