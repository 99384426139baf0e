//! Leases: the right to change a project, acquired, renewed and released. A client's clock is never used.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::IntoResponse;

use super::{HandlerResult, Route, json, no_content, require_single_line, route};
use crate::api::wire::{LeaseDocument, LeaseRequest};
use crate::api::{ControlPlane, MAX_NAME_BYTES, endpoints};
use crate::server::error_response::ErrorResponse;
use crate::server::extract::{Fence, JsonBody, NoQuery, ProjectContext, QueryParams};
use crate::server::{ApiServer, ServerPhase};

pub(super) fn routes() -> Vec<Route> {
    vec![
        route(&endpoints::GET_LEASE, show),
        route(&endpoints::ACQUIRE_LEASE, acquire),
        route(&endpoints::RENEW_LEASE, renew),
        route(&endpoints::RELEASE_LEASE, release),
    ]
}

async fn show(caller: ProjectContext, _: QueryParams<NoQuery>) -> HandlerResult {
    json(&LeaseDocument { holder: caller.control.lease_holder(&caller.project).await? })
}

async fn acquire(
    State(server): State<Arc<ApiServer>>,
    caller: ProjectContext,
    _: QueryParams<NoQuery>,
    JsonBody(request): JsonBody<LeaseRequest>,
) -> HandlerResult {
    if server.phase() != ServerPhase::Serving {
        return Err(ErrorResponse::draining());
    }
    require_single_line("user", &request.user, MAX_NAME_BYTES)?;
    require_single_line("host", &request.host, MAX_NAME_BYTES)?;
    if let Some(start) = &request.process_start {
        require_single_line("process_start", start, MAX_NAME_BYTES)?;
    }
    if let Some(attempt) = &request.nonce {
        require_single_line("attempt", attempt.as_str(), MAX_NAME_BYTES)?;
    }
    let lease = caller.control.acquire_lease(&caller.project, request.into_holder(server.host.now())).await?;
    Ok((StatusCode::CREATED, Json(lease)).into_response())
}

async fn renew(caller: ProjectContext, fence: Fence, _: QueryParams<NoQuery>) -> HandlerResult {
    caller.control.renew_lease(&fence.lease(&caller.project)).await?;
    no_content()
}

async fn release(caller: ProjectContext, fence: Fence, _: QueryParams<NoQuery>) -> HandlerResult {
    caller.control.release_lease(&fence.lease(&caller.project)).await?;
    no_content()
}
