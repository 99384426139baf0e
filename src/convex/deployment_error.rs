//! Why a deployment did not do what it was asked, without the secrets that it was asked with.

use serde::Deserialize;
use zeroize::Zeroizing;

use super::transport::TransportError;
use crate::model::Secret;

/// Says why a deployment did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum DeploymentError {
    /// Nothing listens there, or the network is in the way.
    #[error("nothing answers at `{url}`")]
    NotListening {
        /// Where.
        url: String,
        /// Why.
        #[source]
        source: TransportError,
    },
    /// This machine could not ask: it has no descriptors, memory, ports or certificates. That says nothing about the deployment.
    #[error("`{url}` could not be asked: this machine lacks what a connection needs")]
    NotAsked {
        /// Where.
        url: String,
        /// Why.
        #[source]
        source: TransportError,
    },
    /// It listens and does not answer in time, or breaks off.
    #[error("`{url}` did not answer `{path}`")]
    NoResponse {
        /// Where.
        url: String,
        /// What was asked.
        path: &'static str,
        /// Why.
        #[source]
        source: TransportError,
    },
    /// It said no.
    #[error("`{url}` refused `{path}` with status {status}{}", error_details(.code, .message))]
    Refused {
        /// Where.
        url: String,
        /// What was asked.
        path: &'static str,
        /// The HTTP status.
        status: u16,
        /// The code in its answer, such as `BadAdminKey`.
        code: Option<String>,
        /// The words in its answer.
        message: Option<String>,
    },
    /// It said something that a Convex deployment does not say.
    #[error("`{url}` answered `{path}` with something that no Convex deployment would say")]
    NotConvex {
        /// Where.
        url: String,
        /// What was asked.
        path: &'static str,
    },
}

fn error_details(code: &Option<String>, message: &Option<String>) -> String {
    match (code, message) {
        (Some(code), Some(message)) => format!(" ({code}: {message})"),
        (Some(code), None) => format!(" ({code})"),
        _ => String::new(),
    }
}

impl DeploymentError {
    /// Classifies why no answer of a request came.
    pub(super) fn from_transport(url: String, path: &'static str, source: TransportError) -> Self {
        match source {
            TransportError::NotSent(_) if is_out_of_resources(&source) => Self::NotAsked { url, source },
            TransportError::NoAuthorities => Self::NotAsked { url, source },
            TransportError::NotSent(_) => Self::NotListening { url, source },
            TransportError::NoResponse(_) => Self::NoResponse { url, path, source },
            TransportError::TooLarge { .. } => Self::NotConvex { url, path },
        }
    }

    /// Reads an answer that is no success, and redacts these secrets in its words.
    pub(super) fn refused<'a>(
        url: String,
        path: &'static str,
        (status, body): (u16, &[u8]),
        secrets: impl Iterator<Item = &'a Secret> + Clone,
    ) -> Self {
        #[derive(Default, Deserialize)]
        struct Said {
            code: Option<String>,
            message: Option<String>,
        }
        let Said { code, message } = serde_json::from_slice(body).unwrap_or_default();
        let clean = |text: String| redact_secrets(text, secrets.clone());
        Self::Refused { url, path, status, code: code.map(clean), message: message.map(clean) }
    }
}

/// Returns whether a connection failed because this machine has no descriptors (EMFILE, ENFILE) or memory (ENOMEM) left.
fn is_out_of_resources(error: &TransportError) -> bool {
    const LOCAL_CAUSES: [i32; 3] = [24, 23, 12];
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(error) = cause {
        let number = error.downcast_ref::<std::io::Error>().and_then(std::io::Error::raw_os_error);
        if number.is_some_and(|number| LOCAL_CAUSES.contains(&number)) {
            return true;
        }
        cause = error.source();
    }
    false
}

/// Secrets shorter than this are not redacted: they are part of too many other words.
const MIN_REDACTED_LEN: usize = 4;

/// Returns a text without these secrets, as they are and as they look between quotes.
fn redact_secrets<'a>(mut text: String, secrets: impl Iterator<Item = &'a Secret>) -> String {
    let mut forms = Vec::new();
    for secret in secrets.map(Secret::expose).filter(|secret| secret.len() >= MIN_REDACTED_LEN) {
        forms.push(Zeroizing::new(secret.to_owned()));
        let quoted = Zeroizing::new(serde_json::to_string(secret).unwrap_or_default());
        if let Some(inner) = quoted.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')) {
            forms.push(Zeroizing::new(inner.to_owned()));
        }
    }
    // A longer one first: it may contain a shorter one, whose mark would then show where the rest is.
    forms.sort_by_key(|form| std::cmp::Reverse(form.len()));
    for form in forms {
        text = text.replace(form.as_str(), "<secret>");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::super::deployment::{Deployment, DeploymentClient};
    use super::*;

    #[test]
    fn the_key_does_not_come_back_in_an_error() {
        let key = Secret::new("dev|01abc");
        let body = br#"{"code":"BadAdminKey","message":"dev|01abc is bad"}"#;
        let error = DeploymentError::refused("http://x".to_owned(), "/api/check_admin_key", (401, body), [&key].into_iter());
        let deployment = Deployment::new(&DeploymentClient::default(), "http://x", Some(key));
        let shown = format!("{error} {error:?} {deployment:?}");
        assert!(shown.contains("BadAdminKey") && !shown.contains("01abc"), "{shown}");
    }

    #[test]
    fn nor_do_values_that_were_sent() {
        let [long, short, lines, tiny] = ["hunter2-hunter2", "hunter2", "first\n\"second\"", "on"].map(Secret::new);
        let body = serde_json::json!({
            "code": "EnvVarInvalid",
            "message": "on line 1: hunter2-hunter2, hunter2, first\n\"second\" and \"first\\n\\\"second\\\"\" are too long",
        });
        let (body, sent) = (body.to_string(), [&short, &long, &lines, &tiny]);
        let answer = (400, body.as_bytes());
        let error =
            DeploymentError::refused("http://x".to_owned(), "/api/update_environment_variables", answer, sent.into_iter());
        let DeploymentError::Refused { message: Some(message), .. } = &error else { panic!("{error:?}") };
        assert_eq!(message, "on line 1: <secret>, <secret>, <secret> and \"<secret>\" are too long");
    }
}
