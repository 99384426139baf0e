//! A proxy of other software as data: which one it is, where it reaches backends, and how it is told about routes. Pure.

use serde::{Deserialize, Serialize};

/// A proxy of other software that leads public hosts to containers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::provider::docker) struct ExternalProxy {
    /// The name of its container.
    pub(in crate::provider::docker) container: String,
    /// What people call it.
    pub(in crate::provider::docker) product: String,
    /// The network on which it reaches backends.
    pub(in crate::provider::docker) network: String,
    /// How it is told about routes.
    pub(in crate::provider::docker) interface: RouteInterface,
}

/// How a proxy is told about routes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(in crate::provider::docker) enum RouteInterface {
    /// Labels of Traefik.
    Traefik(TraefikRouting),
    /// Labels of caddy-docker-proxy.
    CaddyLabels {
        /// What they begin with.
        prefix: String,
    },
    /// Variables of nginx-proxy.
    NginxVariables,
}

/// What routers of containers have to name for Traefik.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::provider::docker) struct TraefikRouting {
    /// The entry point of port 443.
    pub(in crate::provider::docker) https: String,
    /// The entry point of port 80, where it redirects nothing by itself.
    pub(in crate::provider::docker) http: Option<String>,
    /// What gets certificates.
    pub(in crate::provider::docker) resolver: Option<String>,
}
