//! Import: reading everything of a StatefulSet or Deployment that something else made, such as a chart or manifests by hand.
//!
//! Nothing is changed here. The next apply puts a StatefulSet of ours into its place, on the same claim; what the record does not
//! hold is lost then, so all of it is recorded or named.

mod spec;
#[cfg(test)]
mod tests;
mod variables;
mod ways;
mod workload;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::str::FromStr;

use serde_json::Value;

use self::variables::Sources;
use self::ways::Ways;
use self::workload::Workload;
use super::autoscaler::autoscalers_of;
use super::cluster::Cluster;
use super::exec::{self, ContainerOf};
use super::inventory::{is_terminating, require_namespace};
use super::kind::Kind;
use super::owners::Tool;
use super::pod_state::condition;
use super::tunnel::PodPort;
use super::{Kubernetes, identity, quantity, takeover};
use crate::convex::image::API_PORT;
use crate::convex::release::BACKEND_IMAGE;
use crate::model::kubernetes::{AccessMode, KubernetesSettings};
use crate::model::{
    BackendId, BackendSpec, ByteSize, Cpus, INTERNAL_URL, ProviderState, Release, ResolvedBackend, Resources, Secret,
    is_local_url,
};
use crate::provider::ProviderError;
use crate::provider::kit::external::{ExternalLaunch, misplaced_data};
use crate::provider::kit::image_reference::ImageReference;

/// Where the official image keeps its name and secret, where no variable says them.
const CREDENTIALS: &str = "/convex/data/credentials";
/// The tunnel to what is not recorded yet.
const TUNNEL: &str = "import";

/// What makes the Pods of an external backend.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WorkloadKind {
    /// A StatefulSet.
    StatefulSet,
    /// A Deployment.
    Deployment,
}

impl WorkloadKind {
    fn kind(self) -> Kind {
        match self {
            Self::StatefulSet => Kind::StatefulSet,
            Self::Deployment => Kind::Deployment,
        }
    }
}

impl fmt::Display for WorkloadKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.kind().noun())
    }
}

/// The name of a workload: `NAMESPACE/NAME`, or `NAME` in the namespace of the manifest or the context.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WorkloadName {
    /// The namespace, where it is named.
    pub namespace: Option<String>,
    /// The name.
    pub name: String,
}

impl FromStr for WorkloadName {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (namespace, name) = match text.split_once('/') {
            Some((namespace, name)) => (Some(namespace), name),
            None => (None, text),
        };
        let is_label = |text: &str| {
            !text.is_empty()
                && text.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-.".contains(&byte))
        };
        if !is_label(name) || !namespace.is_none_or(is_label) {
            return Err("it should be `NAMESPACE/NAME`");
        }
        Ok(Self { namespace: namespace.map(str::to_owned), name: name.to_owned() })
    }
}

/// A StatefulSet or Deployment of a Convex backend that something else made.
#[derive(Debug, Clone)]
pub struct ExternalWorkload {
    /// What makes its Pod.
    pub kind: WorkloadKind,
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Its claim.
    pub claim: String,
    /// What its backend calls itself.
    pub instance_name: String,
    /// The secret that its keys are made from.
    pub instance_secret: Secret,
    /// The URL under which this process reaches its API now.
    pub address: String,
    /// What its variables say; origins that lead nowhere are left out.
    pub launch: ExternalLaunch,
    /// The release, where the name of its image says it.
    pub release: Option<Release>,
    /// Its image, where that is not the official one.
    pub image: Option<String>,
    /// Its limits, and the size of its claim.
    pub resources: Resources,
    /// What `[backends.NAME.kubernetes]` has keys for.
    pub settings: KubernetesSettings,
    /// The names of what a manifest has no key for.
    pub dropped: BTreeSet<String>,
    /// What leads to its Pod and to no other, such as `service/convex`.
    pub left: Vec<String>,
    container: String,
    object: Value,
    state: ProviderState,
}

