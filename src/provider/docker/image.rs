//! Images: which one a specification means, pulling it, and pinning it.
//!
//! A moving tag changes nothing that runs: what was pulled once is pinned by its identity until the manifest asks for something
//! else.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use bollard::query_parameters::CreateImageOptionsBuilder;
use futures_util::StreamExt;

use super::engine::{Engine, EngineSource, is_absent};
use super::registry::{credentials, explain_pull_error};
use crate::convex::release::{BACKEND_IMAGE, COMMIT_ACCEPT, DASHBOARD_IMAGE, commit_lookup_url, image_reference, parse_commit};
use crate::failpoint;
use crate::model::{DockerSettings, NO_AUTHORITIES, ProviderState, PullPolicy, Release, ResolvedBackend};
use crate::provider::kit::commit_pin::CommitPin;
use crate::provider::kit::image_reference::ImageReference;
use crate::provider::{ProgressFn, ProviderError};
use crate::system::lacks_authorities;

/// The database server's image, when the provider runs one.
pub(super) const POSTGRES_IMAGE: &str = "docker.io/library/postgres:17";
/// Returns the image of a managed database server.
pub(super) fn database_image(docker: &DockerSettings) -> &str {
    docker.database_image.as_deref().unwrap_or(POSTGRES_IMAGE)
}

/// Returns the images that a specification names itself, with their fields.
pub(super) fn named_images(docker: &DockerSettings) -> impl Iterator<Item = (&'static str, &str)> {
    [
        ("docker.image", &docker.image),
        ("docker.proxy_image", &docker.proxy_image),
        ("docker.dashboard_image", &docker.dashboard_image),
        ("docker.database_image", &docker.database_image),
    ]
    .into_iter()
    .filter_map(|(field, image)| Some((field, image.as_deref()?)))
}

/// How often progress is told.
const PROGRESS_INTERVAL: Duration = Duration::from_millis(400);

/// An image that the engine has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Image {
    /// How it is asked for.
    pub(super) reference: String,
    /// Its identity: the digest of its configuration.
    pub(super) id: String,
    /// Its digest in the registry, `name@sha256:…`; none for one that was never fetched.
    pub(super) digest: Option<String>,
    /// The variables that it sets.
    pub(super) environment: Vec<String>,
    /// The user that it runs as.
    pub(super) user: String,
    /// The commit that it was built from, if it says so.
    pub(super) revision: Option<Release>,
    /// When it was built, in RFC 3339, if it says so.
    pub(super) created: Option<String>,
}

/// The keys under which one image is noted in the references.
pub(super) struct ImagePin {
    reference: &'static str,
    id: &'static str,
    digest: &'static str,
}

impl ImagePin {
    pub(super) const BACKEND: Self = Self { reference: "image", id: "image_id", digest: "image_digest" };
    pub(super) const DASHBOARD: Self =
        Self { reference: "dashboard_image", id: "dashboard_image_id", digest: "dashboard_image_digest" };
    pub(super) const DATABASE: Self =
        Self { reference: "database_image", id: "database_image_id", digest: "database_image_digest" };

    pub(super) const PROXY: Self = Self { reference: "proxy_image", id: "proxy_image_id", digest: "proxy_image_digest" };

    /// Notes an image.
    pub(super) fn record(&self, image: &Image, references: &mut ProviderState) {
        self.record_id(&image.reference, &image.id, references);
        if let Some(digest) = &image.digest {
            references.insert(self.digest.to_owned(), digest.clone());
        }
    }

    /// Notes nothing but the identity of an image.
    pub(super) fn record_id(&self, reference: &str, id: &str, references: &mut ProviderState) {
        references.insert(self.reference.to_owned(), reference.to_owned());
        references.insert(self.id.to_owned(), id.to_owned());
    }

    /// How the image that was noted was asked for.
    pub(super) fn reference<'a>(&self, references: &'a ProviderState) -> Option<&'a str> {
        references.get(self.reference).map(String::as_str)
    }

    /// The identity of the image that was noted for this reference.
    pub(super) fn id<'a>(&self, references: &'a ProviderState, reference: &str) -> Option<&'a str> {
        let same = references.get(self.reference).is_some_and(|noted| noted == reference);
        references.get(self.id).filter(|_| same).map(String::as_str)
    }

    fn digest<'a>(&self, references: &'a ProviderState, reference: &str) -> Option<&'a str> {
        let same = references.get(self.reference).is_some_and(|noted| noted == reference);
        references.get(self.digest).filter(|_| same).map(String::as_str)
    }
}

/// The commit of a `precompiled-…` release.
const COMMIT: CommitPin = CommitPin { release: "release_tag", commit: "release_commit" };
/// Why the commit is not known. Never kept.
const NO_COMMIT: &str = "release_commit_unknown";

