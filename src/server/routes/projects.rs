//! Projects: which there are, and one of them as it is now.
//!
//! Must not do: change anything.

use std::sync::Arc;

use axum::extract::State;
use axum::routing::get;

use super::{HandlerResult, json};
use crate::api::wire::{FingerprintKeyDocument, OriginRequest, SecretText};
use crate::api::{ControlPlane, IfMissing, MAX_ORIGIN_BYTES};
use crate::model::{ProjectName, Scope, Snapshot};
use crate::server::ApiServer;
use crate::server::auth::Authenticated;
use crate::server::endpoint::{Endpoint, RequiredScope, Verb};
use crate::server::error_response::ErrorResponse;
use crate::server::extract::{Fence, JsonBody, NoQuery, ProjectContext, QueryParams};

pub(super) fn routes() -> Vec<Endpoint> {
    let read = RequiredScope::Project(Scope::Read);
    let apply = RequiredScope::Project(Scope::Apply);
    vec![
        Endpoint::new(Verb::Get, "/v1/projects", "listProjects", RequiredScope::AnyToken, "The projects that the token opens.")
            .answers::<Vec<ProjectName>>(200, "Their names: all of them for an operator, else the token's own.")
            .handled_by(get(list)),
        Endpoint::new(
            Verb::Get,
            "/v1/projects/{project}",
            "getProject",
            read,
            "One project as it is now: all that a plan needs.",
        )
        .answers::<Snapshot>(200, "The project. One that is not known yet has no backends.")
        .handled_by(get(snapshot)),
        Endpoint::new(
            Verb::Get,
            "/v1/projects/{project}/fingerprint-key",
            "getFingerprintKey",
            apply,
            "The key under which secrets of the project are fingerprinted.",
        )
        .answers::<FingerprintKeyDocument>(200, "The key. Whoever has it can try guesses against a plan.")
        .handled_by(get(fingerprint_key)),
        Endpoint::new(Verb::Put, "/v1/projects/{project}/origin", "putOrigin", apply, "Notes where the project is at home.")
            .fenced()
            .with_body::<OriginRequest>()
            .responds_empty("It is noted, or is at home elsewhere and stays there.")
            .handled_by(axum::routing::put(set_origin)),
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
    super::leases::require_single_line("origin", &request.origin, MAX_ORIGIN_BYTES)?;
    caller.control.set_origin(&fence.lease(&caller.project), &request.origin, request.claim).await?;
    Ok(super::leases::no_content())
}
