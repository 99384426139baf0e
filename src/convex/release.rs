//! Where Convex's builds are found: names and URLs, and what its answers mean.

use jiff::civil::Date;

use crate::model::Release;

/// Where the binaries are published.
pub const DOWNLOADS: &str = "https://github.com/get-convex/convex-backend/releases/download";
/// Where GitHub describes a release by its tag, with the digests of its files.
pub const RELEASES_BY_TAG: &str = "https://api.github.com/repos/get-convex/convex-backend/releases/tags";
/// What says which binary is the newest that Convex itself has tried out.
pub const LATEST_POINTER: &str = "https://version.convex.dev/v1/local_backend_version";
/// The backend's image.
pub const BACKEND_IMAGE: &str = "ghcr.io/get-convex/convex-backend";
/// The dashboard's image.
pub const DASHBOARD_IMAGE: &str = "ghcr.io/get-convex/convex-dashboard";
/// What tells a full commit from its first digits, given `Accept:` [`COMMIT_ACCEPT`].
pub const COMMITS: &str = "https://api.github.com/repos/get-convex/convex-backend/commits";
/// Makes [`COMMITS`] answer with nothing but the 40 digits.
pub const COMMIT_ACCEPT: &str = "application/vnd.github.sha";

/// A kind of machine that Convex builds its binary for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Platform {
    /// Linux with glibc on x86-64.
    LinuxX86,
    /// Linux with glibc on 64-bit ARM.
    LinuxArm,
    /// macOS on x86-64.
    MacX86,
    /// macOS on Apple's own processors.
    MacArm,
    /// Windows on x86-64.
    WindowsX86,
}

impl Platform {
    /// Returns this machine, if Convex builds for it.
    pub fn detect() -> Option<Self> {
        Self::from_names(std::env::consts::OS, std::env::consts::ARCH)
    }

    /// Returns the platform by Rust's names of operating system and processor.
    pub fn from_names(os: &str, arch: &str) -> Option<Self> {
        match (os, arch) {
            ("linux", "x86_64") => Some(Self::LinuxX86),
            ("linux", "aarch64") => Some(Self::LinuxArm),
            ("macos", "x86_64") => Some(Self::MacX86),
            ("macos", "aarch64") => Some(Self::MacArm),
            ("windows", "x86_64") => Some(Self::WindowsX86),
            _ => None,
        }
    }

    /// Returns the compiler's name of the platform.
    pub fn triple(self) -> &'static str {
        match self {
            Self::LinuxX86 => "x86_64-unknown-linux-gnu",
            Self::LinuxArm => "aarch64-unknown-linux-gnu",
            Self::MacX86 => "x86_64-apple-darwin",
            Self::MacArm => "aarch64-apple-darwin",
            Self::WindowsX86 => "x86_64-pc-windows-msvc",
        }
    }

    /// Returns the zip file of a release that holds this platform's executable, and nothing else.
    pub fn asset(self) -> String {
        format!("convex-local-backend-{}.zip", self.triple())
    }

    /// Returns the executable inside that file.
    pub fn executable(self) -> &'static str {
        match self {
            Self::WindowsX86 => "convex-local-backend.exe",
            _ => "convex-local-backend",
        }
    }
}

/// Returns the tags under which a release's binary may lie, most likely first; empty for what has no binary of its own.
///
/// The jobs that build one release each take the date for themselves, so a build over midnight (UTC) leaves its
/// files under two tags.
pub fn candidate_tags(release: &Release) -> Vec<String> {
    let Release::Precompiled { date, short } = release else { return Vec::new() };
    let mut tags = vec![release.to_string()];
    if let Ok(day) = date.parse::<Date>() {
        tags.extend([day.tomorrow(), day.yesterday()].into_iter().flatten().map(|day| format!("precompiled-{day}-{short}")));
    }
    tags
}

/// Returns the URL of the archive under a tag; `base` is [`DOWNLOADS`] or a mirror of it.
pub fn asset_url(base: &str, tag: &str, platform: Platform) -> String {
    format!("{}/{tag}/{}", base.trim_end_matches('/'), platform.asset())
}

/// Returns a reference to an image (such as [`BACKEND_IMAGE`]) of this release.
///
/// None for a `precompiled-…` tag, which names only the first seven digits of the commit that images are tagged
/// with: [`commit_lookup_url`] says where to ask for the rest.
pub fn image_reference(image: &str, release: &Release) -> Option<String> {
    match release {
        Release::Commit(commit) => Some(format!("{image}:{commit}")),
        Release::Digest(hex) => Some(format!("{image}@sha256:{hex}")),
        Release::Latest => Some(format!("{image}:latest")),
        Release::Precompiled { .. } => None,
    }
}

