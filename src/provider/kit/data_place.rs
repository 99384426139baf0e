//! Where the data of a backend lies, and a volume of it that only an engine reads.

use std::io::Read;
use std::path::PathBuf;

use crate::provider::{ProviderError, async_trait};

/// Locates the database and the files of a backend, both, as Convex lays them out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DataPlace {
    /// In a folder of this machine.
    Folder(PathBuf),
    /// In a volume, which is opened with [`Provider::open_volume`](crate::provider::Provider::open_volume).
    Volume,
}

/// Says what may happen to a volume while it is open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum VolumeAccess {
    /// Nothing writes to it: its database can be copied.
    Exclusive,
    /// Its backend may run on it.
    Shared,
}

/// An open volume with the data of a backend.
#[async_trait]
pub trait DataVolume: Send + Sync {
    /// Reads a file or a folder of the data as a tar archive; none where it is not there. An archive is read to its end, on a
    /// thread that may block, before the next one is asked for.
    async fn read(&self, path: &str) -> Result<Option<Box<dyn Read + Send>>, ProviderError>;

    /// Closes the volume.
    async fn close(&self) -> Result<(), ProviderError>;
}
