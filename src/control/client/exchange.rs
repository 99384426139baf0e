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

use super::answer::{Asked, Effect, Lasts, Trouble};
use super::backoff::Backoff;
use super::connection::{Connection, ControlPlaneUrl};
use super::{TokenSource, Waits};
use crate::control::wire::{FENCE, IDEMPOTENCY_KEY, REQUEST_ID};
use crate::control::{ControlError, Lease, Notice};
use crate::model::{Finding, Secret, StepKey};

/// How often an answer may come damaged before it is believed to be nobody's.
const MOST_GARBLED: u32 = 3;
/// How long a whole answer may take; one that drips in forever is none.
const WHOLE_ANSWER: Duration = Duration::from_secs(120);

/// One request.
pub(super) struct Call {
    method: Method,
    path: Vec<String>,
    query: Option<(&'static str, String)>,
    body: Option<Vec<u8>>,
    fence: Option<u64>,
    key: Option<String>,
    repeat: Repeat,
}

/// Whether a request may be sent again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Repeat {
    /// It ends in the same state however often it arrives.
    Harmless,
    /// The same, but nobody has to wait for it.
    Brief,
    /// Only while it surely has not arrived; otherwise this is what to do.
    Never(&'static str),
}

impl Call {
    pub(super) fn new(method: Method, path: &[&str]) -> Self {
        let path = path.iter().map(|segment| (*segment).to_owned()).collect();
        Self { method, path, query: None, body: None, fence: None, key: None, repeat: Repeat::Harmless }
    }

    pub(super) fn get(path: &[&str]) -> Self {
        Self::new(Method::GET, path)
    }

    pub(super) fn with_query(self, name: &'static str, value: impl ToString) -> Self {
        Self { query: Some((name, value.to_string())), ..self }
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

    pub(super) fn not_worth_waiting_for(self) -> Self {
        Self { repeat: Repeat::Brief, ..self }
    }

    /// It must not be carried out twice; `advice` is for when nobody knows whether it was.
    pub(super) fn only_once(self, advice: &'static str) -> Self {
        Self { repeat: Repeat::Never(advice), ..self }
    }
}

/// Reads a document.
pub(super) fn json<T: DeserializeOwned>(body: &[u8]) -> Result<T, String> {
    // What the error quotes may be a part of what came, so only its place is passed on.
    serde_json::from_slice(body).map_err(|error| match error.classify() {
        serde_json::error::Category::Data => format!("a field is missing or of another kind ({})", place(&error)),
        _ => format!("it is not JSON, or not all of it came ({})", place(&error)),
    })
}

fn place(error: &serde_json::Error) -> String {
    format!("line {}, column {}", error.line(), error.column())
}

/// Passes over the content.
pub(super) fn ignored(_: &[u8]) -> Result<(), String> {
    Ok(())
}

/// Requests to one control plane.
pub(super) struct Exchange {
    connection: Connection,
    source: Box<dyn TokenSource>,
    waiting: Box<dyn Fn(String) + Send + Sync>,
    token: OnceCell<Secret>,
    /// What all ids of this client's requests begin with.
    own: String,
    count: AtomicU64,
    /// Whether the control plane has ever answered.
    answered: AtomicBool,
}

impl Exchange {
    pub(super) fn new(
        connection: Connection,
        source: Box<dyn TokenSource>,
        waiting: Box<dyn Fn(String) + Send + Sync>,
    ) -> Self {
        // Without randomness ids only say less.
        let own = format!("cvx-{:016x}-", getrandom::u64().unwrap_or_default());
        let (token, count, answered) = (OnceCell::new(), AtomicU64::new(0), AtomicBool::new(false));
        Self { connection, source, waiting, token, own, count, answered }
    }

    pub(super) fn url(&self) -> &ControlPlaneUrl {
        &self.connection.url
    }

    pub(super) fn waits(&self) -> &Waits {
        &self.connection.waits
    }

    /// How long to go on trying.
    pub(super) fn patience(&self) -> Duration {
        let waits = self.waits();
        if self.answered.load(Ordering::Relaxed) { waits.return_to_work } else { waits.first_answer }
    }

    /// Sends a request until it is answered.
    pub(super) async fn send<T>(&self, call: &Call, read: impl Fn(&[u8]) -> Result<T, String>) -> Result<T, ControlError> {
        self.send_and_tell(call, read, &*self.waiting).await
    }

