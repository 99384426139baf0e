//! Remembers what was created a moment ago: the API is eventually consistent, and some of its nodes do not know a new app
//! or machine yet. What they say of it is asked again for a while before it is believed.
//!
//! Must not do: send a request, or remember anything for longer than it may take to be seen.

use std::sync::{Mutex, PoisonError};

use super::api_error::ApiErrorKind;
use super::deadline::Deadline;
use super::transport::ApiRequest;

/// Paths of apps and machines that may not be seen everywhere yet, each until when.
#[derive(Default)]
pub(super) struct FreshResources {
    paths: Mutex<Vec<(String, Deadline)>>,
}

impl FreshResources {
    /// Remembers the path of something that was just created.
    pub(super) fn add(&self, path: String, until: Deadline, is_over: impl Fn(Deadline) -> bool) {
        let mut paths = self.paths.lock().unwrap_or_else(PoisonError::into_inner);
        paths.retain(|(known, until)| *known != path && !is_over(*until));
        paths.push((path, until));
    }

    /// Forgets what was deleted, and everything in it.
    pub(super) fn forget(&self, path: &str) {
        let mut paths = self.paths.lock().unwrap_or_else(PoisonError::into_inner);
        paths.retain(|(known, _)| !is_at_or_below(known, path));
    }

    /// Returns until when a refusal of this kind may only mean that the thing is not seen yet.
    pub(super) fn not_seen_until(&self, request: &ApiRequest, kind: &ApiErrorKind) -> Option<Deadline> {
        let paths = self.paths.lock().unwrap_or_else(PoisonError::into_inner);
        let is_new = |(known, _): &&(String, Deadline)| {
            let is_app = known.split('/').count() == APP_SEGMENTS;
            // Of a thing in a new app only a node that knows the app can say that it is not there.
            // A server that has no such request answers so as well; that is known of setting many secrets at once.
            let is_collection = request.path.split('/').count() <= APP_SEGMENTS + 1 && !request.path.ends_with("/secrets");
            is_at_or_below(&request.path, known)
                && match kind {
                    ApiErrorKind::AppNotFound | ApiErrorKind::Unauthorized => is_app,
                    ApiErrorKind::NotFound => !is_app || is_collection,
                    _ => false,
                }
        };
        paths.iter().find(is_new).map(|(_, until)| *until)
    }
}

/// `/v1/apps/NAME`, with the empty part before it.
const APP_SEGMENTS: usize = 4;

fn is_at_or_below(path: &str, base: &str) -> bool {
    path.strip_prefix(base).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}
