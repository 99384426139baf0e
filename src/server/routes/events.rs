//! The history of a project and of the control plane itself: its entries in pages, and its verification.

use std::sync::Arc;

use axum::extract::State;
use serde::Deserialize;

use super::{HandlerResult, Route, bounded, json, route};
use crate::api::{ControlPlane, HistoryPage, ResourceLevel, endpoints};
use crate::server::ApiServer;
use crate::server::auth::Authenticated;
use crate::server::error_response::ErrorResponse;
use crate::server::extract::{ProjectContext, QueryParams};

pub(super) fn routes() -> Vec<Route> {
    vec![
        route(&endpoints::LIST_EVENTS, list),
        route(&endpoints::CHECK_EVENTS, verify),
        route(&endpoints::LIST_ALL_EVENTS, list_control_plane),
        route(&endpoints::CHECK_ALL_EVENTS, verify_control_plane),
    ]
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ListQuery {
    limit: Option<u64>,
    before: Option<u64>,
}

impl ListQuery {
    fn page(&self) -> Result<HistoryPage, ErrorResponse> {
        let limit = bounded(&endpoints::EVENT_LIMIT, self.limit, 50)?;
        let before = self.before.map(|before| bounded(&endpoints::EVENT_BEFORE, Some(before), before)).transpose()?;
        Ok(HistoryPage { limit: u32::try_from(limit).unwrap_or(u32::MAX), before })
    }
}

async fn list(caller: ProjectContext, QueryParams(last): QueryParams<ListQuery>) -> HandlerResult {
    json(&caller.control.history(&ResourceLevel::Project(caller.project), last.page()?).await?)
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
                    format!("`{}` should be a hash: 64 hex digits in lower case", endpoints::EVENT_HEAD.name),
                ))
            }
            head => Ok(head),
        }
    }
}

async fn verify(
    State(server): State<Arc<ApiServer>>,
    caller: ProjectContext,
    QueryParams(noted): QueryParams<VerifyQuery>,
) -> HandlerResult {
    let _permit = server.verification_permit().await?;
    json(&caller.control.verify_history(&ResourceLevel::Project(caller.project), noted.hash()?).await?)
}

async fn list_control_plane(
    State(server): State<Arc<ApiServer>>,
    caller: Authenticated,
    QueryParams(last): QueryParams<ListQuery>,
) -> HandlerResult {
    json(&server.host.session_for(caller.bearer.actor()).history(&ResourceLevel::ControlPlane, last.page()?).await?)
}

async fn verify_control_plane(
    State(server): State<Arc<ApiServer>>,
    caller: Authenticated,
    QueryParams(noted): QueryParams<VerifyQuery>,
) -> HandlerResult {
    let _permit = server.verification_permit().await?;
    json(&server.host.session_for(caller.bearer.actor()).verify_history(&ResourceLevel::ControlPlane, noted.hash()?).await?)
}
