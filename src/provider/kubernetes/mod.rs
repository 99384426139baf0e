//! Backends in a cluster: one StatefulSet of one Pod, one claim and one Service for each.
//!
//! Everything is applied by the server, under one field manager, and what does not carry our labels *and* that manager is not
//! touched. Secrets reach a Pod as a file of a Secret. Nothing owns the claim, so nothing but its removal by name takes the data
//! away; a claim that was there is never made anew.
//!
//! `render` and `diff` are pure; `cluster` is the only conversation with the API server; `ensure`, `rollout`, `observe` and
//! `remove` are thin between them.

mod autoscaler;
mod cluster;
mod connect;
mod diff;
mod ensure;
mod error;
mod exec;
mod exposure;
mod fit;
mod gitops;
mod hosts;
mod identity;
mod image;
mod import;
mod inventory;
mod kind;
mod labels;
mod logs;
mod observe;
mod owners;
mod plugin;
mod pod;
mod pod_state;
mod preflight;
mod quantity;
mod remove;
mod render;
mod rights;
mod rollback;
mod rollout;
mod session;
mod takeover;
#[cfg(test)]
mod tests;
mod transport;
mod tunnel;
mod volume;
mod yaml;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::{Mutex, OnceCell};

use self::cluster::Cluster;
pub use self::connect::ClusterPolicy;
use self::ensure::Ensure;
pub use self::error::KubernetesError;
use self::exposure::inside_ports;
pub use self::gitops::manifests;
pub use self::import::{ExternalWorkload, WorkloadKind, WorkloadName};
use self::inventory::Inventory;
use self::kind::Kind;
use self::labels::{BACKEND, ID, ObjectNames, PROJECT};
use self::logs::LogOf;
use self::pod_state::{PodState, pod_state};
use self::rights::Right;
pub use self::rights::role_text;
use self::takeover::Predecessor;
pub use self::tunnel::ForwardTarget;
use self::tunnel::PodPort;
use super::kit::keyed_lock::KeyedLock;
use super::kit::redact::Redactor;
use super::kit::tunnel::{Tunnels, serve};
use super::{FoundBackend, LogChunk, LogPosition, PlaceFindings, ProgressFn, Provider, ProviderError, async_trait};
use crate::convex::release::COMMITS;
use crate::model::kubernetes::KubernetesSettings;
use crate::model::{
    BackendId, BackendName, BackendSpec, Observation, ProjectName, ProviderKind, ProviderState, ResolvedBackend, VolumeReclaim,
};

/// How long a Pod may take until it is ready. Large databases are known to need minutes.
const READY_WITHIN: Duration = Duration::from_secs(600);
/// How long it holds that an account lacks no right.
const RIGHTS_HOLD: Duration = Duration::from_secs(30);
/// How long one look at a namespace answers for all backends of a project that are looked at with it.
const LOOK_HOLDS: Duration = Duration::from_millis(500);

/// Runs backends in clusters.
pub struct Kubernetes {
    kubeconfig: Option<PathBuf>,
    policy: ClusterPolicy,
    ready_within: Duration,
    commits: String,
    /// By context; the current one has no name.
    clusters: Mutex<BTreeMap<Option<String>, Cluster>>,
    looks: std::sync::Mutex<BTreeMap<LookKey, Look>>,
    granted: std::sync::Mutex<Granted>,
    /// One for each backend.
    tunnels: Tunnels<BackendId>,
    /// One command works on a backend at a time.
    locks: KeyedLock<BackendId>,
}

/// The rights that an account is known to have, by context and namespace.
type Granted = BTreeMap<(Option<String>, String), (Instant, Vec<Right>)>;

/// A context, a namespace and a project.
type LookKey = (Option<String>, String, ProjectName);

/// One look at a namespace, shared by those who come while it holds.
#[derive(Clone)]
struct Look {
    began: Instant,
    inventory: Arc<OnceCell<Inventory>>,
}

impl Kubernetes {
    /// Backends in the clusters of the kubeconfig, or in the one that this process runs in. Nothing is connected to yet.
    pub fn new() -> Self {
        Self {
            kubeconfig: None,
            policy: ClusterPolicy::default(),
            ready_within: READY_WITHIN,
            commits: COMMITS.to_owned(),
            clusters: Mutex::default(),
            looks: std::sync::Mutex::default(),
            granted: std::sync::Mutex::default(),
            tunnels: Tunnels::default(),
            locks: KeyedLock::default(),
        }
    }

    /// Reads this kubeconfig in place of the user's.
    #[must_use]
    pub fn with_kubeconfig(self, path: PathBuf) -> Self {
        Self { kubeconfig: Some(path), ..self }
    }

