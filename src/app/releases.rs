//! Which releases backends are at, and whether newer ones are known.

use serde::Serialize;

use super::LoadedManifest;
use crate::convex::client_range::{client_range, needed_backend_day};
use crate::model::{ActualBackend, Diagnostic, Release, ReleaseOrder};
use crate::policy::{build_day, newest_known_release, release_order};
use crate::system::read_regular_text;

/// How large a `package.json` may be in bytes.
const MAX_PACKAGE_BYTES: u64 = 1 << 20;

/// A backend and its release.
#[derive(Debug, Serialize)]
pub(crate) struct ReleaseEntry {
    /// The backend.
    pub(crate) name: String,
    /// The release that was asked for.
    pub(crate) release: Option<Release>,
    /// The day on which the build that runs was made, where its provider knows it.
    built_on: Option<String>,
    /// Whether a newer one is known.
    pub(crate) outdated: bool,
}

impl ReleaseEntry {
    /// Compares a backend with the newest release that is known.
    pub(crate) fn new(backend: &ActualBackend, newest: &Release) -> Self {
        let order = backend.recorded.release.as_ref().map(|running| release_order(running, newest));
        let older_build = backend.built_on.as_deref().zip(build_day(newest)).is_some_and(|(ran, day)| ran < day);
        Self {
            name: backend.name.to_string(),
            release: backend.recorded.release.clone(),
            built_on: backend.built_on.clone(),
            outdated: order == Some(ReleaseOrder::Newer) || (order != Some(ReleaseOrder::Same) && older_build),
        }
    }

    fn day(&self) -> Option<&str> {
        self.built_on.as_deref().or_else(|| self.release.as_ref().and_then(build_day))
    }
}

/// Returns the newer of the release that Convex names and the newest that this program knows.
pub(crate) fn newest(named: Option<Release>) -> Release {
    let known = newest_known_release().into_iter().chain(named);
    known.max_by_key(|release| build_day(release).map(str::to_owned)).unwrap_or(Release::Latest)
}

/// Says which backends are too old for the npm package of the repository.
pub(crate) fn client_lints(loaded: &LoadedManifest, entries: &[ReleaseEntry]) -> Vec<Diagnostic> {
    let package = read_regular_text(&loaded.folder.join("package.json"), MAX_PACKAGE_BYTES).ok();
    let Some(range) = package.as_deref().and_then(client_range) else { return Vec::new() };
    let Some(needed) = needed_backend_day(&range) else { return Vec::new() };
    let too_old = entries.iter().filter(|entry| entry.day().is_some_and(|built| built < needed));
    let lint = |entry: &ReleaseEntry| {
        let message = format!(
            "`package.json` asks for `convex` {range}, which needs a backend of {needed} or later, and `{}` is older; \
             `npx convex deploy` fails on it",
            entry.name
        );
        Diagnostic::warning("releases.client_too_new", message)
    };
    too_old.map(lint).collect()
}
