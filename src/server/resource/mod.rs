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
mod tokens;
mod watch;

use axum::Json;
use axum::response::{IntoResponse, Response};
use serde::Serialize;

use super::problem::Problem;
use super::route::{Route, Takes};

/// What a handler ends with.
type Handled = Result<Response, Problem>;

/// Every route there is.
pub(super) fn routes() -> Vec<Route> {
    let resources: [fn() -> Vec<Route>; 9] = [
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
fn document(document: &impl Serialize) -> Handled {
    Ok(Json(document).into_response())
}

/// The number of a key in a query, if it is within its bounds.
fn within(key: &super::route::Key, value: Option<u64>, usual: u64) -> Result<u64, Problem> {
    let value = value.unwrap_or(usual);
    let (least, most) = match key.takes {
        Takes::Number { least, most } => (least, most),
        Takes::Hash => (0, u64::MAX),
    };
    if (least..=most).contains(&value) {
        return Ok(value);
    }
    let message = format!("`{}` should be from {least} to {most}", key.name);
    Err(Problem::bad_request("wire.query", message))
}
