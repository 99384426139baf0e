//! From a resolved backend to the objects of its place in a cluster. Pure: the same backend gives the same objects.

use base64::Engine as _;
use serde_json::{Map, Value, json};

use super::exposure::{http_routes, ingress, inside_ports, metadata, network_policy, service};
use super::image::Images;
use super::labels::{ObjectNames, Role, object_labels, pod_labels, selector};
use super::pod::{PodInput, pod_parts};
use super::quantity;
use crate::convex::image::DASHBOARD_PORT;
use crate::model::{ByteSize, ResolvedBackend};
use crate::provider::ProviderError;

/// The disk of a backend that asks for none.
const DEFAULT_DISK: u64 = 10 << 30;

/// What a rendering depends on beside the backend.
#[derive(Debug, Clone)]
pub(super) struct RenderInput {
    /// The namespace.
    pub(super) namespace: String,
    /// The images.
    pub(super) images: Images,
    /// The certificates of the database server.
    pub(super) database_ca: Option<Vec<u8>>,
}

/// The objects of one backend, in the order in which they are applied.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Objects {
    pub(super) secret: Value,
    pub(super) claim: Value,
    pub(super) service: Value,
    pub(super) network_policy: Option<Value>,
    pub(super) stateful_set: Value,
    pub(super) dashboard: Vec<Value>,
    pub(super) ingress: Option<Value>,
    pub(super) routes: Vec<Value>,
}

impl Objects {
    /// Returns them all, in the order in which they are applied.
    pub(super) fn all(&self) -> impl Iterator<Item = &Value> {
        [&self.secret, &self.claim, &self.service]
            .into_iter()
            .chain(&self.network_policy)
            .chain([&self.stateful_set])
            .chain(&self.dashboard)
            .chain(&self.ingress)
            .chain(&self.routes)
    }
}

/// Returns the objects of a backend. Its endpoints are those that its clients use.
///
/// # Errors
/// [`ProviderError`] says what cannot be started.
pub(super) fn render(resolved: &ResolvedBackend, input: &RenderInput) -> Result<Objects, ProviderError> {
    let names = ObjectNames::of(resolved);
    let namespace = input.namespace.as_str();
    let labels = || object_labels(resolved, Role::Backend);
    let claim = names.claim();
    let pod = PodInput {
        image: &input.images.backend,
        release: input.images.release.as_ref(),
        ports: inside_ports(resolved),
        claim: &claim,
        database_ca: input.database_ca.as_deref(),
    };
    let parts = pod_parts(resolved, &pod)?;
    let secret_name = names.secret(&parts.secret_digest());
    let encode = |bytes: &[u8]| json!(base64::engine::general_purpose::STANDARD.encode(bytes));
    let data: Map<String, Value> = parts.files.iter().map(|(name, content)| ((*name).to_owned(), encode(content))).collect();
    let secret = json!({
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": metadata(&secret_name, namespace, labels()),
        "type": "Opaque",
        "data": data,
    });
    let stateful_set = json!({
        "apiVersion": "apps/v1",
        "kind": "StatefulSet",
        "metadata": metadata(names.backend(), namespace, labels()),
        "spec": {
            // A Pod that never gets ready would block the way back otherwise. With one replica there are never two.
            "podManagementPolicy": "Parallel",
            "replicas": 1,
            "revisionHistoryLimit": 3,
            "selector": { "matchLabels": selector(resolved, Role::Backend) },
            "serviceName": names.backend(),
            "template": parts.template(&secret_name),
            // A change of resources leaves the Pod alone; every other change restarts it by our hand.
            "updateStrategy": { "type": "OnDelete" },
        },
    });
    Ok(Objects {
        secret,
        claim: claim_object(resolved, namespace),
        service: service(resolved, namespace),
        network_policy: network_policy(resolved, namespace),
        stateful_set,
        dashboard: input.images.dashboard.as_deref().map(|image| dashboard(resolved, namespace, image)).unwrap_or_default(),
        ingress: ingress(resolved, namespace),
        routes: http_routes(resolved, namespace),
    })
}

