//! The way to a control plane: its URL, certificates, proxies and connections.
//!
//! Must not do: follow redirects, or use a proxy for a control plane on this machine.

use std::fmt;
use std::sync::{PoisonError, RwLock};
use std::time::Duration;

use reqwest::{Certificate, Client};
use url::Url;

use super::ClientTimeouts;
use crate::api::ControlError;
use crate::model::{Diagnostic, NO_AUTHORITIES, error_chain, is_loopback_url};
use crate::system::lacks_authorities;

/// Says where a control plane is: `http` or `https`, a host, perhaps a port and a path, and nothing else.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ControlPlaneUrl(Url);

/// Says why a text is not the URL of a control plane.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ControlPlaneUrlError {
    /// It is no URL at all.
    #[error("the URL of a control plane looks like `https://convex-control.example.com`")]
    Shape,
    /// It carries a name or a password.
    #[error("the URL of a control plane carries no name or password; the token goes into `CONVEXINFRA_TOKEN`")]
    Credentials,
    /// It carries a query or a fragment.
    #[error("the URL of a control plane has no `?…` and no `#…`")]
    Tail,
}

impl ControlPlaneUrl {
    /// Reads a URL.
    ///
    /// # Errors
    /// [`ControlPlaneUrlError`] says what is wrong with it, without repeating it.
    pub fn parse(text: &str) -> Result<Self, ControlPlaneUrlError> {
        let text = text.trim();
        // A URL may be read as leading elsewhere than it seems to: a backslash ends its host, and line ends are dropped.
        if text.contains(|c: char| c == '\\' || c.is_control()) {
            return Err(ControlPlaneUrlError::Shape);
        }
        let mut url = Url::parse(text).map_err(|_| ControlPlaneUrlError::Shape)?;
        if !matches!(url.scheme(), "http" | "https") || url.host().is_none() {
            return Err(ControlPlaneUrlError::Shape);
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(ControlPlaneUrlError::Credentials);
        }
        if url.query().is_some() || url.fragment().is_some() {
            return Err(ControlPlaneUrlError::Tail);
        }
        let path = url.path().trim_end_matches('/').to_owned();
        url.set_path(&path);
        Ok(Self(url))
    }

    /// Returns the URL.
    pub fn as_url(&self) -> &Url {
        &self.0
    }

    /// Returns whether only this machine is at the other end.
    pub fn is_loopback(&self) -> bool {
        is_loopback_url(&self.0)
    }

    /// Returns whether the connection leaves this machine in clear.
    pub fn is_cleartext_remote(&self) -> bool {
        self.0.scheme() == "http" && !self.is_loopback()
    }

    /// Returns the URL of a path, given in segments.
    pub(super) fn endpoint(&self, path: &[&str]) -> Url {
        let mut url = self.0.clone();
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.pop_if_empty().extend(path);
        }
        url
    }
}

impl fmt::Display for ControlPlaneUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.as_str().trim_end_matches('/'))
    }
}

/// Connections to one control plane, kept between requests.
pub(super) struct Connection {
    pub(super) url: ControlPlaneUrl,
    pub(super) timeouts: ClientTimeouts,
    certificates: Vec<Certificate>,
    client: RwLock<Client>,
}

impl Connection {
    pub(super) fn new(
        url: ControlPlaneUrl,
        certificates: Option<Vec<u8>>,
        waits: ClientTimeouts,
    ) -> Result<Self, ControlError> {
        let unusable = |error: &reqwest::Error| {
            if lacks_authorities(error) {
                let message = format!("the control plane at {url} cannot be asked: {NO_AUTHORITIES}");
                return ControlError::Unreachable(Diagnostic::new("local.no_authorities", message));
            }
            let finding =
                Diagnostic::new("control.certificates", format!("the certificates cannot be used: {}", error_chain(error)));
            ControlError::Unreachable(finding.with_help("name a file with PEM certificates in `CONVEXINFRA_CA_FILE`"))
        };
        let certificates = match certificates {
            Some(pem) => Certificate::from_pem_bundle(&pem).map_err(|error| unusable(&error))?,
            None => Vec::new(),
        };
        let client = build(&url, &certificates, waits).map_err(|error| unusable(&error))?;
        Ok(Self { url, timeouts: waits, certificates, client: RwLock::new(client) })
    }

    pub(super) fn client(&self) -> Client {
        self.client.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Begins anew with fresh connections, where those that are open cannot be trusted any more.
    pub(super) fn reset(&self) {
        if let Ok(client) = build(&self.url, &self.certificates, self.timeouts) {
            *self.client.write().unwrap_or_else(PoisonError::into_inner) = client;
        }
    }
}

fn build(url: &ControlPlaneUrl, certificates: &[Certificate], waits: ClientTimeouts) -> Result<Client, reqwest::Error> {
    let builder = Client::builder()
        .connect_timeout(waits.connect)
        .read_timeout(waits.read)
        .redirect(reqwest::redirect::Policy::none())
        .http2_keep_alive_interval(Duration::from_secs(15))
        .http2_keep_alive_timeout(Duration::from_secs(10))
        .tcp_keepalive(Duration::from_secs(30))
        .user_agent(concat!("convexinfra/", env!("CARGO_PKG_VERSION")));
    let builder = if url.is_loopback() { builder.no_proxy() } else { builder };
    // Loading the system's certificates takes longer than a whole plan, and plain HTTP needs none.
    let builder = match (url.0.scheme(), certificates) {
        ("http", _) => builder.tls_certs_only([]),
        (_, []) => builder,
        (_, certificates) => builder.tls_certs_merge(certificates.iter().cloned()),
    };
    builder.build()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn url(text: &str) -> ControlPlaneUrl {
        ControlPlaneUrl::parse(text).unwrap()
    }

    #[test]
    fn urls_of_control_planes() {
        assert_eq!(url("https://control.example.com/").to_string(), "https://control.example.com");
        assert_eq!(url(" https://example.com:8443/convex/ ").to_string(), "https://example.com:8443/convex");
        assert_eq!(
            url("https://example.com/convex").endpoint(&["v1", "projects", "a/b"]).as_str(),
            "https://example.com/convex/v1/projects/a%2Fb"
        );
        assert_eq!(url("http://127.0.0.1:7310").endpoint(&["v1", "tokens"]).as_str(), "http://127.0.0.1:7310/v1/tokens");
        for (text, error) in [
            ("control.example.com", ControlPlaneUrlError::Shape),
            ("ftp://example.com", ControlPlaneUrlError::Shape),
            ("https://", ControlPlaneUrlError::Shape),
            (r"https://evil.example\@example.com", ControlPlaneUrlError::Shape),
            ("https://example.com\n.evil.example", ControlPlaneUrlError::Shape),
            ("https://me:secret@example.com", ControlPlaneUrlError::Credentials),
            ("https://example.com/?x", ControlPlaneUrlError::Tail),
            ("https://example.com/#x", ControlPlaneUrlError::Tail),
        ] {
            assert_eq!(ControlPlaneUrl::parse(text), Err(error), "{text}");
        }
    }

    #[test]
    fn a_token_is_safe_on_this_machine_and_under_https() {
        for safe in ["http://127.0.0.1:7310", "http://localhost:1", "http://[::1]:1", "https://example.com"] {
            assert!(!url(safe).is_cleartext_remote(), "{safe}");
        }
        for unsafe_ in ["http://example.com", "http://10.0.0.1", "http://localhost.example.com", "http://127.0.0.1.nip.io"] {
            assert!(url(unsafe_).is_cleartext_remote(), "{unsafe_}");
        }
    }
}
