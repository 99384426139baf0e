//! The directory that a host lives in: the store, the master key, the backends' own directories.

use std::collections::BTreeSet;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

use crate::api::ControlError;
use crate::authority::MasterKey;
use crate::failpoint;
use crate::model::{Diagnostic, Secret, shell_word};

/// What a master key is called until it is written to the end.
pub(super) const TEMPORARY_KEY_PREFIX: &str = ".master.key.";

/// The directory that a host lives in.
pub struct Home {
    directory: PathBuf,
    master_key: Option<Secret>,
}

/// Says why the directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum HomeError {
    /// It could not be made or read.
    #[error("`{path}` could not be {verb}: {source}")]
    Directory {
        /// The path.
        path: String,
        /// `created`, `read`, …
        verb: &'static str,
        /// Why.
        source: std::io::Error,
    },
    /// The master key is not 64 hex digits.
    #[error("{place} is not a master key: it should be 64 hex digits")]
    KeyShape {
        /// The variable or the file.
        place: String,
        /// Whether secrets are sealed already, which another key would not open.
        is_used: bool,
    },
    /// It belongs to another user, or others may read it: what is said, and what to do.
    #[error("{0}")]
    Exposed(String, String),
    /// There is a store, but not the key that it was made with.
    #[error("the store `{store}` is there, but its master key `{key}` is not")]
    KeyMissing {
        /// The store.
        store: String,
        /// Where the key should be.
        key: String,
    },
}

impl From<HomeError> for ControlError {
    fn from(error: HomeError) -> Self {
        let message = error.to_string();
        let finding = match &error {
            HomeError::Directory { source, .. } if source.kind() == std::io::ErrorKind::StorageFull => {
                Diagnostic::new("home.full", message).with_help("make room and run the same command again")
            }
            HomeError::Directory { .. } => Diagnostic::new("home.directory", message)
                .with_help("check who owns it, or choose another directory with `CONVEXINFRA_HOME`"),
            HomeError::Exposed(_, help) => Diagnostic::new("home.exposed", message).with_help(help.clone()),
            HomeError::KeyShape { is_used: true, .. } => Diagnostic::new("home.master_key_shape", message)
                .with_help("put back the key that the store was made with: another one opens none of its secrets"),
            HomeError::KeyShape { .. } => {
                Diagnostic::new("home.master_key_shape", message).with_help("make one with\n    openssl rand -hex 32")
            }
            HomeError::KeyMissing { .. } => Diagnostic::new("home.master_key_missing", message).with_help(
                "put the key back, or set `CONVEXINFRA_MASTER_KEY`; without it the secrets in the store cannot be read",
            ),
        };
        Self::Record(finding)
    }
}

impl Home {
    /// Returns a home in this directory, with a master key from outside if there is one.
    pub fn new(directory: PathBuf, master_key: Option<Secret>) -> Self {
        Self { directory, master_key }
    }

    /// Returns the store's file.
    pub fn store(&self) -> PathBuf {
        self.directory.join("control-plane.sqlite3")
    }

    /// Returns how many bytes the store takes, with what is written but not yet in its place.
    pub(super) fn store_bytes(&self) -> u64 {
        let store = self.store();
        let log = store.with_extension("sqlite3-wal");
        [store, log].iter().filter_map(|path| fs::metadata(path).ok()).map(|metadata| metadata.len()).sum()
    }

    /// Returns the folder of the snapshots of all projects.
    pub(super) fn snapshots(&self) -> PathBuf {
        self.directory.join("snapshots")
    }

    /// Returns the folder of the databases that move out of volumes and into them.
    pub(super) fn moves(&self) -> PathBuf {
        self.directory.join("moves")
    }

    /// Returns the file whose lock says who writes here.
    pub(super) fn lock_path(&self) -> PathBuf {
        self.directory.join("occupied")
    }

    /// Keeps room for a removal on a disk that is full by then.
    pub(super) fn keep_reserve(&self) {
        super::reserve::keep(&self.directory);
    }

    /// Returns whether there is no room but what a removal needs.
    pub(super) fn lacks_reserve(&self) -> bool {
        super::reserve::is_missing(&self.directory)
    }

    /// Gives a removal the room that is kept for it, where the disk has none left.
    pub fn release_reserve(&self) {
        super::reserve::release(&self.directory);
    }

