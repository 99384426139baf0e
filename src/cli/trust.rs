//! The control planes that a user trusts with tokens, in a file of their own.
//!
//! A manifest may come from a stranger's pull request, so the host that it names gets no token that does not say itself
//! that it belongs there. The user's own file says so for tokens that do not.

use std::collections::BTreeSet;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use crate::api::TokenOrigin;
use crate::api::client::ControlPlaneUrl;
use crate::app::AppError;
use crate::env_file::{StagedFile, sweep};
use crate::model::{Diagnostic, Exit};
use crate::system::{FileReadError, read_regular_text};

/// How large the file may be.
const MAX_BYTES: u64 = 256 << 10;
const NAME: &str = "trusted-control-planes";
const HEAD: &str = "# Control planes that get tokens although only a manifest names them, one origin a line.\n\
                    # Written by `convexinfra trust add URL` and `convexinfra trust remove URL`.\n";

/// The file of one user.
pub(crate) struct TrustFile {
    path: PathBuf,
}

impl TrustFile {
    /// The file in the user's configuration folder.
    ///
    /// # Errors
    /// There is no home directory.
    pub(crate) fn of_user() -> Result<Self, AppError> {
        let absolute = std::env::var_os("XDG_CONFIG_HOME").map(PathBuf::from).filter(|path| path.is_absolute());
        let folder = absolute.or_else(|| crate::app::discovery::user_home().map(|home| home.join(".config")));
        let folder = folder.ok_or_else(|| failed("there is no home directory, so no control plane is trusted".to_owned()))?;
        Ok(Self { path: folder.join("convexinfra").join(NAME) })
    }

    /// Where it is.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Returns every trusted origin.
    ///
    /// # Errors
    /// The file exists and cannot be believed or read.
    pub(crate) fn origins(&self) -> Result<BTreeSet<String>, AppError> {
        match read_own(&self.path) {
            Ok(text) => Ok(text
                .lines()
                .map(str::trim)
                .filter(|line| !line.is_empty() && !line.starts_with('#'))
                .map(str::to_owned)
                .collect()),
            Err(FileReadError::NotFound) => Ok(BTreeSet::new()),
            Err(error) => Err(failed(format!("`{}` is not used: {error}", self.path.display()))),
        }
    }

    /// Returns whether the origin of a URL is trusted.
    ///
    /// # Errors
    /// The file exists and cannot be believed or read.
    pub(crate) fn contains(&self, url: &ControlPlaneUrl) -> Result<bool, AppError> {
        Ok(self.origins()?.contains(&origin(url)?))
    }

    /// Adds the origin of a URL; false where it was there.
    ///
    /// # Errors
    /// The file cannot be read or written.
    pub(crate) fn add(&self, url: &ControlPlaneUrl) -> Result<bool, AppError> {
        let mut origins = self.origins()?;
        let is_new = origins.insert(origin(url)?);
        if is_new {
            self.write(&origins)?;
        }
        Ok(is_new)
    }

    /// Removes the origin of a URL; false where it was not there.
    ///
    /// # Errors
    /// The file cannot be read or written.
    pub(crate) fn remove(&self, url: &ControlPlaneUrl) -> Result<bool, AppError> {
        let mut origins = self.origins()?;
        let was_there = origins.remove(&origin(url)?);
        if was_there {
            self.write(&origins)?;
        }
        Ok(was_there)
    }

    /// Replaces the file as a whole; a temporary file has mode 0600 from the start.
    fn write(&self, origins: &BTreeSet<String>) -> Result<(), AppError> {
        let cannot = |error: std::io::Error| failed(format!("`{}` could not be written: {error}", self.path.display()));
        let folder = self.path.parent().unwrap_or(Path::new("."));
        let mut builder = fs::DirBuilder::new();
        builder.recursive(true);
        #[cfg(unix)]
        std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
        builder.create(folder).map_err(cannot)?;
        sweep(folder);
        let mut staged = StagedFile::create(folder).map_err(cannot)?;
        let file = staged.as_file_mut();
        let lines: String = origins.iter().map(|origin| format!("{origin}\n")).collect();
        file.write_all(HEAD.as_bytes()).and_then(|()| file.write_all(lines.as_bytes())).map_err(cannot)?;
        file.sync_all().map_err(cannot)?;
        staged.persist(&self.path).map_err(cannot)
    }
}

/// Reads a file that belongs to this user, that no other user can write, and that is no link.
fn read_own(path: &Path) -> Result<String, FileReadError> {
    #[cfg(unix)]
    {
        use std::os::unix::fs::MetadataExt;
        let metadata = fs::symlink_metadata(path)?;
        let refuse = |why: &str| Err(FileReadError::Io(std::io::Error::other(why.to_owned())));
        if !metadata.is_file() {
            return Err(FileReadError::NotRegular);
        }
        if metadata.uid() != rustix::process::geteuid().as_raw() {
            return refuse("it belongs to another user");
        }
        if metadata.mode() & 0o022 != 0 {
            return refuse("other users can write it; take that from them with `chmod 600`");
        }
    }
    read_regular_text(path, MAX_BYTES)
}

/// Returns the origin of a URL as text.
fn origin(url: &ControlPlaneUrl) -> Result<String, AppError> {
    let origin = TokenOrigin::of(url.as_url()).map(|origin| origin.to_string());
    origin.ok_or_else(|| failed(format!("`{url}` has no origin")))
}

fn failed(message: String) -> AppError {
    AppError::new(Exit::Failed, Diagnostic::new("trust.file", message))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn url(text: &str) -> ControlPlaneUrl {
        ControlPlaneUrl::parse(text).unwrap()
    }

    #[test]
    fn an_origin_is_trusted_however_its_url_is_spelled() {
        let folder = tempfile::tempdir().unwrap();
        let file = TrustFile { path: folder.path().join("config/convexinfra").join(NAME) };
        assert!(!file.contains(&url("https://control.example.com")).unwrap());
        assert!(file.add(&url("https://Control.example.com:443/convex/")).unwrap());
        assert!(!file.add(&url("https://control.example.com")).unwrap());
        assert_eq!(fs::metadata(file.path()).unwrap().permissions().mode() & 0o777, 0o600);
        for (text, trusted) in [
            ("https://control.example.com/other", true),
            ("https://control.example.com:8443", false),
            ("https://example.com", false),
            ("https://control.example.com.evil.test", false),
            ("http://control.example.com", false),
        ] {
            assert_eq!(file.contains(&url(text)).unwrap(), trusted, "{text}");
        }
        assert!(file.remove(&url("https://control.example.com")).unwrap());
        assert!(!file.remove(&url("https://control.example.com")).unwrap());
        assert!(file.origins().unwrap().is_empty());
    }

    #[test]
    fn a_file_that_others_could_have_written_is_not_used() {
        let folder = tempfile::tempdir().unwrap();
        let file = TrustFile { path: folder.path().join(NAME) };
        fs::write(&file.path, "https://evil.test\n").unwrap();
        fs::set_permissions(&file.path, fs::Permissions::from_mode(0o666)).unwrap();
        assert!(file.origins().is_err());
        let link = TrustFile { path: folder.path().join("link") };
        fs::set_permissions(&file.path, fs::Permissions::from_mode(0o600)).unwrap();
        std::os::unix::fs::symlink(&file.path, &link.path).unwrap();
        assert!(link.origins().is_err());
        fs::create_dir(folder.path().join("folder")).unwrap();
        assert!(TrustFile { path: folder.path().join("folder") }.origins().is_err());
    }
}
