//! What routes read of a request: names in the path, keys of the query, headers and bodies.
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

use super::Server;
use super::guard::{self, Caller};
use super::problem::Problem;
use crate::authority::Bearer;
use crate::control::{Lease, wire};
use crate::host::Acting;
use crate::model::{BackendName, NameError, OperationId, ProjectName, Revision, TokenId};

/// How long a body that is too large may pause before it is answered.
const PAUSE: Duration = Duration::from_millis(200);

/// How long an id in a path may be; ours are shorter.
const LONGEST_ID: usize = 64;

/// A name in the path.
pub(super) fn name<T>(names: &RawPathParams, which: &str, parse: fn(&str) -> Result<T, NameError>) -> Result<T, Problem> {
    let text = segment(names, which);
    parse(text).map_err(|error| Problem::bad_request("wire.name", format!("the path does not name a {which}: {error}")))
}

fn segment<'a>(names: &'a RawPathParams, which: &str) -> &'a str {
    names.iter().find(|(name, _)| *name == which).map_or("", |(_, value)| value)
}

fn id(names: &RawPathParams, which: &str) -> Result<String, Problem> {
    let text = segment(names, which);
    let fit = (1..=LONGEST_ID).contains(&text.len())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte));
    fit.then(|| text.to_owned()).ok_or_else(|| {
        let message = format!("the path does not name a {which}: an id has 1 to {LONGEST_ID} letters, digits, `-` and `_`");
        Problem::bad_request("wire.id", message)
    })
}

/// Who asks, in no project in particular.
impl FromRequestParts<Arc<Server>> for Caller {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &Arc<Server>) -> Result<Self, Problem> {
        // The guard has put it there.
        parts.extensions.get::<Self>().cloned().ok_or_else(Problem::bug)
    }
}

/// Who asks, and in which project.
pub(super) struct InProject {
    pub(super) bearer: Bearer,
    pub(super) project: ProjectName,
    /// The control plane as the bearer uses it.
    pub(super) control: Acting,
}

impl FromRequestParts<Arc<Server>> for InProject {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, server: &Arc<Server>) -> Result<Self, Problem> {
        let Caller { bearer } = Caller::from_request_parts(parts, server).await?;
        let project = guard::project(&names(parts, server).await?)?;
        let control = server.host.acting_as(bearer.actor());
        Ok(Self { bearer, project, control })
    }
}

async fn names(parts: &mut Parts, server: &Arc<Server>) -> Result<RawPathParams, Problem> {
    RawPathParams::from_request_parts(parts, server)
        .await
        .map_err(|_| Problem::bad_request("wire.path", "the path is not UTF-8 once `%` is resolved"))
}

macro_rules! in_path {
    ($type:ident, |$names:ident| $value:expr) => {
        impl FromRequestParts<Arc<Server>> for InPath<$type> {
            type Rejection = Problem;

            async fn from_request_parts(parts: &mut Parts, server: &Arc<Server>) -> Result<Self, Problem> {
                let $names = names(parts, server).await?;
                $value.map(Self)
            }
        }
    };
}

/// Something else that the path names.
pub(super) struct InPath<T>(pub(super) T);

in_path!(BackendName, |names| name(&names, "backend", BackendName::parse));
in_path!(OperationId, |names| id(&names, "operation").map(OperationId::new));
in_path!(TokenId, |names| id(&names, "token").map(TokenId::new));

/// The query of a request; keys that are not known are refused.
pub(super) struct Asked<T>(pub(super) T);

impl<T: DeserializeOwned> FromRequestParts<Arc<Server>> for Asked<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &Arc<Server>) -> Result<Self, Problem> {
        let Query(query) = Query::<T>::try_from_uri(&parts.uri).map_err(|error| {
            let text = std::error::Error::source(&error).map_or_else(|| error.to_string(), ToString::to_string);
            Problem::bad_request("wire.query", format!("the query cannot be used: {}", without_values(&text)))
        })?;
        Ok(Self(query))
    }
}

/// A query without any key.
#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Nothing {}

/// The fence of the lease under which something is written.
pub(super) struct Fence(pub(super) u64);

impl Fence {
    /// The lease that it belongs to. How often the record has changed does not matter to a write.
    pub(super) fn lease(&self, project: &ProjectName) -> Lease {
        Lease { project: project.clone(), fence: self.0, revision: Revision(0) }
    }
}

