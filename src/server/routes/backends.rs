//! Backends: what there is, how to reach one, what one has logged.
//!
//! Must not do: change a backend; operations do.

use axum::routing::get;
use serde::Deserialize;

use super::leases::require_single_line;
use super::{HandlerResult, bounded, json};
use crate::api::wire::CredentialsDocument;
use crate::api::{ControlError, ControlPlane, LogChunk, LogPosition, MAX_ORIGIN_BYTES};
use crate::model::{ActualBackend, BackendName, Scope};
use crate::server::endpoint::{Endpoint, ParamKind, QueryParam, RequiredScope, Verb};
use crate::server::error_response::ErrorResponse;
use crate::server::extract::{NoQuery, PathParam, ProjectContext, QueryParams};

const TAIL: QueryParam = QueryParam {
    name: "tail",
    description: "The last so many lines; 100 when nothing is said.",
    kind: ParamKind::Number { least: 0, most: 100_000 },
};
const FROM: QueryParam = QueryParam {
    name: "from",
    description: "From this byte on, as `next` of an earlier piece said.",
    kind: ParamKind::Number { least: 0, most: i64::MAX as u64 },
};

const ORIGIN: QueryParam = QueryParam {
    name: "origin",
    description: "Where the client works from: the git remote, else the folder. Refused when the project is at home in another repository.",
    kind: ParamKind::Line { most: MAX_ORIGIN_BYTES },
};

pub(super) fn routes() -> Vec<Endpoint> {
    let read = RequiredScope::Project(Scope::Read);
    vec![
        Endpoint::new(Verb::Get, "/v1/projects/{project}/backends", "listBackends", read, "The backends of the project.")
            .answers::<Vec<ActualBackend>>(200, "The backends as they are now.")
            .handled_by(get(list)),
        Endpoint::new(Verb::Get, "/v1/projects/{project}/backends/{backend}", "getBackend", read, "One backend.")
            .answers::<ActualBackend>(200, "The backend as it is now.")
            .with_errors(&[404])
            .handled_by(get(show)),
        Endpoint::new(
            Verb::Get,
            "/v1/projects/{project}/backends/{backend}/credentials",
            "getCredentials",
            RequiredScope::Project(Scope::Apply),
            "Where a backend is and the key that opens it.",
        )
        .with_query(&[ORIGIN])
        .answers::<CredentialsDocument>(200, "Its URLs and its admin key.")
        .with_errors(&[404, 409, 422])
        .handled_by(get(credentials)),
        Endpoint::new(
            Verb::Get,
            "/v1/projects/{project}/backends/{backend}/logs",
            "readLogs",
            read,
            "A piece of a backend's log.",
        )
        .with_query(&[TAIL, FROM])
        .answers::<LogChunk>(200, "The piece, and where to go on.")
        .with_errors(&[404, 422])
        .handled_by(get(logs)),
    ]
}

async fn list(caller: ProjectContext, _: QueryParams<NoQuery>) -> HandlerResult {
    json(&caller.control.snapshot(&caller.project).await?.backends)
}

async fn show(caller: ProjectContext, PathParam(name): PathParam<BackendName>, _: QueryParams<NoQuery>) -> HandlerResult {
    let snapshot = caller.control.snapshot(&caller.project).await?;
    let found = snapshot.backends.iter().find(|backend| backend.name == name);
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
        (tail, None) => LogPosition::Tail(usize::try_from(bounded(&TAIL, tail, 100)?).unwrap_or(usize::MAX)),
        (None, from) => LogPosition::Byte(bounded(&FROM, from, 0)?),
    };
    json(&caller.control.logs(&caller.project, &name, from).await?)
}
