//! Telling whether an executable is still the same file, without reading its hundred megabytes every time.

use std::fmt;
use std::io::{ErrorKind, Read};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use sha2::{Digest, Sha256};

use crate::provider::ProviderError;
use crate::provider::process::file_error;

/// Size, time of change and inode of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct FileIdentity(String);

impl FileIdentity {
    /// The stamp of a file; none when there is no such file.
    pub(super) fn of(path: &Path) -> Result<Option<Self>, ProviderError> {
        match std::fs::metadata(path) {
            Ok(metadata) => Ok(Some(Self::from_metadata(&metadata))),
            Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => Ok(None),
            Err(error) => Err(file_error(path, "read")(error)),
        }
    }

    /// The stamp of a file that can be run.
    pub(super) fn of_executable(path: &Path) -> Result<Self, ProviderError> {
        let no = |what: &str| Err(ProviderError::NoBinary { reason: format!("`{}` {what}", path.display()) });
        let metadata = match std::fs::metadata(path) {
            Ok(metadata) => metadata,
            Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
                return no("does not exist");
            }
            Err(error) => return Err(file_error(path, "read")(error)),
        };
        match metadata.is_file() {
            false => no("is not a file"),
            true if metadata.mode() & 0o111 == 0 => no("is not executable: `chmod +x` makes it so"),
            true => Ok(Self::from_metadata(&metadata)),
        }
    }

    fn from_metadata(metadata: &std::fs::Metadata) -> Self {
        Self(format!("{}-{}.{:09}-{}", metadata.size(), metadata.mtime(), metadata.mtime_nsec(), metadata.ino()))
    }
}

impl From<&str> for FileIdentity {
    fn from(text: &str) -> Self {
        Self(text.to_owned())
    }
}

impl fmt::Display for FileIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The SHA-256 of a file, as `sha256:` and 64 hex digits.
pub(super) async fn sha256(path: &Path) -> Result<String, ProviderError> {
    let owned = path.to_owned();
    let digest = tokio::task::spawn_blocking(move || sha256_blocking(&owned)).await.map_err(std::io::Error::other);
    digest.and_then(|digest| digest).map_err(file_error(path, "read"))
}

/// Whether a text is what [`sha256`] gives.
pub(super) fn is_digest(text: &str) -> bool {
    let digits = text.strip_prefix("sha256:").unwrap_or_default();
    digits.len() == 64 && digits.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// The same, for callers that may block.
pub(super) fn sha256_blocking(path: &Path) -> std::io::Result<String> {
    let mut file = std::fs::File::open(path)?;
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; 128 * 1024];
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(format!("sha256:{}", hex::encode(hasher.finalize()))),
            read => hasher.update(&buffer[..read]),
        }
    }
}
