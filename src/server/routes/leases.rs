//! Leases: the right to change a project, taken, kept and given back.
//!
//! Must not do: believe a client's clock.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{delete, get, post, put};

use super::{HandlerResult, json};
use crate::api::wire::{LeaseDocument, LeaseRequest};
use crate::api::{ControlPlane, Lease, MAX_NAME_BYTES, is_single_line};
use crate::model::Scope;
use crate::server::endpoint::{Endpoint, RequiredScope, Verb};
use crate::server::error_response::ErrorResponse;
use crate::server::extract::{Fence, JsonBody, NoQuery, ProjectContext, QueryParams};
use crate::server::{ApiServer, ServerPhase};

const PATH: &str = "/v1/projects/{project}/lease";

pub(super) fn routes() -> Vec<Endpoint> {
    let (read, apply) = (RequiredScope::Project(Scope::Read), RequiredScope::Project(Scope::Apply));
    vec![
        Endpoint::new(Verb::Get, PATH, "getLease", read, "Who holds the lease of the project.")
            .answers::<LeaseDocument>(200, "Who, if anybody.")
            .handled_by(get(show)),
        Endpoint::new(Verb::Post, PATH, "acquireLease", apply, "Takes the right to change the project.")
            .with_body::<LeaseRequest>()
            .answers::<Lease>(201, "The lease. It lasts 15 s, unless it is renewed.")
            .with_errors(&[409])
            .handled_by(post(acquire)),
        Endpoint::new(Verb::Put, PATH, "renewLease", apply, "Keeps that right for another 15 s.")
            .fenced()
            .responds_empty("It is kept.")
            .handled_by(put(renew)),
        Endpoint::new(Verb::Delete, PATH, "releaseLease", apply, "Gives that right back.")
            .fenced()
            .responds_empty("It is given back, or was lost before.")
            .handled_by(delete(release)),
    ]
}

/// What there is to say when there is nothing to say.
pub(super) fn no_content() -> Response {
    StatusCode::NO_CONTENT.into_response()
}

/// Refuses what is not one line of at most so many bytes: it stands in the history and in answers to others.
pub(super) fn require_single_line(what: &str, text: &str, longest: usize) -> Result<(), ErrorResponse> {
    if !is_single_line(text, longest) {
        let message = format!("`{what}` should be one line of 1 to {longest} bytes, without control characters");
        return Err(ErrorResponse::bad_request("wire.text", message));
    }
    Ok(())
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
    Ok(no_content())
}

async fn release(caller: ProjectContext, fence: Fence, _: QueryParams<NoQuery>) -> HandlerResult {
    caller.control.release_lease(&fence.lease(&caller.project)).await?;
    Ok(no_content())
}
