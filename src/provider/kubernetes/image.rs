//! Which images a specification means.
//!
//! Nodes fetch images, so nothing here asks a registry. Must not do: name a moving tag where a commit is known.

use std::time::Duration;

use crate::convex::release::{BACKEND_IMAGE, COMMIT_ACCEPT, DASHBOARD_IMAGE, image_reference, parse_commit};
use crate::model::{ProviderState, Release, ResolvedBackend};
use crate::provider::ProviderError;
use crate::provider::kit::commit_pin::CommitPin;
use crate::provider::kit::image_reference::ImageReference;

/// The commit of a `precompiled-…` release.
const COMMIT: CommitPin = CommitPin { release: "release_tag", commit: "release_commit" };
/// How long the server that knows commits may take.
const COMMIT_TIMEOUT: Duration = Duration::from_secs(10);

/// The images of a backend.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Images {
    pub(super) backend: String,
    /// None where there is to be no dashboard.
    pub(super) dashboard: Option<String>,
    /// The build that they are, where it is known.
    pub(super) release: Option<Release>,
}

/// Returns the release as images are tagged: a `precompiled-…` tag stands for the commit that was found out for it.
fn pinned(resolved: &ResolvedBackend) -> Option<Release> {
    let release = resolved.spec.release.clone()?;
    Some(COMMIT.get(&resolved.provider_state, &release).unwrap_or(release))
}

/// Returns the images of a backend.
///
/// # Errors
/// [`ProviderError::Image`] where the commit of a `precompiled-…` release is not known.
pub(super) fn images(resolved: &ResolvedBackend) -> Result<Images, ProviderError> {
    let settings = &resolved.spec.settings.kubernetes;
    let release = pinned(resolved);
    let dashboard = match resolved.spec.dashboard {
        true => Some(named(settings.dashboard_image.as_deref(), DASHBOARD_IMAGE, release.as_ref())?),
        false => None,
    };
    Ok(Images { backend: named(settings.image.as_deref(), BACKEND_IMAGE, release.as_ref())?, dashboard, release })
}

fn named(own: Option<&str>, official: &str, release: Option<&Release>) -> Result<String, ProviderError> {
    let image = own.unwrap_or(official);
    if own.is_some() && ImageReference::parse(image).is_exact() {
        return Ok(image.to_owned());
    }
    let release = release.unwrap_or(&Release::Latest);
    image_reference(image, release).ok_or_else(|| ProviderError::Image {
        image: image.to_owned(),
        reason: format!(
            "images are tagged with the full commit, `{release}` has only its first seven digits, and the server that knows the rest \
             did not answer: write the 40 digits as the `release`"
        ),
    })
}

/// Notes the commit of a backend's `precompiled-…` release, which is asked for once. Without an answer it stays unknown.
pub(super) async fn resolve_commit(mut resolved: ResolvedBackend, commits: &str) -> ResolvedBackend {
    if let Some(release @ Release::Precompiled { .. }) = pinned(&resolved)
        && let Release::Precompiled { short, .. } = &release
        && let Some(commit) = ask_for_commit(&format!("{}/{short}", commits.trim_end_matches('/')), &release).await
    {
        COMMIT.record(&release, &commit, &mut resolved.provider_state);
    }
    resolved
}

async fn ask_for_commit(url: &str, release: &Release) -> Option<Release> {
    let agent = concat!("convexinfra/", env!("CARGO_PKG_VERSION"));
    let client = reqwest::Client::builder().timeout(COMMIT_TIMEOUT).user_agent(agent).build().ok()?;
    let answer = client.get(url).header(reqwest::header::ACCEPT, COMMIT_ACCEPT).send().await.ok()?;
    let body = answer.error_for_status().ok()?.text().await.ok()?;
    parse_commit(release, &body).ok()
}

/// Copies what was found out about the release.
pub(super) fn copy_commit(resolved: &ResolvedBackend, state: &mut ProviderState) {
    COMMIT.copy(&resolved.provider_state, state);
}
