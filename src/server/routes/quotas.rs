//! Quotas: the ceilings of a project, and those of every project that has none of its own.
//!
//! Must not do: enforce them; the authority does.

use std::sync::Arc;

use axum::extract::State;
use axum::routing::{get, put};

use super::leases::no_content;
use super::{HandlerResult, json};
use crate::api::{Administration, ResourceLevel};
use crate::model::{Quota, Scope};
use crate::server::ApiServer;
use crate::server::auth::Authenticated;
use crate::server::endpoint::{Endpoint, RequiredScope, Verb};
use crate::server::error_response::ErrorResponse;
use crate::server::extract::{JsonBody, NoQuery, ProjectContext, QueryParams};

const PROJECT_PATH: &str = "/v1/projects/{project}/quota";
const DEFAULT_PATH: &str = "/v1/quota";

pub(super) fn routes() -> Vec<Endpoint> {
    vec![
        Endpoint::new(
            Verb::Get,
            PROJECT_PATH,
            "getQuota",
            RequiredScope::Project(Scope::Read),
            "The ceilings that hold for the project.",
        )
        .answers::<Quota>(200, "Its own, else those of every project that has none.")
        .handled_by(get(show)),
        Endpoint::new(
            Verb::Put,
            PROJECT_PATH,
            "putQuota",
            RequiredScope::Project(Scope::Operator),
            "Gives the project ceilings of its own.",
        )
        .with_body::<Quota>()
        .responds_empty("They hold from now on.")
        .handled_by(put(set)),
        Endpoint::new(
            Verb::Get,
            DEFAULT_PATH,
            "getDefaultQuota",
            RequiredScope::Operator,
            "The ceilings of projects without their own.",
        )
        .answers::<Quota>(200, "The ceilings.")
        .handled_by(get(show_default)),
        Endpoint::new(
            Verb::Put,
            DEFAULT_PATH,
            "putDefaultQuota",
            RequiredScope::Operator,
            "Sets the ceilings of projects without their own.",
        )
        .with_body::<Quota>()
        .responds_empty("They hold from now on.")
        .handled_by(put(set_default)),
    ]
}

/// Refuses a price that is not one.
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
    Ok(no_content())
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
    Ok(no_content())
}
