//! A Durable Object as what a host runs on.
//!
//! Must not do: decide anything about backends.

use std::time::Duration;

use convexinfra::api::{ControlError, IfMissing, LeaseHolder};
use convexinfra::authority::{Authority, EntropyError, Liveness, MasterKey, Vault, store_diagnostic};
use convexinfra::host::{HostAuthority, Platform, WriteMode};
use convexinfra::model::{FingerprintKey, ProjectName, Timestamp};
use convexinfra::store::DynStore;
use futures_util::future::BoxFuture;
use worker::send::{SendFuture, SendWrapper};
use worker::{Date, Delay, SqlStorage, State};

use crate::sql::ObjectStore;

/// One Durable Object. It is one writer by construction, so there is no one to wait for or to keep out.
pub struct ObjectPlatform {
    authority: SendWrapper<HostAuthority>,
    sql: SqlStorage,
}

impl ObjectPlatform {
    /// An object with its rows, and the key that seals the secrets in them.
    pub fn open(state: &State, key: MasterKey) -> Result<Self, ControlError> {
        let storage = state.storage();
        let store = ObjectStore::open(&storage).map_err(|error| ControlError::Record(store_diagnostic(&error)))?;
        // Everything of an object stays in its own thread.
        let store: DynStore = Box::new(SendStore(SendWrapper::new(store)));
        let authority = Authority::new(store, Vault::new(key), entropy);
        authority.record_key_check()?;
        let authority = SendWrapper::new(authority);
        Ok(Self { authority, sql: storage.sql() })
    }
}

struct SendStore(SendWrapper<ObjectStore>);

impl convexinfra::store::Store for SendStore {
    fn transact(
        &self,
        access: convexinfra::store::Access,
        work: &mut dyn FnMut(&dyn convexinfra::store::Rows) -> convexinfra::store::TransactionOutcome,
    ) -> Result<(), convexinfra::store::StoreError> {
        self.0.transact(access, work)
    }
}

impl Platform for ObjectPlatform {
    fn read(&self, question: &mut dyn FnMut(&HostAuthority)) -> Result<(), ControlError> {
        question(&self.authority);
        Ok(())
    }

    fn write(&self, _: WriteMode, message: &mut dyn FnMut(&HostAuthority)) -> Result<(), ControlError> {
        message(&self.authority);
        Ok(())
    }

    fn lock_exclusive(&self, _: &str) -> Result<(), ControlError> {
        Ok(())
    }

    fn fingerprint_key(&self, project: &ProjectName, _: IfMissing) -> Result<Option<FingerprintKey>, ControlError> {
        Ok(Some(self.authority.vault().fingerprint_key(project)))
    }

    fn store_bytes(&self) -> u64 {
        u64::try_from(self.sql.database_size()).unwrap_or(u64::MAX)
    }

    fn now(&self) -> Timestamp {
        now()
    }

    fn uptime(&self) -> Duration {
        Duration::from_millis(Date::now().as_millis())
    }

    fn own_holder(&self) -> LeaseHolder {
        let (user, host) = ("control plane".to_owned(), "workers".to_owned());
        LeaseHolder { user, host, process: 0, process_start: None, since: now(), nonce: None }
    }

    fn liveness(&self, _: &LeaseHolder) -> Liveness {
        Liveness::Unknown
    }

    fn spawn(&self, task: BoxFuture<'static, ()>) {
        worker::wasm_bindgen_futures::spawn_local(task);
    }

    fn sleep(&self, duration: Duration) -> BoxFuture<'static, ()> {
        Box::pin(SendFuture::new(Delay::from(duration)))
    }
}

/// The time, as the platform has it: it stands still while nothing is waited for.
pub fn now() -> Timestamp {
    Timestamp(i64::try_from(Date::now().as_millis()).unwrap_or(i64::MAX))
}

fn entropy(bytes: &mut [u8]) -> Result<(), EntropyError> {
    getrandom::fill(bytes).map_err(|_| EntropyError)
}
