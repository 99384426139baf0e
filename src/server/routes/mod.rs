//! The handlers of the endpoints, one file for each resource.
//!
//! A handler never asks whether its caller may: [`super::auth`] has asked.

mod backends;
mod catalog;
mod events;
mod health;
pub use health::health;
mod leases;
mod operations;
mod projects;
mod quotas;
mod sse;
mod tokens;

use std::sync::Arc;

use axum::Json;
use axum::handler::Handler;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodFilter, MethodRouter, on};
use serde::Serialize;

use super::ApiServer;
use super::error_response::ErrorResponse;
use crate::api::endpoint::{Endpoint, HttpMethod, ParamKind, QueryParam};
use crate::api::is_single_line;

/// The result of a handler.
type HandlerResult = Result<Response, ErrorResponse>;

/// An endpoint with its handler.
pub(super) struct Route {
    pub(super) endpoint: &'static Endpoint,
    pub(super) handler: MethodRouter<Arc<ApiServer>>,
}

/// Binds a handler to an endpoint.
fn route<H, T>(endpoint: &'static Endpoint, handler: H) -> Route
where
    H: Handler<T, Arc<ApiServer>>,
    T: 'static,
{
    let filter = match endpoint.method {
        HttpMethod::Get => MethodFilter::GET,
        HttpMethod::Post => MethodFilter::POST,
        HttpMethod::Put => MethodFilter::PUT,
        HttpMethod::Delete => MethodFilter::DELETE,
    };
    Route { endpoint, handler: on(filter, handler) }
}

/// Returns every route.
pub(super) fn routes() -> Vec<Route> {
    let resources: [fn() -> Vec<Route>; 10] = [
        projects::routes,
        leases::routes,
        operations::routes,
        sse::routes,
        backends::routes,
        events::routes,
        quotas::routes,
        tokens::routes,
        catalog::routes,
        health::routes,
    ];
    resources.into_iter().flat_map(|routes| routes()).collect()
}

/// Responds with a document.
fn json(document: &impl Serialize) -> HandlerResult {
    Ok(Json(document).into_response())
}

/// Responds without a body.
fn no_content() -> HandlerResult {
    Ok(StatusCode::NO_CONTENT.into_response())
}

/// Returns the value of a parameter, or its default, if it is within the parameter's bounds.
fn bounded(param: &QueryParam, value: Option<u64>, default: u64) -> Result<u64, ErrorResponse> {
    let value = value.unwrap_or(default);
    let (least, most) = match param.kind {
        ParamKind::Number { least, most } => (least, most),
        ParamKind::Hash | ParamKind::Line { .. } => (0, u64::MAX),
    };
    if (least..=most).contains(&value) {
        return Ok(value);
    }
    let message = format!("`{}` should be from {least} to {most}", param.name);
    Err(ErrorResponse::bad_request("wire.query", message))
}

/// Refuses a text that is not one line of at most so many bytes: it is shown in the history and to other clients.
fn require_single_line(what: &str, text: &str, longest: usize) -> Result<(), ErrorResponse> {
    if !is_single_line(text, longest) {
        let message = format!("`{what}` should be one line of 1 to {longest} bytes, without control characters");
        return Err(ErrorResponse::bad_request("wire.text", message));
    }
    Ok(())
}
