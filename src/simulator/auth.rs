//! Who asks, and what they may do.

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use axum::http::{StatusCode, header};

use super::response::ApiRejection;
use super::state::SimulatorState;
use crate::convex::admin_key::{KeyKind, check};

/// Says who asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum KeyHolder {
    /// A caller without a key.
    Anonymous,
    /// A caller with a key of this instance.
    Key(KeyKind),
}

impl KeyHolder {
    /// Returns whether administrators' questions may be asked.
    pub(super) fn can_read(self) -> bool {
        matches!(self, Self::Key(KeyKind::Admin { .. } | KeyKind::ReadOnly { .. }))
    }

    /// Admits requests of administrators only.
    pub(super) fn require_read(self) -> Result<(), ApiRejection> {
        if self.can_read() {
            return Ok(());
        }
        let message = "this needs an admin key of this deployment";
        Err(ApiRejection::new(StatusCode::FORBIDDEN, "BadDeployKey", message))
    }

    /// Lets changes by administrators pass.
    pub(super) fn require_write(self, operation: &str) -> Result<(), ApiRejection> {
        self.require_read()?;
        match self {
            Self::Key(KeyKind::Admin { .. }) => Ok(()),
            _ => {
                let message = format!("a key that may only look does not allow `{operation}`");
                Err(ApiRejection::new(StatusCode::FORBIDDEN, "OperationNotPermitted", message))
            }
        }
    }
}

/// Judges a key as it arrives, with or without the user that it is to act as.
pub(super) fn authenticate_key(app: &SimulatorState, key: &str) -> Result<KeyHolder, ApiRejection> {
    let (name, sealed) = key.split_once('|').unwrap_or(("", key));
    let sealed = sealed.split(':').next().unwrap_or_default();
    let key = if name.is_empty() { sealed.to_owned() } else { format!("{name}|{sealed}") };
    match check(&key, &app.instance_name, &app.secret) {
        Ok(claims) => Ok(KeyHolder::Key(claims.kind)),
        Err(_) => {
            let message = "the admin key is not one of this instance";
            Err(ApiRejection::new(StatusCode::UNAUTHORIZED, "BadAdminKey", message))
        }
    }
}

impl FromRequestParts<SimulatorState> for KeyHolder {
    type Rejection = ApiRejection;

    async fn from_request_parts(parts: &mut Parts, app: &SimulatorState) -> Result<Self, ApiRejection> {
        const SCHEME: &str = "convex ";
        let malformed = || ApiRejection::bad_request("InvalidHeaderFailure", "the header `Authorization` cannot be read");
        let Some(value) = parts.headers.get(header::AUTHORIZATION) else {
            return match key_in_query(parts.uri.query().unwrap_or_default()) {
                Some(key) => authenticate_key(app, &key),
                None => Ok(Self::Anonymous),
            };
        };
        let value = value.to_str().map_err(|_| malformed())?;
        match (value.get(..SCHEME.len()), value.get(SCHEME.len()..)) {
            (Some(scheme), Some(key)) if scheme.eq_ignore_ascii_case(SCHEME) => authenticate_key(app, key),
            (Some(_), _) => {
                let message = "the token is not one that this simulator understands: it knows no users";
                Err(ApiRejection::new(StatusCode::UNAUTHORIZED, "InvalidAuthHeader", message))
            }
            (None, _) => Err(malformed()),
        }
    }
}

fn key_in_query(query: &str) -> Option<String> {
    url::form_urlencoded::parse(query.as_bytes()).find(|(name, _)| name == "adminKey").map(|(_, value)| value.into_owned())
}
