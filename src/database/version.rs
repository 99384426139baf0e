//! Which servers Convex runs on.

use super::DatabaseError;

/// Says which server this is.
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
    /// MariaDB, on which Convex does not run.
    MariaDb,
}

/// What MariaDB lacks.
const MARIADB_LACKS: &str = "MariaDB has neither the collation `utf8mb4_0900_bin` nor `SELECT … FOR SHARE`";

impl Product {
    fn name(self) -> &'static str {
        match self {
            Self::Postgres => "PostgreSQL",
            Self::Mysql => "MySQL",
            Self::MariaDb => "MariaDB",
        }
    }

    /// Returns the oldest version that is supported by its makers or widely hosted, and has what is used here.
    fn minimum_version(self) -> Result<(u32, u32), &'static str> {
        match self {
            Self::Postgres => Ok((12, 0)),
            Self::Mysql => Ok((8, 0)),
            Self::MariaDb => Err(MARIADB_LACKS),
        }
    }
}

impl std::fmt::Display for ServerVersion {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}.{}", self.product.name(), self.major, self.minor)
    }
}

impl ServerVersion {
    /// Refuses a server on which Convex does not run.
    ///
    /// # Errors
    /// [`DatabaseError::Unsupported`] for a product, [`DatabaseError::TooOld`] for a version.
    pub(super) fn require_supported(self) -> Result<Self, DatabaseError> {
        match self.product.minimum_version() {
            Err(reason) => Err(DatabaseError::Unsupported { found: self.to_string(), reason }),
            Ok(least) if (self.major, self.minor) < least => {
                Err(DatabaseError::TooOld { found: self.to_string(), least: format!("{}.{}", least.0, least.1) })
            }
            Ok(_) => Ok(self),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_on_which_convex_does_not_run_are_refused() {
        let version = |product, major, minor| ServerVersion { product, major, minor }.require_supported();
        assert!(version(Product::Postgres, 12, 0).is_ok() && version(Product::Mysql, 9, 7).is_ok());
        let error = version(Product::Mysql, 5, 7).unwrap_err().to_string();
        assert_eq!(error, "the server is MySQL 5.7, and 8.0 or newer is needed");
        let error = version(Product::MariaDb, 11, 8).unwrap_err();
        assert_eq!(error.code(), "database.unsupported");
        assert!(error.to_string().contains("utf8mb4_0900_bin"), "{error}");
    }
}
