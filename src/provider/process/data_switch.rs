//! The data of a backend replaced as a whole: by renames, each of which a later start completes when it was the last that
//! happened.
//!
//! ```text
//! data.next-ID       complete, and to become `data`
//! data               what the backend runs on
//! data.previous-ID   what it ran on before ID was restored
//! data.failed-ID     what did not come up, until it is deleted
//! data.switch-ID     an empty file: the data of ID is switched to, and has not come up yet
//! ```

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use super::file_error;
use super::layout::{BackendDir, exists, write_private_file};
use crate::failpoint;
use crate::model::SnapshotId;
use crate::provider::ProviderError;

const NEXT: &str = "data.next-";
const PREVIOUS: &str = "data.previous-";
const FAILED: &str = "data.failed-";
const MARKER: &str = "data.switch-";

impl BackendDir {
    /// The folder into which data is written that is to replace its own.
    pub(super) fn next_data(&self, id: &SnapshotId) -> PathBuf {
        self.root().join(format!("{NEXT}{id}"))
    }

    fn previous_data(&self, id: &SnapshotId) -> PathBuf {
        self.root().join(format!("{PREVIOUS}{id}"))
    }

    fn marker(&self, id: &SnapshotId) -> PathBuf {
        self.root().join(format!("{MARKER}{id}"))
    }

    /// Returns whether the data was switched to, or is being switched to, and did not come up yet.
    pub(super) fn is_unconfirmed(&self, id: &SnapshotId) -> Result<bool, ProviderError> {
        exists(&self.marker(id))
    }

    /// Puts the staged data into the place of its own. Its process does not run.
    pub(super) fn switch_data(&self, id: &SnapshotId) -> Result<(), ProviderError> {
        self.complete_switch()?;
        for marker in self.beginning_with(MARKER)? {
            // Data that another restore did not bring up is nothing to go back to.
            match marker_id(&marker).filter(|other| other != id) {
                Some(other) => self.revert_data(&other)?,
                None => continue,
            }
        }
        let next = self.next_data(id);
        if !exists(&next)? {
            // It is done, or nothing was staged.
            let is_done = self.is_unconfirmed(id)?;
            return if is_done { Ok(()) } else { Err(file_error(&next, "found")(ErrorKind::NotFound.into())) };
        }
        // One way back is kept, the last.
        self.delete_previous()?;
        write_private_file(&self.marker(id), b"")?;
        failpoint::hit("provider.process.switch_marked");
        rename(&self.data(), &self.previous_data(id))?;
        failpoint::hit("provider.process.data_set_aside");
        rename(&next, &self.data())?;
        failpoint::hit("provider.process.data_switched");
        Ok(())
    }

    /// Deletes the data from before the last switch; false where the data that was switched to has not come up yet.
    pub(super) fn drop_previous(&self) -> Result<bool, ProviderError> {
        if !self.beginning_with(MARKER)?.is_empty() {
            return Ok(false);
        }
        self.delete_previous().map(|()| true)
    }

    fn delete_previous(&self) -> Result<(), ProviderError> {
        self.beginning_with(PREVIOUS)?.iter().try_for_each(|previous| delete(previous))
    }

    /// Notes that the data that was switched to has come up.
    pub(super) fn confirm_data(&self, id: &SnapshotId) -> Result<(), ProviderError> {
        delete_file(&self.marker(id))
    }

    /// Puts the data from before into its place again. Its process does not run.
    pub(super) fn revert_data(&self, id: &SnapshotId) -> Result<(), ProviderError> {
        self.complete_switch()?;
        let (previous, failed) = (self.previous_data(id), self.root().join(format!("{FAILED}{id}")));
        // Without the mark, the data from before is that of a restore that went well.
        if self.is_unconfirmed(id)? && exists(&previous)? {
            rename(&self.data(), &failed)?;
            failpoint::hit("provider.process.data_failed");
            rename(&previous, &self.data())?;
            failpoint::hit("provider.process.data_reverted");
        }
        delete(&failed)?;
        delete(&self.next_data(id))?;
        delete_file(&self.marker(id))
    }

    /// Completes what was cut off between two renames: without it there would be no data in its place.
    pub(super) fn complete_switch(&self) -> Result<(), ProviderError> {
        match self.pending_data()? {
            Some(place) => rename(&place, &self.data()),
            None => Ok(()),
        }
    }

