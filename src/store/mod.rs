//! The rows that a control plane keeps, behind one synchronous trait.
//!
//! Must not do: decide anything. It keeps rows, whole transactions at a time; what a row means is the authority's
//! business. Synchronous, because the SQL of a Durable Object is, and so is SQLite here.

mod error;
mod row;
pub mod sql;
#[cfg(feature = "native")]
mod sqlite;

pub use error::StoreError;
pub use row::{
    BackendRow, ChainLink, ChainRow, Compensation, EventRow, KeyCheckRow, LeaseRow, OperationProgress, OperationRetention,
    OperationRow, ProjectRow, RetainedRow, TokenRow, UnreadableRow,
};
#[cfg(feature = "native")]
pub use sqlite::SqliteStore;

use std::collections::{BTreeMap, BTreeSet};

use crate::model::{
    BackendId, BackendName, InstanceName, OperationId, PortPair, ProjectName, Quota, Revision, StepKey, Timestamp, TokenId,
    Usage,
};

/// The histories, inside a transaction: events, and the chains that bind them.
pub trait HistoryRows {
    /// Returns the recorded end of a project's history, or of the control plane's.
    fn chain(&self, project: Option<&ProjectName>) -> Result<Option<ChainRow>, StoreError>;
    /// Returns whether any history has a recorded end.
    fn has_chains(&self) -> Result<bool, StoreError>;
    /// Writes it.
    fn put_chain(&self, row: &ChainRow) -> Result<(), StoreError>;
    /// Appends an event.
    fn append_event(&self, event: &EventRow) -> Result<(), StoreError>;
    /// Returns the number of the last event before the first one that is chained, over all projects; zero where there is
    /// none.
    fn last_unchained(&self) -> Result<u64, StoreError>;
    /// Returns the events of a project, or of none, after the one with this number, oldest first.
    fn events_after(&self, project: Option<&ProjectName>, after: Option<u64>, limit: u32) -> Result<Vec<EventRow>, StoreError>;
    /// Returns how many events of a project, or of none, are older than the chain that binds the others.
    fn unbound_events(&self, project: Option<&ProjectName>) -> Result<u64, StoreError>;
    /// Returns the last events of a chain before a position, oldest first.
    fn last_bound_events(&self, project: Option<&ProjectName>, before: u64, limit: u32) -> Result<Vec<EventRow>, StoreError>;
    /// Returns the first events of a chain after a position, oldest first.
    fn bound_events_after(&self, project: Option<&ProjectName>, after: u64, limit: u32) -> Result<Vec<EventRow>, StoreError>;
    /// Returns the last events that are older than their chain, but for so many, oldest first.
    fn last_unbound_events(&self, project: Option<&ProjectName>, skipped: u64, limit: u32)
    -> Result<Vec<EventRow>, StoreError>;
    /// Returns whose chains have more events than so many.
    fn long_chains(&self, longer: u64) -> Result<Vec<Option<ProjectName>>, StoreError>;
    /// Removes the events of a chain up to a position, which the chain must name as pruned.
    fn delete_events(&self, project: Option<&ProjectName>, until: u64) -> Result<(), StoreError>;
}