    /// The same, and says so when that takes more than one try.
    pub(super) async fn send_and_tell<T>(
        &self,
        call: &Call,
        read: impl Fn(&[u8]) -> Result<T, String>,
        notice: Notice<'_>,
    ) -> Result<T, ControlError> {
        let mut backoff = Backoff::new();
        let mut garbled = 0;
        loop {
            let id = self.next_id();
            let trouble = match self.once(call, &id, &read).await {
                Ok(document) => return Ok(document),
                Err(trouble) => trouble,
            };
            let (error, pause, effect, lasts) = match trouble {
                Trouble::Answered(error) => return Err(error),
                Trouble::Passing { error, pause, effect, lasts } => (error, pause, effect, lasts),
                Trouble::OutOfStep(error) => {
                    self.connection.renew();
                    (error, None, Effect::Unknown, Lasts::AWhile)
                }
                Trouble::Garbled(error) => {
                    garbled += 1;
                    if garbled >= MOST_GARBLED {
                        return Err(error);
                    }
                    (error, None, Effect::Unknown, Lasts::AWhile)
                }
            };
            if let Repeat::Never(advice) = call.repeat
                && effect == Effect::Unknown
            {
                return Err(unknown_outcome(error, advice));
            }
            let brief = call.repeat == Repeat::Brief || lasts == Lasts::Unknown;
            let patience = if brief { self.waits().first_answer } else { self.patience() };
            let Some(pause) = backoff.pause(patience, pause) else { return Err(error) };
            if backoff.tries() == 2 {
                notice("the control plane does not answer; trying again".to_owned());
            }
            tokio::time::sleep(pause).await;
        }
    }

    async fn once<T>(&self, call: &Call, id: &str, read: impl Fn(&[u8]) -> Result<T, String>) -> Result<T, Trouble> {
        let asked = Asked { url: self.url(), id };
        let request = self.request(call, id).await?.header(ACCEPT, "application/json").timeout(WHOLE_ANSWER);
        let response = self.fetch(&asked, request).await?;
        let (status, headers) = (response.status(), response.headers().clone());
        let body = asked.body(response).await?;
        if status.is_success() {
            return read(&body).map_err(|why| asked.not_ours(status, &headers, &why));
        }
        Err(asked.error(status, &headers, &body))
    }

    /// Opens a stream of events. An answer that is an error is one here too.
    pub(super) async fn open_stream(&self, call: &Call, last: Option<u64>) -> Result<Response, Trouble> {
        let id = self.next_id();
        let asked = Asked { url: self.url(), id: &id };
        let mut request = self.request(call, &id).await?.header(ACCEPT, "text/event-stream");
        if let Some(last) = last {
            request = request.header("last-event-id", last);
        }
        let response = self.fetch(&asked, request).await?;
        let (status, headers) = (response.status(), response.headers().clone());
        if !status.is_success() {
            let body = asked.body(response).await?;
            return Err(asked.error(status, &headers, &body));
        }
        let kind = headers.get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
        if !kind.starts_with("text/event-stream") {
            return Err(Trouble::Garbled(asked.garbled(status, "it is no stream of events")));
        }
        Ok(response)
    }

    async fn fetch(&self, asked: &Asked<'_>, request: RequestBuilder) -> Result<Response, Trouble> {
        let response = request.send().await.map_err(|error| asked.unsent(&error))?;
        asked.head(&response, &self.own)?;
        self.answered.store(true, Ordering::Relaxed);
        Ok(response)
    }

    async fn request(&self, call: &Call, id: &str) -> Result<RequestBuilder, Trouble> {
        let token = self.token.get_or_try_init(|| self.source.token()).await.map_err(Trouble::Answered)?;
        let path: Vec<&str> = call.path.iter().map(String::as_str).collect();
        let mut url = self.url().at(&path);
        if let Some((name, value)) = &call.query {
            url.query_pairs_mut().append_pair(name, value);
        }
        let mut request = self
            .connection
            .client()
            .request(call.method.clone(), url)
            .header(AUTHORIZATION, bearer(token).map_err(Trouble::Answered)?)
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
        format!("{}{}", self.own, self.count.fetch_add(1, Ordering::Relaxed))
    }
}

fn bearer(token: &Secret) -> Result<HeaderValue, ControlError> {
    let text = zeroize::Zeroizing::new(format!("Bearer {}", token.expose()));
    let mut value = HeaderValue::from_str(&text).map_err(|_| {
        let finding = Finding::new("auth.token_malformed", "the token has characters that no token has");
        ControlError::NotAuthorised(finding.with_help("a token is one line that begins with `cvxi_`"))
    })?;
    value.set_sensitive(true);
    Ok(value)
}

fn unknown_outcome(error: ControlError, advice: &str) -> ControlError {
    match error {
        ControlError::Unreachable(finding) => {
            let help = finding.help.as_ref().map(|help| format!("\n{help}")).unwrap_or_default();
            ControlError::Unreachable(Finding { help: Some(format!("{advice}{help}")), ..finding })
        }
        error => error,
    }
}
