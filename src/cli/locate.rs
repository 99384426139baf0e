//! Finding things on this machine: the manifest, the home of the control plane, where a repository comes from.
//!
//! Must not do: make a directory, or start another program.

use std::fs;
use std::path::{Path, PathBuf};

/// The name of a manifest.
pub(crate) const MANIFEST: &str = "convex.toml";

/// The manifest here or in the nearest folder above.
pub(crate) fn manifest(from: &Path) -> Option<PathBuf> {
    from.ancestors().map(|folder| folder.join(MANIFEST)).find(|path| path.is_file())
}

/// A path below a folder, without a `./` in front when that is where the command runs.
pub(crate) fn below(folder: &Path, path: &str) -> PathBuf {
    if folder == Path::new(".") { path.into() } else { folder.join(path) }
}

/// The directory of the embedded control plane when nobody names another.
pub(crate) fn default_home() -> Option<PathBuf> {
    let absolute = |name: &str| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    if let Some(data) = absolute("XDG_DATA_HOME") {
        return Some(data.join("convexinfra"));
    }
    let home = user_home()?;
    Some(if cfg!(target_os = "macos") {
        home.join("Library/Application Support/convexinfra")
    } else {
        home.join(".local/share/convexinfra")
    })
}

/// The user's home directory.
pub(crate) fn user_home() -> Option<PathBuf> {
    std::env::home_dir().filter(|path| path.is_absolute())
}

/// Where a folder's content comes from: the git remote, without credentials, else the folder itself.
///
/// Read from git's own files: starting git for one line would take longer than a whole plan.
pub(crate) fn origin(folder: &Path) -> String {
    remote(folder).unwrap_or_else(|| {
        let root = folder.canonicalize().unwrap_or_else(|_| folder.to_owned());
        format!("folder {}", root.display())
    })
}

fn remote(folder: &Path) -> Option<String> {
    let folder = folder.canonicalize().ok()?;
    let git = folder.ancestors().map(|folder| folder.join(".git")).find(|path| path.exists())?;
    let directory = if git.is_dir() { git } else { worktree(&git)? };
    let text = fs::read_to_string(directory.join("config")).ok()?;
    let mut in_origin = false;
    for line in text.lines().map(str::trim) {
        if line.starts_with('[') {
            in_origin = line.starts_with("[remote \"origin\"");
        } else if in_origin
            && let Some((key, value)) = line.split_once('=')
            && key.trim() == "url"
        {
            return Some(format!("repository {}", without_credentials(value.trim())));
        }
    }
    None
}

/// A worktree has a file `.git` that points into the repository that it belongs to.
fn worktree(file: &Path) -> Option<PathBuf> {
    let text = fs::read_to_string(file).ok()?;
    let directory = file.parent()?.join(text.strip_prefix("gitdir:")?.trim());
    match fs::read_to_string(directory.join("commondir")) {
        Ok(common) => Some(directory.join(common.trim())),
        Err(_) => Some(directory),
    }
}

/// Remotes can carry a token; nobody needs it to tell two repositories apart.
fn without_credentials(url: &str) -> String {
    match url.split_once("://") {
        Some((scheme, rest)) => {
            let host_starts = rest.split('/').next().and_then(|authority| authority.rfind('@')).map_or(0, |at| at + 1);
            format!("{scheme}://{}", rest.get(host_starts..).unwrap_or_default())
        }
        None => url.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn remotes_lose_their_credentials() {
        assert_eq!(without_credentials("https://me:token@example.com/a/b.git"), "https://example.com/a/b.git");
        assert_eq!(without_credentials("https://example.com/a@b.git"), "https://example.com/a@b.git");
        assert_eq!(without_credentials("git@example.com:a/b.git"), "git@example.com:a/b.git");
    }

    #[test]
    fn a_repository_is_its_remote_and_a_folder_is_itself() {
        let folder = tempfile::tempdir().unwrap();
        let inner = folder.path().join("app");
        fs::create_dir_all(folder.path().join(".git")).unwrap();
        fs::create_dir_all(&inner).unwrap();
        assert!(origin(&inner).starts_with("folder /"));
        fs::write(
            folder.path().join(".git/config"),
            "[core]\n\turl = no\n[remote \"origin\"]\n\turl = https://t@example.com/r.git\n",
        )
        .unwrap();
        assert_eq!(origin(&inner), "repository https://example.com/r.git");
    }
}
