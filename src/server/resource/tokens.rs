//! Tokens: made, listed, revoked. Only an operator may.
//!
//! Must not do: show a token a second time.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::IntoResponse;
use axum::routing::{delete, get, post};

use super::{Handled, document};
use crate::control::Administration;
use crate::control::wire::IssuedTokenDocument;
use crate::model::{TokenId, TokenRecord, TokenRequest};
use crate::server::Server;
use crate::server::guard::Caller;
use crate::server::input::{Asked, InPath, Nothing, Read};
use crate::server::route::{Access, Route, Verb};

pub(super) fn routes() -> Vec<Route> {
    vec![
        Route::new(Verb::Get, "/v1/tokens", "listTokens", Access::Operator, "Every token, ended ones included.")
            .answers::<Vec<TokenRecord>>(200, "What is known of them, oldest first. The tokens themselves are known to nobody.")
            .by(get(list)),
        Route::new(Verb::Post, "/v1/tokens", "createToken", Access::Operator, "Makes a token.")
            .reads::<TokenRequest>()
            .answers::<IssuedTokenDocument>(201, "The token, at the only moment at which it can be seen.")
            .by(post(create)),
        Route::new(Verb::Delete, "/v1/tokens/{token}", "revokeToken", Access::Operator, "Ends a token.")
            .answers::<TokenRecord>(200, "It opens nothing any more. Ending it again changes nothing.")
            .may_fail(&[404])
            .by(delete(revoke)),
    ]
}

async fn list(State(server): State<Arc<Server>>, caller: Caller, _: Asked<Nothing>) -> Handled {
    document(&server.host.acting_as(caller.bearer.actor()).tokens().await?)
}

async fn create(
    State(server): State<Arc<Server>>,
    caller: Caller,
    _: Asked<Nothing>,
    Read(request): Read<TokenRequest>,
) -> Handled {
    server.has_rows_of(request.project.as_ref())?;
    let issued = server.host.acting_as(caller.bearer.actor()).create_token(&request).await?;
    Ok((StatusCode::CREATED, Json(IssuedTokenDocument::from(issued))).into_response())
}

async fn revoke(State(server): State<Arc<Server>>, caller: Caller, InPath(id): InPath<TokenId>, _: Asked<Nothing>) -> Handled {
    server.has_rows_of(server.host.project_of(&id)?.as_ref())?;
    document(&server.host.acting_as(caller.bearer.actor()).revoke_token(&id).await?)
}
