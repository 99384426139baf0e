//! The routes of a backend: which public host leads to which of its parts, where convexinfra's own proxy serves its origins.

use url::{Host, Url};

use super::spec::BackendSpec;

/// The part of a backend that a route leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum RoutePart {
    /// The API, with the HTTP actions below `/http`.
    Api,
    /// The HTTP actions, at the root of a host of their own.
    Site,
    /// The dashboard beside it.
    Dashboard,
}

/// One public host and where it leads.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Route {
    /// The host, in lower case and in ASCII.
    pub host: String,
    /// Where it leads.
    pub part: RoutePart,
}

/// Says why an origin cannot be a route.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RouteError {
    /// There is no origin of the API, or none of the HTTP actions.
    #[error("`tls` has convexinfra's own proxy serve the origins, and there are none")]
    NoOrigins,
    /// The proxy speaks HTTPS on its standard port, for names.
    #[error("`{path}` is served by convexinfra's own proxy, which takes `https://` and a host name without a port")]
    Unsuitable {
        /// The field.
        path: &'static str,
    },
    /// Two parts at one host.
    #[error("`origins.dashboard` has the host of another origin, and a host leads to one part of a backend")]
    SharedHost,
    /// There is no dashboard to lead to.
    #[error("`origins.dashboard` leads to the dashboard, and the backend has none")]
    NoDashboard,
}

/// Returns the host of an origin that can be a route, and whether it goes on with `/http`.
fn host_of(path: &'static str, text: &str) -> Result<(String, bool), RouteError> {
    let unsuitable = || RouteError::Unsuitable { path };
    let url = Url::parse(text).map_err(|_| unsuitable())?;
    let Some(Host::Domain(host)) = url.host() else { return Err(unsuitable()) };
    // The host becomes a part of the proxy's configuration.
    let is_plain = host.len() <= 253
        && host.split('.').all(|label| {
            let is_inside = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
            !label.is_empty()
                && label.len() <= 63
                && !label.starts_with('-')
                && !label.ends_with('-')
                && label.bytes().all(is_inside)
        });
    let is_root = matches!(url.path(), "" | "/");
    if url.scheme() != "https" || url.port().is_some() || !is_plain || !(is_root || url.path() == "/http") {
        return Err(unsuitable());
    }
    Ok((host.to_owned(), !is_root))
}

/// Returns the routes of a backend; none where its origins are not served by convexinfra's own proxy.
///
/// # Errors
/// [`RouteError`] where an origin cannot be one.
pub fn routes(spec: &BackendSpec) -> Result<Vec<Route>, RouteError> {
    if spec.route_tls().is_none() {
        return Ok(Vec::new());
    }
    let origins = &spec.origins;
    let (Some(api), Some(site)) = (&origins.api, &origins.site) else { return Err(RouteError::NoOrigins) };
    let (api, _) = host_of("origins.api", api)?;
    let (site, is_below) = host_of("origins.site", site)?;
    let mut routes = vec![Route { host: api.clone(), part: RoutePart::Api }];
    if site != api {
        routes.push(Route { host: site, part: if is_below { RoutePart::Api } else { RoutePart::Site } });
    }
    if let Some(dashboard) = &origins.dashboard {
        let (host, is_below) = host_of("origins.dashboard", dashboard)?;
        if is_below {
            return Err(RouteError::Unsuitable { path: "origins.dashboard" });
        }
        if !spec.dashboard {
            return Err(RouteError::NoDashboard);
        }
        if routes.iter().any(|route| route.host == host) {
            return Err(RouteError::SharedHost);
        }
        routes.push(Route { host, part: RoutePart::Dashboard });
    }
    Ok(routes)
}

#[cfg(test)]
mod tests {
    use super::super::provider::ProviderKind;
    use super::super::route_tls::RouteTls;
    use super::super::spec::Origins;
    use super::*;

    fn hosts(api: &str, site: &str, dashboard: Option<&str>) -> Result<Vec<(String, RoutePart)>, RouteError> {
        let mut spec = BackendSpec::new(ProviderKind::Docker);
        spec.settings.docker.tls = Some(RouteTls::Auto);
        spec.dashboard = true;
        let text = |text: &str| Some(text.to_owned());
        spec.origins = Origins { api: text(api), site: text(site), dashboard: dashboard.map(str::to_owned) };
        routes(&spec).map(|routes| routes.into_iter().map(|route| (route.host, route.part)).collect())
    }

    #[test]
    fn every_host_leads_to_one_part() {
        let api = ("api.x.test".to_owned(), RoutePart::Api);
        let at = |host: &str, part| (host.to_owned(), part);
        for (site, dashboard, more) in [
            ("https://x.test", None, vec![at("x.test", RoutePart::Site)]),
            ("https://api.x.test/http", None, vec![]),
            ("https://hooks.x.test/http", None, vec![at("hooks.x.test", RoutePart::Api)]),
            (
                "https://BÜCHER.test",
                Some("https://d.x.test"),
                vec![at("xn--bcher-kva.test", RoutePart::Site), at("d.x.test", RoutePart::Dashboard)],
            ),
        ] {
            let expected: Vec<_> = std::iter::once(api.clone()).chain(more).collect();
            assert_eq!(hosts("https://api.x.test", site, dashboard), Ok(expected), "{site}");
        }
    }

    #[test]
    fn what_the_proxy_cannot_serve_is_refused() {
        for (api, site) in [
            ("http://api.x.test", "https://x.test"),
            ("https://api.x.test:8443", "https://x.test"),
            ("https://192.0.2.1", "https://x.test"),
            ("https://[2001:db8::1]", "https://x.test"),
            ("https://api_1.x.test", "https://x.test"),
            ("https://api.x.test", "http://x.test"),
            ("https://api.x.test.", "https://x.test"),
        ] {
            assert!(matches!(hosts(api, site, None), Err(RouteError::Unsuitable { .. })), "{api} {site}");
        }
        let shared = hosts("https://api.x.test", "https://x.test", Some("https://x.test"));
        assert_eq!(shared, Err(RouteError::SharedHost));
    }
}
