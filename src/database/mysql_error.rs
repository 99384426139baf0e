//! The errors of MySQL servers, classified.

use mysql_async::IoError;

use super::error::LOG_IN;
use super::{DatabaseError, DatabaseServer};

/// Lists the codes with which servers refuse.
pub(super) mod error_code {
    pub(in crate::database) const ACCESS_DENIED_TO_DATABASE: u16 = 1044;
    pub(in crate::database) const ACCESS_DENIED: u16 = 1045;
    pub(in crate::database) const DATABASE_EXISTS: u16 = 1007;
    pub(in crate::database) const SYNTAX: u16 = 1064;
    pub(in crate::database) const UNKNOWN: u16 = 1105;
    pub(in crate::database) const HOST_NOT_ALLOWED: u16 = 1130;
    pub(in crate::database) const TABLE_ACCESS_DENIED: u16 = 1142;
    pub(in crate::database) const SPECIFIC_ACCESS_DENIED: u16 = 1227;
    pub(in crate::database) const NOT_SUPPORTED: u16 = 1235;
    pub(in crate::database) const PROCEDURE_EXISTS: u16 = 1304;
    pub(in crate::database) const ROUTINE_ACCESS_DENIED: u16 = 1370;
    pub(in crate::database) const CREATE_USER_FAILED: u16 = 1396;
    pub(in crate::database) const ACCESS_DENIED_NO_PASSWORD: u16 = 1698;
    pub(in crate::database) const SECURE_TRANSPORT_REQUIRED: u16 = 3159;
    pub(in crate::database) const SECURE_TRANSPORT_REQUIRED_MARIADB: u16 = 4156;
}

/// Returns the code with which the server refused.
pub(super) fn code(error: &mysql_async::Error) -> Option<u16> {
    match error {
        mysql_async::Error::Server(said) => Some(said.code),
        _ => None,
    }
}

/// Returns why a server refused the login.
pub(super) fn login_error(server: &DatabaseServer, user: String, error: mysql_async::Error) -> DatabaseError {
    let name = server.name.clone();
    match error {
        mysql_async::Error::Server(said) => {
            let source = said.message.into();
            match said.code {
                error_code::ACCESS_DENIED | error_code::ACCESS_DENIED_NO_PASSWORD => {
                    DatabaseError::Credentials { server: name, user, source }
                }
                error_code::HOST_NOT_ALLOWED | error_code::ACCESS_DENIED_TO_DATABASE => {
                    DatabaseError::AccessDenied { server: name, user, source }
                }
                error_code::SECURE_TRANSPORT_REQUIRED | error_code::SECURE_TRANSPORT_REQUIRED_MARIADB => {
                    DatabaseError::TlsRequired { server: name, source }
                }
                _ => DatabaseError::Server { server: name, what: LOG_IN.to_owned(), source },
            }
        }
        // The server asks users whom it does not know for a method that it draws when it starts, so that a stranger does not learn which ones exist.
        mysql_async::Error::Driver(error @ mysql_async::DriverError::UnknownAuthPlugin { .. }) => {
            DatabaseError::Credentials { server: name, user, source: error.to_string().into() }
        }
        mysql_async::Error::Driver(mysql_async::DriverError::NoClientSslFlagFromServer) => {
            DatabaseError::NoTls { server: name }
        }
        mysql_async::Error::Io(IoError::Tls(source)) => server.certificate_error(source.to_string()),
        mysql_async::Error::Io(IoError::Io(source)) if source.to_string().contains("certificate") => {
            server.certificate_error(source.to_string())
        }
        mysql_async::Error::Io(IoError::Io(source)) => DatabaseError::Unreachable { server: name, source: source.into() },
        other => DatabaseError::Server { server: name, what: LOG_IN.to_owned(), source: other.to_string().into() },
    }
}
