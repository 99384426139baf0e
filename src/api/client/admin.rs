//! The requests of an operator to a control plane behind HTTP. The request for a token is sent once: an answer that is
//! lost takes the token with it.

use futures_util::future::BoxFuture;

use super::HttpControlPlane;
use super::retrying_client::{ClientRequest, discard_body, json};
use crate::api::wire::IssuedTokenDocument;
use crate::api::{Administration, ControlError, ResourceLevel, endpoints};
use crate::model::{IssuedToken, Quota, TokenId, TokenRecord, TokenRequest};

impl Administration for HttpControlPlane {
    fn tokens(&self) -> BoxFuture<'_, Result<Vec<TokenRecord>, ControlError>> {
        Box::pin(async move { self.exchange.send(&ClientRequest::new(&endpoints::LIST_TOKENS, &[]), json).await })
    }

    fn create_token<'a>(&'a self, request: &'a TokenRequest) -> BoxFuture<'a, Result<IssuedToken, ControlError>> {
        Box::pin(async move {
            let advice = "a token may have been made that nobody has; look for it with\n    convexinfra token list\nand end it with\n    convexinfra token revoke ID";
            let call = ClientRequest::new(&endpoints::CREATE_TOKEN, &[]).with_body(request).once(advice);
            let document: IssuedTokenDocument = self.exchange.send(&call, json).await?;
            Ok(document.into())
        })
    }

    fn revoke_token<'a>(&'a self, id: &'a TokenId) -> BoxFuture<'a, Result<TokenRecord, ControlError>> {
        Box::pin(async move { self.exchange.send(&ClientRequest::new(&endpoints::REVOKE_TOKEN, &[id.as_str()]), json).await })
    }

    fn quota<'a>(&'a self, reach: &'a ResourceLevel) -> BoxFuture<'a, Result<Quota, ControlError>> {
        Box::pin(async move {
            self.exchange
                .send(&ClientRequest::at_level(reach, &endpoints::GET_QUOTA, &endpoints::GET_DEFAULT_QUOTA), json)
                .await
        })
    }

    fn set_quota<'a>(&'a self, reach: &'a ResourceLevel, quota: &'a Quota) -> BoxFuture<'a, Result<(), ControlError>> {
        Box::pin(async move {
            self.exchange
                .send(
                    &ClientRequest::at_level(reach, &endpoints::PUT_QUOTA, &endpoints::PUT_DEFAULT_QUOTA).with_body(quota),
                    discard_body,
                )
                .await
        })
    }
}
