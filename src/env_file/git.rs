//! What git says of a file: whether it is tracked, and whether it is ignored.
//!
//! Nothing of the repository runs (hooks, file system monitors) and nothing of it is changed. The index is scanned by hand
//! before git is started, because a plan should not wait for a process in the usual case.

use std::ffi::OsStr;
use std::io;
use std::path::Path;
use std::process::Stdio;

use super::repository::{VersionControl, folder, git_folder, work_tree};
use crate::system::{FileReadError, read_regular};

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

/// A larger index is left to git itself, in bytes.
const INDEX_LIMIT: u64 = 4 * 1024 * 1024;

/// Tells whether git tracks a file, which need not exist.
pub fn tracked(path: &Path) -> TrackedState {
    let folder = folder(path);
    let tree = work_tree(&folder).filter(|tree| tree.system == VersionControl::Git);
    let Some((tree, name)) = tree.zip(path.file_name()) else { return TrackedState::No };
    if is_absent_from_index(&tree.root, name) {
        return TrackedState::No;
    }
    match run(&folder, &["ls-files", "--error-unmatch"], name) {
        Ok(0) => TrackedState::Yes,
        Ok(1) => TrackedState::No,
        Ok(_) => TrackedState::Unknown("git does not accept the repository".to_owned()),
        Err(error) => TrackedState::Unknown(missing(&error)),
    }
}

/// Tells whether git ignores a file; none when git does not say.
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

/// Whether the index shows, without git, that no file of this name is tracked.
fn is_absent_from_index(root: &Path, name: &OsStr) -> bool {
    let Some(name) = name.to_str().filter(|name| name.is_ascii()) else { return false };
    let Some(index) = git_folder(root).map(|folder| folder.join("index")) else { return false };
    let bytes = match read_regular(&index, INDEX_LIMIT) {
        Ok(bytes) => bytes,
        // A repository without an index tracks nothing.
        Err(error) => return matches!(error, FileReadError::NotFound),
    };
    // Versions 2 and 3 spell every path out. Split and sparse indexes keep some of them elsewhere.
    let spelled_out = bytes.starts_with(b"DIRC\0\0\0\x02") || bytes.starts_with(b"DIRC\0\0\0\x03");
    let elsewhere = contains(&bytes, b"link\0") || contains(&bytes, b"sdir\0");
    spelled_out && !elsewhere && !contains(&bytes, name.as_bytes())
}

fn contains(bytes: &[u8], wanted: &[u8]) -> bool {
    bytes.windows(wanted.len().max(1)).any(|window| window.eq_ignore_ascii_case(wanted))
}
