//! The Pod of a backend, and the Secret that it starts from. Pure.
//!
//! Convex ends on SIGINT only, so the Pod sends it that before the kubelet's SIGTERM; it writes its data with one process,
//! so nothing restarts it but its own end. No secret stands in the Pod's specification: a file of the Secret sets what is
//! secret, and the start reads it. Must not do: know how clients reach it.

use std::net::Ipv4Addr;
use std::path::PathBuf;

use serde_json::{Map, Value, json};
use zeroize::Zeroizing;

use super::labels::{FINGERPRINT, Role, pod_labels};
use super::quantity;
use crate::convex::launch::{LaunchTarget, SecretDelivery};
use crate::model::{Digest, PortPair, ProviderState, Release, ResolvedBackend, STORAGE_URL, is_local_url};
use crate::provider::ProviderError;
use crate::provider::kit::launch_file::{LaunchParts, extract_secrets, render_launch};

/// Where the volume is mounted.
const DATA: &str = "/convex/data";
/// Where the Secret is mounted.
const LAUNCH: &str = "/run/convexinfra";
/// The file there with the certificates of the database server.
const CERTIFICATES: &str = "database-ca.pem";
/// The container of the backend.
pub(super) const CONTAINER: &str = "backend";
/// Sets what is secret, and becomes the backend, which is to be process 1: the signal that stops it goes there.
const ENTRY: &str = "set -eu\numask 077\nmkdir -p \"$TMPDIR\"\n. /run/convexinfra/launch\n\
    exec /convex/convex-local-backend \"$@\"";
/// How long a backend has to end in order, in seconds, and how much longer for each GiB of its disk.
const GRACE_S: u64 = 30;
const GRACE_MAX_S: u64 = 300;
/// How long a start may take: large data is known to need minutes.
const STARTUP_S: u64 = 600;
const STARTUP_PERIOD_S: u64 = 2;

/// What a Pod is made of, beside its backend.
#[derive(Debug, Clone)]
pub(super) struct PodInput<'a> {
    /// The image.
    pub(super) image: &'a str,
    /// The build that it is, where that is known.
    pub(super) release: Option<&'a Release>,
    /// The ports that it listens on.
    pub(super) ports: PortPair,
    /// The name of its claim.
    pub(super) claim: &'a str,
    /// The certificates of its database server.
    pub(super) database_ca: Option<&'a [u8]>,
}

/// A Pod's template, and the files of its Secret.
pub(super) struct PodParts {
    /// The template, as a function of the name of its Secret.
    template: Value,
    /// The files of the Secret by name.
    pub(super) files: Vec<(&'static str, Zeroizing<Vec<u8>>)>,
}

impl PodParts {
    /// Returns the digest that the Secret's name ends with: other secrets are another Secret, so the Pod from before still
    /// finds its own. It covers the instance secret, so it gives no way to guess the others.
    pub(super) fn secret_digest(&self) -> String {
        let mut bytes = Zeroizing::new(Vec::new());
        for (name, content) in &self.files {
            bytes.extend_from_slice(name.as_bytes());
            bytes.extend_from_slice(&(content.len() as u64).to_be_bytes());
            bytes.extend_from_slice(content);
        }
        Digest::of(&bytes).as_str().chars().skip("sha256:".len()).take(10).collect()
    }

