//! Answers of the Worker's own, in the form that all others have.
//!
//! Must not do: say more of a failure than clients may hear.

use convexinfra::api::ControlError;
use convexinfra::api::wire::ErrorDocument;
use convexinfra::model::Diagnostic;
use worker::{Response, Result};

/// What went wrong, as an answer.
pub fn problem(error: &ControlError) -> Result<Response> {
    let (status, document) = ErrorDocument::of(error, None);
    let mut response = Response::from_json(&document)?.with_status(status);
    let headers = response.headers_mut();
    headers.set("cache-control", "no-store")?;
    if status == 503 {
        headers.set("retry-after", "1")?;
    }
    Ok(response)
}

/// Something between the parts of the control plane did not work; asking again later may.
pub fn interrupted(error: &worker::Error) -> ControlError {
    let message = format!("a part of the control plane did not answer: {error}");
    ControlError::Unreachable(Diagnostic::new("worker.interrupted", message))
}
