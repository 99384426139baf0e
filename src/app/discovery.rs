//! Finding things on this machine: the manifest, the home of the control plane, where a repository comes from.

use std::path::{Path, PathBuf};

use crate::api::{MAX_ORIGIN_BYTES, is_single_line, truncate};
use crate::model::Digest;
use crate::system::read_regular_text;

/// How large a file of git's configuration may be in bytes.
const MAX_GIT_BYTES: u64 = 1 << 20;
/// How large a `package.json` may be in bytes.
pub(crate) const MAX_PACKAGE_BYTES: u64 = 4 << 20;

/// The name of a manifest.
pub(crate) const MANIFEST_NAME: &str = "convex.toml";

/// The manifest here or in the nearest folder above.
pub(crate) fn find_manifest(from: &Path) -> Option<PathBuf> {
    from.ancestors().map(|folder| folder.join(MANIFEST_NAME)).find(|path| path.is_file())
}

/// A path below a folder, without a `./` in front when that is where the command runs.
pub(crate) fn join_display(folder: &Path, path: &str) -> PathBuf {
    if folder == Path::new(".") { path.into() } else { folder.join(path) }
}

/// The directory of the embedded control plane when no other is named.
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
    normalize_origin(origin_remote(folder).unwrap_or_else(|| {
        let root = folder.canonicalize().unwrap_or_else(|_| folder.to_owned());
        format!("folder {}", root.display())
    }))
}

/// A place as every control plane takes it. One that has to be changed for that says so with its digest, which tells it
/// from others that look the same now.
fn normalize_origin(place: String) -> String {
    if is_single_line(&place, MAX_ORIGIN_BYTES) {
        return place;
    }
    let digest = format!(" ({})", Digest::of(place.as_bytes()));
    let line: String = place.chars().map(|letter| if letter.is_control() { '\u{fffd}' } else { letter }).collect();
    truncate(&line, MAX_ORIGIN_BYTES - digest.len()) + &digest
}

fn origin_remote(folder: &Path) -> Option<String> {
    let folder = folder.canonicalize().ok()?;
    let git = folder.ancestors().map(|folder| folder.join(".git")).find(|path| path.exists())?;
    let directory = if git.is_dir() { git } else { worktree_git_dir(&git)? };
    let text = read_regular_text(&directory.join("config"), MAX_GIT_BYTES).ok()?;
    let mut in_origin = false;
    for line in text.lines().map(str::trim) {
        if line.starts_with('[') {
            in_origin = line.starts_with("[remote \"origin\"");
        } else if in_origin
            && let Some((key, value)) = line.split_once('=')
            && key.trim() == "url"
        {
            return Some(format!("repository {}", canonical_remote(value.trim())));
        }
    }
    None
}

/// A worktree has a file `.git` that points into the repository that it belongs to.
fn worktree_git_dir(file: &Path) -> Option<PathBuf> {
    let text = read_regular_text(file, MAX_GIT_BYTES).ok()?;
    let directory = file.parent()?.join(text.strip_prefix("gitdir:")?.trim());
    match read_regular_text(&directory.join("commondir"), MAX_GIT_BYTES) {
        Ok(common) => Some(directory.join(common.trim())),
        Err(_) => Some(directory),
    }
}

/// The host and path of a remote, however it is spelled: with or without scheme, credentials, port and `.git`.
fn canonical_remote(url: &str) -> String {
    let (rest, has_scheme) = match url.split_once("://") {
        Some((_, rest)) => (rest, true),
        None => (url, false),
    };
    let authority_ends = rest.find(if has_scheme { ['/', '/'] } else { ['/', ':'] }).unwrap_or(rest.len());
    let (authority, path) = rest.split_at(authority_ends);
    if authority.is_empty() || (!has_scheme && !path.starts_with(':')) {
        // A folder of this machine.
        return url.trim_end_matches('/').to_owned();
    }
    // Remotes can carry a token, which is not needed to tell two repositories apart.
    let host = authority.rsplit('@').next().unwrap_or(authority).split(':').next().unwrap_or_default().to_lowercase();
    let path = path.trim_start_matches([':', '/']).trim_end_matches('/');
    format!("{host}/{}", path.strip_suffix(".git").unwrap_or(path))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn one_repository_is_one_place_however_it_is_spelled() {
        for url in [
            "https://me:token@Example.com/a/b.git",
            "https://example.com/a/b",
            "git@example.com:a/b.git",
            "ssh://git@example.com:22/a/b.git/",
        ] {
            assert_eq!(canonical_remote(url), "example.com/a/b", "{url}");
        }
        assert_eq!(canonical_remote("https://example.com/a@b.git"), "example.com/a@b");
        assert_eq!(canonical_remote("/srv/git/b"), "/srv/git/b");
    }

    #[test]
    fn every_control_plane_takes_a_place_and_no_two_are_one() {
        let long = format!("repository example.com/{}", "é".repeat(MAX_ORIGIN_BYTES));
        for [one, other] in [[long.clone(), format!("{long}x")], ["folder /a\nb".to_owned(), "folder /a\rb".to_owned()]] {
            let [one, other] = [one, other].map(normalize_origin);
            assert!(is_single_line(&one, MAX_ORIGIN_BYTES) && is_single_line(&other, MAX_ORIGIN_BYTES), "{one}");
            assert_ne!(one, other);
        }
        assert_eq!(normalize_origin("folder /a".to_owned()), "folder /a");
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
        assert_eq!(origin(&inner), "repository example.com/r");
    }
}
