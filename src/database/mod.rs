//! Database servers: making the database of a backend under the name that Convex demands, and taking it away again.
//!
//! Every verb looks first and may be repeated at any moment: a database that was made and not yet claimed is empty,
//! and an empty one may be claimed. A table in the database itself says which backend it belongs to, so that no two
//! control planes take each other's data for their own.
//!
//! Must not do: decide which backend gets a database, keep a password, or show any part of a URL but host and port.

pub mod connect;
mod error;
mod mysql;
mod postgres;

use std::time::Duration;

pub use error::DatabaseError;

use crate::convex::database_url::server_endpoint;
use crate::model::{BackendId, DatabaseReclaim, Secret, Storage, Tls};

/// The table that says whose database this is. Convex does not know it and leaves it alone.
const OWNER_TABLE: &str = "convexinfra_owner";

/// How long all of it may take. A lock that somebody holds on a table, or a large database that is dropped, is waited for.
const OPERATION_TIMEOUT: Duration = Duration::from_secs(120);

/// How often the way to the server is measured.
const ROUND_TRIP_SAMPLES: usize = 5;

/// Access to a server, with the right to make databases.
#[derive(Debug, Clone)]
pub struct DatabaseServer {
    storage: Storage,
    url: Secret,
    /// Host and port, which may be shown.
    name: String,
}

impl DatabaseServer {
    /// Takes the URL of a server.
    ///
    /// # Errors
    /// [`DatabaseError::Url`] when Convex would not take it.
    pub fn new(storage: Storage, url: Secret) -> Result<Self, DatabaseError> {
        let name = server_endpoint(&storage, &url).map_err(DatabaseError::Url)?;
        Ok(Self { storage, url, name })
    }

    fn timed_out(&self, patience: Duration) -> DatabaseError {
        let source = format!("it did not answer within {} s", patience.as_secs()).into();
        DatabaseError::Unreachable { server: self.name.clone(), source }
    }

    fn tls(&self) -> &Tls {
        self.storage.server().map_or(&Tls::Verify, |server| &server.tls)
    }
}

/// What there should be on a server.
#[derive(Debug, Clone)]
pub struct DatabaseSpec {
    /// The name of the database.
    pub database: String,
    /// Whose it is.
    pub owner: DatabaseOwner,
    /// The role of the backend's own.
    pub role: BackendRole,
    /// What must be there already.
    pub expectation: Expectation,
}

/// Whose a database is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DatabaseOwner {
    /// The backend's identity, which no other control plane hands out.
    pub backend: BackendId,
    /// Project and backend by name, for people.
    pub label: String,
}

/// A role with nothing but the right to one database.
#[derive(Debug, Clone)]
pub struct BackendRole {
    /// Its name, which is the backend's alone.
    pub name: String,
    /// Its password; none means that the backend enters as the user of the URL, and that the role has to go.
    pub password: Option<Secret>,
}

/// What must be in a database already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expectation {
    /// Nothing: it may be made.
    MayCreate,
    /// The backend's data: an empty database in its place would hide that the data is gone.
    MustExist,
}

/// How a database came to be the backend's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DatabaseOrigin {
    /// It was made now.
    Created,
    /// Somebody had made it, and it was empty.
    FoundEmpty,
    /// A backend that is gone had left it with its data.
    Retained,
    /// It was the backend's before.
    AlreadyOwned,
}

/// What was found out while a database was prepared.
#[derive(Debug, Clone, PartialEq)]
pub struct Prepared {
    /// How the database came to be the backend's.
    pub origin: DatabaseOrigin,
    /// What the server calls itself.
    pub server: ServerVersion,
    /// How long one question takes.
    pub round_trip: Duration,
}

/// What became of a database.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Released {
    /// It stays, for whoever takes it up next.
    Retained,
    /// It is gone.
    Dropped,
    /// There is none of this name.
    Absent,
    /// It is somebody else's and was not touched.
    NotOwned,
}

/// Which server this is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerVersion {
    /// The product.
    pub product: Product,
    /// Its major version.
    pub major: u32,
    /// Its minor version.
    pub minor: u32,
}

/// The products that speak the two protocols.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Product {
    /// PostgreSQL.
    Postgres,
    /// MySQL.
    Mysql,
    /// MariaDB.
    MariaDb,
}

