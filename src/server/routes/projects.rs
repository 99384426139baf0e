//! Projects: their names, and one of them as it is now.

use std::sync::Arc;

use axum::extract::State;

use super::{HandlerResult, Route, json, no_content, require_single_line, route};
use crate::api::wire::{FingerprintKeyDocument, OriginRequest, SecretText};
use crate::api::{ControlPlane, IfMissing, MAX_ORIGIN_BYTES, endpoints};
use crate::model::Scope;
use crate::server::ApiServer;
use crate::server::auth::Authenticated;
use crate::server::error_response::ErrorResponse;
use crate::server::extract::{Fence, JsonBody, NoQuery, ProjectContext, QueryParams};

pub(super) fn routes() -> Vec<Route> {
    vec![
        route(&endpoints::LIST_PROJECTS, list),
        route(&endpoints::GET_PROJECT, snapshot),
        route(&endpoints::GET_FINGERPRINT_KEY, fingerprint_key),
        route(&endpoints::PUT_ORIGIN, set_origin),
    ]
}

async fn list(State(server): State<Arc<ApiServer>>, caller: Authenticated, _: QueryParams<NoQuery>) -> HandlerResult {
    let record = caller.bearer.record();
    match (&record.project, record.scope) {
        (_, Scope::Operator) => json(&server.host.projects()?),
        (own, _) => json(&own.iter().collect::<Vec<_>>()),
    }
}

async fn snapshot(caller: ProjectContext, _: QueryParams<NoQuery>) -> HandlerResult {
    let mut snapshot = caller.control.snapshot(&caller.project).await?;
    snapshot.control_plane.scope = Some(caller.bearer.record().scope);
    json(&snapshot)
}

async fn fingerprint_key(caller: ProjectContext, _: QueryParams<NoQuery>) -> HandlerResult {
    // There are tokens, so there is a store, and with it a key.
    let key = caller.control.fingerprint_key(&caller.project, IfMissing::ReturnNone).await?.ok_or_else(ErrorResponse::bug)?;
    json(&FingerprintKeyDocument { key: SecretText(key.to_hex()) })
}

async fn set_origin(
    caller: ProjectContext,
    fence: Fence,
    _: QueryParams<NoQuery>,
    JsonBody(request): JsonBody<OriginRequest>,
) -> HandlerResult {
    require_single_line("origin", &request.origin, MAX_ORIGIN_BYTES)?;
    caller.control.set_origin(&fence.lease(&caller.project), &request.origin, request.claim).await?;
    no_content()
}
