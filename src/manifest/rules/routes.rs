//! Origins that convexinfra's own proxy serves: `domain`, which is short for them, and `tls`, which says how.

use super::ManifestView;
use crate::model::{Diagnostic, Origins};
use crate::policy::specification;

/// Returns the origins that a domain stands for.
pub(in crate::manifest) fn origins_of(domain: &str) -> Origins {
    Origins { api: Some(format!("https://api.{domain}")), site: Some(format!("https://{domain}")), dashboard: None }
}

/// A backend has a domain or origins, and `tls` only where a proxy of convexinfra's own serves them.
pub(super) fn check(document: &ManifestView<'_, '_>, problems: &mut Vec<Diagnostic>) {
    for backend in &document.backends {
        let name = backend.name;
        let domain = backend.view.get("domain");
        let origins = backend.view.own.and_then(|own| own.get("origins"));
        if let (Some(domain), Some(origins)) = (domain, origins) {
            let message = format!("`{name}` has a domain and origins, and the domain is short for origins");
            problems.push(
                Diagnostic::at("manifest.domain_and_origins", &domain.key, message)
                    .with_help("keep one of the two")
                    .with_related(&origins.key, "its origins"),
            );
        }
        let Some(tls) = backend.view.own.and_then(|own| own.get("tls")) else {
            let origins = backend.view.own.and_then(|own| own.table("origins"));
            let dashboard = origins.and_then(|origins| origins.get("dashboard"));
            problems.extend(dashboard.map(|dashboard| specification::unserved_dashboard().at(&dashboard.key)));
            continue;
        };
        if let Some(provider) = backend.view.word("provider").filter(|provider| *provider != "docker") {
            let message = format!("`tls` is about the proxy on a Docker engine, and the provider of `{name}` is `{provider}`");
            problems.push(
                Diagnostic::at("manifest.tls_unused", &tls.key, message)
                    .with_help("leave `tls` out; that provider has certificates of its own, or a proxy of yours has"),
            );
        } else if domain.is_none() && origins.is_none() {
            let message = format!("`tls` has the origins of `{name}` served by a proxy, and it has none");
            problems.push(
                Diagnostic::at("manifest.tls_without_origins", &tls.key, message)
                    .with_help("add `domain = \"example.com\"`, or `origins` with `api` and `site`"),
            );
        }
    }
}
