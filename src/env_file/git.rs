//! What git thinks of an env file: whether it is tracked, and whether it is ignored.
//!
//! Must not do: change the repository or run anything of it (hooks, file system monitors); the one file that is
//! written is the `.gitignore` beside the env file.

use std::ffi::OsStr;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use super::error::EnvFileError;
use super::resolved_file::{folder, read_at_most};
use super::write;
use crate::failpoint;
use crate::system::read_regular;

/// Whether git tracks a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TrackedState {
    /// It would be committed.
    Yes,
    /// It is not in the index, or there is no repository.
    No,
    /// There is a repository, but git did not answer: why.
    Unknown(String),
}

/// What was done so that git ignores a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum IgnoreOutcome {
    /// There is no repository.
    NoRepository,
    /// It was ignored before.
    Already,
    /// A line was added to this file.
    Added(PathBuf),
    /// It is not certain that it is ignored: why.
    Unknown(String),
}

/// Variables that would point git at another repository or make it read paths differently.
const MISLEADING: [&str; 14] = [
    "GIT_DIR",
    "GIT_WORK_TREE",
    "GIT_INDEX_FILE",
    "GIT_PREFIX",
    "GIT_COMMON_DIR",
    "GIT_NAMESPACE",
    "GIT_OBJECT_DIRECTORY",
    "GIT_ALTERNATE_OBJECT_DIRECTORIES",
    "GIT_CEILING_DIRECTORIES",
    "GIT_SHALLOW_FILE",
    "GIT_LITERAL_PATHSPECS",
    "GIT_GLOB_PATHSPECS",
    "GIT_NOGLOB_PATHSPECS",
    "GIT_ICASE_PATHSPECS",
];

/// A larger index is left to git itself.
const INDEX_LIMIT: u64 = 4 * 1024 * 1024;

/// The root of the work tree that a folder lies in.
pub(super) fn work_tree(folder: &Path) -> Option<PathBuf> {
    let folder = fs::canonicalize(folder).ok()?;
    folder.ancestors().find(|ancestor| ancestor.join(".git").exists()).map(Path::to_owned)
}

/// Whether git tracks a file, which need not exist.
pub fn tracked(path: &Path) -> TrackedState {
    let folder = folder(path);
    let Some((root, name)) = work_tree(&folder).zip(path.file_name()) else { return TrackedState::No };
    if is_absent_from_index(&root, name) {
        return TrackedState::No;
    }
    match run(&folder, &["ls-files", "--error-unmatch"], name) {
        Ok(0) => TrackedState::Yes,
        Ok(1) => TrackedState::No,
        Ok(_) => TrackedState::Unknown("git does not accept the repository".to_owned()),
        Err(error) => TrackedState::Unknown(missing(&error)),
    }
}

/// Makes sure that git ignores a file, by a line in the `.gitignore` beside it. Ours comes last there, so it wins.
///
/// # Errors
/// [`EnvFileError`] when the `.gitignore` can be neither read nor written.
pub fn ensure_ignored(path: &Path) -> Result<IgnoreOutcome, EnvFileError> {
    let folder = folder(path);
    let Some((_, name)) = work_tree(&folder).zip(path.file_name()) else { return Ok(IgnoreOutcome::NoRepository) };
    let by_git = is_ignored(&folder, name);
    if by_git == Some(true) {
        return Ok(IgnoreOutcome::Already);
    }
    let rules = folder.join(".gitignore");
    let existing = match fs::symlink_metadata(&rules) {
        // Git does not follow such a link, so a line behind it would help nobody.
        Ok(found) if !found.is_file() => {
            return Ok(IgnoreOutcome::Unknown(format!("`{}` is not a regular file", rules.display())));
        }
        Ok(_) => Some(read_at_most(&rules).map_err(|error| EnvFileError::reading(&rules, error))?),
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => return Err(EnvFileError::reading(&rules, error)),
    };
    let Some(name) = name.to_str() else {
        return Ok(IgnoreOutcome::Unknown("its name is not UTF-8".to_owned()));
    };
    let before = existing.as_deref().unwrap_or_default();
    if by_git.is_none() && has_ignore_pattern(before, name) {
        return Ok(IgnoreOutcome::Already);
    }
    write::replace(&rules, &rules, existing.as_deref(), &append_ignore_rule(before, name), write::FileMode::Preserved)?;
    failpoint::hit("env_file.ignored");
    Ok(IgnoreOutcome::Added(rules))
}

/// Whether git ignores a file; none when git does not say.
pub(super) fn is_ignored(folder: &Path, name: &OsStr) -> Option<bool> {
    // With the index, a name such as `env*` would count as not ignored as soon as something like it is tracked.
    match run(folder, &["check-ignore", "-q", "--no-index"], name) {
        Ok(0) => Some(true),
        Ok(1) => Some(false),
        _ => None,
    }
}

