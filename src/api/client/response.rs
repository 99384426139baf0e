//! What an answer means: a document, an error of the control plane, or nothing that a control plane says.

use std::time::Duration;

use reqwest::header::{CONTENT_TYPE, HeaderMap, LOCATION, RETRY_AFTER};
use reqwest::{Response, StatusCode};
use serde::Deserialize;

use super::backoff::asked_for;
use super::connection::ControlPlaneUrl;
use crate::api::ControlError;
use crate::api::wire::{ErrorDocument, REQUEST_ID};
use crate::model::{Diagnostic, error_chain};
use crate::system::proxy_hint;

/// How large an answer may be: ten times the largest known project.
const MAX_RESPONSE_BYTES: usize = 128 << 20;

/// Says why there is no answer to a request.
#[derive(Debug)]
pub(super) enum SendError {
    /// The control plane has answered, and asking again gives the same.
    Final(ControlError),
    /// Asking again may help.
    Transient {
        /// What to say when it does not.
        error: ControlError,
        /// The pause that was asked for.
        pause: Option<Duration>,
        /// Whether the request may have been carried out all the same.
        effect: SideEffect,
        /// How long this may last.
        lasts: OutageKind,
    },
    /// What came is not what a control plane says; it may have been damaged on the way.
    Malformed(ControlError),
    /// It is the answer to another request: this connection cannot be trusted any more.
    Desynchronized(ControlError),
}

/// Says how long trouble may last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum OutageKind {
    /// As long as a control plane takes to restart.
    Restart,
    /// The control plane runs, and something behind it does not answer: the outcome is unknown.
    Upstream,
}

/// Says whether a request that was not answered has been carried out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum SideEffect {
    /// It has not.
    None,
    /// The outcome is unknown.
    Possible,
}

/// One request, as errors name it.
pub(super) struct RequestContext<'a> {
    pub(super) url: &'a ControlPlaneUrl,
    pub(super) id: &'a str,
}

