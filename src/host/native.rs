//! This machine as what a host runs on: a home on its disk, its processes, its clock.
//!
//! Must not do: decide anything about backends, or create anything before the first write.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::{Mutex, OnceLock};
use std::time::{Duration, Instant};

use futures_util::future::BoxFuture;

use super::home::Home;
use super::home_lock::{HomeLock, LockFile, home_in_use};
use super::platform::{HostAuthority, Platform, WriteMode};
use super::{lock, process};
use crate::api::{ControlError, IfMissing, LeaseHolder};
use crate::authority::{Authority, EntropyError, Liveness, Vault, store_diagnostic};
use crate::model::{Diagnostic, FingerprintKey, ProjectName, Secret, Timestamp};
use crate::store::{DynStore, SqliteStore, StoreError};

/// How many connections to the store are kept for reading.
const MAX_READERS: usize = 16;

/// This machine, with a home on its disk.
pub struct NativePlatform {
    home: Home,
    first_port: Option<u16>,
    started: Instant,
    /// Opened when something is first written.
    writer: Mutex<Option<HostAuthority>>,
    /// Opened when something is read and all others are in use; readers do not wait for a writer.
    readers: Mutex<Vec<HostAuthority>>,
    /// Who else may write in this home, held from the first write on.
    home_lock: OnceLock<HomeLock>,
    accepts_unrecorded: bool,
}

impl NativePlatform {
    /// Returns a home in this directory, with a master key from outside instead of the one in it, and the first port to
    /// hand out where it should not be the usual one. Nothing is read or made yet.
    pub fn new(directory: PathBuf, master_key: Option<Secret>, first_port: Option<u16>) -> Self {
        Self {
            home: Home::new(directory, master_key),
            first_port,
            started: Instant::now(),
            writer: Mutex::default(),
            readers: Mutex::default(),
            home_lock: OnceLock::new(),
            accepts_unrecorded: false,
        }
    }

    /// Accepts a store that does not know the backends beside it: their records are about to be made anew.
    #[must_use]
    pub fn accepting_unrecorded_backends(self) -> Self {
        Self { accepts_unrecorded: true, ..self }
    }

    pub(super) fn home(&self) -> &Home {
        &self.home
    }

    fn reader(&self) -> Result<Option<HostAuthority>, ControlError> {
        if let Some(reader) = lock(&self.readers).pop() {
            return Ok(Some(reader));
        }
        let Some(store) = SqliteStore::open_to_read(&self.home.store()).map_err(store_unusable)? else {
            self.check_unrecorded(|| Ok(BTreeSet::new()))?;
            return Ok(None);
        };
        let key = self.home.existing_master_key()?.ok_or_else(|| self.home.key_missing())?;
        let authority = Authority::new(Box::new(store) as DynStore, Vault::new(key), entropy);
        authority.check_key()?;
        self.check_unrecorded(|| Ok(authority.backend_ids()?))?;
        Ok(Some(authority))
    }

    pub(super) fn open_writer(&self) -> Result<HostAuthority, ControlError> {
        self.home.create()?;
        let key = self.home.master_key(self.home.store().exists())?;
        let store = SqliteStore::open(&self.home.store()).map_err(store_unusable)?;
        let authority = Authority::new(Box::new(store) as DynStore, Vault::new(key), entropy);
        self.check_unrecorded(|| Ok(authority.backend_ids()?))?;
        authority.record_key_check()?;
        self.home.keep_reserve();
        Ok(match self.first_port {
            Some(port) => authority.with_first_port(port),
            None => authority,
        })
    }

    /// Refuses a store that does not know the backends beside it.
    fn check_unrecorded(&self, known: impl FnOnce() -> Result<BTreeSet<String>, ControlError>) -> Result<(), ControlError> {
        if self.accepts_unrecorded {
            return Ok(());
        }
        let unknown = self.home.unknown_backends(known)?;
        if unknown.is_empty() { Ok(()) } else { Err(self.home.store_lost(&unknown)) }
    }
}

impl Platform for NativePlatform {
    fn read(&self, question: &mut dyn FnMut(&HostAuthority)) -> Result<(), ControlError> {
        // Every write of one connection empties the page cache of all others. A command has one thread, so its reads keep
        // no writer waiting.
        if !has_many_threads()
            && let Ok(writer) = self.writer.try_lock()
            && let Some(authority) = &*writer
        {
            question(authority);
            return Ok(());
        }
        let Some(reader) = self.reader()? else { return Ok(()) };
        question(&reader);
        let mut readers = lock(&self.readers);
        if readers.len() < MAX_READERS {
            readers.push(reader);
        }
        Ok(())
    }

