//! Proxies of other software: what they are told by, and what a container is given so that they lead public hosts to it. Pure.

mod interface;
mod route_settings;
mod traefik;

pub(super) use self::interface::{ExternalProxy, RouteInterface, TraefikRouting};
use self::route_settings::RouteSettings;
pub(super) use self::traefik::{DEFAULT_FILES, StaticConfiguration};
use super::desired::ContainerSpec;
use crate::model::{ProviderState, ResolvedBackend, RoutePart, routes};

/// The key under which the state of a backend holds the proxy that it was made for.
const PROXY_KEY: &str = "external_proxy";

impl ExternalProxy {
    /// Returns the proxy that a backend was made for.
    pub(super) fn recorded(resolved: &ResolvedBackend) -> Option<Self> {
        resolved.spec.settings.docker.tls.as_ref()?;
        serde_json::from_str(resolved.provider_state.get(PROXY_KEY)?).ok()
    }

    /// Records the proxy in the state of a backend.
    pub(super) fn record(&self, state: &mut ProviderState) {
        // Plain data with text keys always serialises.
        state.insert(PROXY_KEY.to_owned(), serde_json::to_string(self).unwrap_or_default());
    }

    /// Returns the network on which it reaches backends.
    pub(super) fn network(&self) -> &str {
        &self.network
    }

    /// Adds to the container of a backend or of its dashboard what leads the hosts of its routes there. What the manifest sets
    /// itself stays.
    pub(super) fn add_routes(&self, spec: &mut ContainerSpec, resolved: &ResolvedBackend, port: u16, parts: &[RoutePart]) {
        let Some(tls) = &resolved.spec.settings.docker.tls else { return };
        let mut routes = routes(&resolved.spec).unwrap_or_default();
        routes.retain(|route| parts.contains(&route.part));
        let RouteSettings { labels, environment } = RouteSettings::new(self, tls, &spec.name, &routes, port);
        if !routes.is_empty() && !spec.networks.contains(&self.network) {
            spec.networks.push(self.network.clone());
        }
        for (name, value) in labels {
            spec.extra_labels.entry(name).or_insert(value);
        }
        for (name, value) in environment {
            spec.environment.entry(name).or_insert(value);
        }
    }

    /// Describes for a plan what leads to the backend.
    pub(super) fn description(&self, resolved: &ResolvedBackend) -> String {
        let routes = routes(&resolved.spec).unwrap_or_default();
        let hosts: Vec<String> = routes.iter().map(|route| format!("`{}`", route.host)).collect();
        let details = match &self.interface {
            RouteInterface::Traefik(TraefikRouting { https, http, resolver }) => {
                let entry_points = match http {
                    Some(http) => format!("by its entry points `{http}` and `{https}`"),
                    None => format!("by its entry point `{https}`"),
                };
                match resolver {
                    Some(resolver) => format!("{entry_points}, with certificates of its resolver `{resolver}`"),
                    None => format!("{entry_points}, with the certificate that it has"),
                }
            }
            RouteInterface::CaddyLabels { prefix } => format!("by labels that begin with `{prefix}_`"),
            RouteInterface::NginxVariables => "by `VIRTUAL_HOST_MULTIPORTS`".to_owned(),
        };
        format!(
            "{} is led there by {}, the container `{}`, on its network `{}`, {details}; that proxy stays as it is",
            hosts.join(" and "),
            self.product,
            self.container,
            self.network
        )
    }
}
