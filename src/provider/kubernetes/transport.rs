//! Transport: one request to an API server, with a deadline, a bound on its answer, and retries of our own.
//!
//! Every request may be repeated: reads, server-side applies, deletions of one very object, and dry runs. Only an answer in the
//! words of the API counts: the page of a proxy or of a login says nothing about objects, least of all that there are none.

use std::time::Duration;

use http::{Method, Request, Response, header};
use http_body_util::{BodyExt as _, Limited};
use kube::Client;
use kube::client::Body;
use kube::core::Status;
use serde_json::Value;
use tokio::time::{Instant, sleep, timeout};

/// How long one answer may take.
const ANSWER_WITHIN: Duration = Duration::from_secs(20);
/// The most bytes of one answer: a page of objects is far below that.
const ANSWER_MAX: usize = 64 << 20;
/// How much of an answer that is none is shown.
const SHOWN: usize = 120;
const FIRST_PAUSE: Duration = Duration::from_millis(200);
const MAX_PAUSE: Duration = Duration::from_secs(4);
/// The longest time to come back in that is believed, in seconds: no request is tried for that long.
const MAX_RETRY_AFTER_S: u64 = 3600;

/// One request.
pub(super) struct Call {
    method: Method,
    uri: String,
    body: Option<Value>,
    content_type: &'static str,
    /// The kind of the answer; none where there are several.
    answer: Option<String>,
}

impl Call {
    /// Makes a read that is answered by a kind of object.
    pub(super) fn get(uri: String, answer: String) -> Self {
        Self { method: Method::GET, uri, body: None, content_type: "application/json", answer: Some(answer) }
    }

    /// Makes a request with a body.
    pub(super) fn change(method: Method, uri: String, body: &Value, content_type: &'static str) -> Self {
        Self { method, uri, body: Some(body.clone()), content_type, answer: None }
    }

    /// Expects a kind of object as the answer.
    pub(super) fn answered_by(self, noun: &str) -> Self {
        Self { answer: Some(noun.to_owned()), ..self }
    }

    fn request(&self) -> Result<Request<Body>, Failure> {
        let body = self.body.as_ref().map(|body| body.to_string().into_bytes()).unwrap_or_default();
        let request = Request::builder().method(self.method.clone()).uri(&self.uri);
        let request = request.header(header::CONTENT_TYPE, self.content_type).header(header::ACCEPT, "application/json");
        request.body(Body::from(body)).map_err(|error| Failure::Other(error.to_string()))
    }
}

/// Sends a request, again and again while the server is overloaded, restarts or does not answer.
pub(super) async fn send(client: &Client, call: &Call, patience: Duration) -> Result<Value, Failure> {
    let deadline = Instant::now() + patience;
    let mut pause = FIRST_PAUSE;
    loop {
        let failure = match exchange(client, call.request()?).await.and_then(|answer| answer.object(call.answer.as_deref())) {
            Ok(object) => return Ok(object),
            Err(failure) => failure,
        };
        // Who is asked to come back later does not come earlier.
        let wait = pause.max(failure.retry_after().unwrap_or_default());
        if !failure.may_pass() || Instant::now() + wait > deadline {
            return Err(failure);
        }
        sleep(wait).await;
        pause = (pause * 2).min(MAX_PAUSE);
    }
}

/// Reads a text, such as a log.
pub(super) async fn text(client: &Client, uri: &str) -> Result<String, Failure> {
    let answer = exchange(client, Call::get(uri.to_owned(), String::new()).request()?).await?;
    if answer.is_success { Ok(String::from_utf8_lossy(&answer.body).into_owned()) } else { Err(answer.failure()) }
}

/// Sends a request once.
async fn exchange(client: &Client, request: Request<Body>) -> Result<Answer, Failure> {
    let asking = async {
        let response = client.send(request).await.map_err(|error| Failure::Other(crate::model::error_chain(&error)))?;
        Answer::read(response).await
    };
    timeout(ANSWER_WITHIN, asking).await.unwrap_or(Err(Failure::Silent))
}

/// What came back, from an API server or from something in its place.
struct Answer {
    code: u16,
    is_success: bool,
    retry_after: Option<u64>,
    body: Vec<u8>,
}

