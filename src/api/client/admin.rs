//! What an operator asks of a control plane behind HTTP.
//!
//! Must not do: send the wish for a token twice: an answer that was lost took the token with it.

use futures_util::future::BoxFuture;
use reqwest::Method;

use super::retrying_client::{ClientRequest, discard_body, json};
use super::{HttpControlPlane, level_path};
use crate::api::wire::IssuedTokenDocument;
use crate::api::{Administration, ControlError, ResourceLevel};
use crate::model::{IssuedToken, Quota, TokenId, TokenRecord, TokenRequest};

impl Administration for HttpControlPlane {
    fn tokens(&self) -> BoxFuture<'_, Result<Vec<TokenRecord>, ControlError>> {
        Box::pin(async move { self.exchange.send(&ClientRequest::get(&["tokens"]), json).await })
    }

    fn create_token<'a>(&'a self, request: &'a TokenRequest) -> BoxFuture<'a, Result<IssuedToken, ControlError>> {
        Box::pin(async move {
            let advice = "a token may have been made that nobody has; look for it with\n    convexinfra token list\nand end it with\n    convexinfra token revoke ID";
            let call = ClientRequest::new(Method::POST, &["tokens"]).with_body(request).once(advice);
            let document: IssuedTokenDocument = self.exchange.send(&call, json).await?;
            Ok(document.into())
        })
    }

    fn revoke_token<'a>(&'a self, id: &'a TokenId) -> BoxFuture<'a, Result<TokenRecord, ControlError>> {
        Box::pin(async move { self.exchange.send(&ClientRequest::new(Method::DELETE, &["tokens", id.as_str()]), json).await })
    }

    fn quota<'a>(&'a self, reach: &'a ResourceLevel) -> BoxFuture<'a, Result<Quota, ControlError>> {
        Box::pin(async move { self.exchange.send(&ClientRequest::get(&level_path(reach, &["quota"])), json).await })
    }

    fn set_quota<'a>(&'a self, reach: &'a ResourceLevel, quota: &'a Quota) -> BoxFuture<'a, Result<(), ControlError>> {
        Box::pin(async move {
            self.exchange
                .send(&ClientRequest::new(Method::PUT, &level_path(reach, &["quota"])).with_body(quota), discard_body)
                .await
        })
    }
}
