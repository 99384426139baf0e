//! The history: what has happened, who did it, and whether it is as it was written.
//!
//! Must not do: change an entry.

use std::sync::Arc;

use axum::extract::State;
use axum::routing::get;
use serde::Deserialize;

use super::{HandlerResult, bounded, json};
use crate::api::{ControlPlane, HistoryEntry, HistoryVerification, ResourceLevel};
use crate::model::Scope;
use crate::server::ApiServer;
use crate::server::auth::Authenticated;
use crate::server::endpoint::{Endpoint, ParamKind, QueryParam, RequiredScope, Verb};
use crate::server::error_response::ErrorResponse;
use crate::server::extract::{ProjectContext, QueryParams};

const LIMIT: QueryParam = QueryParam {
    name: "limit",
    description: "How many of the last ones; 50 when left out.",
    kind: ParamKind::Number { least: 0, most: 1_000_000 },
};

const HEAD: QueryParam = QueryParam {
    name: "head",
    description: "A hash that was noted, such as `head` of an earlier check; one entry must still have it.",
    kind: ParamKind::Hash,
};

pub(super) fn routes() -> Vec<Endpoint> {
    let read = RequiredScope::Project(Scope::Read);
    let of_all = "What has happened to the control plane itself.";
    vec![
        Endpoint::new(Verb::Get, "/v1/projects/{project}/events", "listEvents", read, "What has happened to the project.")
            .with_query(&[LIMIT])
            .answers::<Vec<HistoryEntry>>(200, "The entries, oldest first.")
            .handled_by(get(list)),
        Endpoint::new(
            Verb::Get,
            "/v1/projects/{project}/events/check",
            "checkEvents",
            read,
            "Whether the project's history is as it was written.",
        )
        .with_query(&[HEAD])
        .answers::<HistoryVerification>(200, "What came of the check.")
        .handled_by(get(verify)),
        Endpoint::new(Verb::Get, "/v1/events", "listAllEvents", RequiredScope::Operator, of_all)
            .with_query(&[LIMIT])
            .answers::<Vec<HistoryEntry>>(200, "The entries, oldest first.")
            .handled_by(get(list_control_plane)),
        Endpoint::new(
            Verb::Get,
            "/v1/events/check",
            "checkAllEvents",
            RequiredScope::Operator,
            "Whether the history of the control plane itself is as it was written.",
        )
        .with_query(&[HEAD])
        .answers::<HistoryVerification>(200, "What came of the check.")
        .handled_by(get(verify_control_plane)),
    ]
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ListQuery {
    limit: Option<u64>,
}

impl ListQuery {
    fn limit(&self) -> Result<u32, ErrorResponse> {
        Ok(u32::try_from(bounded(&LIMIT, self.limit, 50)?).unwrap_or(u32::MAX))
    }
}

async fn list(caller: ProjectContext, QueryParams(last): QueryParams<ListQuery>) -> HandlerResult {
    json(&caller.control.history(&ResourceLevel::Project(caller.project), last.limit()?).await?)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct VerifyQuery {
    head: Option<String>,
}

impl VerifyQuery {
    fn hash(&self) -> Result<Option<&str>, ErrorResponse> {
        match self.head.as_deref() {
            Some(head) if head.len() != 64 || !head.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f')) => {
                Err(ErrorResponse::bad_request(
                    "wire.query",
                    format!("`{}` should be a hash: 64 hex digits in lower case", HEAD.name),
                ))
            }
            head => Ok(head),
        }
    }
}

async fn verify(caller: ProjectContext, QueryParams(noted): QueryParams<VerifyQuery>) -> HandlerResult {
    json(&caller.control.verify_history(&ResourceLevel::Project(caller.project), noted.hash()?).await?)
}

async fn list_control_plane(
    State(server): State<Arc<ApiServer>>,
    caller: Authenticated,
    QueryParams(last): QueryParams<ListQuery>,
) -> HandlerResult {
    json(&server.host.session_for(caller.bearer.actor()).history(&ResourceLevel::ControlPlane, last.limit()?).await?)
}

async fn verify_control_plane(
    State(server): State<Arc<ApiServer>>,
    caller: Authenticated,
    QueryParams(noted): QueryParams<VerifyQuery>,
) -> HandlerResult {
    json(&server.host.session_for(caller.bearer.actor()).verify_history(&ResourceLevel::ControlPlane, noted.hash()?).await?)
}
