//! The requests of an operator to a control plane behind HTTP. The request for a token is sent once: an answer that is
//! lost takes the token with it.

use async_trait::async_trait;

use super::HttpControlPlane;
use super::retrying_client::{ClientRequest, discard_body, json};
use crate::api::wire::IssuedTokenDocument;
use crate::api::{Administration, ControlError, ResourceLevel, endpoints};
use crate::model::{IssuedToken, Quota, TokenId, TokenRecord, TokenRequest};

#[async_trait]
impl Administration for HttpControlPlane {
    async fn tokens(&self) -> Result<Vec<TokenRecord>, ControlError> {
        self.exchange.send(&ClientRequest::new(&endpoints::LIST_TOKENS, &[]), json).await
    }

    async fn create_token(&self, request: &TokenRequest) -> Result<IssuedToken, ControlError> {
        let advice = "a token may have been created whose text is lost; look for it with\n    convexinfra token list\nand end it with\n    convexinfra token revoke ID";
        let call = ClientRequest::new(&endpoints::CREATE_TOKEN, &[]).with_body(request).once(advice);
        let document: IssuedTokenDocument = self.exchange.send(&call, json).await?;
        Ok(document.into())
    }

    async fn revoke_token(&self, id: &TokenId) -> Result<TokenRecord, ControlError> {
        self.exchange.send(&ClientRequest::new(&endpoints::REVOKE_TOKEN, &[id.as_str()]), json).await
    }

    async fn quota(&self, reach: &ResourceLevel) -> Result<Quota, ControlError> {
        self.exchange.send(&ClientRequest::at_level(reach, &endpoints::GET_QUOTA, &endpoints::GET_DEFAULT_QUOTA), json).await
    }

    async fn set_quota(&self, reach: &ResourceLevel, quota: &Quota) -> Result<(), ControlError> {
        self.exchange
            .send(
                &ClientRequest::at_level(reach, &endpoints::PUT_QUOTA, &endpoints::PUT_DEFAULT_QUOTA).with_body(quota),
                discard_body,
            )
            .await
    }
}
