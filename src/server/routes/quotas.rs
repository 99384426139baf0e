//! Quotas of a project, and the default of projects without their own. The authority enforces them.

use std::sync::Arc;

use axum::extract::State;

use super::{HandlerResult, Route, json, no_content, route};
use crate::api::{Administration, ResourceLevel, endpoints};
use crate::model::Quota;
use crate::server::ApiServer;
use crate::server::auth::Authenticated;
use crate::server::error_response::ErrorResponse;
use crate::server::extract::{JsonBody, NoQuery, ProjectContext, QueryParams};

pub(super) fn routes() -> Vec<Route> {
    vec![
        route(&endpoints::GET_QUOTA, show),
        route(&endpoints::PUT_QUOTA, set),
        route(&endpoints::GET_DEFAULT_QUOTA, show_default),
        route(&endpoints::PUT_DEFAULT_QUOTA, set_default),
    ]
}

/// Refuses a price that is negative or no number.
fn validate(quota: &Quota) -> Result<(), ErrorResponse> {
    if quota.monthly_usd.is_some_and(|usd| !usd.is_finite() || usd < 0.0) {
        return Err(ErrorResponse::bad_request("wire.quota", "`monthly_usd` should be zero or more"));
    }
    Ok(())
}

async fn show(caller: ProjectContext, _: QueryParams<NoQuery>) -> HandlerResult {
    json(&caller.control.quota(&ResourceLevel::Project(caller.project)).await?)
}

async fn set(caller: ProjectContext, _: QueryParams<NoQuery>, JsonBody(quota): JsonBody<Quota>) -> HandlerResult {
    validate(&quota)?;
    caller.control.set_quota(&ResourceLevel::Project(caller.project), &quota).await?;
    no_content()
}

async fn show_default(State(server): State<Arc<ApiServer>>, caller: Authenticated, _: QueryParams<NoQuery>) -> HandlerResult {
    json(&server.host.session_for(caller.bearer.actor()).quota(&ResourceLevel::ControlPlane).await?)
}

async fn set_default(
    State(server): State<Arc<ApiServer>>,
    caller: Authenticated,
    _: QueryParams<NoQuery>,
    JsonBody(quota): JsonBody<Quota>,
) -> HandlerResult {
    validate(&quota)?;
    server.host.session_for(caller.bearer.actor()).set_quota(&ResourceLevel::ControlPlane, &quota).await?;
    no_content()
}
