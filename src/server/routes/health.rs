//! Health: whether the process answers, whether it can work, and the contract. None of these needs a token, and none says
//! anything about projects.

use std::sync::{Arc, LazyLock};

use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::IntoResponse;
use sha2::{Digest as _, Sha256};

use super::{HandlerResult, Route, json, route};
use crate::api::endpoints;
use crate::api::wire::{Health, PREFIX};
use crate::server::error_response::ErrorResponse;
use crate::server::{ApiServer, ServerPhase, openapi};

const OK: Health = Health { status: "ok", contract: PREFIX, version: env!("CARGO_PKG_VERSION") };

/// The OpenAPI document and its `ETag`, made once: every response shares its bytes.
static CONTRACT: LazyLock<(Bytes, HeaderValue)> = LazyLock::new(|| {
    // A value of text keys always serialises.
    let bytes = serde_json::to_vec(&openapi()).unwrap_or_default();
    let tag = format!("\"{}\"", hex::encode(&Sha256::digest(&bytes)[..16]));
    (bytes.into(), HeaderValue::try_from(tag).unwrap_or(HeaderValue::from_static("\"\"")))
});

/// Returns that the process answers, for what answers in front of the server.
pub fn health() -> Health {
    OK
}

pub(super) fn routes() -> Vec<Route> {
    vec![
        route(&endpoints::GET_HEALTH, live),
        route(&endpoints::GET_READINESS, ready),
        route(&endpoints::GET_CONTRACT, openapi_document),
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

async fn openapi_document(headers: HeaderMap) -> HandlerResult {
    let (bytes, tag) = &*CONTRACT;
    // Kept copies are good as long as they are compared.
    let common = [(header::ETAG, tag.clone()), (header::CACHE_CONTROL, HeaderValue::from_static("no-cache"))];
    if headers.get_all(header::IF_NONE_MATCH).iter().any(|known| known == tag) {
        return Ok((StatusCode::NOT_MODIFIED, common).into_response());
    }
    let json = [(header::CONTENT_TYPE, HeaderValue::from_static("application/json"))];
    Ok((common, json, bytes.clone()).into_response())
}
