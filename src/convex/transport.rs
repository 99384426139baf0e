//! How requests travel to a deployment, as a port: one request out, one answer back, both as data.

use std::fmt;
use std::sync::Arc;

use futures_util::future::BoxFuture;

/// One request with its body.
pub type HttpRequest = http::Request<Vec<u8>>;
/// One answer with its body, read to the end.
pub type HttpResponse = http::Response<Vec<u8>>;

/// Says why there was no answer.
#[derive(Debug, thiserror::Error)]
pub enum TransportError {
    /// Nothing listens there, or the network is in the way: the request was not sent.
    #[error(transparent)]
    NotSent(Box<dyn std::error::Error + Send + Sync>),
    /// It was sent, and no answer came in time, or one that broke off.
    #[error(transparent)]
    NoResponse(Box<dyn std::error::Error + Send + Sync>),
    /// This machine trusts no authority, so no HTTPS server can be asked.
    #[error("{}", crate::model::NO_AUTHORITIES)]
    NoAuthorities,
    /// The answer is larger than any that was asked for.
    #[error("an answer of more than {limit} bytes")]
    TooLarge {
        /// How many bytes were allowed.
        limit: usize,
    },
}

/// Sends requests.
pub trait Transport: Send + Sync {
    /// Sends one request, and reads its answer of at most `limit` bytes to the end. Redirects are answers.
    fn send(&self, request: HttpRequest, limit: usize) -> BoxFuture<'_, Result<HttpResponse, TransportError>>;

    /// Sends one request, and hands the body of a success on to `sink` as it comes, however long it is. The answer then has
    /// none; that of a refusal has one of at most `limit` bytes. An error of `sink` ends it.
    fn stream<'a>(
        &'a self,
        request: HttpRequest,
        limit: usize,
        sink: &'a mut (dyn FnMut(&[u8]) -> std::io::Result<()> + Send),
    ) -> BoxFuture<'a, Result<HttpResponse, TransportError>> {
        Box::pin(async move {
            let mut answer = self.send(request, limit).await?;
            if answer.status().is_success() {
                sink(&std::mem::take(answer.body_mut())).map_err(|error| TransportError::NoResponse(Box::new(error)))?;
            }
            Ok(answer)
        })
    }
}

/// Connections to deployments, shared by all clones.
#[derive(Clone)]
pub struct DeploymentClient(Arc<dyn Transport>);

impl DeploymentClient {
    /// Connections over this transport.
    pub fn new(transport: impl Transport + 'static) -> Self {
        Self(Arc::new(transport))
    }

    pub(super) async fn send(&self, request: HttpRequest, limit: usize) -> Result<HttpResponse, TransportError> {
        self.0.send(request, limit).await
    }

    pub(super) async fn stream(
        &self,
        request: HttpRequest,
        limit: usize,
        sink: &mut (dyn FnMut(&[u8]) -> std::io::Result<()> + Send),
    ) -> Result<HttpResponse, TransportError> {
        self.0.stream(request, limit, sink).await
    }
}

impl fmt::Debug for DeploymentClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Connections")
    }
}
