//! The port to the platform that a host runs on: rows, a clock, tasks, and holders of leases.
//!
//! Must not do: decide anything about backends.

use std::time::Duration;

use futures_util::future::BoxFuture;

use crate::api::{ControlError, IfMissing, LeaseHolder};
use crate::authority::{Authority, Liveness};
use crate::model::{FingerprintKey, ProjectName, Timestamp};
use crate::store::DynStore;

/// Names the authority of a host, over any kind of store.
pub type HostAuthority = Authority<DynStore>;

/// Says who else may be writing at the same time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WriteMode {
    /// No process that executes operations.
    Exclusive,
    /// Any process: such a write is safe beside a server of this home.
    BesideServer,
}

/// What a host runs on.
pub trait Platform: Send + Sync {
    /// Asks the authority, if there is one already; nothing is called where there is none. Changes nothing, and waits for
    /// no writer.
    ///
    /// # Errors
    /// The rows or the master key cannot be read.
    fn read(&self, question: &mut dyn FnMut(&HostAuthority)) -> Result<(), ControlError>;

    /// Tells the authority something that it writes down; makes it where there is none.
    ///
    /// # Errors
    /// There can be no authority here now, or another process writes.
    fn write(&self, beside: WriteMode, message: &mut dyn FnMut(&HostAuthority)) -> Result<(), ControlError>;

    /// Locks this home for writing from now on; `address` is shown to other writers.
    ///
    /// # Errors
    /// Another process writes.
    fn lock_exclusive(&self, address: &str) -> Result<(), ControlError>;

    /// Returns the key under which the secrets of a project are fingerprinted; none while there is no master key.
    ///
    /// # Errors
    /// The master key cannot be read or made.
    fn fingerprint_key(&self, project: &ProjectName, need: IfMissing) -> Result<Option<FingerprintKey>, ControlError>;

    /// Returns the folder on this machine below which snapshots are kept; none where there is no disk.
    fn snapshot_folder(&self) -> Option<std::path::PathBuf> {
        None
    }

    /// Returns the folder on this machine below which databases are while they move out of volumes and into them; none where
    /// there is no disk.
    fn move_folder(&self) -> Option<std::path::PathBuf> {
        None
    }

    /// Gives up the room that is kept for removals, where there is none left.
    fn release_reserve(&self) {}

    /// Returns whether there is no room but what a removal needs.
    fn lacks_reserve(&self) -> bool {
        false
    }

    /// Returns how many bytes the store takes.
    fn store_bytes(&self) -> u64;

    /// Returns the time.
    fn now(&self) -> Timestamp;

    /// Returns a time that only grows, to measure with.
    fn uptime(&self) -> Duration;

    /// Returns this host, as the holder of a lease.
    fn own_holder(&self) -> LeaseHolder;

    /// Returns whether a holder of a lease still lives.
    fn liveness(&self, holder: &LeaseHolder) -> Liveness;

    /// Runs work that waits for a disk or computes for long, without holding up other tasks.
    fn run_blocking(&self, work: &mut dyn FnMut()) {
        work();
    }

    /// Lets a task go on by itself.
    fn spawn(&self, task: BoxFuture<'static, ()>);

    /// Waits.
    fn sleep(&self, duration: Duration) -> BoxFuture<'static, ()>;
}
