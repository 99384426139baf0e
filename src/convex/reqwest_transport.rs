//! Connections to deployments from this machine, made when first needed.

use std::sync::OnceLock;
use std::time::Duration;

use futures_util::future::BoxFuture;
use reqwest::{Client, Url};

use super::transport::{DeploymentClient, HttpRequest, HttpResponse, Transport, TransportError};
use crate::model::is_loopback_url;
use crate::system::{lacks_authorities, proxy_hint};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
const TIMEOUT: Duration = Duration::from_secs(10);
/// How long a stream may last, and how long nothing of it may come.
const STREAM_TIMEOUT: Duration = Duration::from_secs(6 * 3600);
const STREAM_IDLE_TIMEOUT: Duration = Duration::from_secs(60);

impl Default for DeploymentClient {
    fn default() -> Self {
        Self::new(ReqwestTransport::default())
    }
}

#[derive(Debug, Default)]
struct ReqwestTransport {
    clients: [OnceLock<Client>; 3],
}

/// How a server is reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Route {
    /// On this machine, in clear.
    Loopback,
    /// On this machine, with a certificate.
    LoopbackTls,
    /// Anywhere else.
    Remote,
}

/// A request that did not arrive, and the proxy that it was given to.
#[derive(Debug, thiserror::Error)]
#[error("asked {proxy}")]
struct ProxyError {
    proxy: String,
    source: reqwest::Error,
}

impl ReqwestTransport {
    fn client(&self, url: &str) -> Result<&Client, reqwest::Error> {
        let route = Route::to(url);
        let cell = &self.clients[route as usize];
        if let Some(client) = cell.get() {
            return Ok(client);
        }
        let builder = Client::builder()
            .connect_timeout(CONNECT_TIMEOUT)
            .timeout(TIMEOUT)
            .redirect(reqwest::redirect::Policy::none())
            .user_agent(concat!("convexinfra/", env!("CARGO_PKG_VERSION")));
        // A backend on this machine needs neither the system's certificates nor a proxy, which might answer in its place.
        // Nor are its connections kept: it may be stopped and started again between two requests.
        let builder = match route {
            Route::Loopback => builder.no_proxy().tls_certs_only([]).pool_max_idle_per_host(0),
            Route::LoopbackTls => builder.no_proxy().pool_max_idle_per_host(0),
            Route::Remote => builder,
        };
        let client = builder.build()?;
        Ok(cell.get_or_init(|| client))
    }
}

impl Transport for ReqwestTransport {
    fn send(&self, request: HttpRequest, limit: usize) -> BoxFuture<'_, Result<HttpResponse, TransportError>> {
        Box::pin(async move {
            let url = request.uri().to_string();
            let transport_error = |error| transport_error(error, &url);
            let client = self.client(&url).map_err(transport_error)?;
            let request = reqwest::Request::try_from(request).map_err(transport_error)?;
            read_limited(client.execute(request).await.map_err(transport_error)?, limit, &url).await
        })
    }

    fn stream<'a>(
        &'a self,
        request: HttpRequest,
        limit: usize,
        sink: &'a mut (dyn FnMut(&[u8]) -> std::io::Result<()> + Send),
    ) -> BoxFuture<'a, Result<HttpResponse, TransportError>> {
        Box::pin(async move {
            let url = request.uri().to_string();
            let transport_error = |error| transport_error(error, &url);
            let client = self.client(&url).map_err(transport_error)?;
            let mut request = reqwest::Request::try_from(request).map_err(transport_error)?;
            *request.timeout_mut() = Some(STREAM_TIMEOUT);
            let idle = |_| TransportError::NoResponse(Box::new(std::io::Error::from(std::io::ErrorKind::TimedOut)));
            let execution = tokio::time::timeout(STREAM_IDLE_TIMEOUT, client.execute(request));
            let mut response = execution.await.map_err(idle)?.map_err(transport_error)?;
            if !response.status().is_success() {
                return read_limited(response, limit, &url).await;
            }
            while let Some(chunk) =
                tokio::time::timeout(STREAM_IDLE_TIMEOUT, response.chunk()).await.map_err(idle)?.map_err(transport_error)?
            {
                sink(&chunk).map_err(|error| TransportError::NoResponse(Box::new(error)))?;
            }
            Ok(answer(response.status(), Vec::new()))
        })
    }
}

async fn read_limited(mut response: reqwest::Response, limit: usize, url: &str) -> Result<HttpResponse, TransportError> {
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(|error| transport_error(error, url))? {
        if body.len() + chunk.len() > limit {
            return Err(TransportError::TooLarge { limit });
        }
        body.extend_from_slice(&chunk);
    }
    Ok(answer(response.status(), body))
}

fn answer(status: http::StatusCode, body: Vec<u8>) -> HttpResponse {
    let mut answer = HttpResponse::new(body);
    *answer.status_mut() = status;
    answer
}

fn transport_error(error: reqwest::Error, url: &str) -> TransportError {
    let error = error.without_url();
    if lacks_authorities(&error) {
        return TransportError::NoAuthorities;
    }
    let is_unsent = error.is_connect() || error.is_builder();
    let proxy = if is_unsent && Route::to(url) == Route::Remote { proxy_hint(url) } else { None };
    match (is_unsent, proxy) {
        (true, Some(proxy)) => TransportError::NotSent(Box::new(ProxyError { proxy, source: error })),
        (true, None) => TransportError::NotSent(Box::new(error)),
        (false, _) => TransportError::NoResponse(Box::new(error)),
    }
}

impl Route {
    fn to(url: &str) -> Self {
        match Url::parse(url) {
            Ok(url) if url.scheme() == "http" && is_loopback_url(&url) => Self::Loopback,
            Ok(url) if url.scheme() == "https" && is_loopback_url(&url) => Self::LoopbackTls,
            _ => Self::Remote,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_addresses_are_recognized() {
        for url in ["http://127.0.0.1:3210", "http://localhost:1", "http://[::1]:3210/x", "http://127.9.9.9"] {
            assert_eq!(Route::to(url), Route::Loopback, "{url}");
        }
        assert_eq!(Route::to("https://127.0.0.1"), Route::LoopbackTls);
        for url in ["https://example.com", "http://example.com", "http://10.0.0.1:1", "http://localhost.example.com"] {
            assert_eq!(Route::to(url), Route::Remote, "{url}");
        }
    }
}