/// Returns the release as images are tagged: a `precompiled-…` tag stands for the commit that was found out for it.
fn pinned_release(resolved: &ResolvedBackend) -> Option<Release> {
    let release = resolved.spec.release.clone()?;
    Some(COMMIT.get(&resolved.provider_state, &release).unwrap_or(release))
}

/// Resolves an image with the commit of its `precompiled-…` tag noted, which is asked for once. Where no answer comes, it
/// stays as it is, and why is noted beside it: the error that follows says that, and what to write instead.
pub(super) async fn resolve_commit(mut resolved: ResolvedBackend, commits: &str) -> ResolvedBackend {
    let needs = resolved.spec.settings.docker.image.as_deref().is_none_or(|image| !ImageReference::parse(image).is_exact());
    if let Some(release) = pinned_release(&resolved).filter(|_| needs)
        && let Release::Precompiled { short, .. } = &release
    {
        let references = &mut resolved.provider_state;
        match ask_for_commit(&format!("{}/{short}", commits.trim_end_matches('/')), &release).await {
            Ok(commit) => {
                COMMIT.record(&release, &commit, references);
                references.remove(NO_COMMIT);
            }
            Err(reason) => drop(references.insert(NO_COMMIT.to_owned(), reason)),
        }
    }
    resolved
}

async fn ask_for_commit(url: &str, release: &Release) -> Result<Release, String> {
    let client = reqwest::Client::builder()
        .timeout(Duration::from_secs(10))
        .user_agent(concat!("convexinfra/", env!("CARGO_PKG_VERSION")))
        .build()
        .map_err(chain)?;
    let answer = client.get(url).header(reqwest::header::ACCEPT, COMMIT_ACCEPT).send().await.map_err(chain)?;
    let status = answer.status();
    let remaining = answer.headers().get("x-ratelimit-remaining").is_some_and(|left| left.as_bytes() == b"0");
    if !status.is_success() {
        let limit = if remaining { ", because this address has asked too often within the hour" } else { "" };
        return Err(format!("`{url}` answered with status {status}{limit}"));
    }
    let body = answer.text().await.map_err(chain)?;
    parse_commit(release, &body).map_err(|error| format!("`{url}` answered, but {error}"))
}

/// An error with everything below it.
fn chain(error: reqwest::Error) -> String {
    if lacks_authorities(&error) {
        return NO_AUTHORITIES.to_owned();
    }
    let mut text = error.to_string();
    let mut source = std::error::Error::source(&error);
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}

/// Copies what was found out about the release.
pub(super) fn copy_commit_pin(resolved: &ResolvedBackend, state: &mut ProviderState) {
    COMMIT.copy(&resolved.provider_state, state);
}

/// How a backend's image is asked for.
pub(super) fn backend_reference(resolved: &ResolvedBackend) -> Result<String, ProviderError> {
    let release = pinned_release(resolved);
    let release = release.as_ref();
    let why = resolved.provider_state.get(NO_COMMIT);
    match resolved.spec.settings.docker.image.as_deref() {
        Some(image) if ImageReference::parse(image).is_exact() => Ok(image.to_owned()),
        Some(image) => named(image, release, why),
        None => named(BACKEND_IMAGE, release, why),
    }
}

fn named(image: &str, release: Option<&Release>, why: Option<&String>) -> Result<String, ProviderError> {
    let release = release.unwrap_or(&Release::Latest);
    image_reference(image, release).ok_or_else(|| {
        let ask = commit_lookup_url(release).unwrap_or_default();
        let why = why.map(|why| format!(" ({why})")).unwrap_or_default();
        ProviderError::Image {
            image: image.to_owned(),
            reason: format!(
                "images are tagged with the full commit, and `{release}` has only its first seven digits; the server that knows \
                 the rest did not say{why}: write the 40 digits as the `release`, which are printed by\n    \
                 curl -H 'Accept: {COMMIT_ACCEPT}' {ask}"
            ),
        }
    })
}

/// How the image of a backend's dashboard is asked for: of the same build as the backend, as far as that is known.
pub(super) fn dashboard_reference(resolved: &ResolvedBackend, backend: &Image) -> Result<String, ProviderError> {
    let settings = &resolved.spec.settings.docker;
    if let Some(image) = settings.dashboard_image.as_deref().filter(|image| ImageReference::parse(image).is_exact()) {
        return Ok(image.to_owned());
    }
    let image = settings.dashboard_image.as_deref().unwrap_or(DASHBOARD_IMAGE);
    match (&backend.revision, &pinned_release(resolved)) {
        (Some(revision), _) => named(image, Some(revision), None),
        (None, Some(Release::Digest(_))) => Err(ProviderError::Image {
            image: image.to_owned(),
            reason: "the release is the digest of the backend's image, which says nothing about the dashboard's: name that \
                     with `dashboard_image`"
                .to_owned(),
        }),
        (None, release) => named(image, release.as_ref(), resolved.provider_state.get(NO_COMMIT)),
    }
}

