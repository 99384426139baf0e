//! Databases on servers: created under the name that Convex demands, claimed for one backend, released or dropped.
//!
//! Every verb looks first and may be repeated at any moment: a database that was created and not yet claimed is empty,
//! and an empty one may be claimed. A mark in the database, outside of the tables that Convex counts, says which backend
//! owns it, so that no two control planes take each other's data for their own.
//!
//! [`rows`] reads and writes what Convex keeps in them, and in SQLite files.
//!
//! The order of steps is here once, over the `Admin` of each engine. Which backend gets a database is decided elsewhere; of
//! a URL only host and port are ever shown.

mod admin;
pub mod connect;
mod error;
mod message_headers;
mod message_limit;
mod mysql;
mod mysql_error;
mod mysql_relay;
mod ownership;
mod postgres;
mod postgres_error;
pub mod rows;
mod stored_files;
mod version;

use std::time::Duration;

pub use error::{CertificateProblem, DatabaseError};
pub use ownership::{DatabaseOrigin, DatabaseOwner, Expectation};
pub use stored_files::FileStore;
pub use version::{Product, ServerVersion};

use self::admin::Admin;
use self::connect::{CONNECT_TIMEOUT, ConnectError};
use self::mysql::MysqlSession;
use self::ownership::{OwnerMark, check_ownership, is_owned};
use self::postgres::PostgresSession;
use crate::convex::database_url::server_endpoint;
use crate::failpoint;
use crate::model::{HostPolicy, Secret, Storage, Tls};
use crate::system::contained;

/// Limits how long one verb may take. A lock on a table, or a large database that is dropped, is waited for.
const OPERATION_TIMEOUT: Duration = Duration::from_secs(60);

/// How long a look may take.
const INSPECTION_TIMEOUT: Duration = Duration::from_secs(20);

/// How long one statement may take.
const STATEMENT_TIMEOUT: Duration = Duration::from_secs(50);

/// How often the round trip to the server is measured.
const ROUND_TRIP_SAMPLES: usize = 5;

/// Access to a server, with the privilege to create databases.
#[derive(Debug, Clone)]
pub struct DatabaseServer {
    storage: Storage,
    url: Secret,
    /// The authorities of `tls.ca`, as PEM.
    ca: Option<String>,
    policy: HostPolicy,
    /// The address of its host, where its name means something only where the backend runs.
    address: Option<std::net::IpAddr>,
    /// How much is asked of it.
    volume: connect::Volume,
    /// Host and port, which may be shown.
    name: String,
}

impl DatabaseServer {
    /// Takes the URL of a server, and the PEM text of `tls.ca` where the storage asks for it.
    ///
    /// # Errors
    /// [`DatabaseError::Url`] when Convex would not take the URL, [`DatabaseError::Certificates`] for a text without
    /// certificates.
    pub fn new(storage: Storage, url: Secret, ca: Option<String>, policy: HostPolicy) -> Result<Self, DatabaseError> {
        let name = server_endpoint(&storage, &url).map_err(DatabaseError::Url)?;
        let wants_ca = storage.server().is_some_and(|server| server.tls.has_own_authorities());
        if wants_ca {
            let missing = || DatabaseError::Certificates { reason: "their text was not handed over".to_owned() };
            connect::check_certificates(ca.as_deref().ok_or_else(missing)?)?;
        }
        let volume = connect::Volume::Answers;
        Ok(Self { storage, url, ca: ca.filter(|_| wants_ca), policy, address: None, volume, name })
    }

    /// Connects to this address instead of looking the host of the URL up here.
    #[must_use]
    pub fn at(self, address: Option<std::net::IpAddr>) -> Self {
        Self { address, ..self }
    }

    fn peer(&self) -> connect::Peer<'_> {
        connect::Peer::Foreign { policy: &self.policy, address: self.address, volume: self.volume }
    }

    fn tls(&self) -> connect::TlsMode<'_> {
        match self.storage.server().map(|server| &server.tls) {
            Some(Tls::Disable) => connect::TlsMode::Off,
            _ => connect::TlsMode::Verified(self.ca.as_deref()),
        }
    }

    /// Ends work on the server that takes longer than a limit, or that its driver panics over.
    async fn within<T>(
        &self,
        limit: Duration,
        work: impl Future<Output = Result<T, DatabaseError>>,
    ) -> Result<T, DatabaseError> {
        match tokio::time::timeout(limit, contained(work)).await {
            Ok(ended) => ended.unwrap_or_else(|panic| Err(self.unreachable(panic.into()))),
            Err(_) => Err(self.timed_out(limit)),
        }
    }

    fn timed_out(&self, limit: Duration) -> DatabaseError {
        self.unreachable(format!("it did not answer within {} s", limit.as_secs()).into())
    }

    fn unreachable(&self, source: Box<dyn std::error::Error + Send + Sync>) -> DatabaseError {
        DatabaseError::Unreachable { server: self.name.clone(), source }
    }

    /// Returns why a connection failed; `login` classifies what the engine itself said.
    fn connect_error<E>(&self, error: ConnectError<E>, login: impl FnOnce(E) -> DatabaseError) -> DatabaseError {
        let server = self.name.clone();
        match error {
            ConnectError::Certificates(error) => error,
            ConnectError::Forbidden => DatabaseError::HostForbidden { server },
            ConnectError::Network(source) => DatabaseError::Unreachable { server, source: source.into() },
            ConnectError::TimedOut => self.timed_out(CONNECT_TIMEOUT),
            ConnectError::Server(error) => login(error),
        }
    }

    fn certificate_error(&self, text: String) -> DatabaseError {
        let problem = CertificateProblem::from_text(&text, self.ca.is_some());
        DatabaseError::Certificate { server: self.name.clone(), problem, source: text.into() }
    }
}