/// Returns where to ask for the full commit of a `precompiled-…` tag.
pub fn commit_lookup_url(release: &Release) -> Option<String> {
    match release {
        Release::Precompiled { short, .. } => Some(format!("{COMMITS}/{short}")),
        _ => None,
    }
}

/// Says why an answer about releases is of no use.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReleaseResponseError {
    /// Not the document that was asked for.
    #[error("the answer does not say which release is the latest")]
    Pointer,
    /// Not a commit, or one that begins differently.
    #[error("the answer is not the commit that was asked for")]
    Commit,
}

/// Reads the answer of [`LATEST_POINTER`].
///
/// # Errors
/// [`ReleaseResponseError::Pointer`] when it names no release.
pub fn parse_latest(body: &str) -> Result<Release, ReleaseResponseError> {
    #[derive(serde::Deserialize)]
    struct Pointer {
        version: String,
    }
    let pointer: Pointer = serde_json::from_str(body).map_err(|_| ReleaseResponseError::Pointer)?;
    match Release::parse(&pointer.version) {
        Ok(release @ Release::Precompiled { .. }) => Ok(release),
        _ => Err(ReleaseResponseError::Pointer),
    }
}

/// Reads the answer of [`commit_lookup_url`].
///
/// # Errors
/// [`ReleaseResponseError::Commit`] when it is not the commit of this release.
pub fn parse_commit(release: &Release, body: &str) -> Result<Release, ReleaseResponseError> {
    match (release, Release::parse(body.trim())) {
        (Release::Precompiled { short, .. }, Ok(Release::Commit(commit))) if commit.starts_with(short.as_str()) => {
            Ok(Release::Commit(commit))
        }
        _ => Err(ReleaseResponseError::Commit),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn release(text: &str) -> Release {
        Release::parse(text).unwrap()
    }

    #[test]
    fn a_binary_may_lie_under_the_neighbouring_day() {
        let tags = candidate_tags(&release("precompiled-2026-08-31-652b828"));
        let urls: Vec<_> = tags.iter().map(|tag| asset_url("https://mirror.test/", tag, Platform::LinuxArm)).collect();
        let asset = "convex-local-backend-aarch64-unknown-linux-gnu.zip";
        assert_eq!(
            urls,
            ["2026-08-31", "2026-09-01", "2026-08-30"]
                .map(|day| format!("https://mirror.test/precompiled-{day}-652b828/{asset}"))
        );
        assert!(candidate_tags(&Release::Latest).is_empty());
    }

    #[test]
    fn images_are_named_by_commit_or_digest() {
        let commit = "652b828b5129e6cdbcaa3c20efa8d116d09ff3bf";
        assert_eq!(image_reference(BACKEND_IMAGE, &release(commit)), Some(format!("{BACKEND_IMAGE}:{commit}")));
        let digest = format!("sha256:{}", "a".repeat(64));
        assert_eq!(image_reference(DASHBOARD_IMAGE, &release(&digest)), Some(format!("{DASHBOARD_IMAGE}@{digest}")));
        let tag = release("precompiled-2026-08-21-652b828");
        assert_eq!(image_reference(BACKEND_IMAGE, &tag), None);
        assert_eq!(commit_lookup_url(&tag), Some(format!("{COMMITS}/652b828")));
        assert_eq!(parse_commit(&tag, &format!("{commit}\n")), Ok(release(commit)));
        assert_eq!(parse_commit(&tag, &"b".repeat(40)), Err(ReleaseResponseError::Commit));
    }

    #[test]
    fn the_pointer_is_read_with_care() {
        let answer = r#"{"version":"precompiled-2026-08-21-652b828"}"#;
        assert_eq!(parse_latest(answer), Ok(release("precompiled-2026-08-21-652b828")));
        for answer in ["", "{}", r#"{"version":"latest"}"#, r#"{"version":"../../x"}"#] {
            assert_eq!(parse_latest(answer), Err(ReleaseResponseError::Pointer));
        }
    }

    #[test]
    fn this_machine_is_known_or_not() {
        assert_eq!(Platform::from_names("linux", "x86_64"), Some(Platform::LinuxX86));
        assert_eq!(Platform::from_names("linux", "riscv64"), None);
    }
}