    /// Allows only some contexts, namespaces and images.
    #[must_use]
    pub fn with_policy(self, policy: ClusterPolicy) -> Self {
        Self { policy, ..self }
    }

    /// Gives a Pod another time to become ready than ten minutes.
    #[must_use]
    pub fn with_ready_within(self, ready_within: Duration) -> Self {
        Self { ready_within, ..self }
    }

    /// Asks another server than the official one for the commit of a `precompiled-…` tag.
    #[must_use]
    pub fn with_commits(self, commits: String) -> Self {
        Self { commits, ..self }
    }

    async fn cluster(&self, settings: &KubernetesSettings) -> Result<Cluster, KubernetesError> {
        self.policy.check(settings.context.as_deref())?;
        let mut clusters = self.clusters.lock().await;
        if let Some(cluster) = clusters.get(&settings.context) {
            return Ok(cluster.clone());
        }
        let cluster = connect::connect(self.kubeconfig.as_deref(), settings.context.as_deref()).await?;
        clusters.insert(settings.context.clone(), cluster.clone());
        Ok(cluster)
    }

    /// Returns the cluster of a backend, and its namespace there: the one that it was made in, even if the context has another one now.
    async fn place(&self, resolved: &ResolvedBackend) -> Result<(Cluster, String), KubernetesError> {
        let settings = &resolved.spec.settings.kubernetes;
        let cluster = self.cluster(settings).await?;
        let named = settings.namespace.clone().or_else(|| resolved.provider_state.get("namespace").cloned());
        let namespace = named.unwrap_or_else(|| cluster.default_namespace.clone());
        Ok((cluster, namespace))
    }

    async fn reconcile(&self, resolved: &ResolvedBackend, progress: ProgressFn<'_>) -> Result<ProviderState, ProviderError> {
        let _lock = self.locks.lock(&resolved.id).await;
        let (cluster, namespace) = self.place(resolved).await?;
        // Where it is stays allowed; the cluster may not have answered when the request was accepted.
        if resolved.provider_state.get("namespace") != Some(&namespace) {
            self.policy.check_namespace(&namespace, &cluster.default_namespace)?;
        }
        if let Some(plugin) = &cluster.plugin {
            progress(format!("gets credentials from `{plugin}`, which the kubeconfig names"));
        }
        let resolved = &image::resolve_commit(resolved.clone(), &self.commits).await;
        let ensure = Ensure { cluster: &cluster.patient(), namespace: &namespace, ready_within: self.ready_within, progress };
        let done = ensure.run(resolved).await;
        self.forget_looks();
        done
    }

    /// Returns the rights that an account lacks for a backend. That it lacks none holds for a while: many backends of a project
    /// need the same ones.
    async fn missing_rights(
        &self,
        cluster: &Cluster,
        namespace: &str,
        spec: &BackendSpec,
    ) -> Result<Vec<Right>, KubernetesError> {
        let needs = rights::needs(spec);
        let key = (spec.settings.kubernetes.context.clone(), namespace.to_owned());
        let granted = |known: &Granted| {
            known
                .get(&key)
                .is_some_and(|(asked, all)| asked.elapsed() < RIGHTS_HOLD && needs.iter().all(|right| all.contains(right)))
        };
        let lock = || self.granted.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if granted(&lock()) {
            return Ok(Vec::new());
        }
        let missing = rights::missing(cluster, namespace, &needs).await?;
        if missing.is_empty() {
            lock().insert(key, (Instant::now(), needs));
        }
        Ok(missing)
    }

    /// Returns what a namespace has of a project: the backends that are looked at together share one look.
    async fn look(&self, cluster: &Cluster, resolved: &ResolvedBackend, namespace: &str) -> Result<Inventory, KubernetesError> {
        let key = (resolved.spec.settings.kubernetes.context.clone(), namespace.to_owned(), resolved.project.clone());
        let shared = {
            let mut looks = self.looks.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            looks.retain(|_, look| look.began.elapsed() < LOOK_HOLDS);
            let fresh = || Look { began: Instant::now(), inventory: Arc::default() };
            Arc::clone(&looks.entry(key).or_insert_with(fresh).inventory)
        };
        let selector = format!("{PROJECT}={}", resolved.project);
        shared.get_or_try_init(|| Inventory::take(cluster, namespace, &selector)).await.cloned()
    }

    /// Forgets what was seen before something was changed.
    fn forget_looks(&self) {
        self.looks.lock().unwrap_or_else(std::sync::PoisonError::into_inner).clear();
    }