    /// Returns the data that is to be in the place of its own, where a switch was cut off.
    pub(super) fn pending_data(&self) -> Result<Option<PathBuf>, ProviderError> {
        if !self.exists()? || exists(&self.data())? {
            return Ok(None);
        }
        for marker in self.beginning_with(MARKER)? {
            let Some(id) = marker_id(&marker) else { continue };
            let (next, previous) = (self.next_data(&id), self.previous_data(&id));
            for place in [next, previous] {
                if exists(&place)? {
                    return Ok(Some(place));
                }
            }
        }
        Ok(None)
    }

    fn beginning_with(&self, prefix: &str) -> Result<Vec<PathBuf>, ProviderError> {
        let mut found = Vec::new();
        for entry in std::fs::read_dir(self.root()).map_err(file_error(self.root(), "read"))? {
            let entry = entry.map_err(file_error(self.root(), "read"))?;
            if entry.file_name().to_str().is_some_and(|name| name.starts_with(prefix)) {
                found.push(entry.path());
            }
        }
        Ok(found)
    }
}

fn marker_id(marker: &Path) -> Option<SnapshotId> {
    let name = marker.file_name()?.to_str()?;
    SnapshotId::parse(name.strip_prefix(MARKER)?).ok()
}

fn delete_file(path: &Path) -> Result<(), ProviderError> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(file_error(path, "removed")(error)),
        _ => Ok(()),
    }
}

fn rename(from: &Path, to: &Path) -> Result<(), ProviderError> {
    std::fs::rename(from, to).map_err(file_error(from, "renamed"))
}

fn delete(folder: &Path) -> Result<(), ProviderError> {
    match std::fs::remove_dir_all(folder) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(file_error(folder, "removed")(error)),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::BackendId;

    fn world() -> (tempfile::TempDir, BackendDir, SnapshotId) {
        let home = tempfile::tempdir().unwrap();
        let place = BackendDir::new(home.path(), &BackendId::new("b1")).unwrap();
        place.create().unwrap();
        std::fs::write(place.database(), "old").unwrap();
        let id = SnapshotId::parse("dev-1").unwrap();
        std::fs::create_dir_all(place.next_data(&id)).unwrap();
        std::fs::write(place.next_data(&id).join("db.sqlite3"), "new").unwrap();
        (home, place, id)
    }

    fn database(place: &BackendDir) -> String {
        std::fs::read_to_string(place.database()).unwrap()
    }

    #[test]
    fn a_switch_keeps_the_old_data_and_goes_back() {
        let (_home, place, id) = world();
        place.switch_data(&id).unwrap();
        place.switch_data(&id).unwrap();
        assert_eq!(database(&place), "new");
        place.revert_data(&id).unwrap();
        place.revert_data(&id).unwrap();
        assert_eq!(database(&place), "old");
        assert_eq!(place.beginning_with("data.").unwrap(), Vec::<PathBuf>::new());
    }

    #[test]
    fn what_has_come_up_is_not_taken_back() {
        let (_home, place, id) = world();
        place.switch_data(&id).unwrap();
        place.confirm_data(&id).unwrap();
        place.revert_data(&id).unwrap();
        assert_eq!(database(&place), "new");
        assert!(place.previous_data(&id).exists());
    }

    #[test]
    fn another_restore_goes_back_to_what_came_up_last() {
        let (_home, place, id) = world();
        place.switch_data(&id).unwrap();
        let other = SnapshotId::parse("dev-2").unwrap();
        std::fs::create_dir_all(place.next_data(&other)).unwrap();
        std::fs::write(place.next_data(&other).join("db.sqlite3"), "newer").unwrap();
        place.switch_data(&other).unwrap();
        assert_eq!(database(&place), "newer");
        place.revert_data(&other).unwrap();
        assert_eq!(database(&place), "old");
    }

    #[test]
    fn a_switch_that_was_cut_off_is_completed_and_a_loss_is_not() {
        let (_home, place, id) = world();
        std::fs::write(place.marker(&id), "").unwrap();
        std::fs::rename(place.data(), place.previous_data(&id)).unwrap();
        place.complete_switch().unwrap();
        assert_eq!(database(&place), "new");
        std::fs::rename(place.data(), place.root().join("data.failed-dev-1")).unwrap();
        place.complete_switch().unwrap();
        assert_eq!(database(&place), "old");

        let (_home, place, _) = world();
        std::fs::remove_dir_all(place.data()).unwrap();
        place.complete_switch().unwrap();
        assert!(!place.data().exists(), "data that was lost is not replaced by what was only staged");
    }
}
