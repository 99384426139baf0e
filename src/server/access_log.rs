//! What is around every request: its id, its line in the log, its figures, and the document of what went wrong.
//!
//! Must not do: log a header, a query, a body or a path that no route knows; any of them may hold a secret.

use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::Poll;

use axum::Json;
use axum::body::{Body, HttpBody};
use axum::extract::{MatchedPath, Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Version, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use futures_util::{StreamExt, stream};

use super::ApiServer;
use super::error_response::ErrorResponse;
use crate::api::wire::{self, ErrorDocument};
use crate::model::{ProjectName, TokenId};

/// How long an id of a client's own may be.
const MAX_REQUEST_ID_BYTES: usize = 64;
/// The route of what no route knows.
const UNKNOWN_ROUTE: &str = "unknown";

/// Says who is at the other end of a connection.
#[derive(Debug, Clone, Copy)]
pub(super) struct Peer {
    pub(super) address: SocketAddr,
    /// Whether a proxy is in between, which forwards the addresses of clients.
    pub(super) behind_proxy: bool,
    /// Whether the connection itself is encrypted.
    pub(super) is_encrypted: bool,
}

/// Describes what becomes known of a request while it is handled.
#[derive(Debug, Default)]
pub(super) struct RequestTrace {
    token: OnceLock<TokenId>,
    project: OnceLock<ProjectName>,
}

impl RequestTrace {
    /// Whose token it is.
    pub(super) fn token(&self, id: &TokenId) {
        let _ = self.token.set(id.clone());
    }

    /// Which project it is about.
    pub(super) fn project(&self, project: &ProjectName) {
        let _ = self.project.set(project.clone());
    }
}

/// Handles one request and writes down what came of it.
pub(super) async fn access_log(State(server): State<Arc<ApiServer>>, mut request: Request, next: Next) -> Response {
    let began = server.host.uptime();
    let id = request_id(request.headers());
    let (method, version) = (request.method().clone(), request.version());
    let route = request.extensions().get::<MatchedPath>().cloned();
    let client = request.extensions().get::<Peer>().map(|peer| client_address(*peer, request.headers()));
    let chunked = request.headers().contains_key(header::TRANSFER_ENCODING);
    let unread = if version == Version::HTTP_11 { track_body(&mut request) } else { None };
    let trace = Arc::new(RequestTrace::default());
    request.extensions_mut().insert(Arc::clone(&trace));
    let mut response = finish_response(next.run(request).await, &id);
    let is_unread = unread.is_some_and(|unread| unread.load(Ordering::Relaxed));
    if chunked || is_unread {
        // A proxy that went by a length beside it would see another end of this request; nothing may follow it. A client
        // that still sends a body learns that nothing follows its answer.
        response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    let route = route.as_ref().map_or(UNKNOWN_ROUTE, MatchedPath::as_str);
    let status = response.status().as_u16();
    let took = server.host.uptime().saturating_sub(began);
    server.metrics.record_request(&method, route, status, took);
    tracing::info!(
        request = id,
        method = method.as_str(),
        protocol = ?version,
        route,
        status,
        ms = (took.as_secs_f64() * 1e6).round() / 1e3,
        token = trace.token.get().map(TokenId::as_str),
        project = trace.project.get().map(ProjectName::as_str),
        client = client.map(tracing::field::display),
        code = response.extensions().get::<ErrorCode>().map(|code| code.0.as_str()),
        "answered"
    );
    response
}

/// Follows whether the body of a request is read to its end; none when there is no body.
fn track_body(request: &mut Request) -> Option<Arc<AtomicBool>> {
    let body = std::mem::take(request.body_mut());
    if body.is_end_stream() {
        return None;
    }
    let unread = Arc::new(AtomicBool::new(true));
    let is_read = Arc::clone(&unread);
    let end = stream::poll_fn(move |_| {
        is_read.store(false, Ordering::Relaxed);
        Poll::Ready(None)
    });
    *request.body_mut() = Body::from_stream(body.into_data_stream().chain(end));
    Some(unread)
}

/// Returns the address of the client: that of the connection, or the last one that the proxy before this server names.
pub(super) fn client_address(peer: Peer, headers: &HeaderMap) -> IpAddr {
    let forwarded =
        headers.get("x-forwarded-for").and_then(|value| value.to_str().ok()?.rsplit(',').next()?.trim().parse().ok());
    forwarded.filter(|_| peer.behind_proxy).unwrap_or(peer.address.ip())
}

/// The code of what went wrong, for the log.
#[derive(Clone)]
struct ErrorCode(String);

/// Puts the headers on an answer that all have, and the document into one that says what went wrong.
fn finish_response(mut response: Response, id: &str) -> Response {
    let status = response.status();
    if status.is_client_error() || status.is_server_error() {
        if response.extensions().get::<ErrorDocument>().is_none() {
            let allow = response.headers().get(header::ALLOW).cloned();
            response = ErrorResponse::from_status(status).into_response();
            if let Some(allow) = allow {
                response.headers_mut().insert(header::ALLOW, allow);
            }
        }
        if let Some(mut document) = response.extensions_mut().remove::<ErrorDocument>() {
            document.request_id = Some(id.to_owned());
            let code = document.errors.first().map(|finding| ErrorCode(finding.code.clone()));
            let headers = std::mem::take(response.headers_mut());
            response = (status, Json(document)).into_response();
            for name in [header::RETRY_AFTER, header::WWW_AUTHENTICATE, header::ALLOW, header::CONNECTION] {
                if let Some(value) = headers.get(&name) {
                    response.headers_mut().insert(name, value.clone());
                }
            }
            if let Some(code) = code {
                response.extensions_mut().insert(code);
            }
        }
    }
    let headers = response.headers_mut();
    if let Ok(id) = HeaderValue::from_str(id) {
        headers.insert(HeaderName::from_static(wire::REQUEST_ID), id);
    }
    headers.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

/// Returns the id that the client gave the request, if it is fit for a log, else a new one.
pub fn request_id(headers: &HeaderMap) -> String {
    let fit = |id: &&str| {
        (1..=MAX_REQUEST_ID_BYTES).contains(&id.len())
            && id.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte))
    };
    if let Some(id) = headers.get(wire::REQUEST_ID).and_then(|value| value.to_str().ok()).filter(fit) {
        return id.to_owned();
    }
    let mut bytes = [0; 8];
    // Without randomness the id says nothing; nothing depends on it.
    let _ = getrandom::fill(&mut bytes);
    hex::encode(bytes)
}
