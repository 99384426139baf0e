//! The exchange: where the database of a backend is while it moves out of a volume or is written into one, as a file of this
//! machine.
//!
//! A volume is read and written as a whole by its engine, and rows are copied from and to files. What is in the volume stays as
//! it is until the rows of the target are whole.

use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::{fs, io};

use super::{Host, effects};
use crate::authority::EffectFailure;
use crate::failpoint;
use crate::model::{Diagnostic, ResolvedBackend};
use crate::provider::kit::data_place::{DataVolume, VolumeAccess};
use crate::snapshot::{DATABASE_FILE, DATABASE_FILES, recover_database, unpack_file};

impl Host {
    /// Returns the path of the database of a backend in the exchange.
    pub(super) fn exchange(&self, placement: &ResolvedBackend) -> Result<PathBuf, EffectFailure> {
        let folder = self.platform.move_folder().ok_or_else(|| unreached(placement))?;
        Ok(folder.join(placement.id.as_str()).join(DATABASE_FILE))
    }

    /// Returns that path in an empty folder.
    pub(super) fn new_exchange(&self, placement: &ResolvedBackend) -> Result<PathBuf, EffectFailure> {
        self.empty_exchange(placement)?;
        let database = self.exchange(placement)?;
        if let Some(folder) = database.parent() {
            let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(folder);
            made.map_err(|error| file_failure(folder, "created", &error))?;
        }
        Ok(database)
    }

    /// Copies the database of a backend that does not run out of its volume. An earlier copy is replaced: the backend may have
    /// run since.
    pub(super) async fn fetch_database(&self, placement: &ResolvedBackend) -> Result<(), EffectFailure> {
        let database = self.new_exchange(placement)?;
        let provider = self.provider(placement.spec.provider)?;
        let failed = |error| effects::effect_failure(placement, &error);
        let volume = provider.open_volume(placement, VolumeAccess::Exclusive).await.map_err(failed)?;
        let fetched = fetch(placement, &*volume, &database).await;
        volume.close().await.map_err(failed)?;
        fetched?;
        failpoint::hit("host.database_fetched");
        Ok(())
    }

    /// Writes a database out of the exchange into the volume of a backend that does not run.
    pub(super) async fn store_database(&self, placement: &ResolvedBackend, database: &Path) -> Result<(), EffectFailure> {
        let provider = self.provider(placement.spec.provider)?;
        let failed = |error| effects::effect_failure(placement, &error);
        let volume = provider.open_volume(placement, VolumeAccess::Writable).await.map_err(failed)?;
        let stored = volume.replace_database(database).await;
        volume.close().await.map_err(failed)?;
        stored.map_err(failed)
    }

    /// Deletes what is in the exchange of a backend.
    pub(super) fn empty_exchange(&self, placement: &ResolvedBackend) -> Result<(), EffectFailure> {
        let database = self.exchange(placement)?;
        let Some(folder) = database.parent() else { return Ok(()) };
        match fs::remove_dir_all(folder) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(file_failure(folder, "removed", &error)),
            _ => Ok(()),
        }
    }
}

/// Returns that a database is out of reach.
pub(super) fn unreached(placement: &ResolvedBackend) -> EffectFailure {
    let message = format!("`{}` has its database where this control plane does not reach it", placement.name);
    Diagnostic::new("move.unsupported", message).into()
}

/// Reads the database and what SQLite keeps beside it, file by file.
async fn fetch(placement: &ResolvedBackend, volume: &dyn DataVolume, database: &Path) -> Result<(), EffectFailure> {
    let failed = |error| effects::effect_failure(placement, &error);
    for name in DATABASE_FILES {
        let Some(archive) = volume.read(name).await.map_err(failed)? else {
            if name == DATABASE_FILE {
                let (instance, place) = (placement.instance_name.to_string(), format!("{name} in its volume"));
                return Err(failed(crate::provider::ProviderError::DataMissing { instance, place }));
            }
            continue;
        };
        let target = database.with_file_name(name);
        let unpacked = tokio::task::spawn_blocking(move || unpack_file(archive, name, &target)).await;
        let unpacked =
            unpacked.map_err(|error| Diagnostic::new("move.interrupted", format!("the copy was cut off: {error}")))?;
        unpacked.map_err(|error| error.diagnostic())?;
    }
    // What was not written to its end is rolled back here, and never in the volume.
    recover_database(database).map_err(|error| error.diagnostic().into())
}

fn file_failure(path: &Path, verb: &str, error: &io::Error) -> EffectFailure {
    Diagnostic::new("move.file", format!("`{}` cannot be {verb}: {error}", path.display())).into()
}
