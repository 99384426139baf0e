//! Why a database could not be prepared or released, by situation.
//!
//! No error shows a password. What a server or a driver says never holds one.

use crate::convex::DatabaseUrlError;

/// What a server or its driver said.
pub(super) type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// Says why a database could not be prepared or released.
#[derive(Debug, thiserror::Error)]
pub enum DatabaseError {
    /// Convex would not take the URL.
    #[error("Convex does not take the server's URL")]
    Url(#[source] DatabaseUrlError),
    /// The driver does not take the URL's parameters.
    #[error("the server's URL has a parameter that the driver does not know")]
    Parameters(#[source] BoxError),
    /// Nothing answers.
    #[error("the database server {server} cannot be reached")]
    Unreachable {
        /// Host and port.
        server: String,
        /// Why.
        source: BoxError,
    },
    /// The host policy of this control plane forbids the server.
    #[error("this control plane connects to no database server at {server}")]
    HostForbidden {
        /// Host and port.
        server: String,
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
    /// The server's certificate cannot be verified.
    #[error("the certificate of the database server {server} cannot be verified")]
    Certificate {
        /// Host and port.
        server: String,
        /// What is wrong with it, as far as it is known.
        problem: CertificateProblem,
        /// Why.
        source: BoxError,
    },
    /// The authorities of `tls.ca` cannot be used.
    #[error("the certificates of `tls.ca` cannot be used: {reason}")]
    Certificates {
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
    /// The server's access rules refuse this user from here.
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
    /// Convex does not run on this product.
    #[error("the server is {found}, on which Convex does not run: {reason}")]
    Unsupported {
        /// What it is.
        found: String,
        /// What it lacks.
        reason: &'static str,
    },
    /// The server takes no writes.
    #[error("the database server {server} is read-only")]
    ReadOnly {
        /// Host and port.
        server: String,
    },
    /// The user lacks a privilege.
    #[error("`{user}` may not {what} on {server}")]
    PermissionDenied {
        /// The user.
        user: String,
        /// What it may not, such as `create the database …`.
        what: String,
        /// Host and port.
        server: String,
        /// The statement that a user with the privilege could run, if there is one.
        remedy: Option<String>,
        /// What the server says.
        source: BoxError,
    },
    /// Another backend owns the database.
    #[error("the database `{database}` belongs to another backend, {holder}")]
    OwnedByOther {
        /// The database.
        database: String,
        /// Its owner.
        holder: String,
    },
    /// The database holds tables that no backend made.
    #[error("the database `{database}` is there already and has {tables} {} that no backend of convexinfra made", if *tables == 1 { "table" } else { "tables" })]
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
    /// The database names modules and files that are not where the backend would look for them.
    #[error("the database `{database}` has documents whose files are not there: {}", missing_files(*.modules, *.files))]
    FilesMissing {
        /// The database.
        database: String,
        /// How many packages of modules are missing, and of how many.
        modules: (u64, u64),
        /// How many uploaded files are missing, and of how many.
        files: (u64, u64),
        /// Where they were looked for, where that has a name.
        place: Option<String>,
    },
    /// Any other answer of the server.
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

fn missing_files(modules: (u64, u64), files: (u64, u64)) -> String {
    let of = |(missing, all): (u64, u64), noun: &str| format!("{missing} of {all} {noun}{}", if all == 1 { "" } else { "s" });
    format!("{} and {} are missing", of(modules, "code package"), of(files, "uploaded file"))
}

/// Describes what is wrong with a server's certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CertificateProblem {
    /// No authority that is trusted signed it; whether `tls.ca` was given.
    UnknownIssuer {
        /// Whether `tls.ca` was given.
        has_ca: bool,
    },
    /// It has no `subjectAltName`, as those that MySQL makes for itself.
    NoName,
    /// It is for other names.
    OtherName,
    /// It is past its end, or not valid yet.
    Expired,
    /// It is that of an authority, used by a server.
    AuthorityAsServer,
    /// Anything else.
    Other,
}

impl CertificateProblem {
    /// Reads what rustls says. Its types are lost inside the drivers' errors, so its words have to do.
    pub(super) fn from_text(text: &str, has_ca: bool) -> Self {
        let has = |part: &str| text.contains(part);
        match () {
            () if has("not valid for any names") => Self::NoName,
            () if has("not valid for name") || has("NotValidForName") => Self::OtherName,
            () if has("CaUsedAsEndEntity") => Self::AuthorityAsServer,
            () if has("UnknownIssuer") => Self::UnknownIssuer { has_ca },
            () if has("expired") || has("Expired") || has("not valid yet") || has("NotValidYet") => Self::Expired,
            () => Self::Other,
        }
    }

    fn help(self) -> &'static str {
        match self {
            Self::UnknownIssuer { has_ca: false } => "name the authority that signed it with `tls = { ca = \"ca.pem\" }`",
            Self::UnknownIssuer { has_ca: true } => {
                "the authority in `tls.ca` did not sign it: name the one that did, or let the server use the certificate \
                 that this one signed"
            }
            Self::NoName => {
                "it has no subjectAltName, as the ones that MySQL makes for itself, so no authority can make it hold: give \
                 the server a certificate with `subjectAltName = DNS:…` or `IP:…` of the host in the URL, or, where the way \
                 to it is safe, write `tls = \"disable\"`"
            }
            Self::OtherName => "name the host in the URL as the certificate does, or have that host added to the certificate",
            Self::Expired => "renew the server's certificate, and check the clocks of both machines",
            Self::AuthorityAsServer => {
                "it is an authority's own certificate: let an authority sign one for the server, and name that authority \
                 with `tls = { ca = \"ca.pem\" }`"
            }
            Self::Other => {
                "name the authority that signed it with `tls = { ca = \"ca.pem\" }`, and the server as the certificate does"
            }
        }
    }
}

impl DatabaseError {
    /// Returns a stable name of the situation.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Url(_) | Self::Parameters(_) => "database.url",
            Self::Unreachable { .. } => "database.unreachable",
            Self::HostForbidden { .. } => "database.host_forbidden",
            Self::NoTls { .. } => "database.no_tls",
            Self::TlsRequired { .. } => "database.tls_demanded",
            Self::Certificate { .. } => "database.certificate",
            Self::Certificates { .. } => "database.ca_file",
            Self::Credentials { .. } => "database.credentials",
            Self::AccessDenied { .. } => "database.not_let_in",
            Self::TooOld { .. } => "database.too_old",
            Self::Unsupported { .. } => "database.unsupported",
            Self::ReadOnly { .. } => "database.read_only",
            Self::PermissionDenied { .. } => "database.not_allowed",
            Self::OwnedByOther { .. } => "database.foreign",
            Self::NotEmpty { .. } => "database.occupied",
            Self::DataMissing { .. } => "database.data_missing",
            Self::FilesMissing { .. } => "database.files_missing",
            Self::Server { .. } => "database.server",
        }
    }

    /// Returns whether the error tells what answers at an address, or what does not, before a database has proven itself
    /// there.
    pub fn describes_network(&self) -> bool {
        match self {
            Self::Unreachable { .. }
            | Self::HostForbidden { .. }
            | Self::NoTls { .. }
            | Self::TlsRequired { .. }
            | Self::Certificate { .. } => true,
            Self::Server { what, .. } => what == LOG_IN,
            _ => false,
        }
    }

    /// Returns what to do about it.
    pub fn help(&self) -> Option<String> {
        let help = match self {
            Self::Url(DatabaseUrlError::Escape) => {
                "special characters of user and password are written in percent-encoding: `@` as `%40`, `#` as `%23`, `/` as \
                 `%2F`, `?` as `%3F`, `:` as `%3A`, `%` as `%25`"
            }
            Self::Url(_) | Self::Parameters(_) => {
                "write `postgres://user:password@host:5432` or `mysql://user:password@host:3306`, with special characters of \
                 user and password in percent-encoding; Convex names the database itself"
            }
            Self::Unreachable { .. } => {
                "check host and port, that the server runs, and that nothing on the way stops the connection; a name that \
                 only a compose network knows is looked up in the networks that `docker.network` and `docker.networks` name, on an \
                 engine of this machine; otherwise publish the server's port, and name this machine in the URL"
            }
            Self::HostForbidden { .. } => {
                "name a server with a public address, or have an operator allow this one with `serve --allow-database-hosts`"
            }
            Self::NoTls { .. } => "switch TLS on in the server, or, where the way to it is safe, write `tls = \"disable\"`",
            Self::TlsRequired { .. } => "leave `tls = \"disable\"` out, or name its authority with `tls = { ca = \"ca.pem\" }`",
            Self::Certificate { problem, .. } => problem.help(),
            Self::Certificates { .. } => "name a file with PEM certificates",
            Self::Credentials { .. } => "check user and password in the variable or file that `storage.url` refers to",
            Self::AccessDenied { .. } => "allow the user from this address in the server's access rules",
            Self::TooOld { .. } => "update the server, or name another one",
            Self::Unsupported { .. } => "name a server of MySQL 8.0 or newer, or use `engine = \"postgres\"`",
            Self::ReadOnly { .. } => "name the primary server, not a replica of it",
            Self::PermissionDenied { remedy, .. } => {
                return remedy.as_ref().map(|sql| format!("have an administrator of the server run\n    {sql}"));
            }
            Self::OwnedByOther { .. } => "give this backend or its project another name, or destroy the other one first",
            Self::NotEmpty { database, .. } => {
                return Some(format!(
                    "give this backend or its project another name; if what is in it is not needed, drop `{database}` by hand"
                ));
            }
            Self::FilesMissing { place, .. } => {
                let place = place.as_ref().map_or_else(String::new, |place| format!(" to\n    {place}\nand apply again"));
                return Some(format!(
                    "without its files no function runs. Bring the folder of files back{place}; or restore a snapshot; or start \
                     anew under another name of the backend"
                ));
            }
            Self::DataMissing { .. } | Self::Server { .. } => return None,
        };
        Some(help.to_owned())
    }
}

/// What a server is asked for when a connection is opened.
pub(super) const LOG_IN: &str = "accept the login";
