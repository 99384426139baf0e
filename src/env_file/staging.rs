//! Replacing a file in one step: readers see the old content or the new one, whenever the writer is killed.
//!
//! A new content is written into a folder of its own beside the file. That folder ignores itself (`.gitignore` with `*`), so a
//! run that is killed leaves nothing that `git add` would take, and the next command removes it.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use tempfile::{NamedTempFile, TempDir};

/// What the folders for new contents are called.
const PREFIX: &str = ".convexinfra-";
/// The file in such a folder that is locked for as long as its writer lives.
const RULES: &str = ".gitignore";
/// How long a folder without that file may be one whose writer just began.
const BEGINNING: Duration = Duration::from_secs(60);

/// A content that is not in its place yet. Dropped, it is gone.
#[derive(Debug)]
pub struct StagedFile {
    // The order in which they are dropped: the file, the lock, the folder.
    file: NamedTempFile,
    _lock: File,
    _folder: TempDir,
}

impl StagedFile {
    /// Creates an empty file that only this user can read, below a folder.
    ///
    /// # Errors
    /// What the system says.
    pub fn create(folder: &Path) -> io::Result<Self> {
        let mut attempts = 0;
        loop {
            let staging = tempfile::Builder::new().prefix(PREFIX).rand_bytes(10).tempdir_in(folder)?;
            let mut rules = File::create_new(staging.path().join(RULES))?;
            rules.write_all(b"*\n")?;
            attempts += 1;
            // Between creation and lock, another command may have taken it for an abandoned one.
            if lock(&rules, true) && staging.path().join(RULES).exists() || attempts == 8 {
                let file = NamedTempFile::new_in(staging.path())?;
                return Ok(Self { file, _lock: rules, _folder: staging });
            }
        }
    }

    /// The file, to be written to.
    pub fn as_file_mut(&mut self) -> &mut File {
        self.file.as_file_mut()
    }

    /// Opens the file anew, to be read from its beginning.
    ///
    /// # Errors
    /// What the system says.
    pub fn reopen(&self) -> io::Result<File> {
        self.file.reopen()
    }

    /// Puts the file into its place, in which there may be another one.
    ///
    /// # Errors
    /// What the system says; the place is then as it was.
    pub fn persist(self, path: &Path) -> io::Result<()> {
        self.file.persist(path).map(drop).map_err(|error| error.error)
    }

    /// Puts the file into its place, in which there must be none.
    ///
    /// # Errors
    /// What the system says; the place is then as it was.
    pub fn persist_new(self, path: &Path) -> io::Result<()> {
        self.file.persist_noclobber(path).map(drop).map_err(|error| error.error)
    }
}

/// Removes what killed commands left in a folder: staged contents whose lock is free.
pub fn sweep(folder: &Path) {
    let Ok(entries) = fs::read_dir(folder) else { return };
    for entry in entries.flatten() {
        let name = entry.file_name();
        let Some(name) = name.to_str() else { continue };
        let Ok(kind) = entry.file_type() else { continue };
        if kind.is_dir() && name.starts_with(PREFIX) {
            remove_abandoned(&entry.path());
        } else if kind.is_file() && name.starts_with(".env.convexinfra-") && name.ends_with(".local") {
            // What earlier releases left.
            if File::open(entry.path()).is_ok_and(|file| lock(&file, false)) {
                let _ = fs::remove_file(entry.path());
            }
        }
    }
}

/// Removes one staging folder, and nothing that another program put into it.
fn remove_abandoned(folder: &Path) {
    let rules = folder.join(RULES);
    let abandoned = match File::open(&rules) {
        Ok(file) => lock(&file, false),
        Err(_) => fs::metadata(folder)
            .and_then(|found| found.modified())
            .is_ok_and(|made| made.elapsed().is_ok_and(|age| age > BEGINNING)),
    };
    if !abandoned {
        return;
    }
    let inside: Vec<PathBuf> = fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path()).collect();
    let is_staged =
        |path: &PathBuf| path.file_name().and_then(|name| name.to_str()).is_some_and(|name| name.starts_with(".tmp"));
    inside.iter().filter(|path| is_staged(path)).for_each(|path| drop(fs::remove_file(path)));
    let _ = fs::remove_file(&rules);
    let _ = fs::remove_dir(folder);
}

#[cfg(unix)]
fn lock(file: &File, wait: bool) -> bool {
    use rustix::fs::{FlockOperation, flock};

    let how = if wait { FlockOperation::LockExclusive } else { FlockOperation::NonBlockingLockExclusive };
    // A file system without locks has no second run either that could tell, so waiting counts as having.
    flock(file, how).is_ok() || wait
}

#[cfg(not(unix))]
fn lock(_file: &File, wait: bool) -> bool {
    wait
}
