//! What the shared flow asks of an engine's administrative session.

use std::time::{Duration, Instant};

use super::ownership::{DatabaseContent, DatabaseOwner};
use super::{BackendRole, DatabaseError, DatabaseServer, ROUND_TRIP_SAMPLES, ServerVersion, median};
use crate::model::Secret;

/// One document of Convex as its row holds it.
pub(super) struct StoredDocument {
    pub(super) id: Vec<u8>,
    pub(super) value: Vec<u8>,
    /// When this revision was written.
    pub(super) ts: i64,
}

/// A session in one database, as the user of the server's URL.
pub(super) trait Admin: Sized + Send {
    /// Opens a database; none where it is not there.
    fn open(server: &DatabaseServer, database: &str) -> impl Future<Output = Result<Option<Self>, DatabaseError>> + Send;

    /// Opens a database as the backend's role.
    fn open_as(
        server: &DatabaseServer,
        role: &BackendRole,
        password: &Secret,
        database: &str,
    ) -> impl Future<Output = Result<Self, DatabaseError>> + Send;

    /// Refuses a server on which Convex does not run.
    fn require_server(server: &DatabaseServer) -> impl Future<Output = Result<(), DatabaseError>> + Send;

    /// Creates a database on a server on which Convex runs. One that came to be in the meantime is no error.
    fn create(server: &DatabaseServer, database: &str) -> impl Future<Output = Result<(), DatabaseError>> + Send;

    /// Drops a database, also where it is still in use.
    fn drop_database(server: &DatabaseServer, database: &str) -> impl Future<Output = Result<(), DatabaseError>> + Send;

    /// Drops a role that owns nothing any more.
    fn drop_role(server: &DatabaseServer, role: &BackendRole) -> impl Future<Output = Result<(), DatabaseError>> + Send;

    /// Refuses a server on which Convex does not run, or that takes no writes.
    fn require_usable(&mut self) -> impl Future<Output = Result<ServerVersion, DatabaseError>> + Send;

    /// Reads what says who owns the database.
    fn content(&mut self) -> impl Future<Output = Result<DatabaseContent, DatabaseError>> + Send;

    /// Writes the owner's mark unless it names another backend, and moves one from where older releases kept it.
    fn claim(&mut self, owner: &DatabaseOwner) -> impl Future<Output = Result<(), DatabaseError>> + Send;

    /// Marks the database as released.
    fn release(&mut self) -> impl Future<Output = Result<(), DatabaseError>> + Send;

    /// Lets a role in, and grants it this database and nothing else.
    fn grant(&mut self, role: &BackendRole, password: &Secret) -> impl Future<Output = Result<(), DatabaseError>> + Send;

    /// Takes everything that a role owns here back, and drops it.
    fn revoke(&mut self, role: &BackendRole) -> impl Future<Output = Result<(), DatabaseError>> + Send;

    /// Returns the value of one of Convex's globals.
    fn global(&mut self, key: &str) -> impl Future<Output = Result<Option<Vec<u8>>, DatabaseError>> + Send;

    /// Returns the newest revisions of the documents of one of Convex's tables, without deleted ones.
    async fn live_documents(&mut self, table: &[u8; 16], limit: u32) -> Result<Vec<StoredDocument>, DatabaseError>;

    /// Runs one query that does nothing.
    fn ping(&mut self) -> impl Future<Output = Result<(), DatabaseError>> + Send;

    /// Measures how long one query takes.
    fn measure_round_trip(&mut self) -> impl Future<Output = Result<Duration, DatabaseError>> + Send {
        async move {
            let mut times = [Duration::ZERO; ROUND_TRIP_SAMPLES];
            for time in &mut times {
                let asked = Instant::now();
                self.ping().await?;
                *time = asked.elapsed();
            }
            Ok(median(times))
        }
    }
}

/// Returns the newest live revisions of one table's documents; `documents` is the qualified table, `table` a literal of 16
/// bytes.
pub(super) fn live_documents_sql(documents: &str, table: &str, limit: u32) -> String {
    format!(
        "SELECT d.id, d.json_value, d.ts FROM {documents} d
         JOIN (SELECT id, max(ts) AS ts FROM {documents} WHERE table_id = {table} GROUP BY id) n ON n.id = d.id AND n.ts = d.ts
         WHERE d.table_id = {table} AND NOT coalesce(d.deleted, false) ORDER BY d.ts LIMIT {limit}"
    )
}
