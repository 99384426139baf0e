//! Connections to deployments from this machine, made when first needed.

use std::sync::OnceLock;
use std::time::Duration;

use futures_util::future::BoxFuture;
use reqwest::Client;

use super::transport::{DeploymentClient, HttpRequest, HttpResponse, Transport, TransportError};

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
    loopback: OnceLock<Client>,
    remote: OnceLock<Client>,
}

impl ReqwestTransport {
    fn client(&self, url: &str) -> Result<&Client, reqwest::Error> {
        let is_loopback = is_plain_loopback(url);
        let cell = if is_loopback { &self.loopback } else { &self.remote };
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
        let builder = match is_loopback {
            true => builder.no_proxy().tls_certs_only([]).pool_max_idle_per_host(0),
            false => builder,
        };
        let client = builder.build()?;
        Ok(cell.get_or_init(|| client))
    }
}

impl Transport for ReqwestTransport {
    fn send(&self, request: HttpRequest, limit: usize) -> BoxFuture<'_, Result<HttpResponse, TransportError>> {
        Box::pin(async move {
            let client = self.client(&request.uri().to_string()).map_err(transport_error)?;
            let request = reqwest::Request::try_from(request).map_err(transport_error)?;
            read_limited(client.execute(request).await.map_err(transport_error)?, limit).await
        })
    }

    fn stream<'a>(
        &'a self,
        request: HttpRequest,
        limit: usize,
        sink: &'a mut (dyn FnMut(&[u8]) -> std::io::Result<()> + Send),
    ) -> BoxFuture<'a, Result<HttpResponse, TransportError>> {
        Box::pin(async move {
            let client = self.client(&request.uri().to_string()).map_err(transport_error)?;
            let mut request = reqwest::Request::try_from(request).map_err(transport_error)?;
            *request.timeout_mut() = Some(STREAM_TIMEOUT);
            let idle = |_| TransportError::NoResponse(Box::new(std::io::Error::from(std::io::ErrorKind::TimedOut)));
            let execution = tokio::time::timeout(STREAM_IDLE_TIMEOUT, client.execute(request));
            let mut response = execution.await.map_err(idle)?.map_err(transport_error)?;
            if !response.status().is_success() {
                return read_limited(response, limit).await;
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

async fn read_limited(mut response: reqwest::Response, limit: usize) -> Result<HttpResponse, TransportError> {
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(transport_error)? {
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

fn transport_error(error: reqwest::Error) -> TransportError {
    let error = error.without_url();
    match error.is_connect() || error.is_builder() {
        true => TransportError::NotSent(Box::new(error)),
        false => TransportError::NoResponse(Box::new(error)),
    }
}

fn is_plain_loopback(url: &str) -> bool {
    let Some(rest) = url.strip_prefix("http://") else { return false };
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    let host = match authority.strip_prefix('[') {
        Some(bracketed) => bracketed.split(']').next().unwrap_or_default(),
        None => authority.rsplit_once(':').map_or(authority, |(host, _)| host),
    };
    host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_addresses_are_recognized() {
        for url in ["http://127.0.0.1:3210", "http://localhost:1", "http://[::1]:3210/x", "http://127.9.9.9"] {
            assert!(is_plain_loopback(url), "{url}");
        }
        for url in ["https://127.0.0.1", "http://example.com", "http://10.0.0.1:1", "http://localhost.example.com"] {
            assert!(!is_plain_loopback(url), "{url}");
        }
    }
}
