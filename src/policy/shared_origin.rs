//! A URL leads to one backend only.

use url::Url;

use super::formats::quoted;
use super::violation::Violation;
use crate::model::{BackendSpec, is_loopback_url};

/// The place that a URL leads to: its host and port, however they are written.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct UrlAuthority {
    host: String,
    port: Option<u16>,
    is_loopback: bool,
}

impl UrlAuthority {
    /// Parses the authority of a URL; none for what is no URL.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let url = Url::parse(text).ok()?;
        let host = url.host_str()?.trim_end_matches('.').to_owned();
        Some(Self { host, port: url.port_or_known_default(), is_loopback: is_loopback_url(&url) })
    }

    /// Returns whether it means another place on every machine.
    pub(crate) fn is_loopback(&self) -> bool {
        self.is_loopback
    }
}

/// Returns the origins that a specification claims, and where they lead.
pub(crate) fn claimed_origins(spec: &BackendSpec) -> impl Iterator<Item = (&str, UrlAuthority)> {
    let origins = [&spec.origins.api, &spec.origins.site, &spec.origins.dashboard].map(Option::as_deref);
    origins.into_iter().flatten().filter_map(|text| Some((text, UrlAuthority::parse(text)?)))
}

/// Returns the origins that a specification claims and that the one before it did not.
pub(crate) fn newly_claimed_origins<'s>(
    spec: &'s BackendSpec,
    before: Option<&'s BackendSpec>,
) -> impl Iterator<Item = (&'s str, UrlAuthority)> {
    claimed_origins(spec).filter(move |(_, wanted)| !before.is_some_and(|before| claims(before, wanted)))
}

/// Returns whether a specification claims a place.
pub(crate) fn claims(spec: &BackendSpec, place: &UrlAuthority) -> bool {
    claimed_origins(spec).any(|(_, claimed)| claimed == *place)
}

/// An origin that another backend of the project has.
pub(crate) fn shared_origin(text: &str, holder: &str) -> Violation {
    Violation::new(
        "manifest.shared_origin",
        format!("{} is the origin of {} as well, and a URL leads to one backend only", quoted(text), quoted(holder)),
        "give each backend a host of its own",
    )
}

/// An origin that a backend of another project has; which one is not this project's business.
pub(crate) fn foreign_origin(text: &str) -> Violation {
    Violation::new(
        "control.foreign_origin",
        format!("{} is the origin of a backend of another project of this control plane", quoted(text)),
        "choose another host; if it is yours, have the backend that holds it give it up first",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_place_is_known_however_it_is_written() {
        let same = ["https://api.example.com", "https://API.example.com:443", "https://api.example.com./http"];
        for text in same {
            assert_eq!(UrlAuthority::parse(text), UrlAuthority::parse(same[0]), "{text}");
        }
        assert_eq!(UrlAuthority::parse("https://bücher.example"), UrlAuthority::parse("https://xn--bcher-kva.example"));
        for other in ["http://api.example.com", "https://api.example.com:8443", "https://example.com"] {
            assert_ne!(UrlAuthority::parse(other), UrlAuthority::parse(same[0]), "{other}");
        }
        assert_eq!(UrlAuthority::parse("nowhere"), None);
        assert!(UrlAuthority::parse("http://localhost:3210").unwrap().is_loopback());
    }
}
