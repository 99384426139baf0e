//! Health: whether the process answers, whether it can work, and what its contract is. Nobody needs a token for these.
//!
//! Must not do: say anything about projects.

use std::sync::Arc;

use axum::extract::State;
use axum::routing::get;
use serde::Serialize;

use super::{HandlerResult, json};
use crate::api::wire::PREFIX;
use crate::server::endpoint::{Endpoint, RequiredScope, Verb};
use crate::server::error_response::ErrorResponse;
use crate::server::{ApiServer, ServerPhase, openapi};

/// How a server is.
#[derive(Serialize, schemars::JsonSchema)]
pub struct Health {
    /// `ok`; everything else is an error document.
    status: &'static str,
    /// The version of the contract, as the paths begin.
    contract: &'static str,
    /// The version of the program.
    version: &'static str,
}

const OK: Health = Health { status: "ok", contract: PREFIX, version: env!("CARGO_PKG_VERSION") };

/// Returns that the process answers, for what answers in front of the server.
pub fn health() -> Health {
    OK
}

pub(super) fn routes() -> Vec<Endpoint> {
    vec![
        Endpoint::new(Verb::Get, "/healthz", "getHealth", RequiredScope::Public, "Whether the process answers.")
            .answers::<Health>(200, "It does.")
            .handled_by(get(live)),
        Endpoint::new(Verb::Get, "/readyz", "getReadiness", RequiredScope::Public, "Whether it can work.")
            .answers::<Health>(200, "It can. While it shuts down, or when its store does not answer, it cannot: 503.")
            .handled_by(get(ready)),
        Endpoint::new(Verb::Get, "/openapi.json", "getContract", RequiredScope::Public, "This very document.")
            .answers::<serde_json::Map<String, serde_json::Value>>(200, "The OpenAPI document.")
            .handled_by(get(openapi_document)),
    ]
}

async fn live() -> HandlerResult {
    json(&OK)
}

async fn ready(State(server): State<Arc<ApiServer>>) -> HandlerResult {
    if server.phase() != ServerPhase::Serving {
        return Err(ErrorResponse::draining());
    }
    server.host.check_store()?;
    json(&OK)
}

async fn openapi_document() -> HandlerResult {
    json(&openapi())
}