    /// Returns the template, with the name of its Secret and its own fingerprint.
    pub(super) fn template(self, secret: &str) -> Value {
        let mut template = self.template;
        template["spec"]["volumes"][1]["secret"]["secretName"] = json!(secret);
        let mut fixed = template.clone();
        // Amounts change while it runs; whether there are any decides its class of service, which does not.
        let resources = &mut fixed["spec"]["containers"][0]["resources"];
        *resources = json!(resources["limits"].as_object().map(|limits| limits.keys().cloned().collect::<Vec<_>>()));
        let digest: String = Digest::of_json(&fixed).as_str().chars().skip("sha256:".len()).take(16).collect();
        template["metadata"]["annotations"] = json!({ FINGERPRINT: digest });
        template
    }
}

/// Returns the Pod of a backend.
///
/// # Errors
/// [`ProviderError::Unsupported`] says what cannot be started.
pub(super) fn pod_parts(resolved: &ResolvedBackend, input: &PodInput<'_>) -> Result<PodParts, ProviderError> {
    require_reachable(resolved)?;
    let target = LaunchTarget {
        data: PathBuf::from(DATA),
        interface: Ipv4Addr::UNSPECIFIED,
        ports: input.ports,
        secret: SecretDelivery::OutOfBand,
        release: input.release.cloned(),
        certificate_file: input.database_ca.map(|_| PathBuf::from(format!("{LAUNCH}/{CERTIFICATES}"))),
    };
    let made = render_launch(resolved, &target)?;
    let LaunchParts { mut arguments, environment, file } = extract_secrets(&made, resolved, DATA);
    // The shell takes the first one for its own name.
    arguments.insert(0, "convexinfra".to_owned());
    let mut files = vec![("launch", Zeroizing::new(file.as_bytes().to_vec()))];
    if let Some(certificates) = input.database_ca {
        files.push((CERTIFICATES, Zeroizing::new(certificates.to_vec())));
    }
    let environment: Vec<Value> =
        environment.into_iter().map(|(name, value)| json!({ "name": name, "value": value })).collect();
    let mut container = json!({
        "name": CONTAINER,
        "image": input.image,
        "imagePullPolicy": "IfNotPresent",
        "command": ["/bin/sh", "-c", ENTRY],
        "args": arguments,
        "env": environment,
        "ports": [
            { "name": "api", "containerPort": input.ports.api, "protocol": "TCP" },
            { "name": "site", "containerPort": input.ports.site, "protocol": "TCP" },
        ],
        "startupProbe": probe(STARTUP_PERIOD_S, STARTUP_S / STARTUP_PERIOD_S),
        "readinessProbe": probe(10, 3),
        "lifecycle": { "preStop": { "exec": { "command": ["/bin/sh", "-c", "kill -INT 1"] } } },
        "securityContext": {
            "allowPrivilegeEscalation": false,
            // A volume that was taken over may hold files of other users.
            "capabilities": { "add": ["DAC_OVERRIDE"], "drop": ["ALL"] },
            "readOnlyRootFilesystem": true,
        },
        "volumeMounts": [
            { "name": "data", "mountPath": DATA },
            { "name": "launch", "mountPath": LAUNCH, "readOnly": true },
            { "name": "scratch", "mountPath": "/tmp", "subPath": "tmp" },
            { "name": "scratch", "mountPath": "/root", "subPath": "root" },
        ],
    });
    if let Some(resources) = resources(resolved) {
        container["resources"] = resources;
    }
    let mut spec = json!({
        "automountServiceAccountToken": false,
        "containers": [container],
        "enableServiceLinks": false,
        "securityContext": { "seccompProfile": { "type": "RuntimeDefault" } },
        "terminationGracePeriodSeconds": grace_s(resolved),
        "volumes": [
            { "name": "data", "persistentVolumeClaim": { "claimName": input.claim } },
            { "name": "launch", "secret": { "secretName": "", "defaultMode": 0o400 } },
            { "name": "scratch", "emptyDir": {} },
        ],
    });
    if let Some(name) = &resolved.spec.settings.kubernetes.image_pull_secret {
        spec["imagePullSecrets"] = json!([{ "name": name }]);
    }
    let template = json!({ "metadata": { "labels": pod_labels(resolved, Role::Backend) }, "spec": spec });
    Ok(PodParts { template, files })
}

/// Returns requests and limits, which are the same: what is reserved is what may be used.
pub(super) fn resources(resolved: &ResolvedBackend) -> Option<Value> {
    let asked = &resolved.spec.resources;
    let mut amounts = Map::new();
    amounts.extend(asked.cpus.map(|cpus| ("cpu".to_owned(), json!(quantity::of_cpus(cpus)))));
    amounts.extend(asked.memory.map(|memory| ("memory".to_owned(), json!(quantity::of_bytes(memory)))));
    (!amounts.is_empty()).then(|| json!({ "limits": amounts, "requests": amounts }))
}

/// Returns how long a backend has to end in order: longer the more it may have to write.
fn grace_s(resolved: &ResolvedBackend) -> u64 {
    let gib = resolved.spec.resources.disk.map_or(0, |disk| disk.bytes() >> 30);
    GRACE_S.saturating_add(gib).min(GRACE_MAX_S)
}

fn probe(period_s: u64, failures: u64) -> Value {
    json!({
        "httpGet": { "path": "/version", "port": "api", "scheme": "HTTP" },
        "periodSeconds": period_s,
        "failureThreshold": failures,
        "successThreshold": 1,
        "timeoutSeconds": 5,
    })
}

/// Refuses addresses that mean another machine inside a Pod than here.
fn require_reachable(resolved: &ResolvedBackend) -> Result<(), ProviderError> {
    for (path, secret) in &resolved.secrets {
        if [STORAGE_URL, "files.endpoint"].contains(&path.as_str()) && is_local_url(secret.expose()) {
            return Err(ProviderError::Unsupported(format!(
                "`{path}` of `{}` names this machine, and inside a Pod that is the Pod itself: name an address that the cluster \
                 reaches, such as `SERVICE.NAMESPACE.svc`",
                resolved.name
            )));
        }
    }
    Ok(())
}

/// The key under which the digest of the image that runs is noted, for people and for the next release.
pub(super) const IMAGE_ID: &str = "image_id";
/// The key of the provider state with the name of that image.
const IMAGE: &str = "image";

/// Returns what is to be remembered of the image that a Pod runs.
pub(super) fn note_image(pod: &Value, state: &mut ProviderState) {
    let statuses = pod["status"]["containerStatuses"].as_array();
    let running = statuses.into_iter().flatten().find(|status| status["name"] == CONTAINER);
    let id = running.and_then(|status| status["imageID"].as_str()).filter(|id| !id.is_empty());
    state.extend(id.map(|id| (IMAGE_ID.to_owned(), id.to_owned())));
    let container = pod["spec"]["containers"].as_array().into_iter().flatten().find(|container| container["name"] == CONTAINER);
    state.extend(container.and_then(|container| container["image"].as_str()).map(|image| (IMAGE.to_owned(), image.to_owned())));
}

/// Returns the build that was noted and the one that a Pod runs, where they differ under one name: a tag that was moved, and
/// fetched again by another node.
pub(super) fn moved_image(pod: &Value, state: &ProviderState) -> Option<(String, String)> {
    let mut runs = ProviderState::new();
    note_image(pod, &mut runs);
    let (before, now) = (state.get(IMAGE_ID)?, runs.get(IMAGE_ID)?);
    // A node says the same build in several ways: with its repository, and without.
    let digest = |id: &str| id.rsplit_once('@').map_or(id, |(_, digest)| digest).to_owned();
    let is_moved = state.get(IMAGE) == runs.get(IMAGE) && digest(before) != digest(now);
    is_moved.then(|| (digest(before), digest(now)))
}
