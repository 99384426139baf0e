//! Which repository a folder belongs to, read from the file system alone.
//!
//! Written by hand: `gix-discover` with `gix-config` costs 24 crates, 50 s of a release build and 0.5 MB of the binary, starts
//! git for the path of its own configuration, and knows neither Jujutsu nor Sapling nor Mercurial.

use std::fs;
use std::path::{Component, Path, PathBuf};

use super::bounded::read_text;

/// The folders in which version control systems keep their own data.
const METADATA: [&str; 8] = [".git", ".jj", ".sl", ".hg", ".svn", ".bzr", ".pijul", "_darcs"];
/// What marks the root of a work tree of another system, and its name.
const OTHERS: [(&str, &str); 6] = [
    (".svn", "Subversion"),
    (".bzr", "Breezy"),
    (".pijul", "Pijul"),
    ("_darcs", "Darcs"),
    (".fslckout", "Fossil"),
    ("_FOSSIL_", "Fossil"),
];

/// A system that may commit what lies in a work tree.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum VersionControl {
    /// Git, also where another system works on the same folder.
    Git,
    /// Jujutsu or Sapling, which read `.gitignore` as git does.
    ReadsGitignore,
    /// Mercurial, which reads the `.hgignore` of its root.
    Mercurial,
    /// Another system, whose rules are neither read nor written.
    Other(&'static str),
}

/// A work tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct WorkTree {
    /// Its root, without links.
    pub(super) root: PathBuf,
    pub(super) system: VersionControl,
}

/// Returns the folder of a path; `.` for a bare name.
pub(super) fn folder(path: &Path) -> PathBuf {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).map_or_else(|| PathBuf::from("."), Path::to_owned)
}

/// Returns the work tree that a folder lies in: the nearest one.
pub(super) fn work_tree(folder: &Path) -> Option<WorkTree> {
    let folder = fs::canonicalize(folder).ok()?;
    folder.ancestors().find_map(|root| {
        let has = |name: &str| root.join(name).exists();
        let system = if has(".git") {
            VersionControl::Git
        } else if has(".jj") || has(".sl") {
            VersionControl::ReadsGitignore
        } else if has(".hg") {
            VersionControl::Mercurial
        } else {
            let (_, name) = OTHERS.iter().find(|(mark, _)| has(mark))?;
            VersionControl::Other(name)
        };
        Some(WorkTree { root: root.to_owned(), system })
    })
}

/// Returns git's own folder of a work tree, be `.git` a folder or (in a linked work tree) a file that names one.
pub(super) fn git_folder(root: &Path) -> Option<PathBuf> {
    let git = root.join(".git");
    let folder = if git.is_dir() { git } else { root.join(read_text(&git)?.strip_prefix("gitdir:")?.trim()) };
    // Without a head this is no repository, and git looks further up.
    folder.join("HEAD").exists().then_some(folder)
}

/// Returns the folder that all work trees of one repository share.
pub fn common_folder(root: &Path) -> Option<PathBuf> {
    let folder = git_folder(root)?;
    let common = match read_text(&folder.join("commondir")) {
        Some(common) => folder.join(common.trim()),
        None => folder,
    };
    fs::canonicalize(common).ok()
}

/// Returns the main work tree of the repository that a linked work tree belongs to, or the repository itself where it is a
/// bare one; none for what is no linked work tree.
pub fn main_folder(root: &Path) -> Option<PathBuf> {
    let common = common_folder(root)?;
    if fs::canonicalize(git_folder(root)?).ok()? == common {
        return None;
    }
    if common.file_name().is_some_and(|name| name == ".git") { common.parent().map(Path::to_owned) } else { Some(common) }
}

/// Where env files of one manifest may lie: in its repository, without one below its folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Boundary {
    root: PathBuf,
    common: Option<PathBuf>,
}

impl Boundary {
    /// Returns the boundary of a manifest that lies in this folder.
    pub fn of(folder: &Path) -> Self {
        let root = match work_tree(folder) {
            Some(tree) => tree.root,
            None => fs::canonicalize(folder).unwrap_or_else(|_| folder.to_owned()),
        };
        let common = common_folder(&root);
        Self { root, common }
    }

    /// Returns the root of the repository, or the manifest's folder.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Whether a path without links lies in this checkout, and not in another work tree, be it one below this root.
    pub fn is_in_checkout(&self, real: &Path) -> bool {
        match real.parent().and_then(work_tree) {
            Some(tree) => tree.root == self.root,
            None => real.starts_with(&self.root),
        }
    }

    /// Whether a path without links is inside: below the root, or in another work tree of the same repository.
    pub fn contains(&self, real: &Path) -> bool {
        real.starts_with(&self.root)
            || self.common.is_some()
                && real.parent().and_then(work_tree).and_then(|tree| common_folder(&tree.root)) == self.common
    }
}

/// Whether a folder below a root is git's own or lies in one, under any name: a separate one, or a bare repository.
pub(super) fn is_inside_git_folder(folder: &Path, root: &Path) -> bool {
    let is_git =
        |folder: &Path| folder.join("HEAD").is_file() && ["objects", "refs"].iter().all(|part| folder.join(part).is_dir());
    folder.ancestors().take_while(|folder| folder.starts_with(root)).any(is_git)
}

/// Whether a path leads into a folder in which a version control system keeps its own data.
pub(super) fn is_metadata(path: &Path) -> bool {
    path.components().any(|part| match part {
        Component::Normal(name) => METADATA.iter().any(|folder| name.eq_ignore_ascii_case(folder)),
        _ => false,
    })
}
