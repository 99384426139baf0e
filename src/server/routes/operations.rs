//! The endpoints of operations: accepts one, and lists those that were accepted.
//!
//! Must not do: wait for the end of one.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::IntoResponse;
use serde::Deserialize;

use super::{HandlerResult, Route, bounded, json, require_single_line, route};
use crate::api::wire::IDEMPOTENCY_KEY;
use crate::api::{ControlError, MAX_ORIGIN_BYTES, OperationRequest, Work, endpoints};
use crate::model::{BackendSpec, OperationId, OperationRecord, OperationState};
use crate::server::error_response::ErrorResponse;
use crate::server::extract::{Fence, JsonBody, NoQuery, PathParam, ProjectContext, QueryParams, single_header};
use crate::server::{ApiServer, ServerPhase};

/// How long the digest of a plan, or the name of a step in it, may be.
const MAX_STEP_BYTES: usize = 256;

pub(super) fn routes() -> Vec<Route> {
    vec![
        route(&endpoints::PREFLIGHT, preflight),
        route(&endpoints::START_OPERATION, start),
        route(&endpoints::LIST_OPERATIONS, list),
        route(&endpoints::GET_OPERATION, show),
    ]
}

async fn start(
    State(server): State<Arc<ApiServer>>,
    caller: ProjectContext,
    fence: Fence,
    headers: HeaderMap,
    _: QueryParams<NoQuery>,
    JsonBody(request): JsonBody<OperationRequest>,
) -> HandlerResult {
    let request = check_request(request)?;
    if single_header(&headers, IDEMPOTENCY_KEY)?.is_some_and(|key| key != request.step.to_string()) {
        let message = format!("the header `{IDEMPOTENCY_KEY}` should equal `step` in the body, as `PLAN/STEP`");
        return Err(ErrorResponse::bad_request("wire.idempotency_key", message));
    }
    if server.phase() != ServerPhase::Serving {
        return Err(ErrorResponse::draining());
    }
    let started = server.host.start(&caller.bearer, &fence.lease(&caller.project), request).await?;
    let record = find_operation(&server, &caller, &started.id)?;
    let status = if record.state == OperationState::Running { StatusCode::ACCEPTED } else { StatusCode::OK };
    let place = format!("/v1/projects/{}/operations/{}", caller.project, record.id);
    Ok((status, [(header::LOCATION, place)], Json(record)).into_response())
}

async fn preflight(
    State(server): State<Arc<ApiServer>>,
    caller: ProjectContext,
    _: QueryParams<NoQuery>,
    JsonBody(request): JsonBody<OperationRequest>,
) -> HandlerResult {
    json(&server.host.preflight(&caller.project, &check_request(request)?).await?)
}

/// Refuses texts that may not stand in the history.
fn check_request(request: OperationRequest) -> Result<OperationRequest, ErrorResponse> {
    let OperationRequest { step, work, origin, .. } = &request;
    require_single_line("step.plan", &step.plan, MAX_STEP_BYTES)?;
    require_single_line("step.step", &step.step, MAX_STEP_BYTES)?;
    if step.plan.contains('/') {
        return Err(ErrorResponse::bad_request("wire.text", "`step.plan` should hold no `/`"));
    }
    if let Some(origin) = origin {
        require_single_line("origin", origin, MAX_ORIGIN_BYTES)?;
    }
    if let Work::Put { spec, .. } = work {
        reject_control_characters(spec)?;
    }
    Ok(request)
}

/// Refuses control characters in a specification, which stands in everybody's plans. Values of variables may have lines.
fn reject_control_characters(spec: &BackendSpec) -> Result<(), ErrorResponse> {
    fn fits(value: &serde_json::Value) -> bool {
        match value {
            serde_json::Value::String(text) => !text.chars().any(char::is_control),
            serde_json::Value::Array(values) => values.iter().all(fits),
            serde_json::Value::Object(values) => {
                values.iter().all(|(key, value)| !key.chars().any(char::is_control) && fits(value))
            }
            _ => true,
        }
    }
    let Ok(serde_json::Value::Object(mut fields)) = serde_json::to_value(spec) else { return Err(ErrorResponse::bug()) };
    fields.remove("env");
    // Certificates have lines, and nothing else is in them.
    if let Some(tls) = fields.get_mut("storage").and_then(|storage| storage.get_mut("tls")?.as_object_mut()) {
        tls.remove("pem");
    }
    match fields.iter().find(|(_, value)| !fits(value)) {
        Some((field, _)) => {
            let message = format!("`work.spec.{field}` should hold no control characters");
            Err(ErrorResponse::bad_request("wire.text", message))
        }
        None => Ok(()),
    }
}

/// Returns the operation, or that there is none.
pub(super) fn find_operation(
    server: &ApiServer,
    caller: &ProjectContext,
    id: &OperationId,
) -> Result<OperationRecord, ControlError> {
    let unknown = || ControlError::NoSuchOperation { project: caller.project.clone(), operation: id.clone() };
    server.host.operation(&caller.project, id)?.ok_or_else(unknown)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ListQuery {
    limit: Option<u64>,
}

async fn list(
    State(server): State<Arc<ApiServer>>,
    caller: ProjectContext,
    QueryParams(last): QueryParams<ListQuery>,
) -> HandlerResult {
    let limit = u32::try_from(bounded(&endpoints::OPERATION_LIMIT, last.limit, 50)?).unwrap_or(u32::MAX);
    json(&server.host.operations(&caller.project, limit)?)
}

async fn show(
    State(server): State<Arc<ApiServer>>,
    caller: ProjectContext,
    PathParam(id): PathParam<OperationId>,
    _: QueryParams<NoQuery>,
) -> HandlerResult {
    json(&find_operation(&server, &caller, &id)?)
}