impl Answer {
    async fn read(response: Response<Body>) -> Result<Self, Failure> {
        let status = response.status();
        let retry_after =
            response.headers().get(header::RETRY_AFTER).and_then(|value| value.to_str().ok()?.trim().parse().ok());
        let body = Limited::new(response.into_body(), ANSWER_MAX).collect().await;
        let body = body.map_err(|error| Failure::Other(format!("its answer broke off: {error}")))?.to_bytes().to_vec();
        Ok(Self { code: status.as_u16(), is_success: status.is_success(), retry_after, body })
    }

    /// Returns the object of a success, which has to be of the expected kind.
    fn object(self, expected: Option<&str>) -> Result<Value, Failure> {
        if !self.is_success {
            return Err(self.failure());
        }
        match serde_json::from_slice::<Value>(&self.body) {
            Ok(object) if expected.is_none_or(|expected| object["kind"] == expected) => Ok(object),
            _ => Err(self.failure()),
        }
    }

    fn failure(self) -> Failure {
        let status =
            serde_json::from_slice::<Value>(&self.body).ok().filter(|body| body["kind"] == "Status" && !self.is_success);
        match status.and_then(|body| serde_json::from_value::<Status>(body).ok()) {
            Some(mut status) => {
                status.code = self.code;
                let own = status.details.as_ref().map(|details| u64::from(details.retry_after_seconds));
                Failure::Status { status: Box::new(status), retry_after: self.retry_after.max(own) }
            }
            None => Failure::NotApi { code: self.code, text: shown(&self.body), retry_after: self.retry_after },
        }
    }
}

/// Returns the beginning of an answer, on one line.
fn shown(body: &[u8]) -> String {
    let text = String::from_utf8_lossy(body);
    let words: Vec<&str> = text.split_whitespace().collect();
    words.join(" ").chars().filter(|char| !char.is_control()).take(SHOWN).collect()
}

/// Why there is no answer.
#[derive(Debug)]
pub(super) enum Failure {
    /// The API server refuses.
    Status {
        /// In its own words.
        status: Box<Status>,
        /// In how many seconds to come back.
        retry_after: Option<u64>,
    },
    /// What answered is no API server, or none that works.
    NotApi {
        /// The status of HTTP.
        code: u16,
        /// How the answer begins.
        text: String,
        /// In how many seconds to come back.
        retry_after: Option<u64>,
    },
    /// Nothing came in time.
    Silent,
    /// There was no connection, or it broke off.
    Other(String),
}

impl Failure {
    /// Returns whether the API server says that there is no such object.
    pub(super) fn is_not_found(&self) -> bool {
        matches!(self, Self::Status { status, .. } if status.code == 404 && status.is_not_found())
    }

    /// Returns whether it is another object by now.
    pub(super) fn is_conflict(&self) -> bool {
        matches!(self, Self::Status { status, .. } if status.is_conflict())
    }

    /// Returns whether the API server does not understand the request, as for the log of a container that never ran.
    pub(super) fn is_bad_request(&self) -> bool {
        matches!(self, Self::Status { status, .. } if status.code == 400)
    }

    /// Returns it for people.
    pub(super) fn words(&self) -> String {
        let come_back = |words: String| match self.retry_after() {
            Some(after) => format!("{words}; it asks to come back in {} s", after.as_secs()),
            None => words,
        };
        match self {
            Self::Status { status, .. } => come_back(status.message.trim().to_owned()),
            Self::NotApi { code, text, .. } if text.is_empty() => come_back(format!("HTTP {code} without a word of the API")),
            Self::NotApi { code, text, .. } => come_back(format!("HTTP {code}, and no answer of an API server: {text}")),
            Self::Silent => format!("no answer within {} s", ANSWER_WITHIN.as_secs()),
            Self::Other(reason) => reason.clone(),
        }
    }

    fn retry_after(&self) -> Option<Duration> {
        let seconds = match self {
            Self::Status { retry_after, .. } | Self::NotApi { retry_after, .. } => *retry_after,
            Self::Silent | Self::Other(_) => None,
        };
        seconds.filter(|seconds| *seconds > 0).map(|seconds| Duration::from_secs(seconds.min(MAX_RETRY_AFTER_S)))
    }