/// Returns the claim. Nothing owns it, so nothing takes it along when it goes.
fn claim_object(resolved: &ResolvedBackend, namespace: &str) -> Value {
    let settings = &resolved.spec.settings.kubernetes;
    let disk = resolved.spec.resources.disk.unwrap_or(ByteSize::from_bytes(DEFAULT_DISK));
    let mut spec = json!({
        "accessModes": [settings.access_mode.as_str()],
        "resources": { "requests": { "storage": quantity::of_bytes(disk) } },
    });
    if let Some(class) = &settings.storage_class {
        spec["storageClassName"] = json!(class);
    }
    json!({
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": metadata(&ObjectNames::of(resolved).claim(), namespace, object_labels(resolved, Role::Backend)),
        "spec": spec,
    })
}

/// Returns the claim as it may be applied over the one that is there: most of its specification never changes, and it never
/// shrinks.
pub(super) fn claim_over(wanted: &Value, live: &Value) -> Value {
    let mut claim = wanted.clone();
    for field in ["accessModes", "storageClassName", "volumeName", "volumeMode"] {
        let live = &live["spec"][field];
        if live.is_null() {
            if let Some(spec) = claim["spec"].as_object_mut() {
                spec.remove(field);
            }
        } else {
            claim["spec"][field] = live.clone();
        }
    }
    let size = |value: &Value| value["spec"]["resources"]["requests"]["storage"].as_str().map(str::to_owned);
    if let (Some(asked), Some(has)) = (size(wanted), size(live))
        && (quantity::milli(&asked) < quantity::milli(&has) || live["status"]["phase"] != "Bound")
    {
        claim["spec"]["resources"]["requests"]["storage"] = json!(has);
    }
    claim
}

/// Returns the dashboard: a Deployment and its Service.
fn dashboard(resolved: &ResolvedBackend, namespace: &str, image: &str) -> Vec<Value> {
    let name = ObjectNames::of(resolved).dashboard();
    let labels = || object_labels(resolved, Role::Dashboard);
    let environment = [
        ("NEXT_PUBLIC_DEPLOYMENT_URL", resolved.endpoints.url.clone()),
        ("PORT", DASHBOARD_PORT.to_string()),
        ("HOSTNAME", "0.0.0.0".to_owned()),
    ];
    let environment: Vec<Value> =
        environment.into_iter().map(|(name, value)| json!({ "name": name, "value": value })).collect();
    let container = json!({
        "name": "dashboard",
        "image": image,
        "imagePullPolicy": "IfNotPresent",
        "env": environment,
        "ports": [{ "name": "http", "containerPort": DASHBOARD_PORT, "protocol": "TCP" }],
        "readinessProbe": { "httpGet": { "path": "/", "port": "http", "scheme": "HTTP" }, "periodSeconds": 5, "timeoutSeconds": 5 },
        "resources": { "requests": { "cpu": "50m", "memory": "128Mi" }, "limits": { "cpu": "1", "memory": "512Mi" } },
        "securityContext": {
            "allowPrivilegeEscalation": false,
            "capabilities": { "drop": ["ALL"] },
            "runAsNonRoot": true,
            "runAsUser": 1001,
        },
        "volumeMounts": [{ "name": "scratch", "mountPath": "/tmp" }],
    });
    let mut spec = json!({
        "automountServiceAccountToken": false,
        "containers": [container],
        "enableServiceLinks": false,
        "securityContext": { "seccompProfile": { "type": "RuntimeDefault" } },
        "volumes": [{ "name": "scratch", "emptyDir": {} }],
    });
    if let Some(secret) = &resolved.spec.settings.kubernetes.image_pull_secret {
        spec["imagePullSecrets"] = json!([{ "name": secret }]);
    }
    let selector = selector(resolved, Role::Dashboard);
    let port = json!({ "name": "http", "port": DASHBOARD_PORT, "protocol": "TCP", "targetPort": "http" });
    vec![
        json!({
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": metadata(&name, namespace, labels()),
            "spec": { "type": "ClusterIP", "selector": selector, "ports": [port] },
        }),
        json!({
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": metadata(&name, namespace, labels()),
            "spec": {
                "replicas": 1,
                "revisionHistoryLimit": 3,
                "selector": { "matchLabels": selector },
                "template": { "metadata": { "labels": pod_labels(resolved, Role::Dashboard) }, "spec": spec },
            },
        }),
    ]
}
