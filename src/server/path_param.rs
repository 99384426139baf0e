//! The parameters of a path: names and ids.

use axum::extract::RawPathParams;

use super::error_response::ErrorResponse;
use crate::model::{NameError, ProjectName};

/// The most bytes of an id in a path; ours are shorter.
const MAX_ID_BYTES: usize = 64;

/// Returns a name in the path.
pub(super) fn name_param<T>(
    names: &RawPathParams,
    which: &str,
    parse: fn(&str) -> Result<T, NameError>,
) -> Result<T, ErrorResponse> {
    let text = raw_param(names, which);
    parse(text).map_err(|error| ErrorResponse::bad_request("wire.name", format!("the path names no {which}: {error}")))
}

fn raw_param<'a>(names: &'a RawPathParams, which: &str) -> &'a str {
    names.iter().find(|(name, _)| *name == which).map_or("", |(_, value)| value)
}

pub(super) fn id_param(names: &RawPathParams, which: &str) -> Result<String, ErrorResponse> {
    let text = raw_param(names, which);
    let fit = (1..=MAX_ID_BYTES).contains(&text.len())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte));
    fit.then(|| text.to_owned()).ok_or_else(|| {
        let message = format!("the path names no {which}: an id has 1 to {MAX_ID_BYTES} letters, digits, `-` and `_`");
        ErrorResponse::bad_request("wire.id", message)
    })
}

/// Returns the project that the path names.
pub(super) fn project_param(names: &RawPathParams) -> Result<ProjectName, ErrorResponse> {
    name_param(names, "project", ProjectName::parse)
}