/// Fetches images and looks them up.
#[derive(Debug, Clone, Copy)]
pub(super) struct ImageStore<'a> {
    pub(super) engine: &'a Engine,
    pub(super) source: &'a EngineSource,
    pub(super) policy: PullPolicy,
}

impl ImageStore<'_> {
    /// The image that was noted, or the one that is asked for; fetched where it is missing and may be.
    pub(super) async fn resolve(
        &self,
        reference: &str,
        noted: &ImagePin,
        references: &ProviderState,
        progress: ProgressFn<'_>,
    ) -> Result<Image, ProviderError> {
        if let Some(id) = noted.id(references, reference) {
            if let Some(image) = self.inspect(id, reference).await? {
                return Ok(image);
            }
            // It was removed from the engine; the same bytes are available by their digest.
            if let Some(digest) = noted.digest(references, reference) {
                return self.pull_and_inspect(digest, reference, progress).await;
            }
        }
        match self.inspect(reference, reference).await? {
            Some(image) if self.policy != PullPolicy::Always => Ok(image),
            _ => self.pull_and_inspect(reference, reference, progress).await,
        }
    }

    /// Returns whether a new container gets the newest image.
    pub(super) fn refreshes(&self) -> bool {
        self.policy == PullPolicy::Always
    }

    /// The newest image under a reference, fetched now where that is what the policy says.
    pub(super) async fn refresh(&self, image: Image, progress: ProgressFn<'_>) -> Result<Image, ProviderError> {
        match self.policy {
            PullPolicy::Always => self.pull_and_inspect(&image.reference, &image.reference, progress).await,
            PullPolicy::Missing | PullPolicy::Never => Ok(image),
        }
    }

    async fn pull_and_inspect(&self, name: &str, reference: &str, progress: ProgressFn<'_>) -> Result<Image, ProviderError> {
        let missing = |reason: &str| ProviderError::Image { image: reference.to_owned(), reason: reason.to_owned() };
        if self.policy == PullPolicy::Never {
            return Err(missing("the engine does not have it, and `pull = \"never\"` forbids to fetch it"));
        }
        self.pull(name, progress).await?;
        failpoint::hit("provider.docker.image_pulled");
        self.inspect(name, reference).await?.ok_or_else(|| missing("it was fetched and is not there"))
    }

    /// An image that the engine has; none when it says that it has none.
    pub(super) async fn inspect(&self, name: &str, reference: &str) -> Result<Option<Image>, ProviderError> {
        let seen = match self.engine.client.inspect_image(name).await {
            Ok(seen) => seen,
            Err(error) if is_absent(&error) => return Ok(None),
            Err(error) => return Err(self.engine.failed("look up an image", error)),
        };
        let config = seen.config.unwrap_or_default();
        let revision = config.labels.as_ref().and_then(|labels| labels.get("org.opencontainers.image.revision"));
        let label = |name: &str| config.labels.as_ref().and_then(|labels| labels.get(name)).cloned();
        let created =
            label("org.opencontainers.image.created").or(seen.created).filter(|text| text.parse::<jiff::Timestamp>().is_ok());
        let repository = ImageReference::parse(reference).name;
        let digests = seen.repo_digests.unwrap_or_default();
        Ok(Some(Image {
            reference: reference.to_owned(),
            id: seen.id.unwrap_or_default(),
            digest: digests.into_iter().find(|digest| ImageReference::parse(digest).name == repository),
            environment: config.env.unwrap_or_default(),
            user: config.user.unwrap_or_default(),
            revision: revision
                .and_then(|text| Release::parse(text).ok())
                .filter(|release| matches!(release, Release::Commit(_))),
            created,
        }))
    }

    async fn pull(&self, name: &str, progress: ProgressFn<'_>) -> Result<(), ProviderError> {
        let reference = ImageReference::parse(name);
        let options = CreateImageOptionsBuilder::default().from_image(name);
        // Without a tag, an engine fetches every one that there is.
        let options = if reference.is_exact() { options } else { options.from_image(reference.name).tag("latest") };
        let login = credentials(self.source, name).await.unwrap_or_else(|reason| {
            progress(format!("fetching {name} without a login: {reason}"));
            None
        });
        let failed = |error| match self.engine.failed("fetch the image", error) {
            ProviderError::Engine { reason, .. } => {
                ProviderError::Image { image: name.to_owned(), reason: explain_pull_error(name, &reason) }
            }
            other => other,
        };
        progress(format!("fetching {name}"));
        let mut stream = self.engine.client.create_image(Some(options.build()), None, login).boxed();
        let mut layers = PullProgress::default();
        let mut told = Instant::now();
        while let Some(said) = stream.next().await {
            let said = said.map_err(failed)?;
            let detail = said.progress_detail.unwrap_or_default();
            layers.note(said.id.as_deref(), said.status.as_deref(), detail.current, detail.total);
            if told.elapsed() >= PROGRESS_INTERVAL {
                told = Instant::now();
                progress(layers.words(name));
            }
        }
        progress(format!("fetched {name}"));
        Ok(())
    }
}

