//! Tokens: made, listed, revoked. Only an operator may.
//!
//! Must not do: show a token a second time.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::IntoResponse;
use axum::routing::{delete, get, post};

use super::{HandlerResult, json};
use crate::api::Administration;
use crate::api::wire::IssuedTokenDocument;
use crate::model::{TokenId, TokenRecord, TokenRequest};
use crate::server::ApiServer;
use crate::server::auth::Authenticated;
use crate::server::endpoint::{Endpoint, RequiredScope, Verb};
use crate::server::extract::{JsonBody, NoQuery, PathParam, QueryParams};

pub(super) fn routes() -> Vec<Endpoint> {
    vec![
        Endpoint::new(Verb::Get, "/v1/tokens", "listTokens", RequiredScope::Operator, "Every token, ended ones included.")
            .answers::<Vec<TokenRecord>>(200, "What is known of them, oldest first. The tokens themselves are known to nobody.")
            .handled_by(get(list)),
        Endpoint::new(Verb::Post, "/v1/tokens", "createToken", RequiredScope::Operator, "Makes a token.")
            .with_body::<TokenRequest>()
            .answers::<IssuedTokenDocument>(201, "The token, at the only moment at which it can be seen.")
            .handled_by(post(create)),
        Endpoint::new(Verb::Delete, "/v1/tokens/{token}", "revokeToken", RequiredScope::Operator, "Ends a token.")
            .answers::<TokenRecord>(200, "It opens nothing any more. Ending it again changes nothing.")
            .with_errors(&[404])
            .handled_by(delete(revoke)),
    ]
}

async fn list(State(server): State<Arc<ApiServer>>, caller: Authenticated, _: QueryParams<NoQuery>) -> HandlerResult {
    json(&server.host.session_for(caller.bearer.actor()).tokens().await?)
}

async fn create(
    State(server): State<Arc<ApiServer>>,
    caller: Authenticated,
    _: QueryParams<NoQuery>,
    JsonBody(request): JsonBody<TokenRequest>,
) -> HandlerResult {
    server.check_shard(request.project.as_ref())?;
    let issued = server.host.session_for(caller.bearer.actor()).create_token(&request).await?;
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