    async fn observe_backend(&self, resolved: &ResolvedBackend) -> Result<Observation, ProviderError> {
        let (cluster, namespace) = self.place(resolved).await?;
        let project = self.look(&cluster, resolved, &namespace).await?;
        observe::observe(&cluster, resolved, &namespace, &project).await
    }

    async fn destroy(
        &self,
        resolved: &ResolvedBackend,
        reclaim: VolumeReclaim,
        progress: ProgressFn<'_>,
    ) -> Result<(), ProviderError> {
        let _lock = self.locks.lock(&resolved.id).await;
        let (cluster, namespace) = self.place(resolved).await?;
        self.tunnels.close(&resolved.id);
        let done = remove::remove(&cluster.patient(), resolved, &namespace, reclaim, progress).await;
        self.forget_looks();
        done
    }

    /// Forwards the two ports of a backend from this machine until an error ends it. Connections that break are told, and the
    /// next one leads to the Pod that is there then.
    ///
    /// # Errors
    /// [`ProviderError`] when there is no cluster, or a port of this machine is taken.
    pub async fn forward(
        &self,
        target: &ForwardTarget<'_>,
        tell: impl Fn(String) + Clone + Send + Sync + 'static,
    ) -> Result<(), ProviderError> {
        let settings = &target.spec.settings.kubernetes;
        let cluster = self.cluster(settings).await?;
        let namespace = settings.namespace.clone().unwrap_or_else(|| cluster.default_namespace.clone());
        let pod = ObjectNames::new(target.id, target.instance_name).pod();
        let inside = exposure::ports_of(settings.expose, target.local);
        let mut listeners = Vec::new();
        for (outside, port) in [(target.local.api, inside.api), (target.local.site, inside.site)] {
            let bound = tokio::net::TcpListener::bind((std::net::Ipv4Addr::LOCALHOST, outside)).await;
            let listener = bound.map_err(|_| ProviderError::PortTaken { port: outside, holder: None })?;
            let (cluster, namespace, pod) = (cluster.clone(), namespace.clone(), pod.clone());
            listeners.push((listener, PodPort { cluster, namespace, pod, port }));
        }
        tell(format!("forwards 127.0.0.1:{} and 127.0.0.1:{} to `{pod}`", target.local.api, target.local.site));
        let serving = listeners.iter().map(|(listener, port)| serve(listener, port.clone(), tell.clone()));
        futures_util::future::join_all(serving).await;
        Ok(())
    }

    fn pod_port(&self, cluster: &Cluster, resolved: &ResolvedBackend, namespace: &str, port: u16) -> PodPort {
        let pod = ObjectNames::of(resolved).pod();
        PodPort { cluster: cluster.clone(), namespace: namespace.to_owned(), pod, port }
    }
}

impl Default for Kubernetes {
    fn default() -> Self {
        Self::new()
    }
}

#[async_trait]
impl Provider for Kubernetes {
    fn kind(&self) -> ProviderKind {
        ProviderKind::Kubernetes
    }

    async fn authorize(&self, spec: &BackendSpec) -> Result<(), ProviderError> {
        let settings = &spec.settings.kubernetes;
        self.policy.check(settings.context.as_deref())?;
        self.policy.check_settings(settings)?;
        let Some(namespace) = settings.namespace.as_deref().filter(|namespace| !self.policy.lists_namespace(namespace)) else {
            return Ok(());
        };
        let default = connect::default_namespace(self.kubeconfig.as_deref(), settings.context.as_deref());
        self.policy.check_namespace(namespace, default.as_deref().unwrap_or_default())
    }

    async fn validate(&self, spec: &BackendSpec) -> Result<(), ProviderError> {
        let settings = &spec.settings.kubernetes;
        let cluster = self.cluster(settings).await?;
        let namespace = settings.namespace.clone().unwrap_or_else(|| cluster.default_namespace.clone());
        let missing = self.missing_rights(&cluster, &namespace, spec).await?;
        if missing.is_empty() {
            return Ok(());
        }
        let error = KubernetesError::RightsMissing { namespace, rules: rights::rules_text(&missing) };
        Err(ProviderError::Unsupported(format!("{error}; {}", error.help().unwrap_or_default())))
    }

    async fn preflight(&self, resolved: &ResolvedBackend) -> PlaceFindings {
        let (cluster, namespace) = match self.place(resolved).await {
            Ok(place) => place,
            Err(error) => return preflight::unseen(&error),
        };
        let missing = match self.missing_rights(&cluster, &namespace, &resolved.spec).await {
            Ok(missing) => missing,
            Err(error) => return preflight::unseen(&error),
        };
        let resolved = &image::resolve_commit(resolved.clone(), &self.commits).await;
        preflight::look(&cluster, resolved, &namespace, &missing).await
    }

