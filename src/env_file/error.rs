//! What can be in the way of reading or writing an env file.

use std::io;
use std::path::{Path, PathBuf};

use crate::model::shell_word;

/// Why an env file was not read or not written. Wherever it is returned, the file is as it was before.
#[derive(Debug, thiserror::Error)]
pub enum EnvFileError {
    /// The path is a folder.
    #[error("`{}` is a folder; `env_file` needs the path of a file in it", path.display())]
    Folder {
        /// The env file.
        path: PathBuf,
    },
    /// The path is a pipe, a socket or a device.
    #[error("`{}` is neither a file nor missing, so nothing can be kept in it; choose another path for `env_file`", path.display())]
    NotAFile {
        /// The env file.
        path: PathBuf,
    },
    /// A symbolic link to nothing.
    #[error("`{}` is a symbolic link to something that does not exist; create its target or remove the link", path.display())]
    DanglingLink {
        /// The env file.
        path: PathBuf,
    },
    /// A symbolic link that leads to itself.
    #[error("`{}` is a symbolic link that leads back to itself; remove the link", path.display())]
    LoopingLink {
        /// The env file.
        path: PathBuf,
    },
    /// A symbolic link out of the repository.
    #[error(
        "`{}` is a symbolic link to `{}`, outside of this repository, where an admin key is not expected; \
         set `env_file` to the file itself if it belongs there", path.display(), target.display()
    )]
    LinkLeaves {
        /// The env file.
        path: PathBuf,
        /// Where the link leads.
        target: PathBuf,
    },
    /// A path out of the repository.
    #[error(
        "`{}` lies outside of `{}`, and a manifest writes env files into its own repository only; name a path in it, or write the \
         file once with\n    convexinfra env NAME --write PATH", path.display(), root.display()
    )]
    OutsideRepository {
        /// The env file.
        path: PathBuf,
        /// The root of the repository, or the folder of the manifest.
        root: PathBuf,
    },
    /// A path among the data of a version control system.
    #[error("`{}` is among the data of the repository itself, which an env file would damage; choose another path", path.display())]
    RepositoryData {
        /// The env file.
        path: PathBuf,
    },
    /// The folder of the file does not exist.
    #[error("the folder `{}` does not exist; create it, or correct `env_file`", folder.display())]
    FolderMissing {
        /// The folder.
        folder: PathBuf,
    },
    /// The folder cannot be written to.
    #[error("the folder `{}` is read-only for this user, and the env file is replaced by a new one there; allow writing to it", folder.display())]
    FolderReadOnly {
        /// The folder.
        folder: PathBuf,
    },
    /// The file cannot be written to.
    #[error("`{}` is read-only; allow writing to it, or choose another `env_file`", path.display())]
    ReadOnly {
        /// The env file.
        path: PathBuf,
    },
    /// The file is tracked by git.
    #[error(
        "`{}` is tracked by git, so the admin key would be committed; untrack it and keep it ignored:\n\n  git rm --cached -- {}",
        path.display(), shell_word(&path.display().to_string())
    )]
    TrackedByGit {
        /// The env file.
        path: PathBuf,
    },
    /// The file is larger than an env file can be.
    #[error("`{}` has {size} bytes, and an env file has at most {limit}; choose another path for `env_file`", path.display())]
    TooLarge {
        /// The env file.
        path: PathBuf,
        /// Its size.
        size: u64,
        /// The limit.
        limit: u64,
    },
    /// The file holds something other than lines of text.
    #[error("`{}` is not text in UTF-8 (it may be UTF-16), so dotenv cannot read what is added to it; save it as UTF-8", path.display())]
    NotText {
        /// The env file.
        path: PathBuf,
    },
    /// The file changed between reading and writing.
    #[error("`{}` was changed by another program while it was being rewritten; nothing was written, run again", path.display())]
    ChangedMeanwhile {
        /// The env file.
        path: PathBuf,
    },
    /// No space left.
    #[error("no space is left for `{}`; the file is as it was, free some space and run again", path.display())]
    DiskFull {
        /// The env file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Reading failed.
    #[error("cannot read `{}`", path.display())]
    NotRead {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Writing failed.
    #[error("cannot write `{}`; it is as it was", path.display())]
    NotWritten {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A value that a dotenv file would not carry unchanged.
    #[error("the value for `{name}` holds blanks, quotes or other characters that dotenv and shells would read differently")]
    UnwritableValue {
        /// The variable.
        name: String,
    },
}

impl EnvFileError {
    /// The stable name of this situation.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Folder { .. } => "env_file.folder",
            Self::NotAFile { .. } => "env_file.not_a_file",
            Self::DanglingLink { .. } => "env_file.dangling_link",
            Self::LoopingLink { .. } => "env_file.looping_link",
            Self::LinkLeaves { .. } => "env_file.link_leaves_repository",
            Self::OutsideRepository { .. } => "env_file.outside_repository",
            Self::RepositoryData { .. } => "env_file.repository_data",
            Self::FolderMissing { .. } => "env_file.folder_missing",
            Self::FolderReadOnly { .. } => "env_file.folder_read_only",
            Self::ReadOnly { .. } => "env_file.read_only",
            Self::TrackedByGit { .. } => "env_file.tracked_by_git",
            Self::TooLarge { .. } => "env_file.too_large",
            Self::NotText { .. } => "env_file.not_text",
            Self::ChangedMeanwhile { .. } => "env_file.changed_meanwhile",
            Self::DiskFull { .. } => "env_file.disk_full",
            Self::NotRead { .. } => "env_file.not_read",
            Self::NotWritten { .. } => "env_file.not_written",
            Self::UnwritableValue { .. } => "env_file.unwritable_value",
        }
    }

    pub(super) fn reading(path: &Path, source: io::Error) -> Self {
        Self::NotRead { path: path.to_owned(), source }
    }

    pub(super) fn writing(path: &Path, source: io::Error) -> Self {
        let path = path.to_owned();
        match source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Self::DiskFull { path, source },
            io::ErrorKind::ReadOnlyFilesystem | io::ErrorKind::PermissionDenied => {
                Self::FolderReadOnly { folder: path.parent().map(Path::to_owned).unwrap_or_default() }
            }
            _ => Self::NotWritten { path, source },
        }
    }
}