/// The database that a backend needs on a server.
#[derive(Debug, Clone)]
pub struct DatabaseSpec {
    /// The name of the database.
    pub database: String,
    /// The backend that owns it.
    pub owner: DatabaseOwner,
    /// The role of the backend's own.
    pub role: BackendRole,
    /// Whether it may be created.
    pub expectation: Expectation,
    /// Where the backend keeps the files that its documents name.
    pub files: FileStore,
}

/// A role that may enter one database and nothing else.
#[derive(Debug, Clone)]
pub struct BackendRole {
    /// Its name, which is the backend's alone.
    pub name: String,
    /// Its password; none means that the backend enters as the user of the URL, and that the role has to go.
    pub password: Option<Secret>,
}

/// Describes what preparing a database found.
#[derive(Debug, Clone, PartialEq)]
pub struct Prepared {
    /// How the database came to be the backend's.
    pub origin: DatabaseOrigin,
    /// What the server calls itself.
    pub server: ServerVersion,
    /// How long one query takes.
    pub round_trip: Duration,
}

/// Describes what becomes of a database when its backend goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Disposal {
    /// It stays, and any backend of its name may take it up.
    Release,
    /// It stays with the files of its backend, which alone may take it up again.
    Retain,
    /// It is dropped with all its data.
    Drop,
}

/// Describes what became of a database.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Released {
    /// It stays.
    Retained,
    /// It was dropped. What lies in buckets is not in it: the prefix of its objects, where it has any.
    Dropped {
        /// The prefix under which the backend kept its files in S3.
        s3_prefix: Option<String>,
    },
    /// There is none of this name.
    Absent,
    /// Another backend owns it, and it was not touched.
    NotOwned,
}

/// Ensures that the database is there, belongs to the backend, and can be entered as the backend will enter it.
///
/// # Errors
/// [`DatabaseError`]: what is in the way. Nothing that belongs to others was touched then.
pub async fn prepare(server: &DatabaseServer, spec: &DatabaseSpec) -> Result<Prepared, DatabaseError> {
    let prepared = async {
        match &server.storage {
            Storage::Mysql(_) => prepare_with::<MysqlSession>(server, spec).await,
            Storage::Postgres(_) | Storage::Sqlite => prepare_with::<PostgresSession>(server, spec).await,
        }
    };
    server.within(OPERATION_TIMEOUT, prepared).await
}

/// Checks whether [`prepare`] could succeed, and changes nothing. What only an attempt shows, such as a missing privilege, is
/// not looked at.
///
/// # Errors
/// [`DatabaseError`]: what is in the way.
pub async fn inspect(server: &DatabaseServer, spec: &DatabaseSpec) -> Result<(), DatabaseError> {
    let inspected = async {
        match &server.storage {
            Storage::Mysql(_) => inspect_with::<MysqlSession>(server, spec).await,
            Storage::Postgres(_) | Storage::Sqlite => inspect_with::<PostgresSession>(server, spec).await,
        }
    };
    server.within(INSPECTION_TIMEOUT, inspected).await
}

/// Releases a database, retains it for its backend, or drops it.
///
/// # Errors
/// [`DatabaseError`]: what is in the way.
pub async fn release(server: &DatabaseServer, spec: &DatabaseSpec, disposal: Disposal) -> Result<Released, DatabaseError> {
    let released = async {
        match &server.storage {
            Storage::Mysql(_) => release_with::<MysqlSession>(server, spec, disposal).await,
            Storage::Postgres(_) | Storage::Sqlite => release_with::<PostgresSession>(server, spec, disposal).await,
        }
    };
    server.within(OPERATION_TIMEOUT, released).await
}

