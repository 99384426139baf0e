//! The port over reqwest, for a control plane in a process of its own.
//!
//! Must not do: put the token anywhere but into the header for Fly's own API, or follow a redirect with it.

use std::sync::OnceLock;
use std::time::Duration;

use futures_util::future::BoxFuture;
use reqwest::{Client, header};

use super::endpoints::ApiEndpoints;
use super::transport::{ApiRequest, ApiResponse, ApiTransport, ApiTransportError, Method, Service, authorization};
use crate::model::{Secret, Timestamp, error_chain};
use crate::system::{lacks_authorities, proxy_hint};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// The longest answer is the list of an organisation's volumes.
const MAX_RESPONSE_BYTES: usize = 32 << 20;

/// The port over reqwest.
pub struct ReqwestTransport {
    endpoints: ApiEndpoints,
    authorization: Secret,
    client: OnceLock<Client>,
}

impl ReqwestTransport {
    /// A port with this token. Nothing is connected yet.
    pub fn new(token: &Secret, places: ApiEndpoints) -> Self {
        Self { endpoints: places.normalized(), authorization: authorization(token), client: OnceLock::new() }
    }

    fn client(&self) -> Result<&Client, ApiTransportError> {
        if let Some(client) = self.client.get() {
            return Ok(client);
        }
        let client = Client::builder()
            .connect_timeout(CONNECT_TIMEOUT)
            .redirect(reqwest::redirect::Policy::none())
            .user_agent(concat!("convexinfra/", env!("CARGO_PKG_VERSION")))
            .build()
            .map_err(|error| match lacks_authorities(&error) {
                true => ApiTransportError::NoAuthorities,
                false => ApiTransportError::NotSent(source_message(&error)),
            })?;
        Ok(self.client.get_or_init(|| client))
    }

    async fn execute(&self, call: ApiRequest) -> Result<ApiResponse, ApiTransportError> {
        let base = self.endpoints.base_url(call.service);
        let method = match call.method {
            Method::Get => reqwest::Method::GET,
            Method::Post => reqwest::Method::POST,
            Method::Put => reqwest::Method::PUT,
            Method::Delete => reqwest::Method::DELETE,
        };
        let mut request =
            self.client()?.request(method, format!("{base}{}", call.path)).query(&call.query).timeout(call.within);
        if call.service == Service::Machines {
            request = request.header(header::AUTHORIZATION, sensitive_header(&self.authorization)?);
        }
        for (name, value) in &call.headers {
            request = request.header(*name, sensitive_header(value)?);
        }
        if let Some(body) = &call.body {
            request = request.json(body);
        }
        let answer = request.send().await.map_err(|error| match error.is_connect() || error.is_builder() {
            true => {
                let said = source_message(&error);
                ApiTransportError::NotSent(proxy_hint(base).map_or(said.clone(), |proxy| format!("{said} {proxy}")))
            }
            false => ApiTransportError::NoAnswer(source_message(&error)),
        })?;
        let status = answer.status().as_u16();
        let text = |(name, value): (&header::HeaderName, &header::HeaderValue)| {
            Some((name.as_str().to_owned(), value.to_str().ok()?.to_owned()))
        };
        let headers: Vec<(String, String)> = answer.headers().iter().filter_map(text).collect();
        Ok(ApiResponse::new(status, headers, read_body(answer).await?))
    }
}

async fn read_body(mut answer: reqwest::Response) -> Result<String, ApiTransportError> {
    let mut bytes = Vec::new();
    while let Some(chunk) = answer.chunk().await.map_err(|error| ApiTransportError::NoAnswer(source_message(&error)))? {
        if bytes.len() + chunk.len() > MAX_RESPONSE_BYTES {
            return Err(ApiTransportError::NoAnswer("the answer is larger than any that makes sense".to_owned()));
        }
        bytes.extend_from_slice(&chunk);
    }
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

fn sensitive_header(value: &Secret) -> Result<header::HeaderValue, ApiTransportError> {
    let mut value = header::HeaderValue::from_str(value.expose())
        .map_err(|_| ApiTransportError::NotSent("the token or a header has characters that no header may have".to_owned()))?;
    value.set_sensitive(true);
    Ok(value)
}

/// What is below an error of reqwest's, without the URL that it puts in front.
fn source_message(error: &reqwest::Error) -> String {
    if error.is_timeout() {
        return "it took too long".to_owned();
    }
    std::error::Error::source(error).map_or_else(|| error.to_string(), error_chain)
}

impl ApiTransport for ReqwestTransport {
    fn send(&self, call: ApiRequest) -> BoxFuture<'_, Result<ApiResponse, ApiTransportError>> {
        Box::pin(self.execute(call))
    }

    fn now(&self) -> Timestamp {
        Timestamp(jiff::Timestamp::now().as_millisecond())
    }

    fn sleep(&self, time: Duration) -> BoxFuture<'_, ()> {
        Box::pin(tokio::time::sleep(time))
    }
}
