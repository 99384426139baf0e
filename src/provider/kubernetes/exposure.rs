//! How clients reach a backend: its Service, its Ingress or HTTPRoute, and the URLs that follow from them. Pure.

use serde_json::{Map, Value, json};
use url::Url;

use super::labels::{ObjectNames, Role, object_labels, selector};
use crate::convex::image::{API_PORT, SITE_PORT};
use crate::model::kubernetes::Exposure;
use crate::model::{Endpoints, PortPair, ResolvedBackend};

/// How long a request may take that imports data, in seconds.
const REQUEST_S: u64 = 3600;

/// Returns the ports that a backend listens on inside its Pod. Node actions call back to the port that clients see, so a
/// forwarded one is the same on both ends.
pub(super) fn inside_ports(resolved: &ResolvedBackend) -> PortPair {
    ports_of(expose(resolved), resolved.ports)
}

/// Returns the ports inside, where the ones that this machine would forward are these.
pub(super) fn ports_of(expose: Exposure, forwarded: PortPair) -> PortPair {
    match expose {
        Exposure::PortForward => forwarded,
        _ => PortPair { api: API_PORT, site: SITE_PORT },
    }
}

fn expose(resolved: &ResolvedBackend) -> Exposure {
    resolved.spec.settings.kubernetes.expose
}

/// What only a cluster knows about the way to a backend.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct ClusterAddress {
    /// The namespace.
    pub(super) namespace: String,
    /// An address of a node.
    pub(super) node: Option<String>,
    /// The ports that every node has for it.
    pub(super) node_ports: Option<PortPair>,
    /// The address that the load balancer gave.
    pub(super) balancer: Option<String>,
}

impl ClusterAddress {
    /// Takes from a Service what the cluster added to it.
    pub(super) fn of_service(namespace: &str, service: &Value) -> Self {
        let port = |name: &str| {
            let ports = service["spec"]["ports"].as_array().into_iter().flatten();
            let port = ports.filter(|port| port["name"] == name).find_map(|port| port["nodePort"].as_u64())?;
            u16::try_from(port).ok()
        };
        let balancer = &service["status"]["loadBalancer"]["ingress"][0];
        Self {
            namespace: namespace.to_owned(),
            node: None,
            node_ports: port("api").zip(port("site")).map(|(api, site)| PortPair { api, site }),
            balancer: balancer["hostname"].as_str().or(balancer["ip"].as_str()).map(str::to_owned),
        }
    }

    /// Returns where clients reach a backend; none while the cluster has not said it.
    pub(super) fn endpoints(&self, resolved: &ResolvedBackend) -> Option<Endpoints> {
        let origins = &resolved.spec.origins;
        if let (Some(url), Some(site_url)) = (origins.api.clone(), origins.site.clone()) {
            return Some(Endpoints { url, site_url });
        }
        let at = |host: &str, ports: PortPair| {
            let host = if host.contains(':') { format!("[{host}]") } else { host.to_owned() };
            Endpoints { url: format!("http://{host}:{}", ports.api), site_url: format!("http://{host}:{}", ports.site) }
        };
        let ports = inside_ports(resolved);
        match expose(resolved) {
            Exposure::PortForward => Some(at("127.0.0.1", ports)),
            Exposure::ClusterIp => Some(at(&format!("{}.{}.svc", ObjectNames::of(resolved).backend(), self.namespace), ports)),
            Exposure::NodePort => Some(at(self.node.as_deref()?, self.node_ports?)),
            Exposure::LoadBalancer => Some(at(self.balancer.as_deref()?, ports)),
            Exposure::Ingress | Exposure::Gateway => None,
        }
    }
}

/// Returns the Service.
pub(super) fn service(resolved: &ResolvedBackend, namespace: &str) -> Value {
    let (names, ports) = (ObjectNames::of(resolved), inside_ports(resolved));
    let kind = match expose(resolved) {
        Exposure::NodePort => "NodePort",
        Exposure::LoadBalancer => "LoadBalancer",
        Exposure::PortForward | Exposure::ClusterIp | Exposure::Ingress | Exposure::Gateway => "ClusterIP",
    };
    let port = |name: &str, port: u16| json!({ "name": name, "port": port, "protocol": "TCP", "targetPort": name });
    let mut api = port("api", ports.api);
    if expose(resolved) == Exposure::Gateway {
        // What tells a Gateway that WebSockets go here.
        api["appProtocol"] = json!("kubernetes.io/ws");
    }
    json!({
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": metadata(names.backend(), namespace, object_labels(resolved, Role::Backend)),
        "spec": { "type": kind, "selector": selector(resolved, Role::Backend), "ports": [api, port("site", ports.site)] },
    })
}

