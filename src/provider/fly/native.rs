//! The port over reqwest, for a control plane in a process of its own.
//!
//! Must not do: put the token anywhere but into the header for Fly's own API, or follow a redirect with it.

use std::sync::OnceLock;
use std::time::Duration;

use futures_util::future::BoxFuture;
use reqwest::{Client, header};

use super::places::Places;
use super::port::{Call, Method, Port, PortError, Reply, Service, authorization};
use crate::model::{Secret, Timestamp, chain};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// The longest answer is the list of an organisation's volumes.
const LONGEST_ANSWER: usize = 32 << 20;

/// The port over reqwest.
pub struct Native {
    places: Places,
    authorization: Secret,
    client: OnceLock<Client>,
}

impl Native {
    /// A port with this token. Nothing is connected yet.
    pub fn new(token: &Secret, places: Places) -> Self {
        Self { places: places.normal(), authorization: authorization(token), client: OnceLock::new() }
    }

    fn client(&self) -> Result<&Client, PortError> {
        if let Some(client) = self.client.get() {
            return Ok(client);
        }
        let client = Client::builder()
            .connect_timeout(CONNECT_TIMEOUT)
            .redirect(reqwest::redirect::Policy::none())
            .user_agent(concat!("convexinfra/", env!("CARGO_PKG_VERSION")))
            .build()
            .map_err(|error| PortError::NotSent(error.to_string()))?;
        Ok(self.client.get_or_init(|| client))
    }

    async fn carry(&self, call: Call) -> Result<Reply, PortError> {
        let base = self.places.of(call.service);
        let method = match call.method {
            Method::Get => reqwest::Method::GET,
            Method::Post => reqwest::Method::POST,
            Method::Put => reqwest::Method::PUT,
            Method::Delete => reqwest::Method::DELETE,
        };
        let mut request =
            self.client()?.request(method, format!("{base}{}", call.path)).query(&call.query).timeout(call.within);
        if call.service == Service::Machines {
            request = request.header(header::AUTHORIZATION, sensitive(&self.authorization)?);
        }
        for (name, value) in &call.headers {
            request = request.header(*name, sensitive(value)?);
        }
        if let Some(body) = &call.body {
            request = request.json(body);
        }
        let answer = request.send().await.map_err(|error| match error.is_connect() || error.is_builder() {
            true => PortError::NotSent(below(&error)),
            false => PortError::NoAnswer(below(&error)),
        })?;
        let status = answer.status().as_u16();
        let headers = answer.headers().iter();
        let headers = headers.filter_map(|(name, value)| Some((name.as_str().to_owned(), value.to_str().ok()?.to_owned())));
        Ok(Reply { status, headers: headers.collect(), body: text(answer).await? })
    }
}

async fn text(mut answer: reqwest::Response) -> Result<String, PortError> {
    let mut bytes = Vec::new();
    while let Some(chunk) = answer.chunk().await.map_err(|error| PortError::NoAnswer(below(&error)))? {
        if bytes.len() + chunk.len() > LONGEST_ANSWER {
            return Err(PortError::NoAnswer("the answer is larger than any that makes sense".to_owned()));
        }
        bytes.extend_from_slice(&chunk);
    }
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

fn sensitive(value: &Secret) -> Result<header::HeaderValue, PortError> {
    let mut value = header::HeaderValue::from_str(value.expose())
        .map_err(|_| PortError::NotSent("the token or a header has characters that no header may have".to_owned()))?;
    value.set_sensitive(true);
    Ok(value)
}

/// What is below an error of reqwest's, without the URL that it puts in front.
fn below(error: &reqwest::Error) -> String {
    if error.is_timeout() {
        return "it took too long".to_owned();
    }
    std::error::Error::source(error).map_or_else(|| error.to_string(), chain)
}

impl Port for Native {
    fn send(&self, call: Call) -> BoxFuture<'_, Result<Reply, PortError>> {
        Box::pin(self.carry(call))
    }

    fn now(&self) -> Timestamp {
        Timestamp(jiff::Timestamp::now().as_millisecond())
    }

    fn sleep(&self, time: Duration) -> BoxFuture<'_, ()> {
        Box::pin(tokio::time::sleep(time))
    }
}