impl ExternalWorkload {
    /// Returns the provider state of the backend that it becomes, until it is replaced.
    pub fn provider_state(&self, _: &ResolvedBackend) -> ProviderState {
        let mut state = self.state.clone();
        let dropped: Vec<&str> = self.dropped.iter().map(String::as_str).collect();
        takeover::record(self.kind.kind(), &self.object, &self.container, &self.claim, &dropped.join(", "), &mut state);
        state
    }
}

impl Kubernetes {
    /// Reads everything of a workload that is needed to go on with its data.
    ///
    /// # Errors
    /// [`ProviderError::Unsupported`] says why it cannot be taken over, and what to do about it.
    pub async fn inspect_for_import(
        &self,
        kind: WorkloadKind,
        asked: &WorkloadName,
        spec: &BackendSpec,
    ) -> Result<ExternalWorkload, ProviderError> {
        let settings = &spec.settings.kubernetes;
        let cluster = &self.cluster(settings).await?;
        let namespace = asked.namespace.clone().or_else(|| settings.namespace.clone());
        let namespace = &namespace.unwrap_or_else(|| cluster.default_namespace.clone());
        let refused = |reason: String| ProviderError::Unsupported(format!("the {kind} `{namespace}/{}` {reason}", asked.name));
        let Some(object) = cluster.get(kind.kind(), namespace, &asked.name).await? else {
            require_namespace(cluster, namespace).await?;
            return Err(refused("is not there".to_owned()));
        };
        let workload = Workload { kind: kind.kind(), object: &object, namespace, name: &asked.name };
        workload.check().map_err(refused)?;
        let container = workload.container().map_err(refused)?;
        let claim_name = workload.claim(container).map_err(refused)?;
        workload.check_start(container).map_err(refused)?;
        let claim = free_claim(cluster, namespace, &claim_name).await?.map_err(refused)?;
        let pod = sole_pod(cluster, namespace, &claim_name, &workload).await?.map_err(refused)?;
        let container_name = container["name"].as_str().unwrap_or_default().to_owned();
        let variables = Sources::new(cluster, namespace).read(container).await.map_err(refused)?;
        if let Some(misplaced) = misplaced_data(&variables.values).first() {
            return Err(refused(format!(
                "keeps {}, and a backend of convexinfra keeps it there: copy it inside of its Pod, take the variable out, and import it again",
                misplaced.sentence()
            )));
        }
        let launch = ExternalLaunch::read("Pod", &variables.values, &variables.values).map_err(refused)?;
        if launch.storage.url().is_some_and(|url| is_local_url(url.expose())) {
            return Err(refused(
                "enters its database through another container of its Pod, which a Pod of convexinfra does not have: give it the address \
                 of the server itself, and import it again"
                    .to_owned(),
            ));
        }
        let text = |field: &str| pod["metadata"][field].as_str().unwrap_or_default().to_owned();
        let place = ContainerOf { namespace: namespace.clone(), pod: text("name"), container: container_name.clone() };
        let credential =
            async |variable: &str, file: &str| read_credential(cluster, &place, &variables.values, variable, file).await;
        let instance_name = credential("INSTANCE_NAME", "instance_name").await.map_err(refused)?;
        let instance_secret = Secret::new(credential("INSTANCE_SECRET", "instance_secret").await.map_err(refused)?);
        let ways = Ways::to(cluster, namespace, &workload.pod_labels()).await?;
        let mut dropped = workload.dropped(container);
        dropped.extend(launch.inexpressible.iter().chain(&variables.unknown).cloned());
        dropped.extend(launch.without_effect.iter().cloned());
        let scalers = autoscalers_of(cluster, namespace, kind.kind(), &asked.name).await?;
        dropped.extend(scalers.iter().map(|scaler| format!("HorizontalPodAutoscaler {scaler}")));
        let mut launch = launch;
        for origin in [&mut launch.origins.0, &mut launch.origins.1] {
            origin.take_if(|origin| is_local_url(origin));
        }
        let (release, image) = build_of(container, &pod);
        let mut state = ProviderState::from([("namespace".to_owned(), namespace.clone())]);
        let address = pod["status"]["podIP"].as_str().unwrap_or_default();
        state.insert(INTERNAL_URL.to_owned(), format!("http://{address}:{API_PORT}"));
        identity::record(cluster, &mut state).await;
        let tunnel = self.tunnels.url(BackendId::new(TUNNEL), port_of(cluster, namespace, Some(place.pod.clone()))).await;
        let address =
            tunnel.map_err(|error| ProviderError::Unreachable(format!("no port of this machine could be opened: {error}")))?;
        Ok(ExternalWorkload {
            kind,
            namespace: namespace.clone(),
            name: asked.name.clone(),
            claim: claim_name,
            instance_name,
            instance_secret,
            address,
            release,
            image,
            resources: resources(container, &claim),
            settings: settings_of(namespace, &workload, &claim, &ways, &launch),
            dropped,
            left: ways.names(),
            launch,
            container: container_name,
            object,
            state,
        })
    }
}

