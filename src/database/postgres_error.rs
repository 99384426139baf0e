//! The errors of PostgreSQL servers, classified.

use tokio_postgres::error::SqlState;

use super::error::LOG_IN;
use super::{DatabaseError, DatabaseServer};
use crate::model::{Tls, error_chain};

/// Returns why a server refused the login.
pub(super) fn login_error(server: &DatabaseServer, user: String, error: tokio_postgres::Error) -> DatabaseError {
    let name = server.name.clone();
    if let Some(said) = error.as_db_error() {
        let code = said.code().clone();
        let no_encryption = said.message().contains("no encryption") || said.message().contains("SSL off");
        let tls_off = server.storage.server().is_some_and(|server| server.tls == Tls::Disable);
        let source = said.message().to_owned().into();
        return if code == SqlState::INVALID_PASSWORD {
            DatabaseError::Credentials { server: name, user, source }
        } else if code == SqlState::INVALID_AUTHORIZATION_SPECIFICATION && no_encryption && tls_off {
            DatabaseError::TlsRequired { server: name, source }
        } else if code == SqlState::INVALID_AUTHORIZATION_SPECIFICATION || code == SqlState::INSUFFICIENT_PRIVILEGE {
            DatabaseError::AccessDenied { server: name, user, source }
        } else {
            DatabaseError::Server { server: name, what: LOG_IN.to_owned(), source }
        };
    }
    let text = error_chain(&error);
    if text.contains("server does not support TLS") {
        DatabaseError::NoTls { server: name }
    } else if text.contains("TLS handshake") {
        server.certificate_error(text)
    } else if text.contains("password missing") {
        DatabaseError::Credentials { server: name, user, source: "the URL has no password".into() }
    } else {
        DatabaseError::Unreachable { server: name, source: text.into() }
    }
}
