//! What a host needs of whatever it runs on: rows, a clock, tasks, and who is who there.
//!
//! Must not do: decide anything about backends.

use std::time::Duration;

use futures_util::future::BoxFuture;

use crate::api::{ControlError, IfMissing, LeaseHolder};
use crate::authority::{Authority, Liveness};
use crate::model::{FingerprintKey, ProjectName, Timestamp};
use crate::store::DynStore;

/// The authority of a host, over a store of whatever kind.
pub type HostAuthority = Authority<DynStore>;

/// Who else may be writing at the same time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WriteMode {
    /// Nobody who carries operations out.
    Exclusive,
    /// Anybody: what is written does no harm beside a server that has this home.
    BesideServer,
}

/// What a host runs on.
pub trait Platform: Send + Sync {
    /// Asks the authority, if there is one already; nothing is called where there is none. Changes nothing, and waits
    /// for nobody who writes.
    ///
    /// # Errors
    /// The rows or the master key cannot be read.
    fn read(&self, question: &mut dyn FnMut(&HostAuthority)) -> Result<(), ControlError>;

    /// Tells the authority something that it writes down; makes it where there is none.
    ///
    /// # Errors
    /// There can be no authority here now, or somebody else is writing.
    fn write(&self, beside: WriteMode, message: &mut dyn FnMut(&HostAuthority)) -> Result<(), ControlError>;

    /// Keeps everybody else from writing here from now on; `address` is what they are told.
    ///
    /// # Errors
    /// Somebody else is writing.
    fn lock_exclusive(&self, address: &str) -> Result<(), ControlError>;

    /// The key under which the secrets of a project are fingerprinted; none while there is no master key.
    ///
    /// # Errors
    /// The master key cannot be read or made.
    fn fingerprint_key(&self, project: &ProjectName, need: IfMissing) -> Result<Option<FingerprintKey>, ControlError>;

    /// How many bytes the store takes.
    fn store_bytes(&self) -> u64;

    /// The time.
    fn now(&self) -> Timestamp;

    /// A time that only grows, to measure with.
    fn uptime(&self) -> Duration;

    /// This host, as the holder of a lease.
    fn own_holder(&self) -> LeaseHolder;

    /// Whether a holder of a lease still lives.
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
