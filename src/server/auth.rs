//! Authentication and authorization before every endpoint, and the rate limits that go with them.
//!
//! A refusal says nothing about what is there.

use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use axum::extract::{MatchedPath, RawPathParams, Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::middleware::Next;
use axum::response::Response;

use super::ApiServer;
use super::access_log::{Peer, RequestTrace, client_address};
use super::error_response::ErrorResponse;
use super::path_param::project_param;
use super::rate_limits::client_network;
use crate::api::endpoint::RequiredScope;
use crate::api::endpoints::GET_FINGERPRINT_KEY;
use crate::api::{ControlError, TokenParts};
use crate::authority::AuthenticatedToken;
use crate::model::{Diagnostic, Scope, Secret};

/// The token that a request has shown, once it is authenticated and authorized.
#[derive(Debug, Clone)]
pub(super) struct Authenticated {
    pub(super) bearer: AuthenticatedToken,
}

/// Passes a request on to its endpoint when its token allows that.
pub(super) async fn require_access(
    State((server, access)): State<(Arc<ApiServer>, RequiredScope)>,
    names: RawPathParams,
    mut request: Request,
    next: Next,
) -> Result<Response, ErrorResponse> {
    if access == RequiredScope::Public {
        return Ok(next.run(request).await);
    }
    let trace = request.extensions().get::<Arc<RequestTrace>>().cloned().unwrap_or_default();
    let refused = |error: ControlError| {
        if matches!(error, ControlError::NotAuthorised(_)) {
            server.metrics.record_refusal(&error);
        }
        ErrorResponse::from(error)
    };
    let token = bearer_token(request.headers()).map_err(refused)?;
    let address = request.extensions().get::<Peer>().map(|peer| client_address(*peer, request.headers()));
    check_refusals(&server, address, &token)?;
    let bearer = server.host.authenticate(&token).map_err(|error| {
        server.known_tokens.remove(&token);
        count_refusal(&server, address, &token);
        refused(error)
    })?;
    server.known_tokens.insert(&token);
    trace.token(&bearer.record().id);
    check_rate(&server, &bearer)?;
    let (scope, project) = match access {
        RequiredScope::Public | RequiredScope::AnyToken => (Scope::Read, None),
        RequiredScope::Operator => (Scope::Operator, None),
        RequiredScope::Project(scope) => (scope, Some(project_param(&names)?)),
    };
    if let Some(project) = &project {
        trace.project(project);
    }
    // A plan asks for the key with any token, and goes on without it where the token may only read.
    let is_asked_routinely =
        request.extensions().get::<MatchedPath>().is_some_and(|path| path.as_str() == GET_FINGERPRINT_KEY.path);
    bearer.authorize(scope, project.as_ref()).map_err(|error| match is_asked_routinely {
        true => ErrorResponse::from(error),
        false => refused(error),
    })?;
    server.check_shard(project.as_ref())?;
    request.extensions_mut().insert(Authenticated { bearer });
    Ok(next.run(request).await)
}

/// Returns the token that was shown.
///
/// # Errors
/// [`ControlError::NotAuthorised`] when there is none, or more than one.
pub fn bearer_token(headers: &HeaderMap) -> Result<Secret, ControlError> {
    let missing =
        |message: &str| {
            ControlError::NotAuthorised(Diagnostic::new("auth.token_missing", message).with_help(
                "show a token in `CONVEXINFRA_TOKEN`, or name a command that prints it in `CONVEXINFRA_TOKEN_COMMAND`",
            ))
        };
    let mut shown = headers.get_all(header::AUTHORIZATION).iter();
    let Some(value) = shown.next() else { return Err(missing("this control plane wants to see a token")) };
    if shown.next().is_some() {
        return Err(missing("more than one token was shown"));
    }
    let words = value.to_str().ok().and_then(|text| text.split_once(' '));
    match words {
        // Where several headers arrive as one, a comma is between them; no token has one.
        Some(_) if value.as_bytes().contains(&b',') => Err(missing("more than one token was shown")),
        Some((scheme, token)) if scheme.eq_ignore_ascii_case("bearer") => Ok(Secret::new(token.trim())),
        _ => Err(missing("the `Authorization` header does not hold a bearer token")),
    }
}

/// Refuses a token that is not known to be good when its address has shown too many that were refused: before the store is
/// read.
fn check_refusals(server: &ApiServer, address: Option<IpAddr>, token: &Secret) -> Result<(), ErrorResponse> {
    let (Some(limiter), Some(address)) = (&server.refusal_limiter, address) else { return Ok(()) };
    if !is_limited(server, token) {
        return Ok(());
    }
    let wait = lock(limiter).wait(&client_network(address).to_string(), server.host.uptime());
    wait.map_or(Ok(()), |wait| {
        let message = "too many tokens that are not known were shown from this address";
        let seconds = (wait.as_secs() + u64::from(wait.subsec_nanos() > 0)).clamp(1, 60);
        Err(ErrorResponse::retry_later(StatusCode::TOO_MANY_REQUESTS, "server.rate", message, seconds))
    })
}

fn count_refusal(server: &ApiServer, address: Option<IpAddr>, token: &Secret) {
    if let (Some(limiter), Some(address)) = (&server.refusal_limiter, address)
        && is_limited(server, token)
    {
        lock(limiter).count(&client_network(address).to_string(), server.host.uptime());
    }
}

/// Returns whether a token costs a lookup: what does not have the form of a token is refused without one.
fn is_limited(server: &ApiServer, token: &Secret) -> bool {
    TokenParts::parse(token.expose()).is_some() && !server.known_tokens.contains(token)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn check_rate(server: &ApiServer, bearer: &AuthenticatedToken) -> Result<(), ErrorResponse> {
    let Some(limiter) = &server.rate_limiter else { return Ok(()) };
    limiter.check(&bearer.record().id).map_err(|seconds| {
        let message = format!("token {} sends more requests than this control plane allows", bearer.record().id);
        ErrorResponse::retry_later(StatusCode::TOO_MANY_REQUESTS, "server.rate", message, seconds)
    })
}
