//! Operations: accepting one, and looking at those that were accepted.
//!
//! Must not do: wait for the end of one.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::{get, post};
use serde::Deserialize;

use super::leases::one_line;
use super::{Handled, document, watch, within};
use crate::control::wire::{IDEMPOTENCY_KEY, OperationEvent, OperationRequest};
use crate::control::{ControlError, Request, Work};
use crate::model::{BackendSpec, OperationId, OperationRecord, OperationState, Scope};
use crate::server::input::{Asked, Fence, InPath, InProject, Nothing, Read, one_header};
use crate::server::problem::Problem;
use crate::server::route::{Access, Key, Route, Takes, Verb};
use crate::server::{Phase, Server};

/// How long the digest of a plan, or the name of a step in it, may be.
const LONGEST_STEP: usize = 256;

const LIMIT: Key = Key {
    name: "limit",
    means: "How many of the last ones; 50 when left out.",
    takes: Takes::Number { least: 1, most: 10_000 },
};

pub(super) fn routes() -> Vec<Route> {
    let read = Access::Project(Scope::Read);
    vec![
        Route::new(
            Verb::Post,
            "/v1/projects/{project}/operations",
            "startOperation",
            // Taking a backend away needs more, which the body says.
            Access::Project(Scope::Apply),
            "Has a piece of work done. Sending the same step again finds the same operation.",
        )
        .fenced()
        .hears(&[(IDEMPOTENCY_KEY, "The step as `PLAN/STEP`. When it is there, it has to equal the one in the body.")])
        .reads::<OperationRequest>()
        .answers::<OperationRecord>(202, "It is accepted, and goes on whoever watches.")
        .answers::<OperationRecord>(200, "It has ended already.")
        .by(post(start)),
        Route::new(
            Verb::Get,
            "/v1/projects/{project}/operations",
            "listOperations",
            read,
            "The last operations of the project.",
        )
        .asks(&[LIMIT])
        .answers::<Vec<OperationRecord>>(200, "The operations, oldest first.")
        .by(get(list)),
        Route::new(
            Verb::Get,
            "/v1/projects/{project}/operations/{operation}",
            "getOperation",
            read,
            "One operation, as far as it has come.",
        )
        .answers::<OperationRecord>(200, "The operation.")
        .may_fail(&[404])
        .by(get(show)),
        Route::new(
            Verb::Get,
            "/v1/projects/{project}/operations/{operation}/events",
            "watchOperation",
            read,
            "What an operation says, as it says it, and then its end.",
        )
        .hears(&[("last-event-id", "The `id` of the last event that was seen; what came after it is sent.")])
        .answers_events::<OperationEvent>("Events, each with a number as its `id`; a comment every 10 s in between.")
        .may_fail(&[404])
        .by(get(watch::events)),
    ]
}

async fn start(
    State(server): State<Arc<Server>>,
    caller: InProject,
    fence: Fence,
    headers: HeaderMap,
    _: Asked<Nothing>,
    Read(request): Read<OperationRequest>,
) -> Handled {
    let OperationRequest { step, backend, work } = request;
    one_line("step.plan", &step.plan, LONGEST_STEP)?;
    one_line("step.step", &step.step, LONGEST_STEP)?;
    if step.plan.contains('/') {
        return Err(Problem::bad_request("wire.text", "`step.plan` should hold no `/`"));
    }
    if one_header(&headers, IDEMPOTENCY_KEY)?.is_some_and(|key| key != step.to_string()) {
        let message = format!("the header `{IDEMPOTENCY_KEY}` should equal `step` in the body, as `PLAN/STEP`");
        return Err(Problem::bad_request("wire.idempotency_key", message));
    }
    let request = Request { step, backend, work: work.into() };
    if let Work::Put { spec, .. } = &request.work {
        fit_to_print(spec)?;
    }
    if server.phase() != Phase::Serving {
        return Err(Problem::draining());
    }
    let started = server.host.start(&caller.bearer, &fence.lease(&caller.project), request).await?;
    let record = one(&server, &caller, &started.id)?;
    let status = if record.state == OperationState::Running { StatusCode::ACCEPTED } else { StatusCode::OK };
    let place = format!("/v1/projects/{}/operations/{}", caller.project, record.id);
    Ok((status, [(header::LOCATION, place)], Json(record)).into_response())
}

/// Refuses control characters in a specification, which stands in everybody's plans. Values of variables may have lines.
fn fit_to_print(spec: &BackendSpec) -> Result<(), Problem> {
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
    let Ok(serde_json::Value::Object(mut fields)) = serde_json::to_value(spec) else { return Err(Problem::bug()) };
    fields.remove("env");
    match fields.iter().find(|(_, value)| !fits(value)) {
        Some((field, _)) => {
            let message = format!("`work.spec.{field}` should hold no control characters");
            Err(Problem::bad_request("wire.text", message))
        }
        None => Ok(()),
    }
}

/// The operation, or that there is none.
pub(super) fn one(server: &Server, caller: &InProject, id: &OperationId) -> Result<OperationRecord, ControlError> {
    let unknown = || ControlError::NoSuchOperation { project: caller.project.clone(), operation: id.clone() };
    server.host.operation(&caller.project, id)?.ok_or_else(unknown)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Last {
    limit: Option<u64>,
}

async fn list(State(server): State<Arc<Server>>, caller: InProject, Asked(last): Asked<Last>) -> Handled {
    let limit = u32::try_from(within(&LIMIT, last.limit, 50)?).unwrap_or(u32::MAX);
    document(&server.host.operations(&caller.project, limit)?)
}

async fn show(
    State(server): State<Arc<Server>>,
    caller: InProject,
    InPath(id): InPath<OperationId>,
    _: Asked<Nothing>,
) -> Handled {
    document(&one(&server, &caller, &id)?)
}
