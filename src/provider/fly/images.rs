//! The image of a machine, pinned by its digest: a tag can move, a digest cannot.

use super::api_error::error_message;
use super::client::{ApiClient, CallError, parse};
use super::error::FlyError;
use super::transport::{ApiRequest, Method, Service};
use crate::convex::release::{COMMIT_ACCEPT, commit_lookup_url, image_reference, parse_commit};
use crate::model::{NO_AUTHORITIES, ProviderState, Release, ResolvedBackend, Secret};
use crate::provider::kit::commit_pin::CommitPin;
use crate::provider::kit::image_reference::ImageReference;

/// The registry that resolves tags.
const REGISTRY: &str = "ghcr.io/";
/// The media types of manifests that a tag may point to.
const MANIFESTS: &str = "application/vnd.oci.image.index.v1+json, application/vnd.oci.image.manifest.v1+json, \
     application/vnd.docker.distribution.manifest.list.v2+json, application/vnd.docker.distribution.manifest.v2+json";

/// The state keys of an image: as it was requested, and as it was resolved.
#[derive(Debug, Clone, Copy)]
pub(super) struct ImageKeys {
    pub(super) requested: &'static str,
    pub(super) pinned: &'static str,
}

/// The backend's image.
pub(super) const BACKEND_IMAGE_KEYS: ImageKeys = ImageKeys { requested: "image_asked", pinned: "image" };
/// The dashboard's image.
pub(super) const DASHBOARD_IMAGE_KEYS: ImageKeys = ImageKeys { requested: "dashboard_image_asked", pinned: "dashboard_image" };
/// The full commit of a `precompiled-…` release.
const COMMIT_PIN: CommitPin = CommitPin { release: "commit_of", commit: "commit" };

/// An image: as it was requested, and with its digest where that is known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ResolvedImage {
    pub(super) requested: String,
    pub(super) pinned: Option<String>,
}

impl ResolvedImage {
    /// Returns the reference that Fly is given.
    pub(super) fn reference(&self) -> &str {
        self.pinned.as_deref().unwrap_or(&self.requested)
    }

    /// The digest, where it is known.
    pub(super) fn digest(&self) -> Option<&str> {
        ImageReference::parse(self.reference()).digest
    }

    /// Returns the reference pinned to a known digest.
    pub(super) fn pinned_to(mut self, digest: Option<&str>) -> Self {
        if let (None, Some(digest)) = (&self.pinned, digest) {
            self.pinned = Some(ImageReference::parse(&self.requested).with_digest(digest));
        }
        self
    }

    pub(super) fn record(&self, notes: ImageKeys, references: &mut ProviderState) {
        references.insert(notes.requested.to_owned(), self.requested.clone());
        if let Some(pinned) = &self.pinned {
            references.insert(notes.pinned.to_owned(), pinned.clone());
        }
    }
}

/// Returns the recorded image without a request: for observing.
pub(super) fn recorded_image(placement: &ResolvedBackend, notes: ImageKeys) -> Option<ResolvedImage> {
    let asked = placement.provider_state.get(notes.requested)?.clone();
    Some(ResolvedImage { requested: asked, pinned: placement.provider_state.get(notes.pinned).cloned() })
}

/// The image for a placement; `own` is what the manifest names instead of the official one.
///
/// # Errors
/// [`FlyError::Image`] when the image of the release cannot be resolved.
pub(super) async fn resolve_image(
    client: &ApiClient,
    placement: &ResolvedBackend,
    official: &str,
    own: Option<&String>,
    notes: ImageKeys,
    references: &mut ProviderState,
) -> Result<ResolvedImage, FlyError> {
    let release = placement.spec.release.clone().unwrap_or(Release::Latest);
    let asked = match own {
        Some(own) => own.clone(),
        None => {
            let release = resolve_commit(client, placement, release, references).await?;
            image_reference(official, &release).unwrap_or_else(|| official.to_owned())
        }
    };
    if ImageReference::parse(&asked).digest.is_some() {
        return Ok(ResolvedImage { pinned: Some(asked.clone()), requested: asked });
    }
    if let Some(known) = recorded_image(placement, notes).filter(|known| known.requested == asked && known.pinned.is_some()) {
        return Ok(known);
    }
    // Where the registry does not say, Fly pulls it by its name and says which digest that was.
    let pinned = resolve_digest(client, &asked).await.map(|digest| ImageReference::parse(&asked).with_digest(&digest));
    Ok(ResolvedImage { requested: asked, pinned })
}

/// Resolves a release to its full commit.
async fn resolve_commit(
    client: &ApiClient,
    placement: &ResolvedBackend,
    release: Release,
    references: &mut ProviderState,
) -> Result<Release, FlyError> {
    if commit_lookup_url(&release).is_none() {
        return Ok(release);
    }
    let name = release.to_string();
    let full = match COMMIT_PIN.get(&placement.provider_state, &release) {
        Some(full) => full,
        None => {
            let Release::Precompiled { short, .. } = &release else { return Ok(release) };
            let call = ApiRequest::new(Service::Commits, Method::Get, format!("/{short}"))
                .with_header("accept", Secret::new(COMMIT_ACCEPT));
            let unknown = |why: String| FlyError::Image { release: name.clone(), why };
            let reply = client.call(call).await.map_err(|declined| {
                let said = match declined {
                    CallError::NoAuthorities => NO_AUTHORITIES.to_owned(),
                    CallError::Unreachable(said) | CallError::Uncertain(said) => said,
                    CallError::Rejected(_, reply) => format!("status {}: {}", reply.status, error_message(&reply)),
                };
                unknown(format!("GitHub does not say which commit it was made from: {said}"))
            })?;
            parse_commit(&release, &reply.body).map_err(|error| unknown(error.to_string()))?
        }
    };
    COMMIT_PIN.record(&release, &full, references);
    Ok(full)
}

/// Resolves a tag of the official registry to its digest; none where the registry does not answer, or is another one.
async fn resolve_digest(client: &ApiClient, reference: &str) -> Option<String> {
    #[derive(serde::Deserialize)]
    struct Pass {
        token: String,
    }
    let image = ImageReference::parse(reference);
    let path = image.name.strip_prefix(REGISTRY)?;
    let tag = image.tag.unwrap_or("latest");
    // Once: Fly resolves the tag just as well, only later.
    let once = |call: ApiRequest| client.transport.send(call.within(std::time::Duration::from_secs(10)));
    let call = ApiRequest::new(Service::Registry, Method::Get, "/token")
        .with_query("service", "ghcr.io")
        .with_query("scope", format!("repository:{path}:pull"));
    let pass: Pass = parse("the registry's token", &once(call).await.ok()?).ok()?;
    let call = ApiRequest::new(Service::Registry, Method::Get, format!("/v2/{path}/manifests/{tag}"))
        .with_header("accept", Secret::new(MANIFESTS))
        .with_header("authorization", Secret::new(format!("Bearer {}", pass.token)));
    let reply = once(call).await.ok().filter(super::transport::ApiResponse::is_success)?;
    let digest = reply.headers.get("docker-content-digest")?;
    let hex = digest.strip_prefix("sha256:")?;
    (hex.len() == 64 && hex.bytes().all(|byte| byte.is_ascii_hexdigit())).then(|| digest.clone())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_digest_resolved_by_fly_pins_the_release() {
        let image = ResolvedImage { requested: "ghcr.io/x/y:tag".to_owned(), pinned: None };
        assert_eq!(image.clone().pinned_to(Some("sha256:00")).reference(), "ghcr.io/x/y@sha256:00");
        assert_eq!(image.clone().pinned_to(None), image);
    }
}
