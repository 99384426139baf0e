//! What an answer means: a document, an error of the control plane, or nothing that a control plane says.
//!
//! Must not do: send anything, or take what it does not understand for an answer.

use std::time::Duration;

use reqwest::header::{CONTENT_TYPE, HeaderMap, LOCATION, RETRY_AFTER};
use reqwest::{Response, StatusCode};
use serde::Deserialize;

use super::backoff::asked_for;
use super::connection::ControlPlaneUrl;
use crate::control::ControlError;
use crate::control::wire::{ErrorDocument, REQUEST_ID};
use crate::model::{Finding, chain};

/// How large an answer may be: ten times the largest project that anybody has.
const LARGEST: usize = 128 << 20;

/// Why there is no answer to a request.
#[derive(Debug)]
pub(super) enum Trouble {
    /// The control plane has answered, and asking again gives the same.
    Answered(ControlError),
    /// Asking again may help.
    Passing {
        /// What to say when it does not.
        error: ControlError,
        /// The pause that was asked for.
        pause: Option<Duration>,
        /// Whether the request may have been carried out all the same.
        effect: Effect,
        /// How long this may last.
        lasts: Lasts,
    },
    /// What came is not what a control plane says; it may have been damaged on the way.
    Garbled(ControlError),
    /// It is the answer to another request: this connection cannot be trusted any more.
    OutOfStep(ControlError),
}

/// How long trouble may last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Lasts {
    /// As long as a control plane takes to start anew.
    AWhile,
    /// The control plane runs, and something behind it does not answer: nobody knows.
    Unknown,
}

/// Whether a request that was not answered has been carried out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Effect {
    /// It has not.
    None,
    /// Nobody knows.
    Unknown,
}

/// One request, as errors name it.
pub(super) struct Asked<'a> {
    pub(super) url: &'a ControlPlaneUrl,
    pub(super) id: &'a str,
}

