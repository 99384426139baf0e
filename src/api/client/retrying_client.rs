//! One request and its answer, however often it has to be sent for that.
//!
//! Must not do: send again what may have been done and must not be done twice.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use reqwest::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderValue};
use reqwest::{Method, RequestBuilder, Response};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::sync::OnceCell;

use super::backoff::Backoff;
use super::connection::{Connection, ControlPlaneUrl};
use super::response::{OutageKind, RequestContext, SendError, SideEffect};
use super::{ClientTimeouts, TokenSource};
use crate::api::endpoint::{Endpoint, HttpMethod, QueryParam};
use crate::api::wire::{FENCE, IDEMPOTENCY_KEY, REQUEST_ID};
use crate::api::{ControlError, Lease, ProgressFn, ResourceLevel};
use crate::model::{Diagnostic, Secret, StepKey};

/// Limits how often a malformed response is retried.
const MAX_MALFORMED: u32 = 3;
/// How long a whole answer may take; one that drips in forever is none.
const RESPONSE_TIMEOUT: Duration = Duration::from_secs(120);

/// One request.
pub(super) struct ClientRequest {
    method: Method,
    path: Vec<String>,
    query: Vec<(&'static str, String)>,
    body: Option<Vec<u8>>,
    fence: Option<u64>,
    key: Option<String>,
    retry: RetryPolicy,
}

/// Says whether a request may be sent again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum RetryPolicy {
    /// It ends in the same state however often it arrives.
    Idempotent,
    /// Idempotent as well, with a short retry window: no command waits for it.
    Brief,
    /// Only while it surely has not arrived; otherwise this is what to do.
    Once(&'static str),
}

impl ClientRequest {
    /// Returns a request to an endpoint, with these values for the names in its path.
    pub(super) fn new(endpoint: &Endpoint, values: &[&str]) -> Self {
        let method = match endpoint.method {
            HttpMethod::Get => Method::GET,
            HttpMethod::Post => Method::POST,
            HttpMethod::Put => Method::PUT,
            HttpMethod::Delete => Method::DELETE,
        };
        let path = endpoint.path_segments(values).into_iter().map(str::to_owned).collect();
        Self { method, path, query: Vec::new(), body: None, fence: None, key: None, retry: RetryPolicy::Idempotent }
    }

    /// Returns a request to the endpoint of a project, or to its sibling for the control plane as a whole.
    pub(super) fn at_level(level: &ResourceLevel, of_project: &Endpoint, of_control_plane: &Endpoint) -> Self {
        match level.project() {
            Some(project) => Self::new(of_project, &[project.as_str()]),
            None => Self::new(of_control_plane, &[]),
        }
    }

    pub(super) fn with_query(mut self, param: &QueryParam, value: impl ToString) -> Self {
        self.query.push((param.name, value.to_string()));
        self
    }

    pub(super) fn with_body(self, body: &impl Serialize) -> Self {
        // Plain data with text keys always serialises.
        Self { body: Some(serde_json::to_vec(body).unwrap_or_default()), ..self }
    }

    /// Under the fence of a lease.
    pub(super) fn under(self, lease: &Lease) -> Self {
        Self { fence: Some(lease.fence), ..self }
    }

    pub(super) fn with_key(self, key: &StepKey) -> Self {
        Self { key: Some(key.to_string()), ..self }
    }

    pub(super) fn brief(self) -> Self {
        Self { retry: RetryPolicy::Brief, ..self }
    }

