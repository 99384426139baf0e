//! Labels and variables by which a proxy of other software leads public hosts to a container. Pure.

use std::collections::BTreeMap;

use serde_json::json;

use super::interface::{ExternalProxy, RouteInterface, TraefikRouting};
use crate::model::{Route, RoutePart, RouteTls};

/// How long requests wait for a backend that is being replaced, where the proxy can have them wait.
const TRY_DURATION: &str = "30s";
/// How long connections outlive a change of other routes, where the proxy closes them by itself.
const CLOSE_DELAY: &str = "24h";

/// What a container is given for its routes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct RouteSettings {
    /// Labels.
    pub(super) labels: BTreeMap<String, String>,
    /// Variables.
    pub(super) environment: BTreeMap<String, String>,
}

impl RouteSettings {
    /// Returns the settings of one container that listens on `port`. `id` is a name that no other container of the engine uses:
    /// routers, services and middlewares are known by name to all of them.
    pub(super) fn new(proxy: &ExternalProxy, tls: &RouteTls, id: &str, routes: &[Route], port: u16) -> Self {
        let mut settings = Self::default();
        if routes.is_empty() {
            return settings;
        }
        match &proxy.interface {
            RouteInterface::Traefik(routing) => settings.labels = traefik(proxy, routing, tls, id, routes, port),
            RouteInterface::CaddyLabels { prefix } => settings.labels = caddy(proxy, prefix, tls, routes, port),
            RouteInterface::NginxVariables => settings.environment = nginx(tls, routes, port),
        }
        settings
    }
}

fn traefik(
    proxy: &ExternalProxy,
    routing: &TraefikRouting,
    tls: &RouteTls,
    id: &str,
    routes: &[Route],
    port: u16,
) -> BTreeMap<String, String> {
    let mut labels = BTreeMap::from([
        ("traefik.enable".to_owned(), "true".to_owned()),
        ("traefik.docker.network".to_owned(), proxy.network.clone()),
        (format!("traefik.http.services.{id}.loadbalancer.server.port"), port.to_string()),
    ]);
    let mut set = |key: String, value: &str| labels.insert(key, value.to_owned());
    for route in routes {
        let name = format!("{id}-{}", part_name(route.part));
        let router = format!("traefik.http.routers.{name}");
        let rule = format!("Host(`{}`)", route.host);
        set(format!("{router}.rule"), &rule);
        set(format!("{router}.entrypoints"), &routing.https);
        set(format!("{router}.tls"), "true");
        // Where a container has several routers, each has to name its service.
        set(format!("{router}.service"), id);
        if let (RouteTls::Auto, Some(resolver)) = (tls, &routing.resolver) {
            set(format!("{router}.tls.certresolver"), resolver);
        }
        if route.part == RoutePart::Site {
            set(format!("{router}.middlewares"), &format!("{id}-http"));
            set(format!("traefik.http.middlewares.{id}-http.addprefix.prefix"), "/http");
        }
        if let Some(http) = &routing.http {
            let plain = format!("{router}-plain");
            set(format!("{plain}.rule"), &rule);
            set(format!("{plain}.entrypoints"), http);
            set(format!("{plain}.service"), id);
            set(format!("{plain}.middlewares"), &format!("{id}-https"));
            set(format!("traefik.http.middlewares.{id}-https.redirectscheme.scheme"), "https");
            set(format!("traefik.http.middlewares.{id}-https.redirectscheme.permanent"), "true");
        }
    }
    labels
}

fn caddy(proxy: &ExternalProxy, prefix: &str, tls: &RouteTls, routes: &[Route], port: u16) -> BTreeMap<String, String> {
    let mut labels = BTreeMap::from([(format!("{prefix}_ingress_network"), proxy.network.clone())]);
    for (number, route) in routes.iter().enumerate() {
        let site = format!("{prefix}_{number}");
        labels.insert(site.clone(), route.host.clone());
        labels.insert(format!("{site}.reverse_proxy"), format!("{{{{upstreams {port}}}}}"));
        labels.insert(format!("{site}.reverse_proxy.lb_try_duration"), TRY_DURATION.to_owned());
        labels.insert(format!("{site}.reverse_proxy.stream_close_delay"), CLOSE_DELAY.to_owned());
        if *tls == RouteTls::Internal {
            labels.insert(format!("{site}.tls"), "internal".to_owned());
        }
        if route.part == RoutePart::Site {
            labels.insert(format!("{site}.rewrite"), "* /http{uri}".to_owned());
        }
    }
    labels
}

