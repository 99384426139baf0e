//! Backends: their state, credentials and logs. Operations change them.

use serde::Deserialize;

use super::{HandlerResult, Route, bounded, json, require_single_line, route};
use crate::api::wire::CredentialsDocument;
use crate::api::{ControlError, ControlPlane, LogPosition, MAX_ORIGIN_BYTES, endpoints};
use crate::model::BackendName;
use crate::server::error_response::ErrorResponse;
use crate::server::extract::{NoQuery, PathParam, ProjectContext, QueryParams};

pub(super) fn routes() -> Vec<Route> {
    vec![
        route(&endpoints::LIST_BACKENDS, list),
        route(&endpoints::GET_BACKEND, show),
        route(&endpoints::GET_CREDENTIALS, credentials),
        route(&endpoints::READ_LOGS, logs),
    ]
}

async fn list(caller: ProjectContext, _: QueryParams<NoQuery>) -> HandlerResult {
    json(&caller.control.snapshot(&caller.project).await?.backends)
}

async fn show(caller: ProjectContext, PathParam(name): PathParam<BackendName>, _: QueryParams<NoQuery>) -> HandlerResult {
    let snapshot = caller.control.snapshot(&caller.project).await?;
    let found = snapshot.backend(&name);
    json(found.ok_or(ControlError::NoSuchBackend { project: caller.project, backend: name })?)
}

async fn credentials(
    caller: ProjectContext,
    PathParam(name): PathParam<BackendName>,
    QueryParams(query): QueryParams<CredentialsQuery>,
) -> HandlerResult {
    let origin = query.origin.as_deref();
    if let Some(origin) = origin {
        require_single_line("origin", origin, MAX_ORIGIN_BYTES)?;
    }
    json(&CredentialsDocument::from(caller.control.credentials(&caller.project, &name, origin).await?))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct CredentialsQuery {
    origin: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct LogQuery {
    tail: Option<u64>,
    from: Option<u64>,
}

async fn logs(
    caller: ProjectContext,
    PathParam(name): PathParam<BackendName>,
    QueryParams(piece): QueryParams<LogQuery>,
) -> HandlerResult {
    let from = match (piece.tail, piece.from) {
        (Some(_), Some(_)) => {
            return Err(ErrorResponse::bad_request("wire.query", "a log is read by its `tail` or `from` a byte, not both"));
        }
        (tail, None) => LogPosition::Tail(usize::try_from(bounded(&endpoints::TAIL, tail, 100)?).unwrap_or(usize::MAX)),
        (None, from) => LogPosition::Byte(bounded(&endpoints::FROM, from, 0)?),
    };
    json(&caller.control.logs(&caller.project, &name, from).await?)
}