    /// Makes the directory, for its owner only.
    pub fn create(&self) -> Result<(), HomeError> {
        let failed = |source| HomeError::Directory { path: self.directory.display().to_string(), verb: "created", source };
        if !self.directory.is_dir() {
            let mut builder = fs::DirBuilder::new();
            builder.recursive(true);
            #[cfg(unix)]
            std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
            builder.create(&self.directory).map_err(failed)?;
            failpoint::hit("home.created");
        }
        self.check_owner()?;
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            let mode = fs::metadata(&self.directory).map_err(failed)?.permissions().mode();
            // A directory with other content keeps its mode; our files in it are private by themselves.
            let empty = || fs::read_dir(&self.directory).is_ok_and(|mut entries| entries.next().is_none());
            if mode & 0o077 != 0 && (self.store().exists() || self.key_file().exists() || empty()) {
                fs::set_permissions(&self.directory, fs::Permissions::from_mode(0o700)).map_err(failed)?;
            } else if mode & 0o022 != 0 && mode & 0o1000 == 0 {
                // A user who may write in a directory may put other files into the place of ours.
                let shown = self.directory.display();
                let message = format!("other users may write in `{shown}` (mode {:04o})", mode & 0o7777);
                let help = format!("take that from them with\n    chmod go-w {}", shell_word(&shown.to_string()));
                return Err(HomeError::Exposed(message, help));
            }
        }
        Ok(())
    }

    pub(super) fn key_missing(&self) -> HomeError {
        HomeError::KeyMissing { store: self.store().display().to_string(), key: self.key_file().display().to_string() }
    }

    /// Returns whether the master key comes from outside of the directory.
    pub(super) fn has_outside_key(&self) -> bool {
        self.master_key.is_some()
    }

    /// Returns the file of the master key.
    pub(super) fn key_file(&self) -> PathBuf {
        self.directory.join("master.key")
    }

    /// Returns the directory.
    pub(super) fn directory(&self) -> &Path {
        &self.directory
    }

    /// Returns the master key, if there is one already.
    pub fn existing_master_key(&self) -> Result<Option<MasterKey>, HomeError> {
        if let Some(text) = &self.master_key {
            let place = "`CONVEXINFRA_MASTER_KEY`".to_owned();
            return MasterKey::parse(text.expose()).map(Some).ok_or_else(|| self.key_shape(place));
        }
        if let Some(key) = self.rotated_key()? {
            return Ok(Some(key));
        }
        self.read_key(&self.key_file())
    }

    /// Reads a file with a master key; none where there is none.
    pub(super) fn read_key(&self, path: &Path) -> Result<Option<MasterKey>, HomeError> {
        self.check_key_file(path)?;
        match crate::system::read_regular_text(path, 4096).map(Zeroizing::new).map_err(std::io::Error::from) {
            Ok(text) => MasterKey::parse(&text).map(Some).ok_or_else(|| self.key_shape(format!("`{}`", path.display()))),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) if error.kind() == std::io::ErrorKind::InvalidData => {
                Err(self.key_shape(format!("`{}`", path.display())))
            }
            Err(source) => Err(HomeError::Directory { path: path.display().to_string(), verb: "read", source }),
        }
    }

    fn key_shape(&self, place: String) -> HomeError {
        HomeError::KeyShape { place, is_used: self.store().exists() }
    }

    /// Refuses a master key that another user owns or may read, as ssh does with private keys.
    fn check_key_file(&self, path: &Path) -> Result<(), HomeError> {
        #[cfg(unix)]
        {
            use std::os::unix::fs::MetadataExt;
            let Ok(metadata) = fs::metadata(path) else { return Ok(()) };
            let shown = path.display();
            if metadata.uid() != rustix::process::geteuid().as_raw() {
                let message = format!("the master key `{shown}` belongs to another user (uid {})", metadata.uid());
                let help =
                    format!("if it is yours, take it over with\n    chown \"$(id -u)\" {}", shell_word(&shown.to_string()));
                return Err(HomeError::Exposed(message, help));
            }
            if metadata.mode() & 0o077 != 0 {
                let mode = metadata.mode() & 0o777;
                let message = format!(
                    "the master key `{shown}` has mode {mode:04o}, so other users can open the secrets of every backend"
                );
                let help = format!("close it with\n    chmod 600 {}", shell_word(&shown.to_string()));
                return Err(HomeError::Exposed(message, help));
            }
        }
        Ok(())
    }

    /// Refuses a directory that belongs to another user: what lies in it could be replaced at any time.
    fn check_owner(&self) -> Result<(), HomeError> {
        #[cfg(unix)]
        {
            use std::os::unix::fs::MetadataExt;
            let failed = |source| HomeError::Directory { path: self.directory.display().to_string(), verb: "read", source };
            let me = rustix::process::geteuid().as_raw();
            let link = fs::symlink_metadata(&self.directory).map_err(failed)?.uid();
            let target = fs::metadata(&self.directory).map_err(failed)?.uid();
            // A link that another user made leads wherever they want, at any time.
            if target != me || (link != me && link != 0) {
                let uid = if target == me { link } else { target };
                let message = format!("`{}` belongs to another user (uid {uid})", self.directory.display());
                let help = "choose a directory of your own with `CONVEXINFRA_HOME`".to_owned();
                return Err(HomeError::Exposed(message, help));
            }
        }
        Ok(())
    }

    /// Returns the directories of backends that hold data and whose ids a store does not know.
    pub(super) fn unknown_backends(
        &self,
        known: impl FnOnce() -> Result<BTreeSet<String>, ControlError>,
    ) -> Result<Vec<PathBuf>, ControlError> {
        let holds_data = |path: &Path| path.join("data").is_dir();
        let found: Vec<(String, PathBuf)> = match fs::read_dir(self.directory.join("backends")) {
            Ok(entries) => entries
                .filter_map(Result::ok)
                .filter_map(|entry| Some((entry.file_name().into_string().ok()?, entry.path())))
                // Ids have letters and digits only; other names are of what is removed, or moved away.
                .filter(|(name, path)| name.bytes().all(|byte| byte.is_ascii_alphanumeric()) && holds_data(path))
                .collect(),
            Err(_) => Vec::new(),
        };
        if found.is_empty() {
            return Ok(Vec::new());
        }
        let known = known()?;
        // One that is being removed loses its directory before its row, so what is still there is looked at again.
        let unknown = found.into_iter().filter(|(name, path)| !known.contains(name) && holds_data(path));
        Ok(unknown.map(|(_, path)| path).collect())
    }

    /// Returns that the store does not know the backends beside it: it was lost, or put back from an older copy.
    pub(super) fn store_lost(&self, unknown: &[PathBuf]) -> ControlError {
        let store = self.store();
        let first = unknown.first().map(|path| path.display().to_string()).unwrap_or_default();
        let more = if unknown.len() > 1 { format!(" and of {} more", unknown.len() - 1) } else { String::new() };
        let message = format!(
            "the store `{}` does not know the backend whose data is in `{first}`{more}: it was lost, emptied, or put back from \
             an older copy",
            store.display()
        );
        let help = format!(
            "put the store back from a backup, together with its `-wal` file; or make the records of a project's backends \
             anew, with other keys, in its repository with\n    convexinfra recover\nto go on without those backends, move \
             their directories away, such as\n    mv {} {}",
            shell_word(&first),
            shell_word(&format!("{first}.lost"))
        );
        ControlError::Record(Diagnostic::new("home.store_lost", message).with_help(help))
    }

    /// Returns the master key, made now where there is none. Of several that make one at once, one wins and all use it.
    pub fn master_key(&self, store_exists: bool) -> Result<MasterKey, HomeError> {
        if let Some(key) = self.existing_master_key()? {
            return Ok(key);
        }
        let path = self.key_file();
        if store_exists && fs::metadata(self.store()).is_ok_and(|metadata| metadata.len() > 0) {
            // Another process may have made both a moment ago; the key always comes first.
            return self.existing_master_key()?.ok_or_else(|| self.key_missing());
        }
        let failed = |source| HomeError::Directory { path: path.display().to_string(), verb: "written", source };
        let mut bytes = Zeroizing::new([0u8; 32]);
        getrandom::fill(bytes.as_mut_slice()).map_err(|error| failed(std::io::Error::other(error.to_string())))?;
        let key = MasterKey::from_zeroizing(bytes);
        let _turn = self.lock_directory().map_err(failed)?;
        self.remove_unplaced_keys().map_err(failed)?;
        self.write_key(&path, &key).map_err(failed)?;
        self.existing_master_key()?.ok_or_else(|| self.key_missing())
    }

    /// Held while a key is made, so that what others are about to place is not taken for a leftover.
    #[cfg(unix)]
    pub(super) fn lock_directory(&self) -> std::io::Result<fs::File> {
        let directory = fs::File::open(&self.directory)?;
        // A file system without locks has no second process on it either.
        let _ = rustix::fs::flock(&directory, rustix::fs::FlockOperation::LockExclusive);
        Ok(directory)
    }

    #[cfg(not(unix))]
    pub(super) fn lock_directory(&self) -> std::io::Result<()> {
        Ok(())
    }

    /// Removes keys that were never placed, because their process was killed before.
    pub(super) fn remove_unplaced_keys(&self) -> std::io::Result<()> {
        for entry in fs::read_dir(&self.directory)? {
            let entry = entry?;
            if entry.file_name().to_str().is_some_and(|name| name.starts_with(TEMPORARY_KEY_PREFIX)) {
                fs::remove_file(entry.path())?;
            }
        }
        Ok(())
    }

    fn write_key(&self, path: &Path, key: &MasterKey) -> std::io::Result<()> {
        // A temporary file has mode 0600 from the start.
        let mut file = tempfile::Builder::new().prefix(TEMPORARY_KEY_PREFIX).tempfile_in(&self.directory)?;
        file.write_all(key.to_text().as_bytes())?;
        file.write_all(b"\n")?;
        file.as_file().sync_all()?;
        failpoint::hit("home.key_written");
        match file.persist_noclobber(path) {
            Ok(_) => {}
            Err(error) if error.error.kind() == std::io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error.error),
        }
        fs::File::open(&self.directory)?.sync_all()?;
        failpoint::hit("home.key_placed");
        Ok(())
    }
}
