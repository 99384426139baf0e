//! Requests to deployments through the `fetch` of the platform.
//!
//! Must not do: follow a redirect, or wait longer than a deployment is given anywhere else.

use std::time::Duration;

use convexinfra::convex::deployment::{HttpAnswer, HttpRequest, Transport, TransportError};
use futures_util::future::{self, BoxFuture, Either};
use futures_util::{StreamExt, pin_mut};
use worker::send::SendFuture;
use worker::wasm_bindgen::JsValue;
use worker::{AbortController, Delay, Fetch, Headers, Method, Request, RequestInit, RequestRedirect, Response};

/// How long an answer may take, as for a control plane on a machine.
const WITHIN: Duration = Duration::from_secs(10);

/// The `fetch` of the platform.
pub struct FetchTransport;

impl Transport for FetchTransport {
    fn send(&self, request: HttpRequest, limit: usize) -> BoxFuture<'_, Result<HttpAnswer, TransportError>> {
        Box::pin(SendFuture::new(send(request, limit)))
    }
}

async fn send(request: HttpRequest, limit: usize) -> Result<HttpAnswer, TransportError> {
    let request = converted(request).map_err(|error| TransportError::NotSent(error.to_string().into()))?;
    let controller = AbortController::default();
    let signal = controller.signal();
    let answered = async {
        // Whether anything listened cannot be told from how `fetch` fails.
        let response = Fetch::Request(request).send_with_signal(&signal).await;
        read(response.map_err(|error| TransportError::NotSent(error.to_string().into()))?, limit).await
    };
    pin_mut!(answered);
    match future::select(answered, Delay::from(WITHIN)).await {
        Either::Left((answer, _)) => answer,
        Either::Right(((), _)) => {
            controller.abort();
            Err(TransportError::NoAnswer("it took too long".into()))
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

async fn read(mut response: Response, limit: usize) -> Result<HttpAnswer, TransportError> {
    let status =
        http::StatusCode::from_u16(response.status_code()).map_err(|error| TransportError::NoAnswer(Box::new(error)))?;
    let broken = |error: worker::Error| TransportError::NoAnswer(error.to_string().into());
    let mut body = Vec::new();
    let mut chunks = response.stream().map_err(broken)?;
    while let Some(chunk) = chunks.next().await {
        let chunk = chunk.map_err(broken)?;
        if body.len() + chunk.len() > limit {
            return Err(TransportError::TooLarge { limit });
        }
        body.extend_from_slice(&chunk);
    }
    let mut answer = HttpAnswer::new(body);
    *answer.status_mut() = status;
    Ok(answer)
}
