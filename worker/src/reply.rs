//! Answers of the Worker's own, in the form that all others have.
//!
//! Must not do: say more of a failure than clients may hear.

use std::time::Duration;

use convexinfra::api::ControlError;
use convexinfra::api::wire::{ErrorDocument, REQUEST_ID, Situation};
use convexinfra::model::Diagnostic;
use serde::Serialize;
use worker::{Request, Response, Result};

/// Why a request is not answered as it was asked.
pub struct Refused {
    pub status: u16,
    pub document: ErrorDocument,
    /// After how many seconds asking again may work.
    pub retry_after: Option<u64>,
}

impl From<ControlError> for Refused {
    fn from(error: ControlError) -> Self {
        let (status, document) = ErrorDocument::from_error(&error, None);
        Self { status, document, retry_after: (status == 503).then_some(1) }
    }
}

impl Refused {
    /// Too many requests of one kind.
    pub fn later(message: &str, wait: Duration) -> Self {
        let refused = Self::from(ControlError::Unreachable(Diagnostic::new("server.rate", message)));
        Self { status: 429, retry_after: Some(wait.as_secs().max(1)), ..refused }
    }
}

/// Returns the answer that says what went wrong.
pub fn problem(refused: impl Into<Refused>, id: Option<&str>) -> Result<Response> {
    let Refused { status, mut document, retry_after } = refused.into();
    document.request_id = id.map(str::to_owned);
    let mut response = with_common_headers(Response::from_json(&document)?.with_status(status), id)?;
    let headers = response.headers_mut();
    if let Some(seconds) = retry_after {
        headers.set("retry-after", &seconds.to_string())?;
    }
    if matches!(document.situation, Situation::NotAuthenticated) {
        headers.set("www-authenticate", "Bearer")?;
    }
    Ok(response)
}

/// Returns a document as the answer.
pub fn document(status: u16, document: &impl Serialize, id: &str) -> std::result::Result<Response, ControlError> {
    let failed = |error: worker::Error| interrupted(&error);
    let response = Response::from_json(document).map_err(failed)?.with_status(status);
    with_common_headers(response, Some(id)).map_err(failed)
}

/// Returns the id that the entry gave a request.
pub fn id_of(request: &Request) -> String {
    request.headers().get(REQUEST_ID).ok().flatten().unwrap_or_default()
}

/// Sets what every answer has.
fn with_common_headers(mut response: Response, id: Option<&str>) -> Result<Response> {
    let headers = response.headers_mut();
    headers.set("cache-control", "no-store")?;
    headers.set("x-content-type-options", "nosniff")?;
    if let Some(id) = id {
        headers.set(REQUEST_ID, id)?;
    }
    Ok(response)
}

/// Returns a method as the library names it.
pub fn http_method(method: &worker::Method) -> http::Method {
    http::Method::from_bytes(method.as_ref().as_bytes()).unwrap_or(http::Method::GET)
}

/// Something between the parts of the control plane did not work; asking again later may.
pub fn interrupted(error: &worker::Error) -> ControlError {
    let message = format!("a part of the control plane did not answer: {error}");
    ControlError::Unreachable(Diagnostic::new("worker.interrupted", message))
}