    fn write(&self, beside: WriteMode, message: &mut dyn FnMut(&HostAuthority)) -> Result<(), ControlError> {
        if beside == WriteMode::Exclusive && self.home_lock.get().is_none() {
            self.home.create()?;
            // Should two threads come here at once, one of the two shares is given back at once.
            let _ = self.home_lock.set(self.home.lock_shared()?);
        }
        // A write waits for other writers and for the disk.
        blocking(|| {
            let mut writer = lock(&self.writer);
            if writer.is_none() {
                *writer = Some(self.open_writer()?);
                // A reader of an older schema saw a copy of it.
                lock(&self.readers).clear();
            }
            match &*writer {
                Some(authority) => {
                    message(authority);
                    Ok(())
                }
                None => {
                    Err(ControlError::Record(Diagnostic::new("bug", "the store was not opened; this is a bug in convexinfra")))
                }
            }
        })
    }

    fn run_blocking(&self, work: &mut dyn FnMut()) {
        blocking(work);
    }

    fn lock_exclusive(&self, address: &str) -> Result<(), ControlError> {
        self.home.create()?;
        let (occupancy, precedence) = self.home.lock_exclusive(address)?;
        if precedence == LockFile::Created {
            // Commands that began before there was a lock to take are known by their leases alone.
            let alive = |holder: &LeaseHolder| match process::liveness(holder) {
                Liveness::Alive => Liveness::Alive,
                Liveness::Dead | Liveness::Unknown => Liveness::Dead,
            };
            let mut working = Ok(Vec::new());
            self.read(&mut |authority| working = authority.holders(process::now(), alive))?;
            if let Some((project, holder)) = working?.first() {
                let message = format!("process {} of {} is changing `{project}` in this home", holder.process, holder.user);
                return Err(home_in_use(&message));
            }
        }
        let _ = self.home_lock.set(occupancy);
        Ok(())
    }

    fn fingerprint_key(&self, project: &ProjectName, need: IfMissing) -> Result<Option<FingerprintKey>, ControlError> {
        let key = match (self.home.existing_master_key()?, need) {
            (None, IfMissing::ReturnNone) => return Ok(None),
            (Some(key), _) => key,
            (None, IfMissing::Create) => {
                self.home.create()?;
                self.home.master_key(self.home.store().exists())?
            }
        };
        Ok(Some(Vault::new(key).fingerprint_key(project)))
    }

    fn snapshot_folder(&self) -> Option<PathBuf> {
        Some(self.home.snapshots())
    }

    fn move_folder(&self) -> Option<PathBuf> {
        Some(self.home.moves())
    }

    fn release_reserve(&self) {
        self.home.release_reserve();
    }

    fn lacks_reserve(&self) -> bool {
        self.home.lacks_reserve()
    }

    fn store_bytes(&self) -> u64 {
        self.home.store_bytes()
    }

    fn now(&self) -> Timestamp {
        process::now()
    }

    fn uptime(&self) -> Duration {
        self.started.elapsed()
    }

    fn own_holder(&self) -> LeaseHolder {
        process::own_holder()
    }

    fn liveness(&self, holder: &LeaseHolder) -> Liveness {
        process::liveness(holder)
    }

    fn spawn(&self, task: BoxFuture<'static, ()>) {
        tokio::spawn(task);
    }

    fn sleep(&self, duration: Duration) -> BoxFuture<'static, ()> {
        Box::pin(tokio::time::sleep(duration))
    }
}

/// Runs work that blocks its thread; other tasks of this thread go on elsewhere meanwhile.
fn blocking<T>(work: impl FnOnce() -> T) -> T {
    if has_many_threads() { tokio::task::block_in_place(work) } else { work() }
}

/// Returns whether tasks run on several threads, as a server's do; a command has one, or no tasks at all.
fn has_many_threads() -> bool {
    use tokio::runtime::{Handle, RuntimeFlavor};
    matches!(Handle::try_current().map(|handle| handle.runtime_flavor()), Ok(RuntimeFlavor::MultiThread))
}

fn store_unusable(error: StoreError) -> ControlError {
    ControlError::Record(store_diagnostic(&error))
}

fn entropy(bytes: &mut [u8]) -> Result<(), EntropyError> {
    getrandom::fill(bytes).map_err(|_| EntropyError)
}
