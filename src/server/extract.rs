//! Extractors: what routes read of a request, from the path, the query, headers and the body.
//!
//! Must not do: repeat a value of a body in an error; it may be a secret in the wrong place.

use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, to_bytes};
use axum::extract::{FromRequest, FromRequestParts, Query, RawPathParams, Request};
use axum::http::request::Parts;
use axum::http::{HeaderMap, StatusCode, header};
use futures_util::StreamExt;
use http_body_util::LengthLimitError;
use serde::de::DeserializeOwned;

use super::ApiServer;
use super::auth::Authenticated;
use super::error_response::ErrorResponse;
use super::path_param::{id_param, name_param, project_param};
use super::unique_keys::UniqueKeys;
use crate::api::{Lease, TokenOrigin, wire};
use crate::authority::AuthenticatedToken;
use crate::host::ControlSession;
use crate::model::{BackendName, OperationId, ProjectName, Revision, TokenId};

/// How long a body that is too large may pause before it is answered.
const DRAIN_PAUSE: Duration = Duration::from_millis(200);

/// Extracts the token of a request that is about no project.
impl FromRequestParts<Arc<ApiServer>> for Authenticated {
    type Rejection = ErrorResponse;

    async fn from_request_parts(parts: &mut Parts, _: &Arc<ApiServer>) -> Result<Self, ErrorResponse> {
        // The guard has put it there.
        parts.extensions.get::<Self>().cloned().ok_or_else(ErrorResponse::bug)
    }
}

/// Extracts the token and the project of a request.
pub(super) struct ProjectContext {
    pub(super) bearer: AuthenticatedToken,
    pub(super) project: ProjectName,
    /// The control plane as the bearer uses it.
    pub(super) control: ControlSession,
}

impl FromRequestParts<Arc<ApiServer>> for ProjectContext {
    type Rejection = ErrorResponse;

    async fn from_request_parts(parts: &mut Parts, server: &Arc<ApiServer>) -> Result<Self, ErrorResponse> {
        let Authenticated { bearer } = Authenticated::from_request_parts(parts, server).await?;
        let project = project_param(&path_params(parts, server).await?)?;
        let control = server.host.session_for(bearer.actor());
        Ok(Self { bearer, project, control })
    }
}

async fn path_params(parts: &mut Parts, server: &Arc<ApiServer>) -> Result<RawPathParams, ErrorResponse> {
    RawPathParams::from_request_parts(parts, server)
        .await
        .map_err(|_| ErrorResponse::bad_request("wire.path", "the path is not UTF-8 once `%` is resolved"))
}

macro_rules! in_path {
    ($type:ident, |$names:ident| $value:expr) => {
        impl FromRequestParts<Arc<ApiServer>> for PathParam<$type> {
            type Rejection = ErrorResponse;

            async fn from_request_parts(parts: &mut Parts, server: &Arc<ApiServer>) -> Result<Self, ErrorResponse> {
                let $names = path_params(parts, server).await?;
                $value.map(Self)
            }
        }
    };
}

/// Something else that the path names.
pub(super) struct PathParam<T>(pub(super) T);

in_path!(BackendName, |names| name_param(&names, "backend", BackendName::parse));
in_path!(OperationId, |names| id_param(&names, "operation").map(OperationId::new));
in_path!(TokenId, |names| id_param(&names, "token").map(TokenId::new));

/// The query of a request; keys that are not known are refused.
pub(super) struct QueryParams<T>(pub(super) T);

impl<T: DeserializeOwned> FromRequestParts<Arc<ApiServer>> for QueryParams<T> {
    type Rejection = ErrorResponse;

    async fn from_request_parts(parts: &mut Parts, _: &Arc<ApiServer>) -> Result<Self, ErrorResponse> {
        let Query(query) = Query::<T>::try_from_uri(&parts.uri).map_err(|error| {
            let text = std::error::Error::source(&error).map_or_else(|| error.to_string(), ToString::to_string);
            ErrorResponse::bad_request("wire.query", format!("the query cannot be used: {}", redact_values(&text)))
        })?;
        Ok(Self(query))
    }
}

/// A query without any key.
#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct NoQuery {}

/// The origin that the request came to, if it can be told.
pub(super) struct RequestOrigin(pub(super) Option<TokenOrigin>);

impl FromRequestParts<Arc<ApiServer>> for RequestOrigin {
    type Rejection = ErrorResponse;

    async fn from_request_parts(parts: &mut Parts, _: &Arc<ApiServer>) -> Result<Self, ErrorResponse> {
        Ok(Self(super::origin::request_origin(parts)))
    }
}

/// The fence of the lease under which something is written.
pub(super) struct Fence(pub(super) u64);

impl Fence {
    /// Returns the lease that it belongs to. How often the record has changed does not matter to a write.
    pub(super) fn lease(&self, project: &ProjectName) -> Lease {
        Lease { project: project.clone(), fence: self.0, revision: Revision(0) }
    }
}

impl FromRequestParts<Arc<ApiServer>> for Fence {
    type Rejection = ErrorResponse;

    async fn from_request_parts(parts: &mut Parts, _: &Arc<ApiServer>) -> Result<Self, ErrorResponse> {
        single_header(&parts.headers, wire::FENCE)?.and_then(|text| text.parse().ok()).map(Self).ok_or_else(|| {
            let message = format!("the header `{}` should hold the fence of a lease, a whole number", wire::FENCE);
            ErrorResponse::bad_request("wire.fence", message)
        })
    }
}

