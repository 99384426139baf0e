//! Sites: what the proxy is told of one backend, as a file of its configuration. Pure.
//!
//! The first line of a file says whose it is, which hosts it takes and in which network its backend is, so that the files are all
//! that control planes need to know of each other's routes.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::super::context::BackendContext;
use super::super::dashboard;
use super::super::labels::{ResourceNames, ResourceRole};
use crate::model::{Digest, FieldPath, ResolvedBackend, Route, RoutePart, RouteTls, Secret, routes};
use crate::provider::ProviderError;

/// The beginning of the first line of a file.
const MARK: &str = "# convexinfra ";
/// The folder of certificates, as the proxy sees it.
pub(super) const CERTIFICATES: &str = "certs";
/// How many hex digits of a certificate's digest its file is named by.
const DIGEST_DIGITS: usize = 16;

/// What the first line of a site says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct SiteHeader {
    /// The identity of the backend.
    pub(super) id: String,
    /// What the backend calls itself.
    pub(super) instance: String,
    /// The network in which the proxy reaches it.
    pub(super) network: String,
    /// The hosts.
    pub(super) hosts: BTreeSet<String>,
}

/// A certificate and its private key, as files for the proxy.
#[derive(Debug, Clone)]
pub(super) struct SiteCertificate {
    pub(super) cert: Secret,
    pub(super) key: Secret,
    /// The path without an extension, below the configuration.
    pub(super) path: String,
}

/// The site of one backend.
#[derive(Debug, Clone)]
pub(super) struct Site {
    pub(super) header: SiteHeader,
    /// The name of its file.
    pub(super) file: String,
    /// The file.
    pub(super) text: String,
    pub(super) certificate: Option<SiteCertificate>,
}

impl Site {
    /// Returns the site of a backend; none where its origins are not routes.
    ///
    /// # Errors
    /// [`ProviderError::Unsupported`] where an origin cannot be a route, or a secret is not at hand.
    pub(super) fn of(resolved: &ResolvedBackend, context: &BackendContext) -> Result<Option<Self>, ProviderError> {
        let routes = routes(&resolved.spec).map_err(|error| ProviderError::Unsupported(error.to_string()))?;
        let Some(tls) = resolved.spec.settings.docker.tls.as_ref().filter(|_| !routes.is_empty()) else { return Ok(None) };
        let certificate = certificate(resolved, context, tls)?;
        let tls = match (tls, &certificate) {
            (_, Some(pair)) => format!("\ttls /etc/caddy/{0}.crt /etc/caddy/{0}.key\n", pair.path),
            (RouteTls::Internal, None) => "\ttls internal\n".to_owned(),
            (RouteTls::Auto | RouteTls::Certificate { .. }, None) => String::new(),
        };
        let header = SiteHeader {
            id: resolved.id.to_string(),
            instance: resolved.instance_name.to_string(),
            network: context.network.clone(),
            hosts: routes.iter().map(|route| route.host.clone()).collect(),
        };
        // Strings and lists of strings have no way to fail.
        let mut text = format!("{MARK}{}\n", serde_json::to_string(&header).unwrap_or_default());
        for route in &routes {
            text.push_str(&block(route, &tls, context));
        }
        Ok(Some(Self { header, file: file_name(&context.names), text, certificate }))
    }

    /// Returns the paths of the certificates that a file names, each without an extension.
    pub(super) fn certificates_in(text: &str) -> BTreeSet<&str> {
        let lines = text.lines().filter_map(|line| line.trim().strip_prefix("tls /etc/caddy/"));
        lines.filter_map(|line| line.split(".crt ").next()).filter(|path| path.starts_with(CERTIFICATES)).collect()
    }

    /// Returns what the first line of a file says; none for a file that is not ours.
    pub(super) fn header(text: &str) -> Option<SiteHeader> {
        serde_json::from_str(text.lines().next()?.strip_prefix(MARK)?).ok()
    }
}

/// The name of a backend's file.
pub(super) fn file_name(names: &ResourceNames) -> String {
    format!("{}.caddy", names.backend())
}

fn certificate(
    resolved: &ResolvedBackend,
    context: &BackendContext,
    tls: &RouteTls,
) -> Result<Option<SiteCertificate>, ProviderError> {
    if !matches!(tls, RouteTls::Certificate { .. }) {
        return Ok(None);
    }
    let secret = |field: &str| {
        let found = resolved.secrets.get(&FieldPath::new(field)).cloned();
        found.ok_or_else(|| ProviderError::Unsupported(format!("the value of `{field}` is missing")))
    };
    let (cert, key) = (secret(RouteTls::CERT)?, secret(RouteTls::KEY)?);
    // Another pair has other files, so that the one in use is never half of each.
    let digest = Digest::of_json(&(cert.expose(), key.expose()));
    let digest: String = digest.as_str().trim_start_matches("sha256:").chars().take(DIGEST_DIGITS).collect();
    let path = format!("{CERTIFICATES}/{}-{digest}", context.names.backend());
    Ok(Some(SiteCertificate { cert, key, path }))
}

/// Returns the block of one host.
///
/// Requests are held while the backend is away, and WebSockets outlive a reload. Nothing bounds bodies, answers of unknown
/// length are passed on as they come, and what a client says of its own address is discarded: so Caddy does by itself.
fn block(route: &Route, tls: &str, context: &BackendContext) -> String {
    let ports = context.ports_inside;
    let (rewrite, upstream) = match route.part {
        RoutePart::Api => ("", format!("{}:{}", context.names.backend(), ports.api)),
        // The port of the API serves them with more requests at a time than their own.
        RoutePart::Site => ("\trewrite * /http{uri}\n", format!("{}:{}", context.names.backend(), ports.api)),
        RoutePart::Dashboard => ("", format!("{}:{}", context.names.container(ResourceRole::Dashboard), dashboard::INSIDE)),
    };
    format!(
        "{host} {{\n{tls}{rewrite}\treverse_proxy {upstream} {{\n\t\tlb_try_duration 30s\n\t\tlb_try_interval 250ms\n\t\t\
         stream_close_delay 24h\n\t\ttransport http {{\n\t\t\tversions 1.1\n\t\t\tdial_timeout 3s\n\t\t}}\n\t}}\n}}\n",
        host = route.host
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_line_says_whose_a_site_is() {
        let header = SiteHeader {
            id: "b1".to_owned(),
            instance: "shop-dev".to_owned(),
            network: "convexinfra-shop".to_owned(),
            hosts: BTreeSet::from(["api.x.test".to_owned()]),
        };
        let text = format!("{MARK}{}\napi.x.test {{\n}}\n", serde_json::to_string(&header).unwrap());
        assert_eq!(Site::header(&text), Some(header));
        for foreign in ["", "api.x.test {\n}\n", "# convexinfra {}\n"] {
            assert_eq!(Site::header(foreign), None, "{foreign}");
        }
    }
}