impl FromRequestParts<Arc<Server>> for Fence {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &Arc<Server>) -> Result<Self, Problem> {
        one_header(&parts.headers, wire::FENCE)?.and_then(|text| text.parse().ok()).map(Self).ok_or_else(|| {
            let message = format!("the header `{}` should hold the fence of a lease, a whole number", wire::FENCE);
            Problem::bad_request("wire.fence", message)
        })
    }
}

/// The one value of a header, if it is there.
pub(super) fn one_header<'a>(headers: &'a HeaderMap, name: &str) -> Result<Option<&'a str>, Problem> {
    let unfit = || Problem::bad_request("wire.header", format!("the header `{name}` should be there once, as text"));
    let mut values = headers.get_all(name).iter();
    let first = values.next().map(|value| value.to_str().map_err(|_| unfit())).transpose()?;
    if values.next().is_some() { Err(unfit()) } else { Ok(first) }
}

/// The document in the body of a request.
pub(super) struct Read<T>(pub(super) T);

impl<T: DeserializeOwned> FromRequest<Arc<Server>> for Read<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, server: &Arc<Server>) -> Result<Self, Problem> {
        let (parts, body) = request.into_parts();
        if !is_json(&parts.headers) {
            let message = "the body should be a JSON document, with `content-type: application/json`";
            return Err(Problem::bad_request("wire.content_type", message).with_status(StatusCode::UNSUPPORTED_MEDIA_TYPE));
        }
        let bytes = bytes(&parts.headers, body, server).await?;
        // A reader takes the values of a document from an array too, and an empty one for a document without any.
        if bytes.iter().find(|byte| !byte.is_ascii_whitespace()).is_some_and(|byte| *byte == b'[') {
            return Err(Problem::bad_request("wire.body", "the document in the body should be an object, and is an array"));
        }
        let mut reader = serde_json::Deserializer::from_slice(&bytes);
        let document = serde_path_to_error::deserialize(&mut reader).map_err(|error| {
            let place = match error.path().to_string() {
                path if path == "." => String::new(),
                path => format!(" at `{path}`"),
            };
            let why = without_values(&error.inner().to_string());
            Problem::bad_request("wire.body", format!("the document in the body cannot be used{place}: {why}"))
        })?;
        reader.end().map_err(|_| Problem::bad_request("wire.body", "something follows the document in the body"))?;
        Ok(Self(document))
    }
}

fn is_json(headers: &HeaderMap) -> bool {
    let content = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    content.split(';').next().is_some_and(|kind| kind.trim().eq_ignore_ascii_case("application/json"))
}

async fn bytes(headers: &HeaderMap, body: Body, server: &Server) -> Result<axum::body::Bytes, Problem> {
    let limit = server.limits.body;
    let too_large = || {
        let message = format!("the body is larger than {limit} bytes, the most that this control plane takes");
        Problem::bad_request("wire.too_large", message).with_status(StatusCode::PAYLOAD_TOO_LARGE)
    };
    let announced = headers.get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
    if announced.is_some_and(|length| usize::try_from(length).map_or(true, |length| length > limit)) {
        pass_over(body, limit, server).await;
        return Err(too_large());
    }
    let arrived = tokio::select! {
        arrived = to_bytes(body, limit) => arrived,
        () = server.host.sleep(server.limits.request) => return Err(Problem::of_status(StatusCode::REQUEST_TIMEOUT)),
    };
    arrived.map_err(|error| {
        let limited = std::error::Error::source(&error).is_some_and(|source| source.is::<LengthLimitError>());
        if limited { too_large() } else { Problem::bad_request("wire.cut_off", "the body ended before its end") }
    })
}

/// Takes a body in and forgets it, as long as it keeps coming and up to twice the limit: whoever is still sending when
/// the connection closes never reads the answer.
async fn pass_over(body: Body, limit: usize, server: &Server) {
    let mut pieces = body.into_data_stream();
    let mut left = limit.saturating_mul(2);
    loop {
        let piece = tokio::select! {
            piece = pieces.next() => piece,
            () = server.host.sleep(PAUSE) => return,
        };
        match piece {
            Some(Ok(piece)) if piece.len() < left => left -= piece.len(),
            _ => return,
        }
    }
}

/// What a reader of documents says, without the values that it found: `invalid type: string "…", expected a map`.
fn without_values(text: &str) -> String {
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
    fn what_was_found_is_not_repeated() {
        let error = serde_json::from_str::<std::collections::BTreeMap<String, u8>>(r#"{"a": "hun\"ter2"}"#).unwrap_err();
        let text = without_values(&error.to_string());
        assert!(!text.contains("hun") && !text.contains("ter2") && text.contains("expected u8"), "{text}");
    }
}
