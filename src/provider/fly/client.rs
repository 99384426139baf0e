//! The client of Fly's Machines API: retries with backoff, rate limits, deadlines, and what a refusal becomes.
//!
//! Must not do: send anything again that may have been done, unless doing it twice is harmless.

use std::sync::Arc;
use std::time::Duration;

use serde::de::DeserializeOwned;
use serde_json::Value;

use super::api_error::{ApiErrorKind, classify, error_message};
use super::cookies::CookieJar;
use super::deadline::Deadline;
use super::error::FlyError;
use super::fresh::FreshResources;
use super::transport::{ApiRequest, ApiResponse, ApiTransport, ApiTransportError, Method, Service};
use crate::provider::kit::backoff::Backoff;

/// How long things may take, and how often they are asked about.
#[derive(Debug, Clone, Copy)]
pub struct Timeouts {
    /// How long requests are sent again that cannot get through.
    pub retry: Duration,
    /// How long a request waits in total where the server says when to retry, beyond [`Self::retry`].
    pub rate_limit: Duration,
    /// The first pause before a request is sent again, and between two looks at what has to settle.
    pub poll_interval: Duration,
    /// How long a new app may take to be seen everywhere.
    pub visibility: Duration,
    /// How long a machine may take to settle in a state.
    pub settle: Duration,
    /// How long a machine may take to pass its checks. Large databases need minutes.
    pub ready: Duration,
    /// How long a running machine whose checks the server does not list is watched before it counts as ready.
    pub unchecked: Duration,
    /// How long anything may take to go.
    pub deletion: Duration,
    /// How long a lease lasts that is not renewed.
    pub lease: Duration,
    /// How long to wait for a lease that another run holds.
    pub lease_wait: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            retry: Duration::from_secs(60),
            rate_limit: Duration::from_secs(180),
            poll_interval: Duration::from_secs(1),
            visibility: Duration::from_secs(60),
            settle: Duration::from_secs(180),
            ready: Duration::from_secs(300),
            unchecked: Duration::from_secs(20),
            deletion: Duration::from_secs(120),
            lease: Duration::from_secs(30),
            lease_wait: Duration::from_secs(150),
        }
    }
}

/// The longest pause between two attempts, before its jitter.
const MAX_BACKOFF: Duration = Duration::from_secs(5);

/// Why a call failed.
#[derive(Debug)]
pub(super) enum CallError {
    /// The API rejected it, for this reason.
    Rejected(ApiErrorKind, ApiResponse),
    /// Whether it was done is not known.
    Uncertain(String),
    /// The API cannot be reached.
    Unreachable(String),
    /// It cannot get through from this machine, now or later.
    NoAuthorities,
}

/// Calls Fly's APIs.
#[derive(Clone)]
pub(super) struct ApiClient {
    pub(super) transport: Arc<dyn ApiTransport>,
    pub(super) timeouts: Timeouts,
    cookies: Arc<CookieJar>,
    fresh: Arc<FreshResources>,
}

impl ApiClient {
    /// Creates a client over a transport, with the timeouts of the real API.
    pub(super) fn new(transport: Arc<dyn ApiTransport>) -> Self {
        Self { transport, timeouts: Timeouts::default(), cookies: Arc::default(), fresh: Arc::default() }
    }

    /// Sends a request once, with the cookies that belong to it.
    pub(super) async fn send_once(&self, mut call: ApiRequest) -> Result<ApiResponse, ApiTransportError> {
        if call.service != Service::Machines {
            return self.transport.send(call).await;
        }
        let (method, path) = (call.method, call.path.clone());
        if let Some(cookies) = self.cookies.header(&path, self.transport.now()) {
            call = call.with_header("cookie", cookies);
        }
        let response = self.transport.send(call).await?;
        if method == Method::Delete && response.is_success() {
            self.fresh.forget(&path);
        }
        for line in response.headers.get("set-cookie").into_iter().flat_map(|lines| lines.lines()) {
            self.cookies.store(&path, line, self.transport.now());
        }
        Ok(response)
    }