    async fn find(
        &self,
        project: &ProjectName,
        name: &BackendName,
        spec: &BackendSpec,
    ) -> Result<Vec<FoundBackend>, ProviderError> {
        let settings = &spec.settings.kubernetes;
        let cluster = self.cluster(settings).await?;
        let namespace = settings.namespace.as_ref().unwrap_or(&cluster.default_namespace);
        let selector = format!("{PROJECT}={project},{BACKEND}={name}");
        let mut found = BTreeMap::new();
        for kind in [Kind::Claim, Kind::StatefulSet] {
            for object in cluster.list(kind, namespace, &selector).await? {
                let Some(id) = object["metadata"]["labels"][ID].as_str() else { continue };
                let name = object["metadata"]["name"].as_str().unwrap_or_default();
                let thing = format!("the {} `{name}` in the namespace `{namespace}`", kind.noun());
                found.insert(id.to_owned(), FoundBackend { id: BackendId::new(id), thing });
            }
        }
        Ok(found.into_values().collect())
    }

    async fn observe(&self, resolved: &ResolvedBackend) -> Result<Observation, ProviderError> {
        let seen = self.observe_backend(resolved).await;
        seen.map_err(|error| Redactor::of(resolved).redact_error(error))
    }

    async fn ensure(&self, resolved: &ResolvedBackend, progress: ProgressFn<'_>) -> Result<ProviderState, ProviderError> {
        let done = self.reconcile(resolved, progress).await;
        done.map_err(|error| Redactor::of(resolved).redact_error(error))
    }

    async fn stop(&self, resolved: &ResolvedBackend) -> Result<(), ProviderError> {
        let _lock = self.locks.lock(&resolved.id).await;
        let (cluster, namespace) = self.place(resolved).await?;
        self.tunnels.close(&resolved.id);
        let done = remove::stop(&cluster.patient(), resolved, &namespace).await;
        self.forget_looks();
        done
    }

    async fn remove(&self, resolved: &ResolvedBackend, progress: ProgressFn<'_>) -> Result<(), ProviderError> {
        self.destroy(resolved, VolumeReclaim::Delete, progress).await
    }

    async fn remove_keeping_data(&self, resolved: &ResolvedBackend, progress: ProgressFn<'_>) -> Result<(), ProviderError> {
        self.destroy(resolved, VolumeReclaim::Retain, progress).await
    }

    fn retained_place(&self, resolved: &ResolvedBackend) -> Option<String> {
        let namespace = resolved.provider_state.get("namespace").map(|name| format!(" in the namespace {name}"));
        Some(format!("claim {}{}", ObjectNames::of(resolved).claim(), namespace.unwrap_or_default()))
    }

    async fn reach(&self, resolved: &ResolvedBackend) -> Result<Option<String>, ProviderError> {
        let (cluster, namespace) = self.place(resolved).await?;
        if cluster.is_inside {
            return Ok(None);
        }
        let predecessor = Predecessor::find(&cluster, &namespace, &resolved.provider_state).await?;
        let port = match predecessor {
            Some(predecessor) => import::port_of(&cluster, &namespace, predecessor.pod().await?),
            None => self.pod_port(&cluster, resolved, &namespace, inside_ports(resolved).api),
        };
        let opened = self.tunnels.url(resolved.id.clone(), port).await;
        let url =
            opened.map_err(|error| ProviderError::Unreachable(format!("no port of this machine could be opened: {error}")))?;
        Ok(Some(url))
    }

    async fn diagnose(&self, resolved: &ResolvedBackend) -> Option<ProviderError> {
        let (cluster, namespace) = self.place(resolved).await.ok()?;
        let pod = cluster.get(Kind::Pod, &namespace, &ObjectNames::of(resolved).pod()).await.ok()??;
        let PodState::Stuck(reason) = pod_state(&pod) else { return None };
        let log = logs::last_lines(&cluster, &namespace, &ObjectNames::of(resolved).pod()).await;
        Some(KubernetesError::NotReady { reason, log }.into())
    }

    async fn logs(&self, resolved: &ResolvedBackend, from: LogPosition) -> Result<LogChunk, ProviderError> {
        let (cluster, namespace) = self.place(resolved).await?;
        let pod = ObjectNames::of(resolved).pod();
        Ok(logs::read(&cluster, &namespace, &pod, from, LogOf::Current).await?)
    }
}
