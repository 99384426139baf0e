//! What an operator asks of a control plane behind HTTP.
//!
//! Must not do: send the wish for a token twice: an answer that was lost took the token with it.

use futures_util::future::BoxFuture;
use reqwest::Method;

use super::exchange::{Call, ignored, json};
use super::{HttpControlPlane, within};
use crate::control::wire::IssuedTokenDocument;
use crate::control::{Administration, ControlError, Reach};
use crate::model::{IssuedToken, Quota, TokenId, TokenRecord, TokenRequest};

impl Administration for HttpControlPlane {
    fn tokens(&self) -> BoxFuture<'_, Result<Vec<TokenRecord>, ControlError>> {
        Box::pin(async move { self.exchange.send(&Call::get(&["tokens"]), json).await })
    }

    fn create_token<'a>(&'a self, request: &'a TokenRequest) -> BoxFuture<'a, Result<IssuedToken, ControlError>> {
        Box::pin(async move {
            let advice = "a token may have been made that nobody has; look for it with\n    convexinfra token list\nand end it with\n    convexinfra token revoke ID";
            let call = Call::new(Method::POST, &["tokens"]).with_body(request).only_once(advice);
            let document: IssuedTokenDocument = self.exchange.send(&call, json).await?;
            Ok(document.into())
        })
    }

    fn revoke_token<'a>(&'a self, id: &'a TokenId) -> BoxFuture<'a, Result<TokenRecord, ControlError>> {
        Box::pin(async move { self.exchange.send(&Call::new(Method::DELETE, &["tokens", id.as_str()]), json).await })
    }

    fn quota<'a>(&'a self, reach: &'a Reach) -> BoxFuture<'a, Result<Quota, ControlError>> {
        Box::pin(async move { self.exchange.send(&Call::get(&within(reach, &["quota"])), json).await })
    }

    fn set_quota<'a>(&'a self, reach: &'a Reach, quota: &'a Quota) -> BoxFuture<'a, Result<(), ControlError>> {
        Box::pin(async move {
            self.exchange.send(&Call::new(Method::PUT, &within(reach, &["quota"])).with_body(quota), ignored).await
        })
    }
}