    /// Returns the request to be sent once; `advice` is for an unknown outcome.
    pub(super) fn once(self, advice: &'static str) -> Self {
        Self { retry: RetryPolicy::Once(advice), ..self }
    }
}

/// Reads a document.
pub(super) fn json<T: DeserializeOwned>(body: &[u8]) -> Result<T, String> {
    // What the error quotes may be a part of what came, so only its place is passed on.
    serde_json::from_slice(body).map_err(|error| match error.classify() {
        serde_json::error::Category::Data => format!("a field is missing or of another kind ({})", position(&error)),
        _ => format!("it is not JSON, or not all of it came ({})", position(&error)),
    })
}

fn position(error: &serde_json::Error) -> String {
    format!("line {}, column {}", error.line(), error.column())
}

/// Passes over the content.
pub(super) fn discard_body(_: &[u8]) -> Result<(), String> {
    Ok(())
}

/// Requests to one control plane.
pub(super) struct RetryingClient {
    connection: Connection,
    source: Box<dyn TokenSource>,
    on_wait: Box<dyn Fn(String) + Send + Sync>,
    token: OnceCell<Secret>,
    /// What all ids of this client's requests begin with.
    id_prefix: String,
    count: AtomicU64,
    /// Whether the control plane has ever answered.
    answered: AtomicBool,
}

impl RetryingClient {
    pub(super) fn new(
        connection: Connection,
        source: Box<dyn TokenSource>,
        waiting: Box<dyn Fn(String) + Send + Sync>,
    ) -> Self {
        // Without randomness ids only say less.
        let own = format!("cvx-{:016x}-", getrandom::u64().unwrap_or_default());
        let (token, count, answered) = (OnceCell::new(), AtomicU64::new(0), AtomicBool::new(false));
        Self { connection, source, on_wait: waiting, token, id_prefix: own, count, answered }
    }

    pub(super) fn url(&self) -> &ControlPlaneUrl {
        &self.connection.url
    }

    pub(super) fn timeouts(&self) -> &ClientTimeouts {
        &self.connection.timeouts
    }

    /// Returns how long to go on trying.
    pub(super) fn retry_window(&self) -> Duration {
        let waits = self.timeouts();
        if self.answered.load(Ordering::Relaxed) { waits.reconnect } else { waits.first_response }
    }

    /// Sends a request until it is answered.
    pub(super) async fn send<T>(
        &self,
        call: &ClientRequest,
        read: impl Fn(&[u8]) -> Result<T, String>,
    ) -> Result<T, ControlError> {
        self.send_with_progress(call, read, &*self.on_wait).await
    }

    /// Returns the same, and says so when that takes more than one try.
    pub(super) async fn send_with_progress<T>(
        &self,
        call: &ClientRequest,
        read: impl Fn(&[u8]) -> Result<T, String>,
        notice: ProgressFn<'_>,
    ) -> Result<T, ControlError> {
        let mut backoff = Backoff::new();
        let mut garbled = 0;
        loop {
            let id = self.next_id();
            let trouble = match self.attempt(call, &id, &read).await {
                Ok(document) => return Ok(document),
                Err(trouble) => trouble,
            };
            let (error, pause, effect, lasts) = match trouble {
                SendError::Final(error) => return Err(error),
                SendError::Transient { error, pause, effect, lasts } => (error, pause, effect, lasts),
                SendError::Desynchronized(error) => {
                    self.connection.reset();
                    (error, None, SideEffect::Possible, OutageKind::Restart)
                }
                SendError::Malformed(error) => {
                    garbled += 1;
                    if garbled >= MAX_MALFORMED {
                        return Err(error);
                    }
                    (error, None, SideEffect::Possible, OutageKind::Restart)
                }
            };
            if let RetryPolicy::Once(advice) = call.retry
                && effect == SideEffect::Possible
            {
                return Err(with_unknown_outcome(error, advice));
            }
            let brief = call.retry == RetryPolicy::Brief || lasts == OutageKind::Upstream;
            let patience = if brief { self.timeouts().first_response } else { self.retry_window() };
            let Some(pause) = backoff.pause(patience, pause) else { return Err(error) };
            if backoff.tries() == 2 {
                notice("the control plane does not answer; trying again".to_owned());
            }
            tokio::time::sleep(pause).await;
        }
    }

    async fn attempt<T>(
        &self,
        call: &ClientRequest,
        id: &str,
        read: impl Fn(&[u8]) -> Result<T, String>,
    ) -> Result<T, SendError> {
        let asked = RequestContext { url: self.url(), id };
        let request = self.request(call, id).await?.header(ACCEPT, "application/json").timeout(RESPONSE_TIMEOUT);
        let response = self.fetch(&asked, request).await?;
        let (status, headers) = (response.status(), response.headers().clone());
        let body = self.without_token(asked.read_body(response).await?);
        if status.is_success() {
            return read(&body).map_err(|why| asked.unexpected(status, &headers, &why));
        }
        Err(asked.classify_error(status, &headers, &body))
    }