/// Returns the port of a Pod of another maker.
pub(super) fn port_of(cluster: &Cluster, namespace: &str, pod: Option<String>) -> PodPort {
    PodPort { cluster: cluster.clone(), namespace: namespace.to_owned(), pod: pod.unwrap_or_default(), port: API_PORT }
}

/// Returns the claim, unless it is on its way out or a tool would take it away.
async fn free_claim(cluster: &Cluster, namespace: &str, name: &str) -> Result<Result<Value, String>, ProviderError> {
    let Some(claim) = cluster.get(Kind::Claim, namespace, name).await? else {
        return Ok(Err(format!("has no claim `{name}`, although it names it")));
    };
    if is_terminating(&claim) {
        return Ok(Err(format!(
            "keeps its data in the claim `{name}`, which is being deleted: save it now with `npx convex export`"
        )));
    }
    // Its StatefulSet may own it for a retention policy, which is changed before anything is deleted.
    Ok(match Tool::of(&claim) {
        Some(Tool::Controller(..)) | None => Ok(claim),
        Some(tool) => Err(format!(
            "keeps its data in the claim `{name}` of {}, which may delete it; {}\nand import it again",
            tool.words(),
            tool.way_out(namespace, &format!("persistentvolumeclaim/{name}"))
        )),
    })
}

/// Returns the one Pod of a workload, which is to be ready and alone on its claim.
async fn sole_pod(
    cluster: &Cluster,
    namespace: &str,
    claim: &str,
    workload: &Workload<'_>,
) -> Result<Result<Value, String>, ProviderError> {
    let labels = workload.pod_labels();
    let is_its = |pod: &Value| labels.iter().all(|(name, value)| pod["metadata"]["labels"][*name] == *value);
    let users = takeover::users_of(cluster, namespace, claim).await?;
    let (own, others): (Vec<Value>, Vec<Value>) = users.into_iter().partition(is_its);
    if let Some(other) = others.first() {
        let name = other["metadata"]["name"].as_str().unwrap_or_default();
        return Ok(Err(format!(
            "is not alone on its claim: the Pod `{name}` uses `{claim}` as well, and two backends on one database destroy it; see what made \
             it, and end that\n    kubectl -n {namespace} describe pod {name}"
        )));
    }
    let ready = |pod: &Value| condition(pod, "Ready").is_some_and(|ready| ready["status"] == "True");
    Ok(match own.as_slice() {
        [pod] if ready(pod) && !is_terminating(pod) => Ok(pod.clone()),
        [] => Err(format!("has no Pod that runs; see why with\n    kubectl -n {namespace} get pods,events")),
        [_] => Err(format!("has a Pod that is not ready; see why with\n    kubectl -n {namespace} get pods,events")),
        _ => Err("is being rolled out: wait until it has one Pod, and import it again".to_owned()),
    })
}

