//! Sites: what the proxy is told of one backend, as a file of its configuration. Pure.
//!
//! The first line of a file says whose it is, which hosts it takes and in which network its backend is, so that the files are all
//! that control planes need to know of each other's routes.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::super::context::BackendContext;
use super::super::dashboard;
use super::super::labels::{ResourceNames, ResourceRole};
use crate::model::{Certificates, Digest, FieldPath, ResolvedBackend, Route, RoutePart, RouteTls, Secret, routes};
use crate::provider::ProviderError;

/// The beginning of the first line of a file.
const MARK: &str = "# convexinfra ";
/// The folder of certificates, as the proxy sees it.
pub(super) const CERTIFICATES: &str = "certs";
/// Let's Encrypt's staging authority.
const STAGING_DIRECTORY: &str = "https://acme-staging-v02.api.letsencrypt.org/directory";
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

/// A certificate as a file for the proxy: with its private key, or the one that an authority is trusted by.
#[derive(Debug, Clone)]
pub(super) struct SiteCertificate {
    pub(super) cert: Secret,
    pub(super) key: Option<Secret>,
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
        let tls = tls_lines(tls, certificate.as_ref().map(|certificate| certificate.path.as_str()));
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
        let lines = text.lines().map(str::trim).filter_map(|line| {
            let files = line.strip_prefix("tls ").or_else(|| line.strip_prefix("trusted_roots "))?;
            files.strip_prefix("/etc/caddy/")
        });
        lines.filter_map(|line| line.split(".crt").next()).filter(|path| path.starts_with(CERTIFICATES)).collect()
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
    let secret = |field: &str| {
        let found = resolved.secrets.get(&FieldPath::new(field)).cloned();
        found.ok_or_else(|| ProviderError::Unsupported(format!("the value of `{field}` is missing")))
    };
    let (cert, key) = match tls {
        RouteTls::Certificate { .. } => (secret(RouteTls::CERT)?, Some(secret(RouteTls::KEY)?)),
        RouteTls::Acme { root: Some(_), .. } => {
            // A file may also have a private key, and that is nothing for the proxy.
            let root = Certificates::parse(secret(RouteTls::ROOT)?.expose());
            let root = root.map_err(|error| ProviderError::Unsupported(format!("`{}`: {error}", RouteTls::ROOT)))?;
            (Secret::new(root.as_str()), None)
        }
        RouteTls::Auto | RouteTls::Internal | RouteTls::Acme { root: None, .. } => return Ok(None),
    };
    // Another pair has other files, so that the one in use is never half of each.
    let digest = Digest::of_json(&(cert.expose(), key.as_ref().map(Secret::expose)));
    let digest: String = digest.as_str().trim_start_matches("sha256:").chars().take(DIGEST_DIGITS).collect();
    let path = format!("{CERTIFICATES}/{}-{digest}", context.names.backend());
    Ok(Some(SiteCertificate { cert, key, path }))
}

/// Returns what a block says about certificates. `path` is that of the certificate that it needs, without an extension.
fn tls_lines(tls: &RouteTls, path: Option<&str>) -> String {
    match (tls, path) {
        (RouteTls::Acme { directory, .. }, path) => {
            let directory = if directory == RouteTls::STAGING { STAGING_DIRECTORY } else { directory };
            let root = path.map(|path| format!("\t\t\ttrusted_roots /etc/caddy/{path}.crt\n")).unwrap_or_default();
            format!("\ttls {{\n\t\tissuer acme {{\n\t\t\tdir {directory}\n{root}\t\t}}\n\t}}\n")
        }
        (_, Some(path)) => format!("\ttls /etc/caddy/{path}.crt /etc/caddy/{path}.key\n"),
        (RouteTls::Internal, None) => "\ttls internal\n".to_owned(),
        (RouteTls::Auto | RouteTls::Certificate { .. }, None) => String::new(),
    }
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
    use crate::model::SecretRef;

    #[test]
    fn certificates_that_a_site_names_are_found_in_it() {
        let own = RouteTls::Certificate { cert: SecretRef::Env("C".into()), key: SecretRef::Env("K".into()) };
        let acme = |directory: &str| RouteTls::Acme { directory: directory.to_owned(), root: None };
        for (tls, path, says, named) in [
            (own, Some("certs/a-1"), "tls /etc/caddy/certs/a-1.crt /etc/caddy/certs/a-1.key", &["certs/a-1"][..]),
            (acme("https://ca.test/dir"), Some("certs/a-2"), "trusted_roots /etc/caddy/certs/a-2.crt", &["certs/a-2"]),
            (acme("https://ca.test/dir"), None, "dir https://ca.test/dir\n", &[]),
            (acme("staging"), None, "dir https://acme-staging-v02.", &[]),
            (RouteTls::Internal, None, "tls internal", &[]),
            (RouteTls::Auto, None, "", &[]),
        ] {
            let text = tls_lines(&tls, path);
            assert!(text.contains(says), "{text}");
            assert_eq!(Site::certificates_in(&text), named.iter().copied().collect(), "{text}");
        }
    }

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