impl Asked<'_> {
    fn finding(&self, code: &str, what: &str, help: &str) -> Finding {
        Finding::new(code, format!("the control plane `{}` {what}", self.url))
            .with_help(format!("{help}\nthis was request {}", self.id))
    }

    /// Nothing came back, or not all of it.
    pub(super) fn unsent(&self, error: &reqwest::Error) -> Trouble {
        let cause = chain(error);
        // The one error of a connection that does not pass by itself; the library below has no type for it.
        if cause.contains("invalid peer certificate") || cause.contains("certificate verify failed") {
            let help = "if it has a certificate of your own authority, name that in `CONVEXINFRA_CA_FILE` or with `--control-plane-ca`";
            let what = format!("has a certificate that is not trusted here: {}", shortened(&cause));
            return Trouble::Answered(ControlError::Unreachable(self.finding("control.certificate", &what, help)));
        }
        let help = "check the URL, and whether it runs and can be reached from here";
        let what = if error.is_timeout() {
            "does not answer: it took too long".to_owned()
        } else {
            format!("does not answer: {}", shortened(&cause))
        };
        let effect = if error.is_connect() || error.is_builder() { Effect::None } else { Effect::Unknown };
        let error = ControlError::Unreachable(self.finding("control.unreachable", &what, help));
        Trouble::Passing { error, pause: None, effect, lasts: Lasts::AWhile }
    }

    /// What came is not what a control plane says.
    pub(super) fn garbled(&self, status: StatusCode, why: &str) -> ControlError {
        let what = format!("answered {status} with something that no control plane says: {why}");
        let help = "is this the URL of a convexinfra control plane, and is nothing on the way that answers in its place?";
        ControlError::Unreachable(self.finding("control.garbled", &what, help))
    }

    /// Looks at the head of an answer before its content is read.
    pub(super) fn head(&self, response: &Response, own: &str) -> Result<(), Trouble> {
        let status = response.status();
        let theirs = text(response.headers(), REQUEST_ID).unwrap_or_default();
        if theirs != self.id && theirs.starts_with(own) {
            return Err(Trouble::OutOfStep(self.garbled(status, "it answers another request")));
        }
        if status.is_redirection() {
            let target = text(response.headers(), LOCATION.as_str()).unwrap_or("nowhere");
            // A redirect may carry what it was sent with; only where it points to is of interest.
            let target = target.split(['?', '#']).next().unwrap_or_default();
            let help = "the token is not shown to another address; if that is where the control plane is, set the URL to it";
            let what = format!("answered {status} and points to `{target}`");
            return Err(Trouble::Answered(ControlError::Unreachable(self.finding("control.redirected", &what, help))));
        }
        Ok(())
    }

    /// What an answer with an error status means.
    pub(super) fn error(&self, status: StatusCode, headers: &HeaderMap, body: &[u8]) -> Trouble {
        let pause = asked_for(text(headers, RETRY_AFTER.as_str()));
        let again = matches!(status.as_u16(), 408 | 425 | 429 | 502 | 503 | 504);
        // These say that nothing was begun; with the others it may have been, and only its answer is missing.
        let effect = if matches!(status.as_u16(), 425 | 429) { Effect::None } else { Effect::Unknown };
        match document(status, body) {
            // What is wrong with its record does not pass by itself.
            Some(ControlError::Unreachable(finding)) if again => {
                let lasts = if finding.code.starts_with("server.") { Lasts::AWhile } else { Lasts::Unknown };
                Trouble::Passing { error: ControlError::Unreachable(finding), pause, effect, lasts }
            }
            Some(error) => Trouble::Answered(error),
            None if again => {
                let help = "something on the way answers in its place; check whether it runs";
                let what = format!("does not answer: {status}");
                let error = ControlError::Unreachable(self.finding("control.unreachable", &what, help));
                Trouble::Passing { error, pause, effect, lasts: Lasts::AWhile }
            }
            None => self.not_ours(status, headers, "it is not an error document"),
        }
    }

    /// An answer that cannot be read: damaged, or from somebody else.
    pub(super) fn not_ours(&self, status: StatusCode, headers: &HeaderMap, why: &str) -> Trouble {
        let kind = text(headers, CONTENT_TYPE.as_str()).unwrap_or_default().to_ascii_lowercase();
        if kind.contains("html") || status == StatusCode::NOT_FOUND || status == StatusCode::UNAUTHORIZED {
            // Somebody else's page stays that, however often it is asked for.
            return Trouble::Answered(self.garbled(status, why));
        }
        Trouble::Garbled(self.garbled(status, why))
    }

    /// Reads the content of an answer, to a limit.
    pub(super) async fn body(&self, mut response: Response) -> Result<Vec<u8>, Trouble> {
        let too_large = |status| Trouble::Answered(self.garbled(status, "it is larger than any answer"));
        let status = response.status();
        if response.content_length().is_some_and(|length| length > LARGEST as u64) {
            return Err(too_large(status));
        }
        let mut body = Vec::new();
        loop {
            match response.chunk().await {
                Ok(Some(chunk)) if body.len() + chunk.len() > LARGEST => return Err(too_large(status)),
                Ok(Some(chunk)) => body.extend_from_slice(&chunk),
                Ok(None) => return Ok(body),
                Err(error) => return Err(self.unsent(&error)),
            }
        }
    }
}

fn text<'h>(headers: &'h HeaderMap, name: &str) -> Option<&'h str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}

/// The last parts of a chain of causes say the most, and the first one repeats the URL.
fn shortened(cause: &str) -> &str {
    cause.split_once("): ").map_or(cause, |(_, rest)| rest)
}

/// An error document of a later version, as far as this one understands it.
#[derive(Deserialize)]
struct LaterErrorDocument {
    format: String,
    errors: Vec<Finding>,
}

/// The error that a document describes.
fn document(status: StatusCode, body: &[u8]) -> Option<ControlError> {
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
        let report = document(StatusCode::CONFLICT, body).unwrap().report();
        assert_eq!((report.exit, report.errors[0].code.as_str()), (Exit::Refused, "x.y"));
        assert!(document(StatusCode::CONFLICT, br#"{"error":"no"}"#).is_none());
        assert!(document(StatusCode::CONFLICT, b"<html>").is_none());
    }
}