    /// Opens a stream of events. An answer that is an error is one here too.
    pub(super) async fn open_stream(&self, call: &ClientRequest, last: Option<u64>) -> Result<Response, SendError> {
        let id = self.next_id();
        let asked = RequestContext { url: self.url(), id: &id };
        let mut request = self.request(call, &id).await?.header(ACCEPT, "text/event-stream");
        if let Some(last) = last {
            request = request.header("last-event-id", last);
        }
        let response = self.fetch(&asked, request).await?;
        let (status, headers) = (response.status(), response.headers().clone());
        if !status.is_success() {
            let body = self.without_token(asked.read_body(response).await?);
            return Err(asked.classify_error(status, &headers, &body));
        }
        let kind = headers.get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
        if !kind.starts_with("text/event-stream") {
            return Err(SendError::Malformed(asked.malformed(status, "it is no stream of events")));
        }
        Ok(response)
    }

    /// Returns a body in which the token stands no more: a host that repeats it must not have it shown on a screen or in a
    /// log.
    fn without_token(&self, body: Vec<u8>) -> Vec<u8> {
        let Some(token) = self.token.get().map(|token| token.expose().as_bytes()).filter(|token| !token.is_empty()) else {
            return body;
        };
        if !body.windows(token.len()).any(|window| window == token) {
            return body;
        }
        let (mut kept, mut rest) = (Vec::with_capacity(body.len()), body.as_slice());
        while let Some(at) = rest.windows(token.len()).position(|window| window == token) {
            kept.extend_from_slice(&rest[..at]);
            kept.extend_from_slice(b"(your token)");
            rest = &rest[at + token.len()..];
        }
        kept.extend_from_slice(rest);
        kept
    }

    async fn fetch(&self, asked: &RequestContext<'_>, request: RequestBuilder) -> Result<Response, SendError> {
        let response = request.send().await.map_err(|error| asked.transport_error(&error))?;
        asked.check_head(&response, &self.id_prefix)?;
        self.answered.store(true, Ordering::Relaxed);
        Ok(response)
    }

    async fn request(&self, call: &ClientRequest, id: &str) -> Result<RequestBuilder, SendError> {
        let token = self.token.get_or_try_init(|| self.source.token()).await.map_err(SendError::Final)?;
        let path: Vec<&str> = call.path.iter().map(String::as_str).collect();
        let mut url = self.url().endpoint(&path);
        for (name, value) in &call.query {
            url.query_pairs_mut().append_pair(name, value);
        }
        let mut request = self
            .connection
            .client()
            .request(call.method.clone(), url)
            .header(AUTHORIZATION, bearer_header(token).map_err(SendError::Final)?)
            .header(REQUEST_ID, id);
        if let Some(fence) = call.fence {
            request = request.header(FENCE, fence);
        }
        if let Some(key) = &call.key {
            request = request.header(IDEMPOTENCY_KEY, key);
        }
        if let Some(body) = &call.body {
            request = request.header(CONTENT_TYPE, "application/json").body(body.clone());
        }
        Ok(request)
    }

    fn next_id(&self) -> String {
        format!("{}{}", self.id_prefix, self.count.fetch_add(1, Ordering::Relaxed))
    }
}

fn bearer_header(token: &Secret) -> Result<HeaderValue, ControlError> {
    let text = zeroize::Zeroizing::new(format!("Bearer {}", token.expose()));
    let mut value = HeaderValue::from_str(&text).map_err(|_| {
        let finding = Diagnostic::new("auth.token_malformed", "the token has characters that no token has");
        ControlError::NotAuthorised(finding.with_help("a token is one line that begins with `cvxi_`"))
    })?;
    value.set_sensitive(true);
    Ok(value)
}

fn with_unknown_outcome(error: ControlError, advice: &str) -> ControlError {
    match error {
        ControlError::Unreachable(finding) => {
            let help = finding.help.as_ref().map(|help| format!("\n{help}")).unwrap_or_default();
            ControlError::Unreachable(Diagnostic { help: Some(format!("{advice}{help}")), ..finding })
        }
        error => error,
    }
}
