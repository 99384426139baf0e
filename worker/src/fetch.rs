//! Requests through the `fetch` of the platform: to deployments, and to the services of Fly.io.
//!
//! Must not do: follow a redirect, send anything twice, or give the token to any host but Fly's own API.

use std::time::Duration;

use convexinfra::convex::deployment::{HttpRequest, HttpResponse, Transport, TransportError};
use convexinfra::model::{Secret, Timestamp};
use convexinfra::provider::fly::{
    ApiEndpoints, ApiRequest, ApiResponse, ApiTransport, ApiTransportError, Service, authorization,
};
use futures_util::future::{self, BoxFuture, Either};
use futures_util::{StreamExt, pin_mut};
use worker::send::SendFuture;
use worker::wasm_bindgen::JsValue;
use worker::{AbortController, Delay, Fetch, Headers, Method, Request, RequestInit, RequestRedirect, Response, Url};

use crate::platform;

/// How long a deployment's answer may take, as for a control plane on a machine.
const WITHIN: Duration = Duration::from_secs(10);
/// The longest answer of Fly is the list of an organisation's volumes.
const LONGEST_ANSWER: usize = 32 << 20;

/// The way to deployments.
pub struct Deployments;

impl Transport for Deployments {
    fn send(&self, request: HttpRequest, limit: usize) -> BoxFuture<'_, Result<HttpResponse, TransportError>> {
        Box::pin(SendFuture::new(send(request, limit, WITHIN)))
    }
}

/// The way to Fly.io.
pub struct FlyPort {
    places: ApiEndpoints,
    authorization: Secret,
}

impl FlyPort {
    /// A way with this token.
    pub fn new(token: &Secret, places: ApiEndpoints) -> Self {
        Self { places: places.normalized(), authorization: authorization(token) }
    }

    fn request(&self, call: &ApiRequest) -> Result<HttpRequest, ApiTransportError> {
        let unfit = |error: &dyn std::fmt::Display| ApiTransportError::NotSent(error.to_string());
        let mut url =
            Url::parse(&format!("{}{}", self.places.base_url(call.service), call.path)).map_err(|error| unfit(&error))?;
        if !call.query.is_empty() {
            url.query_pairs_mut().extend_pairs(&call.query);
        }
        let mut request = http::Request::builder().method(call.method.as_str()).uri(url.as_str());
        request = request.header("user-agent", concat!("convexinfra/", env!("CARGO_PKG_VERSION")));
        if call.service == Service::Machines {
            request = request.header("authorization", self.authorization.expose());
        }
        for (name, value) in &call.headers {
            request = request.header(*name, value.expose());
        }
        let body = match &call.body {
            None => Vec::new(),
            Some(body) => {
                request = request.header("content-type", "application/json");
                serde_json::to_vec(body).map_err(|error| unfit(&error))?
            }
        };
        // What is wrong with a header is not said: it may be a secret.
        request
            .body(body)
            .map_err(|_| ApiTransportError::NotSent("the token or a header has characters that no header may have".to_owned()))
    }

    async fn carry(&self, call: ApiRequest) -> Result<ApiResponse, ApiTransportError> {
        // Once it was handed over, it is not known whether it arrived.
        let answer = send(self.request(&call)?, LONGEST_ANSWER, call.within).await;
        let answer = answer.map_err(|error| ApiTransportError::NoAnswer(error.to_string()))?;
        let status = answer.status().as_u16();
        let text = |value: &http::HeaderValue| value.to_str().ok().map(str::to_owned);
        let headers: Vec<(String, String)> =
            answer.headers().iter().filter_map(|(name, value)| Some((name.as_str().to_owned(), text(value)?))).collect();
        Ok(ApiResponse::new(status, headers, String::from_utf8_lossy(answer.body()).into_owned()))
    }
}

impl ApiTransport for FlyPort {
    fn send(&self, call: ApiRequest) -> BoxFuture<'_, Result<ApiResponse, ApiTransportError>> {
        Box::pin(SendFuture::new(self.carry(call)))
    }

    fn now(&self) -> Timestamp {
        platform::now()
    }

    fn sleep(&self, time: Duration) -> BoxFuture<'_, ()> {
        Box::pin(SendFuture::new(Delay::from(time)))
    }
}

async fn send(request: HttpRequest, limit: usize, within: Duration) -> Result<HttpResponse, TransportError> {
    let request = converted(request).map_err(|error| TransportError::NotSent(error.to_string().into()))?;
    let controller = AbortController::default();
    let signal = controller.signal();
    let answered = async {
        // Whether anything listened cannot be told from how `fetch` fails.
        let response = Fetch::Request(request).send_with_signal(&signal).await;
        read(response.map_err(|error| TransportError::NotSent(error.to_string().into()))?, limit).await
    };
    pin_mut!(answered);
    match future::select(answered, Delay::from(within)).await {
        Either::Left((answer, _)) => answer,
        Either::Right(((), _)) => {
            controller.abort();
            Err(TransportError::NoResponse("it took too long".into()))
        }
    }
}

fn converted(request: HttpRequest) -> worker::Result<Request> {
    let headers = Headers::new();
    for (name, value) in request.headers() {
        let text = value.to_str().map_err(|error| worker::Error::RustError(error.to_string()))?;
        headers.append(name.as_str(), text)?;
    }
    let mut init = RequestInit::new();
    init.with_method(Method::from(request.method().to_string())).with_headers(headers).with_redirect(RequestRedirect::Manual);
    let url = request.uri().to_string();
    let body = request.into_body();
    if !body.is_empty() {
        init.with_body(Some(JsValue::from(js_sys::Uint8Array::from(body.as_slice()))));
    }
    Request::new_with_init(&url, &init)
}

async fn read(mut response: Response, limit: usize) -> Result<HttpResponse, TransportError> {
    let status =
        http::StatusCode::from_u16(response.status_code()).map_err(|error| TransportError::NoResponse(Box::new(error)))?;
    let broken = |error: worker::Error| TransportError::NoResponse(error.to_string().into());
    let headers: Vec<(String, String)> = response.headers().entries().collect();
    let mut body = Vec::new();
    // An answer without a body has no stream either.
    if let Ok(mut chunks) = response.stream() {
        while let Some(chunk) = chunks.next().await {
            let chunk = chunk.map_err(broken)?;
            if body.len() + chunk.len() > limit {
                return Err(TransportError::TooLarge { limit });
            }
            body.extend_from_slice(&chunk);
        }
    }
    let mut answer = HttpResponse::new(body);
    *answer.status_mut() = status;
    for (name, value) in headers {
        if let (Ok(name), Ok(value)) = (http::HeaderName::try_from(name), http::HeaderValue::try_from(value)) {
            answer.headers_mut().append(name, value);
        }
    }
    Ok(answer)
}