/// Returns the prefix under which the owner of a database keeps its files in S3; none where the database names none, is
/// absent, or belongs to another owner.
///
/// # Errors
/// [`DatabaseError`]: what is in the way.
pub async fn stored_prefix(server: &DatabaseServer, spec: &DatabaseSpec) -> Result<Option<String>, DatabaseError> {
    let read = async {
        match &server.storage {
            Storage::Mysql(_) => stored_prefix_with::<MysqlSession>(server, spec).await,
            Storage::Postgres(_) | Storage::Sqlite => stored_prefix_with::<PostgresSession>(server, spec).await,
        }
    };
    server.within(INSPECTION_TIMEOUT, read).await
}

async fn stored_prefix_with<A: Admin>(server: &DatabaseServer, spec: &DatabaseSpec) -> Result<Option<String>, DatabaseError> {
    let Some(mut session) = A::open(server, &spec.database).await? else { return Ok(None) };
    let content = session.content().await?;
    if is_owned(&content, spec) { stored_files::s3_prefix(&mut session).await } else { Ok(None) }
}

async fn prepare_with<A: Admin>(server: &DatabaseServer, spec: &DatabaseSpec) -> Result<Prepared, DatabaseError> {
    let missing = || DatabaseError::DataMissing { database: spec.database.clone() };
    let (mut session, created) = match A::open(server, &spec.database).await? {
        Some(session) => (session, false),
        None if spec.expectation == Expectation::MustExist => return Err(missing()),
        None => {
            A::create(server, &spec.database).await?;
            failpoint::hit("database.made");
            (A::open(server, &spec.database).await?.ok_or_else(missing)?, true)
        }
    };
    let version = session.require_usable().await?;
    let content = session.content().await?;
    let origin = check_ownership(&content, spec)?;
    // Before anything is claimed: a database without its files is not one that this backend can run on.
    if content.has_documents {
        stored_files::check(&mut session, spec).await?;
    }
    session.claim(&spec.owner).await?;
    check_ownership(&session.content().await?, spec)?;
    failpoint::hit("database.claimed");
    let round_trip = match &spec.role.password {
        Some(password) => {
            session.grant(&spec.role, password).await?;
            failpoint::hit("database.granted");
            // The server's access rules may let in the one and not the other.
            A::open_as(server, &spec.role, password, &spec.database).await?.measure_round_trip().await?
        }
        None => {
            session.revoke(&spec.role).await?;
            session.measure_round_trip().await?
        }
    };
    let origin = if created && origin == DatabaseOrigin::FoundEmpty { DatabaseOrigin::Created } else { origin };
    Ok(Prepared { origin, server: version, round_trip })
}

async fn inspect_with<A: Admin>(server: &DatabaseServer, spec: &DatabaseSpec) -> Result<(), DatabaseError> {
    let Some(mut session) = A::open(server, &spec.database).await? else {
        return match spec.expectation {
            Expectation::MustExist => Err(DatabaseError::DataMissing { database: spec.database.clone() }),
            Expectation::MayCreate => A::require_server(server).await,
        };
    };
    session.require_usable().await?;
    let content = session.content().await?;
    check_ownership(&content, spec)?;
    if content.has_documents {
        stored_files::check(&mut session, spec).await?;
    }
    Ok(())
}

async fn release_with<A: Admin>(
    server: &DatabaseServer,
    spec: &DatabaseSpec,
    disposal: Disposal,
) -> Result<Released, DatabaseError> {
    let Some(mut session) = A::open(server, &spec.database).await? else {
        A::drop_role(server, &spec.role).await?;
        return Ok(Released::Absent);
    };
    let content = session.content().await?;
    if !is_owned(&content, spec) {
        drop(session);
        A::drop_role(server, &spec.role).await?;
        return Ok(Released::NotOwned);
    }
    match disposal {
        Disposal::Drop => {
            // What cannot be read any more is no reason to keep the rest.
            let s3_prefix = stored_files::s3_prefix(&mut session).await.ok().flatten();
            drop(session);
            A::drop_database(server, &spec.database).await?;
            failpoint::hit("database.dropped");
            A::drop_role(server, &spec.role).await?;
            return Ok(Released::Dropped { s3_prefix });
        }
        Disposal::Release if content.mark != OwnerMark::Absent => {
            session.revoke(&spec.role).await?;
            session.release().await?;
            failpoint::hit("database.given_back");
        }
        Disposal::Release => {}
        Disposal::Retain => {
            session.revoke(&spec.role).await?;
            session.claim(&spec.owner.retaining()).await?;
            failpoint::hit("database.retained");
        }
    }
    Ok(Released::Retained)
}

/// Returns the median of several measurements: the first query warms things up, and one may be unlucky.
fn median(mut times: [Duration; ROUND_TRIP_SAMPLES]) -> Duration {
    times.sort();
    times[ROUND_TRIP_SAMPLES / 2]
}
