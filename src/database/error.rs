//! Why a database could not be prepared or given back, by situation.
//!
//! Must not do: show a password. What a server or a driver says never holds one.

use crate::convex::DatabaseUrlError;

/// What a server or its driver said.
pub(super) type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// Why a database could not be prepared or given back.
#[derive(Debug, thiserror::Error)]
pub enum DatabaseError {
    /// Convex would not take the URL.
    #[error("Convex does not take the server's URL")]
    Url(#[source] DatabaseUrlError),
    /// The driver does not take the URL's parameters.
    #[error("the server's URL has something that the driver does not know")]
    Parameters(#[source] BoxError),
    /// Nobody answers.
    #[error("the database server {server} cannot be reached")]
    Unreachable {
        /// Host and port.
        server: String,
        /// Why.
        source: BoxError,
    },
    /// TLS is asked for, and the server has none.
    #[error("the database server {server} offers no TLS")]
    NoTls {
        /// Host and port.
        server: String,
    },
    /// TLS is switched off, and the server insists on it.
    #[error("the database server {server} takes only connections with TLS")]
    TlsRequired {
        /// Host and port.
        server: String,
        /// What it says.
        source: BoxError,
    },
    /// The server's certificate does not convince.
    #[error("the certificate of the database server {server} cannot be verified")]
    Certificate {
        /// Host and port.
        server: String,
        /// Why.
        source: BoxError,
    },
    /// The file of certificates cannot be used.
    #[error("the certificates in `{path}` cannot be used: {reason}")]
    CaFile {
        /// The file.
        path: String,
        /// Why.
        reason: String,
    },
    /// User or password are wrong.
    #[error("the database server {server} does not know `{user}` with this password")]
    Credentials {
        /// Host and port.
        server: String,
        /// The user.
        user: String,
        /// What it says.
        source: BoxError,
    },
    /// The server does not let this user in from here.
    #[error("the database server {server} does not let `{user}` in")]
    AccessDenied {
        /// Host and port.
        server: String,
        /// The user.
        user: String,
        /// What it says.
        source: BoxError,
    },
    /// The server is older than what is needed.
    #[error("the server is {found}, and {least} or newer is needed")]
    TooOld {
        /// What it is.
        found: String,
        /// What is needed.
        least: String,
    },
    /// The server takes no writes.
    #[error("the database server {server} is read-only")]
    ReadOnly {
        /// Host and port.
        server: String,
    },
    /// The user may not do what is needed.
    #[error("`{user}` may not {what} on {server}")]
    PermissionDenied {
        /// The user.
        user: String,
        /// What it may not, such as `create the database …`.
        what: String,
        /// Host and port.
        server: String,
        /// The statement that somebody with the right could run, if there is one.
        remedy: Option<String>,
        /// What the server says.
        source: BoxError,
    },
    /// Another backend holds the database.
    #[error("the database `{database}` belongs to another backend, {holder}")]
    OwnedByOther {
        /// The database.
        database: String,
        /// Whose it is.
        holder: String,
    },
    /// Somebody else has tables in the database.
    #[error("the database `{database}` is there already and has {tables} tables that no backend of convexinfra made")]
    NotEmpty {
        /// The database.
        database: String,
        /// How many.
        tables: u64,
    },
    /// The database was there when the backend was last ready.
    #[error("the data of the backend is gone: the database `{database}` was there when it was last ready")]
    DataMissing {
        /// The database.
        database: String,
    },
    /// Anything else that the server says.
    #[error("the database server {server} did not {what}")]
    Server {
        /// Host and port.
        server: String,
        /// What was asked of it.
        what: String,
        /// What it says.
        source: BoxError,
    },
}

impl DatabaseError {
    /// A stable name of the situation.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Url(_) | Self::Parameters(_) => "database.url",
            Self::Unreachable { .. } => "database.unreachable",
            Self::NoTls { .. } => "database.no_tls",
            Self::TlsRequired { .. } => "database.tls_demanded",
            Self::Certificate { .. } => "database.certificate",
            Self::CaFile { .. } => "database.ca_file",
            Self::Credentials { .. } => "database.credentials",
            Self::AccessDenied { .. } => "database.not_let_in",
            Self::TooOld { .. } => "database.too_old",
            Self::ReadOnly { .. } => "database.read_only",
            Self::PermissionDenied { .. } => "database.not_allowed",
            Self::OwnedByOther { .. } => "database.foreign",
            Self::NotEmpty { .. } => "database.occupied",
            Self::DataMissing { .. } => "database.data_missing",
            Self::Server { .. } => "database.server",
        }
    }

    /// What to do about it.
    pub fn help(&self) -> Option<String> {
        let help = match self {
            Self::Url(_) | Self::Parameters(_) => {
                "write `postgres://user:password@host:5432` or `mysql://user:password@host:3306`; Convex names the database itself"
            }
            Self::Unreachable { .. } => {
                "check host and port, that the server runs, and that nothing on the way stops the connection"
            }
            Self::NoTls { .. } => "switch TLS on in the server, or, where the way to it is safe, write `tls = \"disable\"`",
            Self::TlsRequired { .. } => "leave `tls = \"disable\"` out, or name its authority with `tls = { ca = \"ca.pem\" }`",
            Self::Certificate { .. } => {
                "name the authority that signed it with `tls = { ca = \"ca.pem\" }`, and the server as the certificate does"
            }
            Self::CaFile { .. } => "name a file with PEM certificates",
            Self::Credentials { .. } => "check user and password in the variable or file that `storage.url` refers to",
            Self::AccessDenied { .. } => "allow the user from this address in the server's access rules",
            Self::TooOld { .. } => "update the server, or name another one",
            Self::ReadOnly { .. } => "name the primary server, not a replica of it",
            Self::PermissionDenied { remedy, .. } => {
                return remedy.as_ref().map(|sql| format!("have somebody with the right to it run\n    {sql}"));
            }
            Self::OwnedByOther { .. } => "give this backend or its project another name, or destroy the other one first",
            Self::NotEmpty { database, .. } => {
                return Some(format!(
                    "give this backend or its project another name; if nobody needs what is in it, drop `{database}` by hand"
                ));
            }
            Self::DataMissing { .. } => return None,
            Self::Server { .. } => return None,
        };
        Some(help.to_owned())
    }
}