impl Product {
    /// The oldest version that is supported by its makers or widely hosted, and has what is used here.
    fn minimum_version(self) -> (u32, u32) {
        match self {
            Self::Postgres => (12, 0),
            Self::Mysql => (8, 0),
            Self::MariaDb => (10, 5),
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Postgres => "PostgreSQL",
            Self::Mysql => "MySQL",
            Self::MariaDb => "MariaDB",
        }
    }
}

impl std::fmt::Display for ServerVersion {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}.{}", self.product.name(), self.major, self.minor)
    }
}

impl ServerVersion {
    fn require_supported(self) -> Result<Self, DatabaseError> {
        let (major, minor) = self.product.minimum_version();
        match (self.major, self.minor) >= (major, minor) {
            true => Ok(self),
            false => Err(DatabaseError::TooOld { found: self.to_string(), least: format!("{major}.{minor}") }),
        }
    }
}

/// Sees to it that the database is there, belongs to the backend, and can be entered as the backend will enter it.
///
/// # Errors
/// [`DatabaseError`]: what is in the way. Nothing of anybody else's was touched then.
pub async fn prepare(server: &DatabaseServer, wanted: &DatabaseSpec) -> Result<Prepared, DatabaseError> {
    let prepared = async {
        match &server.storage {
            Storage::Mysql(_) => mysql::prepare(server, wanted).await,
            Storage::Postgres(_) | Storage::Sqlite => postgres::prepare(server, wanted).await,
        }
    };
    tokio::time::timeout(OPERATION_TIMEOUT, prepared).await.unwrap_or_else(|_| Err(server.timed_out(OPERATION_TIMEOUT)))
}

/// Gives a database back: either to whoever comes next, or to nobody.
///
/// # Errors
/// [`DatabaseError`]: what is in the way.
pub async fn release(
    server: &DatabaseServer,
    wanted: &DatabaseSpec,
    disposal: DatabaseReclaim,
) -> Result<Released, DatabaseError> {
    let released = async {
        match &server.storage {
            Storage::Mysql(_) => mysql::release(server, wanted, disposal).await,
            Storage::Postgres(_) | Storage::Sqlite => postgres::release(server, wanted, disposal).await,
        }
    };
    tokio::time::timeout(OPERATION_TIMEOUT, released).await.unwrap_or_else(|_| Err(server.timed_out(OPERATION_TIMEOUT)))
}