    /// Remembers that this was just created, so that for a while "not found" is asked again.
    pub(super) fn expect_visible(&self, request: &ApiRequest) {
        let until = self.deadline(self.timeouts.visibility);
        self.fresh.add(request.path.clone(), until, |until| self.remaining(until).is_none());
    }

    /// Returns the deadline that is so far from now.
    pub(super) fn deadline(&self, budget: Duration) -> Deadline {
        Deadline { start_ms: self.transport.now().0, budget }
    }

    /// Returns the time left; none when the deadline has passed. A clock that goes backwards gives no time.
    pub(super) fn remaining(&self, deadline: Deadline) -> Option<Duration> {
        let passed = u64::try_from(self.transport.now().0.saturating_sub(deadline.start_ms)).unwrap_or_default();
        deadline.budget.checked_sub(Duration::from_millis(passed)).filter(|left| !left.is_zero())
    }

    /// Sleeps for the poll interval.
    pub(super) async fn pause(&self) {
        self.transport.sleep(self.timeouts.poll_interval).await;
    }

    /// Sends a request until it is answered, and retries only what may be sent twice.
    pub(super) async fn call(&self, call: ApiRequest) -> Result<ApiResponse, CallError> {
        let repeatable = !matches!(call.method, Method::Post);
        self.send_with_retry(call, repeatable).await
    }

    /// Sends a request that makes or changes something until it is answered. Doing it twice must end in the same state.
    pub(super) async fn call_idempotent(&self, call: ApiRequest) -> Result<ApiResponse, CallError> {
        self.send_with_retry(call, true).await
    }

    async fn send_with_retry(&self, call: ApiRequest, repeatable: bool) -> Result<ApiResponse, CallError> {
        let deadline = self.deadline(self.timeouts.retry);
        let mut limited = self.timeouts.rate_limit;
        let mut backoff = self.backoff(self.timeouts.poll_interval / 4);
        loop {
            let (declined, wait) = match self.send_once(call.clone()).await {
                Ok(reply) if reply.is_success() => return Ok(reply),
                Ok(reply) => match classify(&reply) {
                    // Nothing was done, so every request may be repeated.
                    ApiErrorKind::RateLimited(seconds) => {
                        (CallError::Unreachable(error_message(&reply)), seconds.map(Duration::from_secs))
                    }
                    ApiErrorKind::Uncertain if repeatable => (CallError::Rejected(ApiErrorKind::Uncertain, reply), None),
                    ApiErrorKind::Uncertain => return Err(CallError::Uncertain(error_message(&reply))),
                    meaning => match self.fresh.not_seen_until(&call, &meaning) {
                        Some(until) if self.remaining(until).is_some() => {
                            self.pause().await;
                            continue;
                        }
                        _ => return Err(CallError::Rejected(meaning, reply)),
                    },
                },
                Err(ApiTransportError::NotSent(why)) => (CallError::Unreachable(why), None),
                Err(ApiTransportError::NoAuthorities) => return Err(CallError::NoAuthorities),
                Err(ApiTransportError::NoAnswer(why)) if repeatable => (CallError::Unreachable(why), None),
                Err(ApiTransportError::NoAnswer(why)) => return Err(CallError::Uncertain(why)),
            };
            let told = wait.map(|told| told.max(self.timeouts.poll_interval));
            let wait = told.unwrap_or_else(|| backoff.next_pause());
            match (self.remaining(deadline), told.and_then(|told| limited.checked_sub(told))) {
                (Some(left), _) if left > wait => {}
                // A server that says when to retry is ready by then.
                (_, Some(rest)) => limited = rest,
                _ => return Err(declined),
            }
            self.transport.sleep(wait).await;
        }
    }

    /// Returns the pauses between attempts.
    pub(super) fn backoff(&self, first: Duration) -> Backoff {
        Backoff::new(first, MAX_BACKOFF, self.transport.now().0.unsigned_abs())
    }

