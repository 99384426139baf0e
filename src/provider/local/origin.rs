//! The origin of downloads: HTTPS from the first byte to the last, and only hosts that belong to the origin.

use std::time::Duration;

use reqwest::redirect::{Attempt, Policy};
use reqwest::{Client, Response, Url};

use super::download::root_cause;
use crate::model::is_loopback_url;
use crate::provider::ProviderError;
use crate::system::lacks_authorities;

/// The most redirects that are followed.
const REDIRECTS_MAX: usize = 5;

/// The origin of downloads, which decides where they may be redirected to.
#[derive(Debug, Clone)]
pub(super) struct Origin {
    base: Url,
}

/// Why a redirect is not followed. A redirect's path may carry a signature, so only its host is shown.
#[derive(Debug, thiserror::Error)]
#[error("redirected to `{0}`, and downloads stay on HTTPS and on hosts of their origin")]
struct RedirectRefused(String);

impl Origin {
    /// Reads the URL of an origin: HTTPS, or plain HTTP on this machine's loopback address.
    ///
    /// # Errors
    /// [`ProviderError::Download`] for any other URL.
    pub(super) fn parse(base: &str) -> Result<Self, ProviderError> {
        let refused = |reason: &str| ProviderError::Download { url: base.to_owned(), reason: reason.to_owned() };
        let url = Url::parse(base).map_err(|error| refused(&error.to_string()))?;
        match url.scheme() {
            "https" => Ok(Self { base: url }),
            "http" if is_loopback_url(&url) => Ok(Self { base: url }),
            _ => Err(refused("it is neither an `https://` URL nor an `http://` URL of this machine")),
        }
    }

    /// Returns whether a download may be redirected to a URL. GitHub serves its releases from hosts of its own below
    /// `githubusercontent.com`; a mirror serves from its own host only.
    fn allows(&self, url: &Url) -> bool {
        let is_safe =
            url.scheme() == "https" || (self.base.scheme() == "http" && url.scheme() == "http" && is_loopback_url(url));
        let host = url.host_str().unwrap_or_default();
        let is_github = self.base.host_str() == Some("github.com") && host.ends_with(".githubusercontent.com");
        is_safe && (url.host_str() == self.base.host_str() || is_github)
    }

    /// Returns a client that follows only redirects that the origin allows. `stall` is how long a transfer may stand still.
    ///
    /// # Errors
    /// [`ProviderError::NoAuthorities`] and [`ProviderError::Download`] when this machine cannot make TLS connections.
    pub(super) fn client(&self, stall: Duration) -> Result<Client, ProviderError> {
        let origin = self.clone();
        let follow = move |attempt: Attempt<'_>| {
            if attempt.previous().len() <= REDIRECTS_MAX && origin.allows(attempt.url()) {
                return attempt.follow();
            }
            let target = format!("{}://{}", attempt.url().scheme(), attempt.url().host_str().unwrap_or_default());
            attempt.error(RedirectRefused(target))
        };
        let built = Client::builder()
            .connect_timeout(Duration::from_secs(10))
            .read_timeout(stall)
            .redirect(Policy::custom(follow))
            .user_agent(concat!("convexinfra/", env!("CARGO_PKG_VERSION")))
            .build();
        let url = || self.base.to_string();
        built.map_err(|error| match lacks_authorities(&error) {
            true => ProviderError::NoAuthorities { url: url() },
            false => ProviderError::Download { url: url(), reason: root_cause(&error) },
        })
    }
}

/// Reads a small document, of at most `limit` bytes.
pub(super) async fn read_text(mut response: Response, limit: usize) -> Result<String, String> {
    let mut body = Vec::new();
    while let Some(bytes) = response.chunk().await.map_err(|error| root_cause(&error))? {
        if body.len() + bytes.len() > limit {
            return Err(format!("the answer is larger than {limit} bytes"));
        }
        body.extend_from_slice(&bytes);
    }
    String::from_utf8(body).map_err(|_| "the answer is not text".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn redirects_stay_on_https_and_on_hosts_of_the_origin() {
        let allows = |base: &str, to: &str| Origin::parse(base).unwrap().allows(&Url::parse(to).unwrap());
        let github = "https://github.com/get-convex/convex-backend/releases/download";
        for (to, allowed) in [
            ("https://release-assets.githubusercontent.com/x?sig=1", true),
            ("https://github.com/other", true),
            ("http://github.com/other", false),
            ("http://release-assets.githubusercontent.com/x", false),
            ("https://githubusercontent.com.evil.example/x", false),
            ("https://evilgithubusercontent.com/x", false),
            ("https://evil.example/x", false),
            ("http://127.0.0.1:8080/x", false),
        ] {
            assert_eq!(allows(github, to), allowed, "{to}");
        }
        assert!(allows("http://127.0.0.1:1/a", "http://127.0.0.1:2/b"));
        assert!(!allows("http://127.0.0.1:1/a", "http://mirror.example/b"));
        assert!(!allows("https://mirror.example/a", "https://x.githubusercontent.com/b"));
    }

    #[test]
    fn a_mirror_is_https_or_on_this_machine() {
        for base in ["http://mirror.example", "http://127.0.0.1.nip.io", "ftp://localhost/x", "file:///tmp", "mirror"] {
            assert!(matches!(Origin::parse(base), Err(ProviderError::Download { .. })), "{base}");
        }
        for base in ["https://mirror.example/x", "http://localhost:9/x", "http://[::1]:9", "http://127.3.2.1"] {
            assert!(Origin::parse(base).is_ok(), "{base}");
        }
    }
}
