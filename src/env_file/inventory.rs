//! The env files that were written, remembered beside the control plane's own files, so that one is still known when the block
//! of its backend is gone from the manifest.
//!
//! It is a memory of this machine: without it nothing breaks, and old files are not found.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::bounded::read_text;
use super::staging::{StagedFile, sweep};
use crate::model::{BackendName, Digest, ProjectName, RequestedBy};

/// The folder of the home that the memory is in.
const FOLDER: &str = "env-files";
/// The format of the file.
const FORMAT: &str = "convexinfra.env_files/1";
/// How many files of one project are remembered; hostile programs may write many.
const MOST: usize = 10_000;

/// An env file that has a block.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WrittenFile {
    /// Whose block it is.
    pub backend: BackendName,
    /// Who asked for it.
    pub requested_by: RequestedBy,
    /// The URLs that were written.
    pub urls: Vec<String>,
}

/// The env files of one project of one control plane, by absolute path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Inventory {
    path: PathBuf,
    files: BTreeMap<PathBuf, WrittenFile>,
}

#[derive(Serialize, Deserialize)]
struct Document {
    format: String,
    project: ProjectName,
    control_plane: String,
    files: BTreeMap<PathBuf, WrittenFile>,
}

impl Inventory {
    /// Loads what is remembered below a folder; nothing where that cannot be read.
    pub fn load(home: &Path, control_plane: &str, project: &ProjectName) -> Self {
        let digest = Digest::of(control_plane.as_bytes()).to_string();
        let digest = digest.rsplit(':').next().unwrap_or_default();
        let name = format!("{project}-{}.json", digest.get(..12).unwrap_or_default());
        let path = home.join(FOLDER).join(name);
        let document = read_text(&path).and_then(|text| serde_json::from_str::<Document>(&text).ok());
        let own = document
            .filter(|found| found.format == FORMAT && found.project == *project && found.control_plane == control_plane);
        Self { path, files: own.map(|found| found.files).unwrap_or_default() }
    }

    /// The remembered files.
    pub fn files(&self) -> impl Iterator<Item = (&Path, &WrittenFile)> {
        self.files.iter().map(|(path, file)| (path.as_path(), file))
    }

    /// What is remembered of one file.
    pub fn get(&self, path: &Path) -> Option<&WrittenFile> {
        self.files.get(path)
    }

    /// Remembers a file that was written, beside what other commands remembered meanwhile.
    ///
    /// # Errors
    /// What the system says.
    pub fn remember(home: &Path, control_plane: &str, project: &ProjectName, path: &Path, file: WrittenFile) -> io::Result<()> {
        Self::change(home, control_plane, project, |files| {
            let before = files.get(path);
            // A file of the manifest stays one when the command writes it as well.
            let requested_by = match before {
                Some(before) if before.backend == file.backend && before.requested_by == RequestedBy::Manifest => {
                    RequestedBy::Manifest
                }
                _ => file.requested_by,
            };
            let file = WrittenFile { requested_by, ..file };
            if before == Some(&file) || (before.is_none() && files.len() >= MOST) {
                return false;
            }
            files.insert(path.to_owned(), file);
            true
        })
    }

    /// Forgets a file whose block was taken out.
    ///
    /// # Errors
    /// What the system says.
    pub fn forget(home: &Path, control_plane: &str, project: &ProjectName, path: &Path) -> io::Result<()> {
        Self::change(home, control_plane, project, |files| files.remove(path).is_some())
    }

    /// Forgets the files for which `is_written` says no, and removes what killed commands left beside the memory.
    ///
    /// # Errors
    /// What the system says.
    pub fn prune(
        home: &Path,
        control_plane: &str,
        project: &ProjectName,
        is_written: impl Fn(&Path, &WrittenFile) -> bool,
    ) -> io::Result<()> {
        let folder = home.join(FOLDER);
        if !folder.is_dir() {
            return Ok(());
        }
        sweep(&folder);
        Self::change(home, control_plane, project, |files| {
            let before = files.len();
            files.retain(|path, file| is_written(path, file));
            files.len() != before
        })?;
        // A command that was killed right before this; other projects may have files there.
        let _ = fs::remove_dir(&folder);
        Ok(())
    }

    fn change(
        home: &Path,
        control_plane: &str,
        project: &ProjectName,
        change: impl FnOnce(&mut BTreeMap<PathBuf, WrittenFile>) -> bool,
    ) -> io::Result<()> {
        let folder = home.join(FOLDER);
        // Steps of one apply end at the same time, and other commands may run beside it.
        let _lock = lock_folder(home, &folder)?;
        let mut now = Self::load(home, control_plane, project);
        if !change(&mut now.files) {
            return Ok(());
        }
        if now.files.is_empty() {
            fs::remove_file(&now.path)?;
            // Other projects may have files there.
            let _ = fs::remove_dir(&folder);
            return Ok(());
        }
        let document = Document {
            format: FORMAT.to_owned(),
            project: project.clone(),
            control_plane: control_plane.to_owned(),
            files: now.files,
        };
        let mut staged = StagedFile::create(&folder)?;
        staged.as_file_mut().write_all(serde_json::to_string_pretty(&document)?.as_bytes())?;
        staged.persist(&now.path)
    }
}

/// Locks the folder of the memory, and makes it where it is missing. The last file that goes takes the folder with it, so
/// that what was waited for may be one that is gone.
fn lock_folder(home: &Path, folder: &Path) -> io::Result<fs::File> {
    loop {
        // Nothing above the home is made: it may be named by mistake, or on a disk that is not there now.
        for path in [home, folder] {
            match create_private(path) {
                Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
                _ => {}
            }
        }
        let lock = match fs::File::open(folder) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            opened => opened?,
        };
        lock.lock()?;
        if is_same(&lock.metadata()?, folder) {
            return Ok(lock);
        }
    }
}

fn create_private(path: &Path) -> io::Result<()> {
    let mut builder = fs::DirBuilder::new();
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(path)
}

#[cfg(unix)]
fn is_same(locked: &fs::Metadata, folder: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    fs::metadata(folder).is_ok_and(|now| (now.dev(), now.ino()) == (locked.dev(), locked.ino()))
}

#[cfg(not(unix))]
fn is_same(_: &fs::Metadata, folder: &Path) -> bool {
    folder.is_dir()
}
