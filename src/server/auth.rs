//! The guard before every route: whose token it is, whether it allows what is asked, and how often.
//!
//! Must not do: say anything about what there is to somebody who may not see it.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::{RawPathParams, Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::middleware::Next;
use axum::response::Response;
use governor::clock::Clock;
use governor::middleware::NoOpMiddleware;
use governor::state::keyed::HashMapStateStore;
use governor::{Quota, RateLimiter};

use super::ApiServer;
use super::access_log::RequestTrace;
use super::endpoint::RequiredScope;
use super::error_response::ErrorResponse;
use crate::api::ControlError;
use crate::authority::AuthenticatedToken;
use crate::host::Host;
use crate::model::{Diagnostic, ProjectName, Scope, Secret, TokenId};

/// How many times its requests of one second a token may send at once.
const BURST_FACTOR: NonZeroU32 = NonZeroU32::MIN.saturating_add(1);

/// Whoever has passed the guard.
#[derive(Debug, Clone)]
pub(super) struct Authenticated {
    pub(super) bearer: AuthenticatedToken,
}

/// Lets a request through to its route, or says why not.
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
    let bearer = server.host.authenticate(&bearer_token(request.headers()).map_err(refused)?).map_err(refused)?;
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
    bearer.authorize(scope, project.as_ref()).map_err(refused)?;
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

/// How often each token may ask.
pub(super) type TokenRateLimiter = RateLimiter<TokenId, HashMapStateStore<TokenId>, HostClock, NoOpMiddleware<Duration>>;

/// The clock of whatever the host runs on: not every platform has one in its standard library.
pub(super) struct HostClock(Arc<Host>);

impl Clock for HostClock {
    type Instant = Duration;

    fn now(&self) -> Duration {
        self.0.uptime()
    }
}

/// Room for so many requests a second of every token.
pub(super) fn rate_limiter(rate: NonZeroU32, host: Arc<Host>) -> TokenRateLimiter {
    let quota = Quota::per_second(rate).allow_burst(rate.saturating_mul(BURST_FACTOR));
    RateLimiter::new(quota, HashMapStateStore::default(), HostClock(host))
}

fn check_rate(server: &ApiServer, bearer: &AuthenticatedToken) -> Result<(), ErrorResponse> {
    let Some(rates) = &server.rate_limiter else { return Ok(()) };
    rates.check_key(&bearer.record().id).map_err(|until| {
        let wait = until.wait_time_from(server.host.uptime()).as_secs_f64().ceil();
        // A wait is a few seconds at most.
        let seconds = (1..=60_u32).find(|seconds| f64::from(*seconds) >= wait).unwrap_or(60);
        let message = format!("token {} asks more often than this control plane allows", bearer.record().id);
        ErrorResponse::retry_later(StatusCode::TOO_MANY_REQUESTS, "server.rate", message, u64::from(seconds))
    })
}

/// The project that the path names.
pub(super) fn project_param(names: &RawPathParams) -> Result<ProjectName, ErrorResponse> {
    super::extract::name_param(names, "project", ProjectName::parse)
}
