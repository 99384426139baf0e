//! What the paths are about, one file for each resource, and the table of them all.
//!
//! Must not do: ask whether somebody may; the guard has asked.

mod backends;
mod catalog;
mod events;
mod health;
mod leases;
mod operations;
mod projects;
mod quotas;
mod sse;
mod tokens;

use axum::Json;
use axum::response::{IntoResponse, Response};
use serde::Serialize;

use super::endpoint::{Endpoint, ParamKind};
use super::error_response::ErrorResponse;

/// What a handler ends with.
type HandlerResult = Result<Response, ErrorResponse>;

/// Every route there is.
pub(super) fn endpoints() -> Vec<Endpoint> {
    let resources: [fn() -> Vec<Endpoint>; 9] = [
        projects::routes,
        leases::routes,
        operations::routes,
        backends::routes,
        events::routes,
        quotas::routes,
        tokens::routes,
        catalog::routes,
        health::routes,
    ];
    resources.into_iter().flat_map(|routes| routes()).collect()
}

/// A document as the answer.
fn json(document: &impl Serialize) -> HandlerResult {
    Ok(Json(document).into_response())
}

/// The number of a key in a query, if it is within its bounds.
fn bounded(key: &super::endpoint::QueryParam, value: Option<u64>, usual: u64) -> Result<u64, ErrorResponse> {
    let value = value.unwrap_or(usual);
    let (least, most) = match key.kind {
        ParamKind::Number { least, most } => (least, most),
        ParamKind::Hash | ParamKind::Line { .. } => (0, u64::MAX),
    };
    if (least..=most).contains(&value) {
        return Ok(value);
    }
    let message = format!("`{}` should be from {least} to {most}", key.name);
    Err(ErrorResponse::bad_request("wire.query", message))
}