impl RequestContext<'_> {
    fn finding(&self, code: &str, what: &str, help: &str) -> Diagnostic {
        Diagnostic::new(code, format!("the control plane `{}` {what}", self.url))
            .with_help(format!("{help}\nthis was request {}", self.id))
    }

    /// Nothing came back, or not all of it.
    pub(super) fn transport_error(&self, error: &reqwest::Error) -> SendError {
        let cause = error_chain(error);
        // The one error of a connection that does not pass by itself; the library below has no type for it.
        if cause.contains("invalid peer certificate") || cause.contains("certificate verify failed") {
            let help = "if it has a certificate of your own authority, name that in `CONVEXINFRA_CA_FILE` or with `--control-plane-ca`";
            let what = format!("has a certificate that is not trusted here: {}", root_cause(&cause));
            return SendError::Final(ControlError::Unreachable(self.finding("control.certificate", &what, help)));
        }
        let help = "check the URL, and whether it runs and can be reached from here";
        let what = if error.is_timeout() {
            "does not answer: it took too long".to_owned()
        } else {
            let proxy = if error.is_connect() && !self.url.is_loopback() { proxy_hint(&self.url.to_string()) } else { None };
            let proxy = proxy.map(|proxy| format!(", {proxy}")).unwrap_or_default();
            format!("does not answer: {}{proxy}", root_cause(&cause))
        };
        let effect = if error.is_connect() || error.is_builder() { SideEffect::None } else { SideEffect::Possible };
        let error = ControlError::Unreachable(self.finding("control.unreachable", &what, help));
        SendError::Transient { error, pause: None, effect, lasts: OutageKind::Restart }
    }

    /// Returns what came is not what a control plane says.
    pub(super) fn malformed(&self, status: StatusCode, why: &str) -> ControlError {
        let what = format!("answered {status} with something that no control plane says: {why}");
        let help = "is this the URL of a convexinfra control plane, and is nothing on the way that answers in its place?";
        ControlError::Unreachable(self.finding("control.garbled", &what, help))
    }

    /// Looks at the head of an answer before its content is read.
    pub(super) fn check_head(&self, response: &Response, own: &str) -> Result<(), SendError> {
        let status = response.status();
        let theirs = header_text(response.headers(), REQUEST_ID).unwrap_or_default();
        if theirs != self.id && theirs.starts_with(own) {
            return Err(SendError::Desynchronized(self.malformed(status, "it answers another request")));
        }
        if status.is_redirection() {
            let target = header_text(response.headers(), LOCATION.as_str()).unwrap_or("nowhere");
            // A redirect may carry what it was sent with; only where it points to is of interest.
            let target = target.split(['?', '#']).next().unwrap_or_default();
            let help = "the token is not shown to another address; if that is where the control plane is, set the URL to it";
            let what = format!("answered {status} and points to `{target}`");
            return Err(SendError::Final(ControlError::Unreachable(self.finding("control.redirected", &what, help))));
        }
        Ok(())
    }

    /// Returns what an answer with an error status means.
    pub(super) fn classify_error(&self, status: StatusCode, headers: &HeaderMap, body: &[u8]) -> SendError {
        let pause = asked_for(header_text(headers, RETRY_AFTER.as_str()));
        let again = matches!(status.as_u16(), 408 | 425 | 429 | 502 | 503 | 504);
        // These say that nothing was begun; with the others it may have been, and only its answer is missing.
        let effect = if matches!(status.as_u16(), 425 | 429) { SideEffect::None } else { SideEffect::Possible };
        match parse_error(status, body) {
            // What is wrong with its record does not pass by itself.
            Some(ControlError::Unreachable(finding)) if again => {
                let lasts = if finding.code.starts_with("server.") { OutageKind::Restart } else { OutageKind::Upstream };
                SendError::Transient { error: ControlError::Unreachable(finding), pause, effect, lasts }
            }
            Some(error) => SendError::Final(error),
            None if again => {
                let help = "something on the way answers in its place; check whether it runs";
                let what = format!("does not answer: {status}");
                let error = ControlError::Unreachable(self.finding("control.unreachable", &what, help));
                SendError::Transient { error, pause, effect, lasts: OutageKind::Restart }
            }
            None => self.unexpected(status, headers, "it is not an error document"),
        }
    }

    /// Returns an answer that cannot be read: damaged, or not of a control plane.
    pub(super) fn unexpected(&self, status: StatusCode, headers: &HeaderMap, why: &str) -> SendError {
        let kind = header_text(headers, CONTENT_TYPE.as_str()).unwrap_or_default().to_ascii_lowercase();
        if kind.contains("html") || status == StatusCode::NOT_FOUND || status == StatusCode::UNAUTHORIZED {
            // The page of another server stays that on every retry.
            return SendError::Final(self.malformed(status, why));
        }
        SendError::Malformed(self.malformed(status, why))
    }

    /// Reads the content of an answer, to a limit.
    pub(super) async fn read_body(&self, mut response: Response) -> Result<Vec<u8>, SendError> {
        let too_large = |status| SendError::Final(self.malformed(status, "it is larger than any answer"));
        let status = response.status();
        if response.content_length().is_some_and(|length| length > MAX_RESPONSE_BYTES as u64) {
            return Err(too_large(status));
        }
        let mut body = Vec::new();
        loop {
            match response.chunk().await {
                Ok(Some(chunk)) if body.len() + chunk.len() > MAX_RESPONSE_BYTES => return Err(too_large(status)),
                Ok(Some(chunk)) => body.extend_from_slice(&chunk),
                Ok(None) => return Ok(body),
                Err(error) => return Err(self.transport_error(&error)),
            }
        }
    }
}

fn header_text<'h>(headers: &'h HeaderMap, name: &str) -> Option<&'h str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}

/// Returns the last parts of a chain of causes say the most, and the first one repeats the URL.
fn root_cause(cause: &str) -> &str {
    cause.split_once("): ").map_or(cause, |(_, rest)| rest)
}

/// An error document of a later version, as far as this one understands it.
#[derive(Deserialize)]
struct LaterErrorDocument {
    format: String,
    errors: Vec<Diagnostic>,
}

/// Returns the error that a document describes.
fn parse_error(status: StatusCode, body: &[u8]) -> Option<ControlError> {
    if let Ok(document) = serde_json::from_slice::<ErrorDocument>(body) {
        return document.format.starts_with("convexinfra.error/").then(|| document.into_error());
    }
    let later: LaterErrorDocument = serde_json::from_slice(body).ok()?;
    let finding = later.errors.into_iter().next().filter(|_| later.format.starts_with("convexinfra.error/"))?;
    Some(match status {
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => ControlError::NotAuthorised(finding),
        status if status.is_client_error() => ControlError::Refused(finding),
        _ => ControlError::Unreachable(finding),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Exit;

    #[test]
    fn a_situation_of_a_later_version_keeps_its_words() {
        let body =
            br#"{"format":"convexinfra.error/1","exit":4,"errors":[{"code":"x.y","message":"no"}],"situation":{"kind":"new"}}"#;
        let report = parse_error(StatusCode::CONFLICT, body).unwrap().report();
        assert_eq!((report.exit, report.errors[0].code.as_str()), (Exit::Refused, "x.y"));
        assert!(parse_error(StatusCode::CONFLICT, br#"{"error":"no"}"#).is_none());
        assert!(parse_error(StatusCode::CONFLICT, b"<html>").is_none());
    }
}
