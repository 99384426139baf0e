//! The rows that a control plane keeps, behind one synchronous trait.
//!
//! Must not do: decide anything. It keeps rows, whole transactions at a time; what a row means is the authority's
//! business. Synchronous, because the SQL of a Durable Object is, and so is SQLite here.

mod row;
mod sqlite;
mod sqlite_rows;

pub use row::{BackendRow, EventRow, LeaseRow, OperationRow, ProjectRow};
pub use sqlite::{Durability, SqliteStore};

use crate::model::{BackendId, BackendName, InstanceName, OperationId, PortPair, ProjectName};

/// Rows inside one transaction.
pub trait Rows {
    /// One project.
    fn project(&self, name: &ProjectName) -> Result<Option<ProjectRow>, StoreError>;
    /// The names of all projects.
    fn projects(&self) -> Result<Vec<ProjectName>, StoreError>;
    /// Writes a project.
    fn put_project(&self, row: &ProjectRow) -> Result<(), StoreError>;
    /// The backends of a project, by name.
    fn backends(&self, project: &ProjectName) -> Result<Vec<BackendRow>, StoreError>;
    /// One backend.
    fn backend(&self, project: &ProjectName, name: &BackendName) -> Result<Option<BackendRow>, StoreError>;
    /// One backend by its identity.
    fn backend_by_id(&self, id: &BackendId) -> Result<Option<BackendRow>, StoreError>;
    /// Writes a backend.
    fn put_backend(&self, row: &BackendRow) -> Result<(), StoreError>;
    /// Forgets a backend.
    fn delete_backend(&self, id: &BackendId) -> Result<(), StoreError>;
    /// Whether any project has an instance of this name.
    fn instance_name_taken(&self, name: &InstanceName) -> Result<bool, StoreError>;
    /// The ports that all backends of all projects hold, ascending by the first of each pair.
    fn ports(&self) -> Result<Vec<PortPair>, StoreError>;
    /// The operation that was accepted under a key.
    fn operation(&self, project: &ProjectName, key: &str) -> Result<Option<OperationRow>, StoreError>;
    /// Appends an accepted operation and returns its id.
    fn accept_operation(&self, row: &OperationRow) -> Result<OperationId, StoreError>;
    /// Notes how an operation ended.
    fn end_operation(&self, id: &OperationId, ended_at: crate::model::Timestamp, outcome: &str) -> Result<(), StoreError>;
    /// The lease of a project.
    fn lease(&self, project: &ProjectName) -> Result<Option<LeaseRow>, StoreError>;
    /// Writes a lease.
    fn put_lease(&self, row: &LeaseRow) -> Result<(), StoreError>;
    /// Appends an event.
    fn append_event(&self, event: &EventRow) -> Result<(), StoreError>;
    /// The last events of a project, oldest first.
    fn events(&self, project: &ProjectName, limit: u32) -> Result<Vec<EventRow>, StoreError>;
}

/// A place that keeps rows.
pub trait Store {
    /// Reads in one consistent view.
    ///
    /// # Errors
    /// Whatever `work` returns, or why the view could not be had.
    fn read<T, E: From<StoreError>>(&self, work: impl FnOnce(&dyn Rows) -> Result<T, E>) -> Result<T, E>;

    /// Writes in one transaction: all of it or, on an error, nothing.
    ///
    /// # Errors
    /// Whatever `work` returns, or why it could not be committed.
    fn write<T, E: From<StoreError>>(
        &self,
        durability: Durability,
        work: impl FnOnce(&dyn Rows) -> Result<T, E>,
    ) -> Result<T, E>;
}

/// Why rows could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The file belongs to a newer convexinfra.
    #[error("the store `{path}` was written by a newer convexinfra (schema {found}, this one knows up to {known})")]
    Newer {
        /// The file.
        path: String,
        /// Its schema.
        found: u32,
        /// The newest schema that this build knows.
        known: u32,
    },
    /// The file is not a store, or a damaged one.
    #[error("the store `{path}` is damaged or is no convexinfra store")]
    Damaged {
        /// The file.
        path: String,
        /// What SQLite says.
        #[source]
        source: rusqlite::Error,
    },
    /// There is no room to write.
    #[error("there is no room left to write `{path}`")]
    Full {
        /// The file.
        path: String,
    },
    /// The file may not be read or written.
    #[error("the store `{path}` may not be read or written")]
    Denied {
        /// The file.
        path: String,
        /// What the system says.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// Another process has been writing for too long.
    #[error("the store `{path}` stayed locked by another process")]
    Busy {
        /// The file.
        path: String,
    },
    /// A row does not say what a row says.
    #[error("the store `{path}` has a row that cannot be read: {what}")]
    Row {
        /// The file.
        path: String,
        /// Which one.
        what: String,
    },
    /// Anything else that SQLite says.
    #[error("the store `{path}` could not be used")]
    Sql {
        /// The file.
        path: String,
        /// What SQLite says.
        #[source]
        source: rusqlite::Error,
    },
}

#[cfg(test)]
mod tests;