fn run(folder: &Path, arguments: &[&str], name: &OsStr) -> io::Result<i32> {
    let mut command = crate::system::command("git");
    for variable in MISLEADING {
        command.env_remove(variable);
    }
    // `check-ignore` knows no path magic, and `./` keeps a leading `:` from being taken for it elsewhere.
    let status = command
        .env("GIT_OPTIONAL_LOCKS", "0")
        .args(["-c", "core.fsmonitor=false", "-C"])
        .arg(folder)
        .args(if arguments.first() == Some(&"ls-files") { &["--literal-pathspecs"][..] } else { &[] })
        .args(arguments)
        .arg("--")
        .arg(Path::new(".").join(name))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()?;
    Ok(status.code().unwrap_or(-1))
}

fn missing(error: &io::Error) -> String {
    if error.kind() == io::ErrorKind::NotFound {
        "git is not installed".to_owned()
    } else {
        format!("git did not start: {error}")
    }
}

/// Whether the index shows, without git, that no file of this name is tracked. A plan should not have to wait for a
/// process in the usual case.
fn is_absent_from_index(root: &Path, name: &OsStr) -> bool {
    let Some(name) = name.to_str().filter(|name| name.is_ascii()) else { return false };
    let Some(index) = index_file(root) else { return false };
    match fs::metadata(&index) {
        Ok(found) if found.len() > INDEX_LIMIT => return false,
        Ok(_) => {}
        // A repository without an index tracks nothing.
        Err(error) => return error.kind() == io::ErrorKind::NotFound,
    }
    let Ok(bytes) = read_regular(&index, INDEX_LIMIT) else { return false };
    // Versions 2 and 3 spell every path out. Split and sparse indexes keep some of them elsewhere.
    let spelled_out = bytes.starts_with(b"DIRC\0\0\0\x02") || bytes.starts_with(b"DIRC\0\0\0\x03");
    let elsewhere = contains(&bytes, b"link\0") || contains(&bytes, b"sdir\0");
    spelled_out && !elsewhere && !contains(&bytes, name.as_bytes())
}

/// The index of a work tree, be `.git` a folder or (in a linked work tree) a file that names one.
fn index_file(root: &Path) -> Option<PathBuf> {
    let git = root.join(".git");
    if git.is_dir() {
        // Without a head this is no repository, and git looks further up.
        return git.join("HEAD").exists().then(|| git.join("index"));
    }
    if !git.is_file() {
        return None;
    }
    let text = String::from_utf8(read_at_most(&git).ok()?).ok()?;
    let folder = root.join(text.strip_prefix("gitdir:")?.trim());
    folder.join("HEAD").exists().then(|| folder.join("index"))
}

fn contains(bytes: &[u8], wanted: &[u8]) -> bool {
    bytes.windows(wanted.len().max(1)).any(|window| window.eq_ignore_ascii_case(wanted))
}

/// The patterns that the Convex client accepts as well, for where there is no git to ask.
fn has_ignore_pattern(rules: &[u8], name: &str) -> bool {
    let patterns = [".env.*", ".env*", "*.local", ".env*.local"];
    let matches = |pattern: &str| match pattern {
        "*.local" => name.ends_with(".local"),
        ".env*.local" => name.starts_with(".env") && name.ends_with(".local"),
        ".env*" => name.starts_with(".env"),
        _ => name.starts_with(".env."),
    };
    String::from_utf8_lossy(rules)
        .lines()
        .map(str::trim)
        .any(|line| line == name || (patterns.contains(&line) && matches(line)))
}

fn append_ignore_rule(rules: &[u8], name: &str) -> Vec<u8> {
    let line_break: &[u8] = if rules.ends_with(b"\r\n") { b"\r\n" } else { b"\n" };
    let mut bytes = rules.to_vec();
    if !bytes.is_empty() && !bytes.ends_with(b"\n") {
        bytes.extend_from_slice(line_break);
    }
    for character in name.chars() {
        if "\\*?[]!# ".contains(character) {
            bytes.push(b'\\');
        }
        bytes.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
    }
    bytes.extend_from_slice(line_break);
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_keep_what_is_there() {
        assert_eq!(append_ignore_rule(b"", ".env.local"), b".env.local\n");
        assert_eq!(append_ignore_rule(b"a", ".env.local"), b"a\n.env.local\n");
        assert_eq!(append_ignore_rule(b"a\r\n", "!x *"), b"a\r\n\\!x\\ \\*\r\n");
    }

    #[test]
    fn patterns_that_count_without_git() {
        assert!(has_ignore_pattern(b"x\r\n*.local\r\n", ".env.local"));
        assert!(has_ignore_pattern(b".env*", ".env.staging"));
        assert!(!has_ignore_pattern(b"*.local\n", ".env.staging"));
        assert!(!has_ignore_pattern(b"# .env.local\n", ".env.local"));
    }
}