/// Returns name, namespace and labels of an object.
pub(super) fn metadata(name: &str, namespace: &str, labels: Map<String, Value>) -> Value {
    json!({ "name": name, "namespace": namespace, "labels": labels })
}

/// A host that leads to a backend.
struct Host {
    name: String,
    /// The port's name in the Service.
    port: &'static str,
    is_secure: bool,
}

/// Returns the hosts of a backend's origins, each once. HTTP actions below `/http` of the API's host need no host of their own.
fn hosts(resolved: &ResolvedBackend) -> Vec<Host> {
    let origins = &resolved.spec.origins;
    let mut hosts: Vec<Host> = Vec::new();
    for (origin, port) in [(&origins.api, "api"), (&origins.site, "site")] {
        let Some(url) = origin.as_deref().and_then(|origin| Url::parse(origin).ok()) else { continue };
        let Some(name) = url.host_str().map(str::to_owned) else { continue };
        if !hosts.iter().any(|known| known.name == name) {
            let port = if url.path() == "/http" { "api" } else { port };
            hosts.push(Host { name, port, is_secure: url.scheme() == "https" });
        }
    }
    hosts
}

/// A controller behind an Ingress, as far as it is known by the name of its class.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum IngressController {
    Nginx,
    Traefik,
    Alb,
    Haproxy,
    Unknown,
}

impl IngressController {
    /// Returns the controller that a class is named after.
    pub(super) fn of_class(class: Option<&str>) -> Self {
        let class = class.unwrap_or_default();
        [("nginx", Self::Nginx), ("traefik", Self::Traefik), ("alb", Self::Alb), ("haproxy", Self::Haproxy)]
            .into_iter()
            .find_map(|(word, controller)| class.contains(word).then_some(controller))
            .unwrap_or(Self::Unknown)
    }

    /// Returns the annotations with what Convex needs: large bodies, long requests, WebSockets.
    fn annotations(self) -> Map<String, Value> {
        let seconds = REQUEST_S.to_string();
        let pairs: Vec<(&str, String)> = match self {
            Self::Nginx => vec![
                ("nginx.ingress.kubernetes.io/proxy-body-size", "0".to_owned()),
                ("nginx.ingress.kubernetes.io/proxy-read-timeout", seconds.clone()),
                ("nginx.ingress.kubernetes.io/proxy-send-timeout", seconds),
            ],
            Self::Alb => vec![
                ("alb.ingress.kubernetes.io/load-balancer-attributes", format!("idle_timeout.timeout_seconds={REQUEST_S}")),
                ("alb.ingress.kubernetes.io/target-type", "ip".to_owned()),
            ],
            Self::Haproxy => vec![("haproxy.org/timeout-tunnel", format!("{REQUEST_S}s"))],
            Self::Traefik | Self::Unknown => Vec::new(),
        };
        pairs.into_iter().map(|(name, value)| (name.to_owned(), json!(value))).collect()
    }

    /// Returns what its operator has to set where an Ingress cannot.
    pub(super) fn remark(self) -> Option<&'static str> {
        match self {
            Self::Nginx | Self::Alb | Self::Haproxy => None,
            Self::Traefik => Some(
                "Traefik ends uploads that take longer than `readTimeout` of its entry point, 60 s unless set otherwise; it is set for \
                 the whole of Traefik",
            ),
            Self::Unknown => Some(
                "the controller behind this Ingress is not known here: it has to let through bodies of 200 MB, requests of 300 s and \
                 WebSockets of hours",
            ),
        }
    }
}

