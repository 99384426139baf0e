//! Rotation of the master key of a home: the rows and the file that holds the key cannot change at once, so the new key is
//! staged beside the old one first. Which of the two counts is what the rows say.
//!
//! Must not do: rotate beside a server or a command.

use std::collections::BTreeSet;
use std::fs;
use std::io::Write;
use std::path::PathBuf;

use zeroize::Zeroizing;

use super::home::{Home, HomeError, TEMPORARY_KEY_PREFIX};
use super::home_lock::ROTATION;
use super::native::NativePlatform;
use super::platform::Platform;
use super::process;
use crate::api::ControlError;
use crate::authority::{MasterKey, Vault};
use crate::failpoint;
use crate::model::{Actor, Diagnostic, ProjectName, Secret};
use crate::store::{SqliteStore, Store};

impl Home {
    /// Returns the file of the key that a rotation has staged.
    fn staged_key_file(&self) -> PathBuf {
        self.directory().join("master.key.next")
    }

    /// Returns the key of a rotation that was killed after its rows were written, and puts it into its place.
    pub(super) fn rotated_key(&self) -> Result<Option<MasterKey>, HomeError> {
        let staged = self.staged_key_file();
        if !staged.exists() {
            return Ok(None);
        }
        let Some(key) = self.read_key(&staged)? else { return Ok(None) };
        if !self.rows_belong_to(&key) {
            return Ok(None);
        }
        // Where nothing can be written, it is read from where it is.
        let _ = self.place_key();
        Ok(Some(key))
    }

    /// Returns whether the rows are written under a key. Rows that cannot be read belong to the key in its place.
    fn rows_belong_to(&self, key: &MasterKey) -> bool {
        let Ok(Some(store)) = SqliteStore::open_to_read(&self.store()) else { return false };
        let row = store.read(|rows| rows.key_check()).ok().flatten();
        row.is_some_and(|row| Vault::new(key.clone()).wrote(&row.value))
    }

    /// Writes the new key beside the old one, in place of one that was staged in vain.
    fn stage_key(&self, key: &MasterKey) -> Result<(), HomeError> {
        let path = self.staged_key_file();
        let failed = |source| HomeError::Directory { path: path.display().to_string(), verb: "written", source };
        let write = || -> std::io::Result<()> {
            let _turn = self.lock_directory()?;
            self.remove_unplaced_keys()?;
            // A temporary file has mode 0600 from the start.
            let mut file = tempfile::Builder::new().prefix(TEMPORARY_KEY_PREFIX).tempfile_in(self.directory())?;
            file.write_all(format!("{}\n", *key.to_text()).as_bytes())?;
            file.as_file().sync_all()?;
            file.persist(&path).map_err(|error| error.error)?;
            fs::File::open(self.directory())?.sync_all()
        };
        write().map_err(failed)?;
        failpoint::hit("key.staged");
        Ok(())
    }

    /// Puts the staged key into the place of the old one.
    fn place_key(&self) -> Result<(), HomeError> {
        let path = self.key_file();
        let failed = |source| HomeError::Directory { path: path.display().to_string(), verb: "written", source };
        match fs::rename(self.staged_key_file(), &path) {
            // A command that read the rows meanwhile has done it.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
            placed => placed.map_err(failed)?,
        }
        failpoint::hit("key.placed");
        fs::File::open(self.directory()).and_then(|directory| directory.sync_all()).map_err(failed)
    }

    /// Returns the projects that have snapshots in this home.
    fn projects_with_snapshots(&self) -> BTreeSet<ProjectName> {
        let entries = fs::read_dir(self.snapshots()).into_iter().flatten().flatten();
        entries.filter_map(|entry| ProjectName::parse(entry.file_name().to_str()?).ok()).collect()
    }
}

impl NativePlatform {
    /// Rotates the master key of this home to the one that is given, or to a new one.
    ///
    /// # Errors
    /// Another process writes in this home, an operation is open, or the key cannot be replaced.
    pub fn rotate_master_key(&self, next: Option<&Secret>, next_name: &str) -> Result<(), ControlError> {
        let home = self.home();
        if !home.store().exists() {
            let message = format!("there is no store at `{}`, so there is nothing to rotate", home.store().display());
            let help = "name the home of the control plane with `CONVEXINFRA_HOME`";
            return Err(ControlError::Refused(Diagnostic::new("key.no_store", message).with_help(help)));
        }
        self.lock_exclusive(ROTATION)?;
        let next = self.next_key(next, next_name)?;
        if home.existing_master_key()?.is_some_and(|known| *known.to_text() == *next.to_text()) {
            let message = format!("the key in `{next_name}` is the master key of this home already");
            return Err(ControlError::Refused(Diagnostic::new("key.same", message).with_help(another_key(next_name))));
        }
        let writer = self.open_writer()?;
        if !home.has_outside_key() {
            home.stage_key(&next)?;
        }
        let holder = process::own_holder();
        let actor = Actor { token: None, name: format!("{} on {}", holder.user, holder.host) };
        writer.rotate_master_key(next, &home.projects_with_snapshots(), &actor, process::now())?;
        if home.has_outside_key() {
            return Ok(());
        }
        Ok(home.place_key()?)
    }

    /// Returns the key that is given, or a new one.
    fn next_key(&self, given: Option<&Secret>, name: &str) -> Result<MasterKey, ControlError> {
        if let Some(text) = given {
            let place = format!("`{name}`");
            return Ok(MasterKey::parse(text.expose()).ok_or(HomeError::KeyShape { place, is_used: false })?);
        }
        if self.home().has_outside_key() {
            let message =
                format!("the master key comes from `CONVEXINFRA_MASTER_KEY`, and `{name}` does not say which one comes next");
            return Err(ControlError::Refused(Diagnostic::new("key.next_missing", message).with_help(another_key(name))));
        }
        let mut bytes = Zeroizing::new([0_u8; 32]);
        getrandom::fill(bytes.as_mut_slice())
            .map_err(|_| ControlError::Record(Diagnostic::new("key.entropy", "there are no random numbers")))?;
        Ok(MasterKey::from_zeroizing(bytes))
    }
}

fn another_key(name: &str) -> String {
    format!("make one, keep it where the other one is kept, and run this again\n    export {name}=\"$(openssl rand -hex 32)\"")
}