/// How far the layers of an image have come.
#[derive(Debug, Default)]
struct PullProgress(BTreeMap<String, LayerProgress>);

#[derive(Debug, Default)]
struct LayerProgress {
    here: i64,
    whole: i64,
    is_done: bool,
}

impl PullProgress {
    fn note(&mut self, layer: Option<&str>, status: Option<&str>, here: Option<i64>, whole: Option<i64>) {
        let (Some(id), Some(status)) = (layer, status) else { return };
        // The first line names the tag instead of a layer.
        if status.starts_with("Pulling from") {
            return;
        }
        let layer = self.0.entry(id.to_owned()).or_default();
        if status == "Downloading" {
            layer.here = here.unwrap_or(layer.here);
            layer.whole = whole.unwrap_or(layer.whole).max(layer.whole);
        }
        if matches!(status, "Pull complete" | "Already exists") {
            layer.here = layer.whole;
            layer.is_done = true;
        }
    }

    fn words(&self, name: &str) -> String {
        let done = self.0.values().filter(|layer| layer.is_done).count();
        let (here, whole) = self.0.values().fold((0, 0), |(here, whole), layer| (here + layer.here, whole + layer.whole));
        let of = format!("fetching {name}: {done} of {} layers", self.0.len());
        if whole > 0 { format!("{of}, {} of {} MiB", here >> 20, whole >> 20) } else { of }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead, BufReader, Write};
    use std::net::TcpListener;

    use super::*;

    /// Answers every request like this; the URL below which that is.
    fn answering(answer: &'static str) -> String {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let url = format!("http://{}/652b828", listener.local_addr().unwrap());
        std::thread::spawn(move || {
            for mut stream in listener.incoming().flatten() {
                let lines = BufReader::new(stream.try_clone().unwrap()).lines();
                lines.map_while(Result::ok).take_while(|line| !line.is_empty()).for_each(drop);
                let _ = write!(stream, "HTTP/1.1 {answer}");
            }
        });
        url
    }

    #[tokio::test]
    async fn why_nobody_says_the_commit_is_said() {
        let release = Release::parse("precompiled-2026-08-21-652b828").unwrap();
        let limited = "403 Forbidden\r\nx-ratelimit-remaining: 0\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
        let proxy = "407 Proxy Authentication Required\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
        let page = "200 OK\r\ncontent-length: 5\r\nconnection: close\r\n\r\n<html";
        for (answer, reason) in [(limited, "asked too often"), (proxy, "status 407"), (page, "answered, but")] {
            let why = ask_for_commit(&answering(answer), &release).await.unwrap_err();
            let error = named(BACKEND_IMAGE, Some(&release), Some(&why)).unwrap_err().to_string();
            assert!(error.contains(reason) && error.contains("write the 40 digits"), "{error}");
        }
        let nobody = format!("http://{}/652b828", TcpListener::bind(("127.0.0.1", 0)).unwrap().local_addr().unwrap());
        let why = ask_for_commit(&nobody, &release).await.unwrap_err();
        assert!(why.to_lowercase().contains("refused"), "{why}");
    }

    #[test]
    fn progress_counts_layers_and_bytes() {
        let mut progress = PullProgress::default();
        progress.note(Some("latest"), Some("Pulling from x/y"), None, None);
        progress.note(Some("a"), Some("Already exists"), None, None);
        progress.note(Some("b"), Some("Pulling fs layer"), None, None);
        assert_eq!(progress.words("i"), "fetching i: 1 of 2 layers");
        progress.note(Some("b"), Some("Downloading"), Some(3 << 20), Some(8 << 20));
        assert_eq!(progress.words("i"), "fetching i: 1 of 2 layers, 3 of 8 MiB");
        progress.note(Some("b"), Some("Pull complete"), None, None);
        assert_eq!(progress.words("i"), "fetching i: 2 of 2 layers, 8 of 8 MiB");
    }
}