    /// Whether the same request may be answered a moment later.
    fn may_pass(&self) -> bool {
        match self {
            // A webhook or a store that is down for a moment answers with 500.
            Self::Status { status, .. } if status.code == 500 => !is_about_schema(status),
            Self::Status { status, .. } => {
                matches!(status.code, 429 | 502 | 503 | 504) || status.message.contains("the object has been modified")
            }
            Self::NotApi { code, .. } => matches!(code, 200..=299 | 429 | 500..=599),
            Self::Silent | Self::Other(_) => true,
        }
    }
}

/// Whether an API server could not ask a webhook without which it stores nothing.
pub(super) fn is_about_webhook(status: &Status) -> bool {
    status.message.contains("failed calling webhook")
}

/// Whether an API server does not know a field: an older one than the field, which it says as if it were ill.
pub(super) fn is_about_schema(status: &Status) -> bool {
    status.message.contains("field not declared in schema")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(code: u16, body: &str) -> Answer {
        Answer { code, is_success: code < 300, retry_after: None, body: body.as_bytes().to_vec() }
    }

    fn status(code: u16, reason: &str, message: &str) -> String {
        serde_json::json!({ "kind": "Status", "code": code, "reason": reason, "message": message }).to_string()
    }

    #[test]
    fn only_the_api_itself_says_that_there_is_nothing() {
        let not_found = |code: u16, body: &str| answer(code, body).object(Some("PodList")).unwrap_err().is_not_found();
        assert!(not_found(404, &status(404, "NotFound", "pods \"x\" not found")));
        for (code, body) in [
            (404, "404 page not found"),
            (404, "<html><title>nginx</title></html>"),
            (404, "{}"),
            (200, "{}"),
            (200, "<html>log in</html>"),
            (200, r#"{"kind":"Status","code":404,"reason":"NotFound"}"#),
            (200, r#"{"kind":"ServiceList","items":[]}"#),
            (503, &status(404, "NotFound", "")),
        ] {
            assert!(!not_found(code, body), "{code} {body}");
        }
        assert!(answer(200, r#"{"kind":"PodList","items":[]}"#).object(Some("PodList")).is_ok());
    }

    #[test]
    fn what_passes_by_itself_is_tried_again() {
        let may_pass = |code: u16, body: &str| answer(code, body).object(Some("Pod")).unwrap_err().may_pass();
        for (code, body) in [
            (429, "Too many requests, please try again later.".to_owned()),
            (500, status(500, "InternalError", "etcdserver: leader changed")),
            (500, status(500, "InternalError", "failed calling webhook \"a\": connection refused")),
            (502, "<html>bad gateway</html>".to_owned()),
            (503, status(503, "ServiceUnavailable", "apiserver not ready")),
            (504, String::new()),
            (409, status(409, "Conflict", "the object has been modified; please apply your changes")),
            (200, "<html>just a moment</html>".to_owned()),
        ] {
            assert!(may_pass(code, &body), "{code} {body}");
        }
        for (code, body) in [
            (500, status(500, "", "failed to create typed patch object: .spec.x: field not declared in schema")),
            (403, status(403, "Forbidden", "admission webhook \"a\" denied the request: no")),
            (404, "404 page not found".to_owned()),
            (422, status(422, "Invalid", "invalid")),
            (401, status(401, "Unauthorized", "Unauthorized")),
        ] {
            assert!(!may_pass(code, &body), "{code} {body}");
        }
    }

    #[test]
    fn a_server_says_when_to_come_back() {
        let plain = Answer { retry_after: Some(7), ..answer(429, "Too many requests") };
        let own = Answer { retry_after: Some(3), ..answer(429, &status(429, "TooManyRequests", "slow down")) };
        let failures = [plain.failure(), own.failure()];
        let waits: Vec<u64> = failures.iter().filter_map(|failure| Some(failure.retry_after()?.as_secs())).collect();
        assert_eq!(waits, [7, 3]);
        let endless = Answer { retry_after: Some(u64::MAX), ..answer(429, "") }.failure();
        assert_eq!(endless.retry_after(), Some(Duration::from_secs(MAX_RETRY_AFTER_S)));
        assert!(failures.iter().all(|failure| failure.words().contains("it asks to come back in")));
    }
}
