//! What leads to the Pod of an external backend: Services that select it, and Ingresses and HTTPRoutes to those.

use std::collections::BTreeMap;

use serde_json::Value;

use super::super::cluster::Cluster;
use super::super::error::KubernetesError;
use super::super::kind::Kind;
use crate::model::kubernetes::{Exposure, KubernetesSettings};

/// What leads to a Pod.
pub(super) struct Ways {
    services: Vec<Value>,
    ingresses: Vec<Value>,
    routes: Vec<Value>,
}

impl Ways {
    /// Looks for what leads to the Pods with these labels. What the account may not see is not there for it.
    pub(super) async fn to(cluster: &Cluster, namespace: &str, labels: &BTreeMap<&str, &str>) -> Result<Self, KubernetesError> {
        let list = async |kind: Kind| match cluster.list(kind, namespace, "").await {
            Err(KubernetesError::Forbidden { .. } | KubernetesError::Refused { .. }) => Ok(Vec::new()),
            answer => answer,
        };
        let mut services = list(Kind::Service).await?;
        services.retain(|service| selects(service, labels));
        let names: Vec<&str> = services.iter().map(name_of).collect();
        let leads = |object: &Value| names.iter().any(|name| backends_of(object).contains(name));
        let (mut ingresses, mut routes) = (list(Kind::Ingress).await?, list(Kind::HttpRoute).await?);
        ingresses.retain(leads);
        routes.retain(leads);
        Ok(Self::of(services, ingresses, routes))
    }

    /// Returns these ways.
    pub(super) fn of(services: Vec<Value>, ingresses: Vec<Value>, routes: Vec<Value>) -> Self {
        Self { services, ingresses, routes }
    }

    /// Returns their names, as `kubectl` takes them.
    pub(super) fn names(&self) -> Vec<String> {
        let named = |word: &'static str, all: &[Value]| -> Vec<String> {
            all.iter().map(|object| format!("{word}/{}", name_of(object))).collect()
        };
        [named("service", &self.services), named("ingress", &self.ingresses), named("httproute", &self.routes)].concat()
    }

    /// Adds to settings the exposure that comes closest.
    pub(super) fn exposed(&self, mut settings: KubernetesSettings, origin: Option<&str>) -> KubernetesSettings {
        let host = origin.and_then(|origin| url::Url::parse(origin).ok()?.host_str().map(str::to_owned));
        let for_host = |names: Vec<&str>| host.as_deref().is_some_and(|host| names.contains(&host));
        let texts = |list: &Value| -> Vec<String> {
            list.as_array().into_iter().flatten().filter_map(|text| text.as_str().map(str::to_owned)).collect()
        };
        let is_type = |kind: &str| self.services.iter().any(|service| service["spec"]["type"] == kind);
        let rules = |ingress: &Value| ingress["spec"]["rules"].as_array().cloned().unwrap_or_default();
        if let Some(ingress) = self
            .ingresses
            .iter()
            .find(|ingress| for_host(rules(ingress).iter().filter_map(|rule| rule["host"].as_str()).collect()))
        {
            settings.expose = Exposure::Ingress;
            settings.ingress_class = ingress["spec"]["ingressClassName"].as_str().map(str::to_owned);
            settings.tls_secret = ingress["spec"]["tls"][0]["secretName"].as_str().map(str::to_owned);
        } else if let Some(route) =
            self.routes.iter().find(|route| for_host(texts(&route["spec"]["hostnames"]).iter().map(String::as_str).collect()))
        {
            let parent = &route["spec"]["parentRefs"][0];
            let name = parent["name"].as_str().unwrap_or_default();
            settings.expose = Exposure::Gateway;
            settings.gateway = Some(match parent["namespace"].as_str() {
                Some(namespace) => format!("{namespace}/{name}"),
                None => name.to_owned(),
            });
        } else if is_type("LoadBalancer") {
            settings.expose = Exposure::LoadBalancer;
        } else if is_type("NodePort") {
            settings.expose = Exposure::NodePort;
        } else if origin.is_none() && !self.services.is_empty() {
            settings.expose = Exposure::ClusterIp;
        }
        settings
    }
}

fn name_of(object: &Value) -> &str {
    object["metadata"]["name"].as_str().unwrap_or_default()
}

/// Whether a Service selects Pods with these labels.
fn selects(service: &Value, labels: &BTreeMap<&str, &str>) -> bool {
    let Some(selector) = service["spec"]["selector"].as_object().filter(|selector| !selector.is_empty()) else { return false };
    selector.iter().all(|(name, value)| labels.get(name.as_str()).copied() == value.as_str())
}

/// Returns the Services that an Ingress or HTTPRoute leads to.
fn backends_of(object: &Value) -> Vec<&str> {
    let mut found = Vec::new();
    for rule in object["spec"]["rules"].as_array().into_iter().flatten() {
        let paths = rule["http"]["paths"].as_array().into_iter().flatten();
        found.extend(paths.filter_map(|path| path["backend"]["service"]["name"].as_str()));
        let references = rule["backendRefs"].as_array().into_iter().flatten();
        found.extend(references.filter_map(|reference| reference["name"].as_str()));
    }
    found.extend(object["spec"]["defaultBackend"]["service"]["name"].as_str());
    found
}
