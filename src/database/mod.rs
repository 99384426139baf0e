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

use crate::convex::database_url::server_part;
use crate::model::{BackendId, DatabaseDisposal, Secret, Storage, Tls};

/// The table that says whose database this is. Convex does not know it and leaves it alone.
const OWNER_TABLE: &str = "convexinfra_owner";

/// How long all of it may take. A lock that somebody holds on a table, or a large database that is dropped, is waited for.
const WITHIN: Duration = Duration::from_secs(120);

/// How often the way to the server is measured.
const ROUNDS: usize = 5;

/// Access to a server, with the right to make databases.
#[derive(Debug, Clone)]
pub struct Server {
    storage: Storage,
    url: Secret,
    /// Host and port, which may be shown.
    name: String,
}

impl Server {
    /// Takes the URL of a server.
    ///
    /// # Errors
    /// [`DatabaseError::Url`] when Convex would not take it.
    pub fn new(storage: Storage, url: Secret) -> Result<Self, DatabaseError> {
        let name = server_part(&storage, &url).map_err(DatabaseError::Url)?;
        Ok(Self { storage, url, name })
    }

    fn silent(&self, patience: Duration) -> DatabaseError {
        let source = format!("it did not answer within {} s", patience.as_secs()).into();
        DatabaseError::Unreachable { server: self.name.clone(), source }
    }

    fn tls(&self) -> &Tls {
        self.storage.server().map_or(&Tls::Verify, |server| &server.tls)
    }
}

/// What there should be on a server.
#[derive(Debug, Clone)]
pub struct Wanted {
    /// The name of the database.
    pub database: String,
    /// Whose it is.
    pub owner: Owner,
    /// The role of the backend's own.
    pub role: Role,
    /// What must be there already.
    pub expects: Expects,
}

/// Whose a database is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Owner {
    /// The backend's identity, which no other control plane hands out.
    pub backend: BackendId,
    /// Project and backend by name, for people.
    pub label: String,
}

/// A role with nothing but the right to one database.
#[derive(Debug, Clone)]
pub struct Role {
    /// Its name, which is the backend's alone.
    pub name: String,
    /// Its password; none means that the backend enters as the user of the URL, and that the role has to go.
    pub password: Option<Secret>,
}

/// What must be in a database already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expects {
    /// Nothing: it may be made.
    Nothing,
    /// The backend's data: an empty database in its place would hide that the data is gone.
    Data,
}

/// How a database came to be the backend's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// It was made now.
    Made,
    /// Somebody had made it, and it was empty.
    FoundEmpty,
    /// A backend that is gone had left it with its data.
    LeftBehind,
    /// It was the backend's before.
    Known,
}

/// What was found out while a database was prepared.
#[derive(Debug, Clone, PartialEq)]
pub struct Prepared {
    /// How the database came to be the backend's.
    pub origin: Origin,
    /// What the server calls itself.
    pub server: ServerVersion,
    /// How long one question takes.
    pub round_trip: Duration,
}