fn nginx(tls: &RouteTls, routes: &[Route], port: u16) -> BTreeMap<String, String> {
    let hosts: BTreeMap<&str, _> = routes
        .iter()
        .map(|route| {
            let path = match route.part {
                RoutePart::Site => json!({ "port": port, "dest": "/http/" }),
                RoutePart::Api | RoutePart::Dashboard => json!({ "port": port }),
            };
            (route.host.as_str(), json!({ "/": path }))
        })
        .collect();
    let mut variables = BTreeMap::from([("VIRTUAL_HOST_MULTIPORTS".to_owned(), json!(hosts).to_string())]);
    if *tls == RouteTls::Auto {
        let names: Vec<&str> = hosts.keys().copied().collect();
        variables.insert("LETSENCRYPT_HOST".to_owned(), names.join(","));
    }
    variables
}

fn part_name(part: RoutePart) -> &'static str {
    match part {
        RoutePart::Api => "api",
        RoutePart::Site => "site",
        RoutePart::Dashboard => "dashboard",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn routes() -> [Route; 2] {
        [("api.x.test", RoutePart::Api), ("x.test", RoutePart::Site)].map(|(host, part)| Route { host: host.to_owned(), part })
    }

    fn settings(interface: RouteInterface, tls: &RouteTls) -> RouteSettings {
        let proxy =
            ExternalProxy { container: "edge".to_owned(), product: "Traefik".to_owned(), network: "web".to_owned(), interface };
        RouteSettings::new(&proxy, tls, "shop", &routes(), 3210)
    }

    fn lines(settings: &RouteSettings) -> Vec<String> {
        let pairs = settings.labels.iter().chain(&settings.environment);
        pairs.map(|(key, value)| format!("{key}={value}")).collect()
    }

    #[test]
    fn each_proxy_is_told_the_routes_in_its_own_words() {
        let routing = TraefikRouting {
            https: "https".to_owned(),
            http: Some("http".to_owned()),
            resolver: Some("letsencrypt".to_owned()),
        };
        let told = lines(&settings(RouteInterface::Traefik(routing.clone()), &RouteTls::Auto));
        for line in [
            "traefik.docker.network=web",
            "traefik.http.services.shop.loadbalancer.server.port=3210",
            "traefik.http.routers.shop-api.rule=Host(`api.x.test`)",
            "traefik.http.routers.shop-api.tls.certresolver=letsencrypt",
            "traefik.http.routers.shop-site.middlewares=shop-http",
            "traefik.http.routers.shop-site.service=shop",
            "traefik.http.routers.shop-site-plain.middlewares=shop-https",
            "traefik.http.middlewares.shop-http.addprefix.prefix=/http",
        ] {
            assert!(told.iter().any(|seen| seen == line), "{line}: {told:#?}");
        }
        let redirected = TraefikRouting { http: None, ..routing };
        let told = lines(&settings(RouteInterface::Traefik(redirected), &RouteTls::Internal)).join("\n");
        assert!(!told.contains("plain") && !told.contains("certresolver"), "{told}");

        let told = lines(&settings(RouteInterface::CaddyLabels { prefix: "caddy".to_owned() }, &RouteTls::Internal));
        for line in [
            "caddy_0=api.x.test",
            "caddy_0.reverse_proxy={{upstreams 3210}}",
            "caddy_1.rewrite=* /http{uri}",
            "caddy_1.tls=internal",
        ] {
            assert!(told.iter().any(|seen| seen == line), "{line}: {told:#?}");
        }
        let told = lines(&settings(RouteInterface::NginxVariables, &RouteTls::Auto));
        assert_eq!(
            told,
            [
                "LETSENCRYPT_HOST=api.x.test,x.test",
                r#"VIRTUAL_HOST_MULTIPORTS={"api.x.test":{"/":{"port":3210}},"x.test":{"/":{"dest":"/http/","port":3210}}}"#,
            ]
        );
    }
}
