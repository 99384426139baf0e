//! One request, taken apart.

use axum::body::Bytes;
use axum::http::{HeaderMap, Method, Uri};
use serde_json::Value;

/// What was asked.
#[derive(Debug, Clone)]
pub struct Request {
    pub method: String,
    /// The path with its `/v1`, without the query.
    pub path: String,
    /// In order, with repetitions.
    pub query: Vec<(String, String)>,
    pub headers: HeaderMap,
    /// The body as JSON, or nothing where there was none.
    pub body: Value,
    /// Whether there was a body that is not JSON.
    pub is_garbled: bool,
}

impl Request {
    pub fn new(method: &Method, uri: &Uri, headers: &HeaderMap, body: &Bytes) -> Self {
        let query = url::form_urlencoded::parse(uri.query().unwrap_or_default().as_bytes()).into_owned().collect();
        let parsed = if body.is_empty() { Ok(Value::Null) } else { serde_json::from_slice(body) };
        Self {
            method: method.to_string(),
            path: uri.path().to_owned(),
            query,
            headers: headers.clone(),
            is_garbled: parsed.is_err(),
            body: parsed.unwrap_or_default(),
        }
    }

    /// The parts of the path behind `/v1`, decoded.
    pub fn segments(&self) -> Vec<String> {
        let path = self.path.strip_prefix("/v1").unwrap_or("/");
        let decoded = |part: &str| {
            let escaped = part.replace('+', "%2B");
            url::form_urlencoded::parse(format!("x={escaped}").as_bytes()).next().map(|(_, text)| text.into_owned())
        };
        path.split('/').skip(1).filter_map(decoded).collect()
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    pub fn parameter(&self, name: &str) -> Option<&str> {
        self.query.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    pub fn is_set(&self, name: &str) -> bool {
        matches!(self.parameter(name), Some("true" | "1"))
    }

    /// A text of the body.
    pub fn text(&self, name: &str) -> Option<&str> {
        self.body.get(name)?.as_str().filter(|text| !text.is_empty())
    }

    pub fn number(&self, name: &str) -> Option<u64> {
        self.body.get(name)?.as_u64()
    }

    pub fn flag(&self, name: &str) -> bool {
        self.body.get(name).and_then(Value::as_bool).unwrap_or_default()
    }

    /// The nonce of the lease that the sender says it holds.
    pub fn nonce(&self) -> Option<&str> {
        self.header("fly-machine-lease-nonce").filter(|nonce| !nonce.is_empty())
    }
}