/// Rows inside one transaction.
pub trait Rows: HistoryRows {
    /// Returns one project.
    fn project(&self, name: &ProjectName) -> Result<Option<ProjectRow>, StoreError>;
    /// Returns the names of all projects.
    fn projects(&self) -> Result<Vec<ProjectName>, StoreError>;
    /// Writes a project.
    fn put_project(&self, row: &ProjectRow) -> Result<(), StoreError>;
    /// Returns the backends of a project, by name.
    fn backends(&self, project: &ProjectName) -> Result<Vec<BackendRow>, StoreError>;
    /// Returns one backend.
    fn backend(&self, project: &ProjectName, name: &BackendName) -> Result<Option<BackendRow>, StoreError>;
    /// Returns one backend by its identity.
    fn backend_by_id(&self, id: &BackendId) -> Result<Option<BackendRow>, StoreError>;
    /// Writes a backend.
    fn put_backend(&self, row: &BackendRow) -> Result<(), StoreError>;
    /// Forgets a backend.
    fn delete_backend(&self, id: &BackendId) -> Result<(), StoreError>;
    /// Returns which rows of all projects cannot be read, but for operations, which their resumption names.
    fn unreadable_rows(&self) -> Result<Vec<UnreadableRow>, StoreError>;
    /// Returns what destroyed backends of a project left behind, or of all projects, the oldest first.
    fn retained(&self, project: Option<&ProjectName>) -> Result<Vec<RetainedRow>, StoreError>;
    /// Writes what a destroyed backend left behind.
    fn put_retained(&self, row: &RetainedRow) -> Result<(), StoreError>;
    /// Forgets what a destroyed backend left behind.
    fn delete_retained(&self, id: &BackendId) -> Result<(), StoreError>;
    /// Returns whether any project has an instance of this name, or the data of one.
    fn instance_name_taken(&self, name: &InstanceName) -> Result<bool, StoreError>;
    /// Returns the ports that all backends of all projects hold, ascending by the first of each pair.
    fn ports(&self) -> Result<Vec<PortPair>, StoreError>;
    /// Returns the backends whose time was over before this moment, the longest first.
    fn expired(&self, before: Timestamp) -> Result<Vec<BackendRow>, StoreError>;
    /// Returns what all backends of a project ask for together.
    fn usage(&self, project: &ProjectName) -> Result<Usage, StoreError>;
    /// Returns the operation that was accepted for a step.
    fn operation(&self, project: &ProjectName, step: &StepKey) -> Result<Option<OperationRow>, StoreError>;
    /// Returns the operation of the last attempt at a step: the step itself, or the last one, in the order of the texts,
    /// that is the step, a colon and something more.
    fn last_attempt(&self, project: &ProjectName, first: &StepKey) -> Result<Option<OperationRow>, StoreError>;
    /// Returns one operation by its id.
    fn operation_by_id(&self, id: &OperationId) -> Result<Option<OperationRow>, StoreError>;
    /// Returns the last operations of a project, oldest first.
    fn operations(&self, project: &ProjectName, limit: u32) -> Result<Vec<OperationRow>, StoreError>;
    /// Returns the operations that have not ended, of one project or of all, oldest first.
    fn open_operations(&self, project: Option<&ProjectName>) -> Result<Vec<OperationRow>, StoreError>;
    /// Returns the operations of all projects that have not ended, oldest first, and which rows of them cannot be read.
    fn all_open_operations(&self) -> Result<(Vec<OperationRow>, Vec<UnreadableRow>), StoreError>;
    /// Writes how far an operation came.
    fn put_progress(&self, id: &OperationId, progress: &OperationProgress) -> Result<(), StoreError>;
    /// Deletes operations that ended before this moment and have no notices, but for the newest `kept` of each project.
    fn prune_operations(&self, kept: OperationRetention) -> Result<(), StoreError>;
    /// Returns the ids of all backends.
    fn backend_ids(&self) -> Result<BTreeSet<String>, StoreError>;
    /// Notes that a backend was removed because its time was over, or forgets that.
    fn put_expired(&self, project: &ProjectName, name: &BackendName, ended_at: Option<Timestamp>) -> Result<(), StoreError>;
    /// Returns the backends of a project that were removed because their time was over, and when it was.
    fn expired_names(&self, project: &ProjectName) -> Result<BTreeMap<BackendName, Timestamp>, StoreError>;
    /// Returns the operations on one backend that have not ended, oldest first.
    fn open_operations_on(&self, project: &ProjectName, backend: &BackendName) -> Result<Vec<OperationRow>, StoreError>;
    /// Appends an accepted operation and returns its id.
    fn accept_operation(&self, row: &OperationRow) -> Result<OperationId, StoreError>;
    /// Notes what an operation still has to make once the old backend is gone.
    fn put_pending(&self, id: &OperationId, pending: Option<&[u8]>) -> Result<(), StoreError>;
    /// Notes how an operation ended.
    fn end_operation(&self, id: &OperationId, ended_at: Timestamp, outcome: &str) -> Result<(), StoreError>;
    /// Appends what an operation says, and returns its number in that operation, from 1.
    fn append_notice(&self, id: &OperationId, message: &str) -> Result<u64, StoreError>;
    /// Returns what an operation has said after a number.
    fn notices(&self, id: &OperationId, after: u64) -> Result<Vec<(u64, String)>, StoreError>;
    /// Forgets what operations said that ended before this moment.
    fn prune_notices(&self, before: Timestamp) -> Result<(), StoreError>;
    /// Returns the lease of a project.
    fn lease(&self, project: &ProjectName) -> Result<Option<LeaseRow>, StoreError>;
    /// Returns the leases that are held.
    fn leases(&self) -> Result<Vec<LeaseRow>, StoreError>;
    /// Notes how many backends a project has whose rows are elsewhere, unless that was said at a later revision.
    fn put_registered(&self, project: &ProjectName, revision: Revision, backends: u32) -> Result<(), StoreError>;
    /// Returns how many backends all projects have whose rows are elsewhere.
    fn registered(&self) -> Result<u32, StoreError>;
    /// Writes a lease.
    fn put_lease(&self, row: &LeaseRow) -> Result<(), StoreError>;
    /// Returns all tokens, oldest first.
    fn tokens(&self) -> Result<Vec<TokenRow>, StoreError>;
    /// Returns the tokens that can be read, oldest first, and which rows of them cannot.
    fn readable_tokens(&self) -> Result<(Vec<TokenRow>, Vec<UnreadableRow>), StoreError>;
    /// Returns one token.
    fn token(&self, id: &TokenId) -> Result<Option<TokenRow>, StoreError>;
    /// Writes a token. One that was revoked stays so.
    fn put_token(&self, row: &TokenRow) -> Result<(), StoreError>;
    /// Returns the mark of the master key under which these rows are written. A column that cannot be read is as good as empty.
    fn key_check(&self) -> Result<Option<KeyCheckRow>, StoreError>;
    /// Writes it, in place of the one that there was.
    fn put_key_check(&self, row: &KeyCheckRow) -> Result<(), StoreError>;
    /// Forgets what the operations that have ended were asked for.
    fn forget_requests(&self) -> Result<(), StoreError>;
    /// Returns the ceilings of a project, or those of every project that has none of its own.
    fn quota(&self, project: Option<&ProjectName>) -> Result<Option<Quota>, StoreError>;
    /// Writes them.
    fn put_quota(&self, project: Option<&ProjectName>, quota: &Quota) -> Result<(), StoreError>;
}