/// What stands in a database, as far as it says whose it is.
#[derive(Debug, Clone, PartialEq, Eq)]
struct DatabaseContent {
    /// How many tables there are besides [`OWNER_TABLE`].
    tables: u64,
    /// What [`OWNER_TABLE`] says.
    claim: OwnerMark,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum OwnerMark {
    /// There is no such table.
    Absent,
    /// It is there and empty.
    Released,
    /// It names a backend: the id and the label.
    HeldBy(String, String),
}

/// What to make of a database that is there: how it becomes the backend's, or why it must not.
fn check_ownership(content: &DatabaseContent, wanted: &DatabaseSpec) -> Result<DatabaseOrigin, DatabaseError> {
    let database = || wanted.database.clone();
    match (&content.claim, wanted.expectation) {
        (OwnerMark::HeldBy(id, _), _) if *id == wanted.owner.backend.as_str() => Ok(DatabaseOrigin::AlreadyOwned),
        (OwnerMark::HeldBy(_, label), _) => Err(DatabaseError::OwnedByOther { database: database(), holder: label.clone() }),
        (_, Expectation::MustExist) if content.tables == 0 => Err(DatabaseError::DataMissing { database: database() }),
        // It ran on this database before there were claims.
        (_, Expectation::MustExist) => Ok(DatabaseOrigin::AlreadyOwned),
        (_, Expectation::MayCreate) if content.tables == 0 => Ok(DatabaseOrigin::FoundEmpty),
        (OwnerMark::Released, Expectation::MayCreate) => Ok(DatabaseOrigin::Retained),
        (OwnerMark::Absent, Expectation::MayCreate) => {
            Err(DatabaseError::NotEmpty { database: database(), tables: content.tables })
        }
    }
}

/// The middle one of several measurements: the first question warms things up, and one may be unlucky.
fn median(mut times: [Duration; ROUND_TRIP_SAMPLES]) -> Duration {
    times.sort();
    times[ROUND_TRIP_SAMPLES / 2]
}

/// What may be done to a database that is there.
fn release_outcome(content: &DatabaseContent, wanted: &DatabaseSpec, disposal: DatabaseReclaim) -> Released {
    let ours = match (&content.claim, wanted.expectation) {
        (OwnerMark::HeldBy(id, _), _) => *id == wanted.owner.backend.as_str(),
        // Empty, or left by one that went before, or ours from before there were claims.
        (OwnerMark::Released, _) | (OwnerMark::Absent, Expectation::MustExist) => true,
        (OwnerMark::Absent, Expectation::MayCreate) => content.tables == 0,
    };
    match disposal {
        _ if !ours => Released::NotOwned,
        DatabaseReclaim::Retain => Released::Retained,
        DatabaseReclaim::Delete => Released::Dropped,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(tables: u64, claim: OwnerMark, expects: Expectation) -> Result<DatabaseOrigin, DatabaseError> {
        let owner = DatabaseOwner { backend: BackendId::new("mine"), label: "gremlin/dev".to_owned() };
        let role = BackendRole { name: "convex_mine".to_owned(), password: None };
        check_ownership(
            &DatabaseContent { tables, claim },
            &DatabaseSpec { database: "gremlin_dev".to_owned(), owner, role, expectation: expects },
        )
    }

    #[test]
    fn only_what_is_ours_left_behind_or_empty_is_taken() {
        let held = |id: &str| OwnerMark::HeldBy(id.to_owned(), "other/dev".to_owned());
        for tables in [0, 9] {
            for expects in [Expectation::MayCreate, Expectation::MustExist] {
                assert!(matches!(judged(tables, held("mine"), expects), Ok(DatabaseOrigin::AlreadyOwned)));
                assert!(
                    matches!(judged(tables, held("theirs"), expects), Err(DatabaseError::OwnedByOther { holder, .. }) if holder == "other/dev")
                );
            }
        }
        assert!(matches!(judged(0, OwnerMark::Absent, Expectation::MayCreate), Ok(DatabaseOrigin::FoundEmpty)));
        assert!(matches!(judged(9, OwnerMark::Absent, Expectation::MayCreate), Err(DatabaseError::NotEmpty { tables: 9, .. })));
        assert!(matches!(judged(9, OwnerMark::Released, Expectation::MayCreate), Ok(DatabaseOrigin::Retained)));
        for claim in [OwnerMark::Absent, OwnerMark::Released] {
            assert!(matches!(judged(0, claim.clone(), Expectation::MustExist), Err(DatabaseError::DataMissing { .. })));
            assert!(matches!(judged(9, claim, Expectation::MustExist), Ok(DatabaseOrigin::AlreadyOwned)));
        }
    }

    #[test]
    fn nobody_elses_database_is_dropped() {
        let wanted = |expects| DatabaseSpec {
            database: "gremlin_dev".to_owned(),
            owner: DatabaseOwner { backend: BackendId::new("mine"), label: String::new() },
            role: BackendRole { name: String::new(), password: None },
            expectation: expects,
        };
        let dropped = |tables, claim, expects| {
            release_outcome(&DatabaseContent { tables, claim }, &wanted(expects), DatabaseReclaim::Delete)
        };
        let held = |id: &str| OwnerMark::HeldBy(id.to_owned(), String::new());
        for expects in [Expectation::MayCreate, Expectation::MustExist] {
            assert_eq!(dropped(9, held("mine"), expects), Released::Dropped);
            assert_eq!(dropped(9, held("theirs"), expects), Released::NotOwned);
            assert_eq!(dropped(0, held("theirs"), expects), Released::NotOwned);
        }
        assert_eq!(dropped(9, OwnerMark::Absent, Expectation::MayCreate), Released::NotOwned);
        assert_eq!(dropped(9, OwnerMark::Absent, Expectation::MustExist), Released::Dropped);
        assert_eq!(dropped(0, OwnerMark::Absent, Expectation::MayCreate), Released::Dropped);
    }

    #[test]
    fn servers_that_are_too_old_are_told_so() {
        let version = |product, major, minor| ServerVersion { product, major, minor }.require_supported();
        assert!(version(Product::Postgres, 12, 0).is_ok() && version(Product::MariaDb, 10, 11).is_ok());
        let error = version(Product::Mysql, 5, 7).unwrap_err().to_string();
        assert_eq!(error, "the server is MySQL 5.7, and 8.0 or newer is needed");
    }
}