/// What became of a database.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Released {
    /// It stays, for whoever takes it up next.
    Left,
    /// It is gone.
    Dropped,
    /// There is none of this name.
    NotThere,
    /// It is somebody else's and was not touched.
    NotOurs,
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
    fn least(self) -> (u32, u32) {
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
    fn checked(self) -> Result<Self, DatabaseError> {
        let (major, minor) = self.product.least();
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
pub async fn prepare(server: &Server, wanted: &Wanted) -> Result<Prepared, DatabaseError> {
    let prepared = async {
        match &server.storage {
            Storage::Mysql(_) => mysql::prepare(server, wanted).await,
            Storage::Postgres(_) | Storage::Sqlite => postgres::prepare(server, wanted).await,
        }
    };
    tokio::time::timeout(WITHIN, prepared).await.unwrap_or_else(|_| Err(server.silent(WITHIN)))
}

/// Gives a database back: either to whoever comes next, or to nobody.
///
/// # Errors
/// [`DatabaseError`]: what is in the way.
pub async fn release(server: &Server, wanted: &Wanted, disposal: DatabaseDisposal) -> Result<Released, DatabaseError> {
    let released = async {
        match &server.storage {
            Storage::Mysql(_) => mysql::release(server, wanted, disposal).await,
            Storage::Postgres(_) | Storage::Sqlite => postgres::release(server, wanted, disposal).await,
        }
    };
    tokio::time::timeout(WITHIN, released).await.unwrap_or_else(|_| Err(server.silent(WITHIN)))
}

/// What stands in a database, as far as it says whose it is.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Content {
    /// How many tables there are besides [`OWNER_TABLE`].
    tables: u64,
    /// What [`OWNER_TABLE`] says.
    claim: Claim,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Claim {
    /// There is no such table.
    Never,
    /// It is there and empty.
    GivenBack,
    /// It names a backend: the id and the label.
    Held(String, String),
}

/// What to make of a database that is there: how it becomes the backend's, or why it must not.
fn judge(content: &Content, wanted: &Wanted) -> Result<Origin, DatabaseError> {
    let database = || wanted.database.clone();
    match (&content.claim, wanted.expects) {
        (Claim::Held(id, _), _) if *id == wanted.owner.backend.as_str() => Ok(Origin::Known),
        (Claim::Held(_, label), _) => Err(DatabaseError::Foreign { database: database(), holder: label.clone() }),
        (_, Expects::Data) if content.tables == 0 => Err(DatabaseError::DataMissing { database: database() }),
        // It ran on this database before there were claims.
        (_, Expects::Data) => Ok(Origin::Known),
        (_, Expects::Nothing) if content.tables == 0 => Ok(Origin::FoundEmpty),
        (Claim::GivenBack, Expects::Nothing) => Ok(Origin::LeftBehind),
        (Claim::Never, Expects::Nothing) => Err(DatabaseError::Occupied { database: database(), tables: content.tables }),
    }
}

/// The middle one of several measurements: the first question warms things up, and one may be unlucky.
fn middle(mut times: [Duration; ROUNDS]) -> Duration {
    times.sort();
    times[ROUNDS / 2]
}

/// What may be done to a database that is there.
fn disposed(content: &Content, wanted: &Wanted, disposal: DatabaseDisposal) -> Released {
    let ours = match (&content.claim, wanted.expects) {
        (Claim::Held(id, _), _) => *id == wanted.owner.backend.as_str(),
        // Empty, or left by one that went before, or ours from before there were claims.
        (Claim::GivenBack, _) | (Claim::Never, Expects::Data) => true,
        (Claim::Never, Expects::Nothing) => content.tables == 0,
    };
    match disposal {
        _ if !ours => Released::NotOurs,
        DatabaseDisposal::Leave => Released::Left,
        DatabaseDisposal::Drop => Released::Dropped,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(tables: u64, claim: Claim, expects: Expects) -> Result<Origin, DatabaseError> {
        let owner = Owner { backend: BackendId::new("mine"), label: "gremlin/dev".to_owned() };
        let role = Role { name: "convex_mine".to_owned(), password: None };
        judge(&Content { tables, claim }, &Wanted { database: "gremlin_dev".to_owned(), owner, role, expects })
    }

    #[test]
    fn only_what_is_ours_left_behind_or_empty_is_taken() {
        let held = |id: &str| Claim::Held(id.to_owned(), "other/dev".to_owned());
        for tables in [0, 9] {
            for expects in [Expects::Nothing, Expects::Data] {
                assert!(matches!(judged(tables, held("mine"), expects), Ok(Origin::Known)));
                assert!(
                    matches!(judged(tables, held("theirs"), expects), Err(DatabaseError::Foreign { holder, .. }) if holder == "other/dev")
                );
            }
        }
        assert!(matches!(judged(0, Claim::Never, Expects::Nothing), Ok(Origin::FoundEmpty)));
        assert!(matches!(judged(9, Claim::Never, Expects::Nothing), Err(DatabaseError::Occupied { tables: 9, .. })));
        assert!(matches!(judged(9, Claim::GivenBack, Expects::Nothing), Ok(Origin::LeftBehind)));
        for claim in [Claim::Never, Claim::GivenBack] {
            assert!(matches!(judged(0, claim.clone(), Expects::Data), Err(DatabaseError::DataMissing { .. })));
            assert!(matches!(judged(9, claim, Expects::Data), Ok(Origin::Known)));
        }
    }

    #[test]
    fn nobody_elses_database_is_dropped() {
        let wanted = |expects| Wanted {
            database: "gremlin_dev".to_owned(),
            owner: Owner { backend: BackendId::new("mine"), label: String::new() },
            role: Role { name: String::new(), password: None },
            expects,
        };
        let dropped = |tables, claim, expects| disposed(&Content { tables, claim }, &wanted(expects), DatabaseDisposal::Drop);
        let held = |id: &str| Claim::Held(id.to_owned(), String::new());
        for expects in [Expects::Nothing, Expects::Data] {
            assert_eq!(dropped(9, held("mine"), expects), Released::Dropped);
            assert_eq!(dropped(9, held("theirs"), expects), Released::NotOurs);
            assert_eq!(dropped(0, held("theirs"), expects), Released::NotOurs);
        }
        assert_eq!(dropped(9, Claim::Never, Expects::Nothing), Released::NotOurs);
        assert_eq!(dropped(9, Claim::Never, Expects::Data), Released::Dropped);
        assert_eq!(dropped(0, Claim::Never, Expects::Nothing), Released::Dropped);
    }

    #[test]
    fn servers_that_are_too_old_are_told_so() {
        let version = |product, major, minor| ServerVersion { product, major, minor }.checked();
        assert!(version(Product::Postgres, 12, 0).is_ok() && version(Product::MariaDb, 10, 11).is_ok());
        let error = version(Product::Mysql, 5, 7).unwrap_err().to_string();
        assert_eq!(error, "the server is MySQL 5.7, and 8.0 or newer is needed");
    }
}
