//! Where the data of a backend lies, and a volume of it that only an engine reads.

use std::io::{self, Read};
use std::path::{Path, PathBuf};

use futures_util::stream::BoxStream;

use crate::model::ResolvedBackend;
use crate::provider::{ProviderError, async_trait};

/// Locates the database and the files of a backend, both, as Convex lays them out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DataPlace {
    /// In a folder of this machine.
    Folder(PathBuf),
    /// In a volume, which is opened with [`Provider::open_volume`](crate::provider::Provider::open_volume).
    Volume,
}

/// Locates the database of a backend on SQLite.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DatabasePlace {
    /// A file of this machine, by the path at which the backend looks for it.
    File(PathBuf),
    /// A file in its volume, which is opened with [`Provider::open_volume`](crate::provider::Provider::open_volume).
    Volume,
}

/// Says what may happen to a volume while it is open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum VolumeAccess {
    /// Nothing writes to it: its database can be copied.
    Exclusive,
    /// Its backend may run on it.
    Shared,
    /// Nothing else writes to it: its database can be replaced.
    Writable,
}

/// An open volume with the data of a backend.
#[async_trait]
pub trait DataVolume: Send + Sync {
    /// Reads a file or a folder of the data as a tar archive; none where it is not there. An archive is read to its end, on a
    /// thread that may block, before the next one is asked for.
    async fn read(&self, path: &str) -> Result<Option<Box<dyn Read + Send>>, ProviderError>;

    /// Writes a file of this machine over the database of the data, and empties what SQLite keeps beside one. A database that
    /// was not written to its end is of no use.
    async fn replace_database(&self, database: &Path) -> Result<(), ProviderError>;

    /// Closes the volume.
    async fn close(&self) -> Result<(), ProviderError>;
}

/// Says where the data is written that replaces that of a backend.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StagingPlace {
    /// In a folder beside its own, which is not there yet or whole.
    Folder(PathBuf),
    /// In a volume, which is opened with [`Provider::open_staging`](crate::provider::Provider::open_staging).
    Volume,
    /// Nowhere: it was switched to already.
    Switched,
}

/// Refuses to delete the data from before a switch that has not come to its end.
pub fn unfinished_restore(placement: &ResolvedBackend) -> ProviderError {
    let name = &placement.name;
    ProviderError::Unsupported(format!(
        "the last restore of `{name}` has not come to its end, so the data from before may be needed; restore again first"
    ))
}

/// A volume beside that of a backend, until it is switched to.
#[async_trait]
pub trait StagedVolume: Send + Sync {
    /// Returns the folder of the data in the archive that it takes.
    fn root(&self) -> &'static str;

    /// Returns the user and the group whom the files belong to.
    fn owner(&self) -> (u64, u64);

    /// Returns whether everything is in it.
    async fn is_whole(&self) -> Result<bool, ProviderError>;

    /// Empties it, and writes a tar archive of the data into it.
    async fn write(&self, archive: BoxStream<'static, io::Result<Vec<u8>>>) -> Result<(), ProviderError>;
}
