//! Tokens: issued, listed, revoked, by operators. A token is shown once, when it is issued.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::IntoResponse;

use super::{HandlerResult, Route, json, route};
use crate::api::Administration;
use crate::api::endpoints;
use crate::api::wire::IssuedTokenDocument;
use crate::model::{TokenId, TokenRequest};
use crate::server::ApiServer;
use crate::server::auth::Authenticated;
use crate::server::extract::{JsonBody, NoQuery, PathParam, QueryParams, RequestOrigin};

pub(super) fn routes() -> Vec<Route> {
    vec![route(&endpoints::LIST_TOKENS, list), route(&endpoints::CREATE_TOKEN, create), route(&endpoints::REVOKE_TOKEN, revoke)]
}

async fn list(State(server): State<Arc<ApiServer>>, caller: Authenticated, _: QueryParams<NoQuery>) -> HandlerResult {
    json(&server.host.session_for(caller.bearer.actor()).tokens().await?)
}

async fn create(
    State(server): State<Arc<ApiServer>>,
    caller: Authenticated,
    RequestOrigin(origin): RequestOrigin,
    _: QueryParams<NoQuery>,
    JsonBody(request): JsonBody<TokenRequest>,
) -> HandlerResult {
    server.check_shard(request.project.as_ref())?;
    let origins = match server.public_origins.as_slice() {
        [] => origin.into_iter().collect(),
        public => public.to_vec(),
    };
    let issued = server.host.session_for(caller.bearer.actor()).with_token_origins(origins).create_token(&request).await?;
    Ok((StatusCode::CREATED, Json(IssuedTokenDocument::from(issued))).into_response())
}

async fn revoke(
    State(server): State<Arc<ApiServer>>,
    caller: Authenticated,
    PathParam(id): PathParam<TokenId>,
    _: QueryParams<NoQuery>,
) -> HandlerResult {
    server.check_shard(server.host.project_of_token(&id)?.as_ref())?;
    json(&server.host.session_for(caller.bearer.actor()).revoke_token(&id).await?)
}
