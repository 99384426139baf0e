//! What a host needs of whatever it runs on: rows, a clock, tasks, and who is who there.
//!
//! Must not do: decide anything about backends.

use std::time::Duration;

use futures_util::future::BoxFuture;

use crate::authority::{Authority, Liveness};
use crate::control::{ControlError, Holder, KeyNeed};
use crate::model::{FingerprintKey, ProjectName, Timestamp};
use crate::store::AnyStore;

/// The authority of a host, over a store of whatever kind.
pub type HostAuthority = Authority<AnyStore>;

/// Who else may be writing at the same time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Beside {
    /// Nobody who carries operations out.
    Commands,
    /// Anybody: what is written does no harm beside a server that has this home.
    Anybody,
}

/// What a host runs on.
pub trait Platform: Send + Sync {
    /// Asks the authority, if there is one already; nothing is called where there is none. Changes nothing, and waits
    /// for nobody who writes.
    ///
    /// # Errors
    /// The rows or the master key cannot be read.
    fn ask(&self, question: &mut dyn FnMut(&HostAuthority)) -> Result<(), ControlError>;

    /// Tells the authority something that it writes down; makes it where there is none.
    ///
    /// # Errors
    /// There can be no authority here now, or somebody else is writing.
    fn tell(&self, beside: Beside, message: &mut dyn FnMut(&HostAuthority)) -> Result<(), ControlError>;

    /// Keeps everybody else from writing here from now on; `address` is what they are told.
    ///
    /// # Errors
    /// Somebody else is writing.
    fn occupy(&self, address: &str) -> Result<(), ControlError>;

    /// The key under which the secrets of a project are fingerprinted; none while there is no master key.
    ///
    /// # Errors
    /// The master key cannot be read or made.
    fn fingerprint_key(&self, project: &ProjectName, need: KeyNeed) -> Result<Option<FingerprintKey>, ControlError>;

    /// How many bytes the store takes.
    fn store_bytes(&self) -> u64;

    /// The time.
    fn now(&self) -> Timestamp;

    /// A time that only grows, to measure with.
    fn uptime(&self) -> Duration;

    /// This host, as the holder of a lease.
    fn here(&self) -> Holder;

    /// Whether a holder of a lease still lives.
    fn liveness(&self, holder: &Holder) -> Liveness;

    /// Lets a task go on by itself.
    fn spawn(&self, task: BoxFuture<'static, ()>);

    /// Waits.
    fn sleep(&self, duration: Duration) -> BoxFuture<'static, ()>;
}