    /// Gets a resource; none where it does not exist.
    pub(super) async fn find<T: DeserializeOwned>(&self, call: ApiRequest) -> Result<Option<T>, FlyError> {
        let what = call.label();
        match self.call(call).await {
            Ok(reply) => parse(&what, &reply).map(Some),
            Err(CallError::Rejected(kind, _)) if kind.is_not_found() => Ok(None),
            Err(declined) => Err(call_failed(&what, declined)),
        }
    }

    /// Lists resources. A list that does not exist is an error.
    pub(super) async fn list<T: DeserializeOwned>(&self, call: ApiRequest) -> Result<Vec<T>, FlyError> {
        let what = call.label();
        match self.call(call).await {
            Ok(reply) => parse_list(&what, &reply),
            Err(declined) => Err(call_failed(&what, declined)),
        }
    }

    /// Gets a resource. One that does not exist is an error.
    pub(super) async fn get<T: DeserializeOwned>(&self, call: ApiRequest) -> Result<T, FlyError> {
        let what = call.label();
        match self.call(call).await {
            Ok(reply) => parse(&what, &reply),
            Err(declined) => Err(call_failed(&what, declined)),
        }
    }
}

/// Reads an answer that is one object. No field of it is taken for granted, so anything else, an empty list say, would
/// pass for an object with nothing in it.
pub(super) fn parse<T: DeserializeOwned>(what: &str, reply: &ApiResponse) -> Result<T, FlyError> {
    match serde_json::from_str(&reply.body) {
        Ok(Value::Object(fields)) => T::deserialize(Value::Object(fields)).ok(),
        _ => None,
    }
    .ok_or_else(|| FlyError::Unreadable { what: what.to_owned() })
}

/// Reads the answer to a creation: without the id of what was created it says nothing.
pub(super) fn parse_created<T: DeserializeOwned>(what: &str, reply: &ApiResponse) -> Result<T, FlyError> {
    let fields: Value = parse(what, reply)?;
    match fields.get("id").and_then(Value::as_str) {
        Some(id) if !id.is_empty() => T::deserialize(fields).map_err(|_| FlyError::Unreadable { what: what.to_owned() }),
        _ => Err(FlyError::Unreadable { what: what.to_owned() }),
    }
}

/// Reads an answer that is a list of things, each with its id.
pub(super) fn parse_list<T: DeserializeOwned>(what: &str, reply: &ApiResponse) -> Result<Vec<T>, FlyError> {
    let is_thing = |item: &Value| item.get("id").and_then(Value::as_str).is_some_and(|id| !id.is_empty());
    match serde_json::from_str(&reply.body) {
        // What a server leaves empty it may as well write as `null`.
        Ok(Value::Null) => Some(Vec::new()),
        Ok(Value::Array(items)) if items.iter().all(is_thing) => {
            items.into_iter().map(|item| T::deserialize(item).ok()).collect()
        }
        _ => None,
    }
    .ok_or_else(|| FlyError::Unreadable { what: what.to_owned() })
}

/// Returns what a response refuses and its words, if it does.
pub(super) fn rejection(response: &ApiResponse) -> Option<(ApiErrorKind, String)> {
    (!response.is_success()).then(|| (classify(response), error_message(response)))
}

/// Returns the error for a call that failed.
pub(super) fn call_failed(what: &str, declined: CallError) -> FlyError {
    let what = what.to_owned();
    match declined {
        CallError::NoAuthorities => FlyError::NoAuthorities,
        CallError::Unreachable(said) | CallError::Uncertain(said) => FlyError::Unreachable { what, said },
        CallError::Rejected(meaning, reply) => {
            let said = error_message(&reply);
            match meaning {
                ApiErrorKind::Unauthorized => FlyError::Token { said },
                ApiErrorKind::Forbidden => FlyError::Forbidden { what, said },
                ApiErrorKind::Quota => FlyError::Quota { said },
                ApiErrorKind::RateLimited(_) => FlyError::Unreachable { what, said },
                _ => {
                    let request = reply.headers.get("fly-request-id").cloned();
                    FlyError::Refused { what, status: reply.status, said, request }
                }
            }
        }
    }
}
