//! The way out: requests as data, and the one trait that carries them to a service and back.
//!
//! The same driver so runs over any HTTP client: reqwest in a process, `fetch` where there are no sockets.
//!
//! Must not do: name an HTTP client, a runtime or a clock, or show a body or a header's value in `Debug`.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use futures_util::future::BoxFuture;
use serde_json::Value;

use crate::model::{Secret, Timestamp};

/// What a request does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Method {
    /// Looks.
    Get,
    /// Makes, or changes as a whole.
    Post,
    /// Changes.
    Put,
    /// Takes away.
    Delete,
}

impl Method {
    /// The word on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Get => "GET",
            Self::Post => "POST",
            Self::Put => "PUT",
            Self::Delete => "DELETE",
        }
    }
}

/// The API that is called. An [`ApiTransport`] knows its URL, and sends the token to [`Service::Machines`] alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Service {
    /// Fly's Machines API: paths begin with `/v1/`.
    Machines,
    /// The registry that Convex's images are in: paths begin with `/v2/` or `/token`.
    Registry,
    /// What tells a full commit from its first digits: the path is those digits.
    Commits,
}

/// One request.
#[derive(Clone)]
pub struct ApiRequest {
    /// Who is asked.
    pub service: Service,
    /// What to do.
    pub method: Method,
    /// Below the service's base, with a slash in front; every part of it escaped.
    pub path: String,
    /// The query; neither names nor values are escaped yet.
    pub query: Vec<(&'static str, String)>,
    /// Headers beside those that every request has.
    pub headers: Vec<(&'static str, Secret)>,
    /// The JSON body.
    pub body: Option<Value>,
    /// How long to wait for the whole answer.
    pub within: Duration,
}

impl ApiRequest {
    /// A request without query, headers and body.
    pub fn new(service: Service, method: Method, path: impl Into<String>) -> Self {
        let within = Duration::from_secs(30);
        Self { service, method, path: path.into(), query: Vec::new(), headers: Vec::new(), body: None, within }
    }

    /// The same with one more pair in its query.
    #[must_use]
    pub fn with_query(mut self, name: &'static str, value: impl fmt::Display) -> Self {
        self.query.push((name, value.to_string()));
        self
    }

    /// The same with one more header.
    #[must_use]
    pub fn with_header(mut self, name: &'static str, value: Secret) -> Self {
        self.headers.push((name, value));
        self
    }

    /// The same with a body.
    #[must_use]
    pub fn with_body(mut self, body: Value) -> Self {
        self.body = Some(body);
        self
    }

    /// The same with more or less time.
    #[must_use]
    pub fn within(mut self, within: Duration) -> Self {
        self.within = within;
        self
    }

    /// What it asks, to be shown: bodies and headers may hold secrets.
    pub fn label(&self) -> String {
        format!("{} {}", self.method.as_str(), self.path)
    }
}

impl fmt::Debug for ApiRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.label())
    }
}

/// One answer.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ApiResponse {
    /// The HTTP status.
    pub status: u16,
    /// Its headers; the names in lower case.
    pub headers: BTreeMap<String, String>,
    /// Its body.
    pub body: String,
}

impl ApiResponse {
    /// Creates a response. The lines of a header that comes more than once are joined by line breaks.
    pub fn new(status: u16, headers: impl IntoIterator<Item = (String, String)>, body: String) -> Self {
        let mut joined: BTreeMap<String, String> = BTreeMap::new();
        for (name, value) in headers {
            joined.entry(name).and_modify(|lines| *lines = format!("{lines}\n{value}")).or_insert(value);
        }
        Self { status, headers: joined, body }
    }

    /// Whether it is a yes.
    pub fn is_success(&self) -> bool {
        (200..300).contains(&self.status)
    }
}

/// Why there is no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ApiTransportError {
    /// The request certainly did not arrive.
    #[error("no connection: {0}")]
    NotSent(String),
    /// This machine trusts no authority, so nothing can be sent, now or later.
    #[error("{}", crate::model::NO_AUTHORITIES)]
    NoAuthorities,
    /// It was sent, and what came of it is not known.
    #[error("no answer: {0}")]
    NoAnswer(String),
}

/// Carries requests out, tells the time and waits.
pub trait ApiTransport: Send + Sync {
    /// Sends one request once, and returns the answer with any status.
    fn send(&self, call: ApiRequest) -> BoxFuture<'_, Result<ApiResponse, ApiTransportError>>;

    /// Returns the time.
    fn now(&self) -> Timestamp;

    /// Waits.
    fn sleep(&self, time: Duration) -> BoxFuture<'_, ()>;
}

/// The variables that a token is taken from, in the order in which Fly's own client reads them.
pub const TOKEN_VARIABLES: [&str; 2] = ["FLY_ACCESS_TOKEN", "FLY_API_TOKEN"];

/// The value of the header `Authorization` for a token as users paste it, which may begin with a scheme already.
///
/// Tokens of the kind that is a list of macaroons go by the scheme `FlyV1`, all others by `Bearer`.
pub fn authorization(token: &Secret) -> Secret {
    let mut token = token.expose().trim();
    for scheme in ["FlyV1 ", "Bearer "] {
        let is_scheme = token.get(..scheme.len()).is_some_and(|start| start.eq_ignore_ascii_case(scheme));
        token = if is_scheme { token[scheme.len()..].trim_start() } else { token };
    }
    let scheme = if ["fm1", "fm2"].iter().any(|start| token.starts_with(start)) { "FlyV1" } else { "Bearer" };
    Secret::new(format!("{scheme} {token}"))
}

/// One part of a path, with everything escaped that could end it.
pub(super) fn escape_segment(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' | b':' => escaped.push(char::from(byte)),
            other => escaped.push_str(&format!("%{other:02X}")),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_may_come_with_its_scheme() {
        for (pasted, sent) in [
            ("abc", "Bearer abc"),
            ("Bearer abc\n", "Bearer abc"),
            ("fm2_abc,fm2_def", "FlyV1 fm2_abc,fm2_def"),
            (" FlyV1 fm2_abc,fm2_def ", "FlyV1 fm2_abc,fm2_def"),
            ("Bearer fm1r_abc", "FlyV1 fm1r_abc"),
            ("flyv1 fm1a_abc", "FlyV1 fm1a_abc"),
        ] {
            assert_eq!(authorization(&Secret::new(pasted)).expose(), sent, "{pasted}");
        }
    }

    #[test]
    fn a_call_shows_neither_headers_nor_body() {
        let call = ApiRequest::new(Service::Machines, Method::Post, "/v1/apps/a/secrets")
            .with_header("fly-machine-lease-nonce", Secret::new("hidden-nonce"))
            .with_body(serde_json::json!({ "values": { "INSTANCE_SECRET": "hidden-secret" } }));
        assert_eq!(format!("{call:?}"), "POST /v1/apps/a/secrets");
    }

    #[test]
    fn parts_of_a_path_stay_parts() {
        assert_eq!(escape_segment("a/b?c#d%e"), "a%2Fb%3Fc%23d%25e");
        assert_eq!(escape_segment("2a09:8280:1::1"), "2a09:8280:1::1");
    }
}