/// Describes what a transaction must survive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Durability {
    /// The end of any process. Enough where nothing outside the store happened.
    NoFsync,
    /// The loss of power as well. Needed before and after every effect outside the store.
    Fsync,
}

/// Describes what a transaction is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Reading in one consistent view.
    Read,
    /// Writing, and what that must survive.
    Write(Durability),
}

/// Describes what becomes of a transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TransactionOutcome {
    /// What was written stays.
    Commit,
    /// Nothing was written.
    Rollback,
}

/// A place that keeps rows.
pub trait Store {
    /// Runs `work` once, in one transaction of its own: all of what it writes or, unless it says [`TransactionOutcome::Commit`],
    /// nothing.
    ///
    /// # Errors
    /// Why the transaction could not be begun or committed; nothing is written then.
    fn transact(&self, access: Access, work: &mut dyn FnMut(&dyn Rows) -> TransactionOutcome) -> Result<(), StoreError>;

    /// Reads in one consistent view.
    ///
    /// # Errors
    /// The error of `work`, or why the view could not be opened.
    fn read<T, E: From<StoreError>>(&self, work: impl FnOnce(&dyn Rows) -> Result<T, E>) -> Result<T, E>
    where
        Self: Sized,
    {
        run_transaction(self, Access::Read, work)
    }

    /// Writes in one transaction: all of it or, on an error, nothing.
    ///
    /// # Errors
    /// The error of `work`, or why it could not be committed.
    fn write<T, E: From<StoreError>>(
        &self,
        durability: Durability,
        work: impl FnOnce(&dyn Rows) -> Result<T, E>,
    ) -> Result<T, E>
    where
        Self: Sized,
    {
        run_transaction(self, Access::Write(durability), work)
    }
}

impl<S: Store> Store for &S {
    fn transact(&self, access: Access, work: &mut dyn FnMut(&dyn Rows) -> TransactionOutcome) -> Result<(), StoreError> {
        (**self).transact(access, work)
    }
}

/// Names a store of any kind.
pub type DynStore = Box<dyn Store + Send>;

impl Store for DynStore {
    fn transact(&self, access: Access, work: &mut dyn FnMut(&dyn Rows) -> TransactionOutcome) -> Result<(), StoreError> {
        (**self).transact(access, work)
    }
}

fn run_transaction<S: Store, T, E: From<StoreError>>(
    store: &S,
    access: Access,
    work: impl FnOnce(&dyn Rows) -> Result<T, E>,
) -> Result<T, E> {
    let (mut work, mut result) = (Some(work), None);
    store.transact(access, &mut |rows| match work.take() {
        Some(work) => {
            let ended = work(rows);
            let verdict = if ended.is_ok() { TransactionOutcome::Commit } else { TransactionOutcome::Rollback };
            result = Some(ended);
            verdict
        }
        None => TransactionOutcome::Rollback,
    })?;
    result.unwrap_or_else(|| Err(StoreError::NotRun.into()))
}

#[cfg(test)]
mod tests;