/// Returns the Ingress of a backend that is exposed by one.
pub(super) fn ingress(resolved: &ResolvedBackend, namespace: &str) -> Option<Value> {
    let settings = &resolved.spec.settings.kubernetes;
    if settings.expose != Exposure::Ingress {
        return None;
    }
    let names = ObjectNames::of(resolved);
    let hosts = hosts(resolved);
    let rules: Vec<Value> = hosts
        .iter()
        .map(|host| {
            let backend = json!({ "service": { "name": names.backend(), "port": { "name": host.port } } });
            json!({ "host": host.name, "http": { "paths": [{ "path": "/", "pathType": "Prefix", "backend": backend }] } })
        })
        .collect();
    let mut annotations = IngressController::of_class(settings.ingress_class.as_deref()).annotations();
    if let Some(issuer) = &settings.cluster_issuer {
        annotations.insert("cert-manager.io/cluster-issuer".to_owned(), json!(issuer));
    }
    let mut spec = json!({ "rules": rules });
    if let Some(class) = &settings.ingress_class {
        spec["ingressClassName"] = json!(class);
    }
    let secure: Vec<&str> = hosts.iter().filter(|host| host.is_secure).map(|host| host.name.as_str()).collect();
    let secret =
        settings.tls_secret.clone().or_else(|| settings.cluster_issuer.as_ref().map(|_| format!("{}-tls", names.backend())));
    if let (false, Some(secret)) = (secure.is_empty(), secret) {
        spec["tls"] = json!([{ "hosts": secure, "secretName": secret }]);
    }
    let mut metadata = metadata(names.backend(), namespace, object_labels(resolved, Role::Backend));
    if !annotations.is_empty() {
        metadata["annotations"] = Value::Object(annotations);
    }
    Some(json!({ "apiVersion": "networking.k8s.io/v1", "kind": "Ingress", "metadata": metadata, "spec": spec }))
}

/// Returns the HTTPRoutes of a backend that is exposed by a Gateway, one for each host.
pub(super) fn http_routes(resolved: &ResolvedBackend, namespace: &str) -> Vec<Value> {
    let settings = &resolved.spec.settings.kubernetes;
    let (Exposure::Gateway, Some(gateway)) = (settings.expose, &settings.gateway) else { return Vec::new() };
    let (names, ports) = (ObjectNames::of(resolved), inside_ports(resolved));
    let parent = match gateway.split_once('/') {
        Some((namespace, name)) => json!({ "name": name, "namespace": namespace }),
        None => json!({ "name": gateway }),
    };
    hosts(resolved)
        .iter()
        .map(|host| {
            // All of it goes to the API's port, which serves HTTP actions below a path and without the other port's limit of
            // four requests at a time.
            let backend = json!({ "name": names.backend(), "port": ports.api });
            let mut rule = json!({
                "backendRefs": [backend],
                "matches": [{ "path": { "type": "PathPrefix", "value": "/" } }],
                "timeouts": { "request": "0s" },
            });
            if host.port == "site" {
                let rewrite = json!({ "path": { "type": "ReplacePrefixMatch", "replacePrefixMatch": "/http/" } });
                rule["filters"] = json!([{ "type": "URLRewrite", "urlRewrite": rewrite }]);
            }
            let name = if host.port == "site" { format!("{}-site", names.backend()) } else { names.backend().to_owned() };
            json!({
                "apiVersion": "gateway.networking.k8s.io/v1",
                "kind": "HTTPRoute",
                "metadata": metadata(&name, namespace, object_labels(resolved, Role::Backend)),
                "spec": { "hostnames": [host.name], "parentRefs": [parent], "rules": [rule] },
            })
        })
        .collect()
}

/// Returns the NetworkPolicy of a backend that asks for one: its ports only, and from inside the namespace only where nothing
/// else is meant to lead there.
pub(super) fn network_policy(resolved: &ResolvedBackend, namespace: &str) -> Option<Value> {
    if !resolved.spec.settings.kubernetes.network_policy {
        return None;
    }
    let ports = json!([{ "port": "api", "protocol": "TCP" }, { "port": "site", "protocol": "TCP" }]);
    let rule = match expose(resolved) {
        // What is forwarded comes from inside the Pod's own network.
        Exposure::PortForward => json!({ "from": [{ "podSelector": {} }], "ports": ports }),
        Exposure::ClusterIp => json!({ "from": [{ "namespaceSelector": {} }], "ports": ports }),
        Exposure::NodePort | Exposure::LoadBalancer | Exposure::Ingress | Exposure::Gateway => json!({ "ports": ports }),
    };
    let names = ObjectNames::of(resolved);
    Some(json!({
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": metadata(names.backend(), namespace, object_labels(resolved, Role::Backend)),
        "spec": {
            "ingress": [rule],
            "podSelector": { "matchLabels": selector(resolved, Role::Backend) },
            "policyTypes": ["Ingress"],
        },
    }))
}