/// Returns the instance's name or secret: of a variable, or of the file where its image keeps it.
async fn read_credential(
    cluster: &Cluster,
    place: &ContainerOf,
    variables: &BTreeMap<String, String>,
    variable: &str,
    file: &str,
) -> Result<String, String> {
    let given = |name: &str| variables.get(name).map(|value| value.trim()).filter(|value| !value.is_empty());
    if let Some(value) = given(variable) {
        return Ok(value.to_owned());
    }
    let path = format!("{}/{file}", given("CREDENTIALS_DIR").unwrap_or(CREDENTIALS));
    let read = exec::run(cluster, place, &["cat", &path]).await.map_err(|reason| {
        format!(
            "has no `{variable}`, and `{path}` in its Pod could not be read ({reason}); that needs the right to run a command there\n    - \
             {{ apiGroups: [\"\"], resources: [\"pods/exec\"], verbs: [\"create\", \"get\"] }}"
        )
    })?;
    Some(read.trim().to_owned())
        .filter(|value| !value.is_empty())
        .ok_or_else(|| format!("has no {}: neither in `{variable}` nor in `{path}`", file.replace('_', " ")))
}

/// Returns the build that runs: the release that its image's name says, or the image. Where a tag moves, the digest that runs counts.
fn build_of(container: &Value, pod: &Value) -> (Option<Release>, Option<String>) {
    let reference = container["image"].as_str().unwrap_or_default();
    let parsed = ImageReference::parse(reference);
    let statuses = pod["status"]["containerStatuses"].as_array().into_iter().flatten();
    let running = statuses.into_iter().find(|status| status["name"] == container["name"]);
    let digest = running.and_then(|status| status["imageID"].as_str()?.split_once('@')).map(|(_, digest)| digest);
    let named = parsed.digest.or(parsed.tag).and_then(|version| Release::parse(version).ok());
    if parsed.name != BACKEND_IMAGE {
        return (None, Some(reference.to_owned()));
    }
    let pinned = named.clone().filter(Release::is_pinned);
    let running = digest.and_then(|digest| Release::parse(digest).ok());
    (pinned.or(running).or(named).or(Some(Release::Latest)), None)
}

fn resources(container: &Value, claim: &Value) -> Resources {
    let limits = &container["resources"]["limits"];
    let milli = |value: &Value| value.as_str().and_then(quantity::milli).filter(|milli| *milli > 0);
    let bytes = |value: &Value| milli(value).and_then(|milli| u64::try_from(milli / 1000).ok()).map(ByteSize::from_bytes);
    Resources {
        cpus: milli(&limits["cpu"]).and_then(|milli| u32::try_from(milli).ok()).map(Cpus::from_milli),
        memory: bytes(&limits["memory"]),
        disk: bytes(&claim["spec"]["resources"]["requests"]["storage"]),
    }
}

fn settings_of(
    namespace: &str,
    workload: &Workload<'_>,
    claim: &Value,
    ways: &Ways,
    launch: &ExternalLaunch,
) -> KubernetesSettings {
    let modes = claim["spec"]["accessModes"].as_array().into_iter().flatten();
    let is_alone = modes.into_iter().any(|mode| *mode == AccessMode::ReadWriteOncePod.as_str());
    let pull = &workload.object["spec"]["template"]["spec"]["imagePullSecrets"][0]["name"];
    let settings = KubernetesSettings {
        namespace: Some(namespace.to_owned()),
        storage_class: claim["spec"]["storageClassName"].as_str().filter(|class| !class.is_empty()).map(str::to_owned),
        access_mode: if is_alone { AccessMode::ReadWriteOncePod } else { AccessMode::ReadWriteOnce },
        image_pull_secret: pull.as_str().map(str::to_owned),
        ..KubernetesSettings::default()
    };
    ways.exposed(settings, launch.origins.0.as_deref())
}
