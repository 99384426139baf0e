//! Answers in the shape of the real backend's: errors are a status, a `code` and a `message`.

use axum::Json;
use axum::extract::FromRequestParts;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::de::DeserializeOwned;

/// A refusal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ApiRejection {
    pub(super) status: StatusCode,
    pub(super) code: &'static str,
    pub(super) message: String,
}

impl ApiRejection {
    pub(super) fn new(status: StatusCode, code: &'static str, message: impl Into<String>) -> Self {
        Self { status, code, message: message.into() }
    }

    /// Returns what was asked makes no sense.
    pub(super) fn bad_request(code: &'static str, message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, code, message)
    }
}

impl IntoResponse for ApiRejection {
    fn into_response(self) -> Response {
        let body = serde_json::json!({ "code": self.code, "message": self.message });
        (self.status, Json(body)).into_response()
    }
}

impl From<rusqlite::Error> for ApiRejection {
    fn from(error: rusqlite::Error) -> Self {
        super::log::error(&format!("the database failed: {error}"));
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "InternalServerError", "the simulator's database failed")
    }
}

/// Reads a JSON body, with the refusals that the real backend has for it.
pub(super) fn read_json_body<T: DeserializeOwned>(headers: &HeaderMap, body: &[u8]) -> Result<T, ApiRejection> {
    let is_json = headers
        .get(header::CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .is_some_and(|value| value.split(';').next().unwrap_or_default().trim().eq_ignore_ascii_case("application/json"));
    if !is_json {
        return Err(ApiRejection::bad_request("BadJsonBody", "the body needs `Content-Type: application/json`"));
    }
    serde_json::from_slice(body)
        .map_err(|error| ApiRejection::bad_request("BadJsonBody", format!("the body does not fit: {error}")))
}

/// A query string, with the refusal that the real backend has for it.
pub(super) struct Query<T>(pub(super) T);

impl<S: Send + Sync, T: DeserializeOwned + 'static> FromRequestParts<S> for Query<T> {
    type Rejection = ApiRejection;
    async fn from_request_parts(parts: &mut axum::http::request::Parts, _state: &S) -> Result<Self, ApiRejection> {
        Self::read(&parts.uri)
    }
}

impl<T: DeserializeOwned> Query<T> {
    fn read(uri: &axum::http::Uri) -> Result<Self, ApiRejection> {
        match axum::extract::Query::<T>::try_from_uri(uri) {
            Ok(axum::extract::Query(value)) => Ok(Self(value)),
            Err(error) => Err(ApiRejection::bad_request("BadQueryArgs", format!("the query string does not fit: {error}"))),
        }
    }
}
