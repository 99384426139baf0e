//! Finding things on this machine: the manifest, the home of the control plane, where a repository comes from.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use crate::api::{MAX_ORIGIN_BYTES, is_single_line, truncate};
use crate::env_file::{Boundary, common_folder, main_folder};
use crate::model::{Digest, REMOTE_ORIGIN};
use crate::system::read_regular_text;

/// How large a file of git's configuration may be in bytes.
const MAX_GIT_BYTES: u64 = 1 << 20;

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

/// Where a folder's content comes from: the git remote, without credentials, else the folder itself, which for a linked work
/// tree is that of the main one.
///
/// Read from git's own files by hand: starting git for one line would take longer than a whole plan, and `gix-config` costs more of
/// a build than it saves (see `env_file/repository.rs`). What only git reads right is asked of git.
pub(crate) fn origin(folder: &Path) -> String {
    normalize_origin(origin_remote(folder).unwrap_or_else(|| {
        let folder = folder.canonicalize().unwrap_or_else(|_| folder.to_owned());
        let root = Boundary::of(&folder).root().to_owned();
        let main = main_folder(&root).zip(folder.strip_prefix(&root).ok());
        let main = main.map(|(main, below)| if below.as_os_str().is_empty() { main } else { main.join(below) });
        format!("folder {}", main.unwrap_or(folder).display())
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

/// The section and the key in the configuration of a clone that say whose work a fork is. No commit carries them, so neither a
/// manifest nor a copy of a repository claims another one's projects.
const STATED: (&str, &str) = ("[convexinfra]", "repository");
const STATED_QUESTION: [&str; 4] = ["config", "--local", "--get", "convexinfra.repository"];

fn origin_remote(folder: &Path) -> Option<String> {
    let root = Boundary::of(folder).root().to_owned();
    let config =
        read_regular_text(&common_folder(&root).unwrap_or_else(|| root.join(".git")).join("config"), MAX_GIT_BYTES).ok()?;
    let stated = if in_section(&config, STATED.0, STATED.1).is_some() { ask_git(&root, &STATED_QUESTION) } else { None };
    let url = stated.or_else(|| match needs_git(&config) {
        true => ask_git(&root, &["remote", "get-url", "origin"]),
        false => configured_remote(&config),
    });
    url.map(|url| format!("{REMOTE_ORIGIN}{}", canonical_remote(&url)))
}

/// Reads the URL of `origin` from a configuration of git.
fn configured_remote(config: &str) -> Option<String> {
    in_section(config, "[remote \"origin\"", "url")
}

/// Reads a value from the section of a configuration of git that begins with this text.
fn in_section(config: &str, section: &str, name: &str) -> Option<String> {
    let mut is_inside = false;
    for line in config.lines().map(str::trim) {
        if line.starts_with('[') {
            is_inside = line.get(..section.len()).is_some_and(|begin| begin.eq_ignore_ascii_case(section));
        } else if is_inside
            && let Some((key, value)) = line.split_once('=')
            && key.trim().eq_ignore_ascii_case(name)
        {
            return Some(value.trim().to_owned());
        }
    }
    None
}

/// Whether a configuration has what only git reads right: includes, quotes, escapes, comments behind a value, or a remote that
/// is short for another one (`url.….insteadOf`, which may stand in the user's own configuration).
fn needs_git(config: &str) -> bool {
    let lower = config.to_ascii_lowercase();
    let value = configured_remote(config).unwrap_or_default();
    let short = value.split_once(':').is_some_and(|(host, path)| !host.contains(['@', '.', '/']) && !path.starts_with("//"));
    lower.contains("[include") || lower.contains("insteadof") || value.contains(['"', '\\', '#', ';']) || short
}

/// Asks git for one value; none where it does not say.
fn ask_git(root: &Path, question: &[&str]) -> Option<String> {
    let mut command = crate::system::command("git");
    for variable in ["GIT_DIR", "GIT_WORK_TREE", "GIT_COMMON_DIR", "GIT_CONFIG"] {
        command.env_remove(variable);
    }
    let output = command.arg("-C").arg(root).args(question).stdin(Stdio::null()).output().ok()?;
    let url = String::from_utf8(output.stdout).ok().filter(|_| output.status.success())?;
    Some(url.trim().to_owned()).filter(|url| !url.is_empty())
}

/// Returns the host and path of a remote without scheme, credentials, port and `.git`. By hand and not by `url`: remotes may
/// be in the form of scp, and one that was recorded has to stay the same text.
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

    #[test]
    fn the_origin_is_read_by_git_where_its_config_needs_it() {
        let folder = tempfile::tempdir().unwrap();
        let git = |arguments: &[&str]| {
            let mut command = crate::system::command("git");
            command.arg("-C").arg(folder.path()).args(arguments).env("GIT_CONFIG_GLOBAL", "/dev/null");
            assert!(command.status().unwrap().success(), "{arguments:?}");
        };
        git(&["init", "-q"]);
        git(&["remote", "add", "origin", "gh:acme/shop"]);
        git(&["config", "url.git@github.com:.insteadOf", "gh:"]);
        assert_eq!(origin(folder.path()), "repository github.com/acme/shop");
        // The clone of a fork says whose work it is.
        git(&["config", "convexinfra.repository", "https://github.com/acme/website.git"]);
        assert_eq!(origin(folder.path()), "repository github.com/acme/website");
        git(&["config", "--unset", "convexinfra.repository"]);
        assert_eq!(origin(folder.path()), "repository github.com/acme/shop");
        let config = "[remote \"origin\"]\n\tURL = \"https://example.com/a b.git\" # why\n";
        fs::write(folder.path().join(".git/config"), format!("[core]\n\trepositoryformatversion = 0\n{config}")).unwrap();
        assert_eq!(origin(folder.path()), "repository example.com/a b");
        for plain in ["https://example.com/r.git", "git@example.com:a/b.git", "ssh://git@example.com:22/a", "/srv/git/b"] {
            assert!(!needs_git(&format!("[remote \"origin\"]\n\turl = {plain}\n")), "{plain}");
        }
    }
}