/// Returns the one value of a header, if it is there.
pub(super) fn single_header<'a>(headers: &'a HeaderMap, name: &str) -> Result<Option<&'a str>, ErrorResponse> {
    let unfit = || ErrorResponse::bad_request("wire.header", format!("the header `{name}` should be there once, as text"));
    let mut values = headers.get_all(name).iter();
    let first = values.next().map(|value| value.to_str().map_err(|_| unfit())).transpose()?;
    if values.next().is_some() { Err(unfit()) } else { Ok(first) }
}

/// The document in the body of a request.
pub(super) struct JsonBody<T>(pub(super) T);

impl<T: DeserializeOwned> FromRequest<Arc<ApiServer>> for JsonBody<T> {
    type Rejection = ErrorResponse;

    async fn from_request(request: Request, server: &Arc<ApiServer>) -> Result<Self, ErrorResponse> {
        let (parts, body) = request.into_parts();
        if !is_json(&parts.headers) {
            let message = "the body should be a JSON document, with `content-type: application/json`";
            return Err(
                ErrorResponse::bad_request("wire.content_type", message).with_status(StatusCode::UNSUPPORTED_MEDIA_TYPE)
            );
        }
        // What reads it on its way would see another document.
        if single_header(&parts.headers, header::CONTENT_ENCODING.as_str())?.is_some_and(|encoding| encoding != "identity") {
            let message = "the body should be sent as it is, without `content-encoding`";
            return Err(
                ErrorResponse::bad_request("wire.content_encoding", message).with_status(StatusCode::UNSUPPORTED_MEDIA_TYPE)
            );
        }
        let bytes = read_body(&parts.headers, body, server).await?;
        // A reader takes the values of a document from an array too, and an empty one for a document without any.
        if bytes.iter().find(|byte| !byte.is_ascii_whitespace()).is_some_and(|byte| *byte == b'[') {
            return Err(ErrorResponse::bad_request(
                "wire.body",
                "the document in the body should be an object, and is an array",
            ));
        }
        let mut reader = serde_json::Deserializer::from_slice(&bytes);
        let document = serde_path_to_error::deserialize(&mut reader).map_err(|error| {
            let place = match error.path().to_string() {
                path if path == "." => String::new(),
                path => format!(" at `{path}`"),
            };
            let why = redact_values(&error.inner().to_string());
            ErrorResponse::bad_request("wire.body", format!("the document in the body cannot be used{place}: {why}"))
        })?;
        reader.end().map_err(|_| ErrorResponse::bad_request("wire.body", "something follows the document in the body"))?;
        serde_json::from_slice::<UniqueKeys>(&bytes).map_err(|error| {
            ErrorResponse::bad_request("wire.body", format!("the document in the body cannot be used: {error}"))
        })?;
        Ok(Self(document))
    }
}

fn is_json(headers: &HeaderMap) -> bool {
    let content = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let (kind, parameters) = content.split_once(';').unwrap_or((content, ""));
    let is_utf8 = parameters.is_empty()
        || parameters.split_once('=').is_some_and(|(name, charset)| {
            name.trim().eq_ignore_ascii_case("charset") && charset.trim().trim_matches('"').eq_ignore_ascii_case("utf-8")
        });
    kind.trim().eq_ignore_ascii_case("application/json") && is_utf8
}

async fn read_body(headers: &HeaderMap, body: Body, server: &ApiServer) -> Result<axum::body::Bytes, ErrorResponse> {
    let limit = server.limits.body;
    let too_large = || {
        let message = format!("the body is larger than {limit} bytes, the most that this control plane takes");
        ErrorResponse::bad_request("wire.too_large", message).with_status(StatusCode::PAYLOAD_TOO_LARGE)
    };
    let announced = headers.get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
    if announced.is_some_and(|length| usize::try_from(length).map_or(true, |length| length > limit)) {
        drain_body(body, limit, server).await;
        return Err(too_large());
    }
    let arrived = tokio::select! {
        arrived = to_bytes(body, limit) => arrived,
        () = server.host.sleep(server.limits.request) => return Err(ErrorResponse::from_status(StatusCode::REQUEST_TIMEOUT)),
    };
    arrived.map_err(|error| {
        let limited = std::error::Error::source(&error).is_some_and(|source| source.is::<LengthLimitError>());
        if limited { too_large() } else { ErrorResponse::bad_request("wire.cut_off", "the body ended before its end") }
    })
}

/// Reads and drops a body while it keeps coming, up to twice the limit: a client that is still sending when the connection
/// closes never reads the answer.
async fn drain_body(body: Body, limit: usize, server: &ApiServer) {
    let mut pieces = body.into_data_stream();
    let mut left = limit.saturating_mul(2);
    loop {
        let piece = tokio::select! {
            piece = pieces.next() => piece,
            () = server.host.sleep(DRAIN_PAUSE) => return,
        };
        match piece {
            Some(Ok(piece)) if piece.len() < left => left -= piece.len(),
            _ => return,
        }
    }
}

/// Returns what a reader of documents says, without the values that it found: `invalid type: string "…", expected a map`.
fn redact_values(text: &str) -> String {
    for what in ["invalid type: ", "invalid value: ", "unknown variant "] {
        if let Some((before, rest)) = text.split_once(what)
            && let Some((_, expected)) = rest.rsplit_once(", expected ")
        {
            return format!("{before}{}, expected {expected}", what.trim_end().trim_end_matches(':'));
        }
    }
    match (text.find('"'), text.rfind('"')) {
        (Some(first), Some(last)) if first < last => format!("{}…{}", &text[..=first], &text[last..]),
        _ => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rejected_body_is_not_echoed() {
        let error = serde_json::from_str::<std::collections::BTreeMap<String, u8>>(r#"{"a": "hun\"ter2"}"#).unwrap_err();
        let text = redact_values(&error.to_string());
        assert!(!text.contains("hun") && !text.contains("ter2") && text.contains("expected u8"), "{text}");
    }
}
